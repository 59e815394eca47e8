# SPDX-License-Identifier: GPL-2.0-or-later
"""A slow machine: little CPU, or a disk that delivers few bytes or few reads in a second."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.testbed import cache, disks
from tests.testbed.quota import CGROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINK = "pkg/tool/linux_amd64/link"
# sh -c ENTER GROUP COMMAND…: become a member of the group, then the command.
ENTER = 'echo $$ >"$0/cgroup.procs" && exec "$@"'


def inside(group: Path, command: Sequence[str | Path]) -> list[str]:
    """The command line that runs the command in the group."""
    return ["/bin/sh", "-c", ENTER, str(group), *map(str, command)]


@contextlib.contextmanager
def busy_loops(count: int, group: Path | None = None) -> Iterator[None]:
    """So many busy loops, in the group where one is given."""
    loop = ["/bin/sh", "-c", "while :; do :; done"]
    running = [subprocess.Popen(inside(group, loop) if group else loop) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextlib.contextmanager
def cold_disk(version: str, other_link: str = "") -> Iterator[Path]:
    """A GOROOT on a disk of its own, of which nothing is in memory yet; with the linker of another release."""

    def build(new: Path) -> None:
        disks.copy_go(version, new / "root/go")
        if other_link:
            (new / "root/go" / LINK).unlink()
            shutil.copy2(disks.toolchain(other_link) / LINK, new / "root/go" / LINK)
        disks.file_system(new / "root", new / "disk.img", "600M")
        cache.remove(new / "root")

    image = cache.built(f"cold-go-{version}", [Path(disks.__file__), version, other_link], build) / "disk.img"
    place = Path(tempfile.mkdtemp(prefix="cold-", dir="/mnt"))
    place.chmod(0o755)
    done = subprocess.run(["mount", "-o", "loop,ro", image, place], stderr=subprocess.PIPE, text=True, check=False)
    try:
        if done.returncode:
            pytest.skip(f"no loop device to make a slow disk of: {done.stderr.strip()}")
        forget(place)
        yield place / "go"
    finally:
        subprocess.run(["umount", place], check=False)
        place.rmdir()


def forget(folder: Path) -> None:
    """Have the kernel drop what it has read of the files: another namespace may have kept the file system mounted."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


@contextlib.contextmanager
def throttled(path: Path, *, bytes_per_second: int = 0, reads_per_second: int = 0) -> Iterator[Path]:
    """The folder of a new group whose reads from the path's disk are slow; what runs in it must have ended first."""
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    unified = (CGROUPS / "cgroup.controllers").exists()
    base = CGROUPS if unified else CGROUPS / "blkio"
    if unified and "io" not in (CGROUPS / "cgroup.subtree_control").read_text().split():
        (CGROUPS / "cgroup.subtree_control").write_text("+io")
    group = Path(tempfile.mkdtemp(prefix="testbed-", dir=base))
    try:
        for kind, value in (("bps", bytes_per_second), ("iops", reads_per_second)):
            if value and unified:
                (group / "io.max").write_text(f"{name} r{kind}={value}")
            elif value:
                (group / f"blkio.throttle.read_{kind}_device").write_text(f"{name} {value}")
        yield group
    except FileNotFoundError as error:
        pytest.skip(f"this kernel throttles no disks: {error}")
    finally:
        _remove(group)


def bytes_read(group: Path, path: Path) -> int:
    """What processes of the group have read from the path's disk so far, in bytes."""
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    if (group / "io.stat").exists():
        lines = [line.split() for line in (group / "io.stat").read_text().splitlines()]
        found = [word for words in lines if words[0] == name for word in words if word.startswith("rbytes=")]
        return sum(int(word.partition("=")[2]) for word in found)
    lines = [line.split() for line in (group / "blkio.throttle.io_service_bytes").read_text().splitlines()]
    return sum(int(words[2]) for words in lines if words[:2] == [name, "Read"])


def _remove(group: Path) -> None:
    """Remove a group as soon as the kernel has seen the end of what was in it."""
    end = time.monotonic() + 10
    while True:
        try:
            group.rmdir()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
