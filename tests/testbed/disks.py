# SPDX-License-Identifier: GPL-2.0-or-later
"""The plain virtual machine's disk: Debian forky with systemd, real logins and four Go toolchains."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple

from tests.testbed import cache, roots
from tests.testbed.vm import BOOTING, VM, Boot, OneAtATime, overlay, qemu

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
GUEST = HERE / "guest"
PACKAGES = [
    *("linux-image-cloud-amd64", "initramfs-tools", "dracut-core", "ostree-boot", "udev", "kmod", "zstd"),
    *("dbus-user-session", "libpam-systemd", "polkitd", "login", "passwd", "sudo"),
    *("linux-perf", "procps", "iproute2", "less"),
]
GO = ("1.21.13", "1.24.11", "1.25.5", "1.27.3")  # each at /opt/go/VERSION
USERS = {"dev": 1000, "ops": 1001}
# Of a Go tree: what compiles programs of the standard library, not what compiles and tests Go itself.
NOT_NEEDED = ("test", "testdata", "*_test.go", "misc", "api", "doc", ".ready")
FILES = {
    "etc/fstab": "",
    "etc/hostname": "vm\n",
    "etc/machine-id": "",
    # The slow parts of a boot under emulation: nothing of this machine's hardware has to be guessed.
    "etc/initramfs-tools/initramfs.conf": "MODULES=list\nBUSYBOX=n\nCOMPRESS=zstd\nFSTYPE=ext4\nRESUME=none\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    "usr/lib/modules-load.d/testbed.conf": "virtio_console\nvirtio_rng\n",
    "usr/lib/systemd/journald.conf.d/testbed.conf": "[Journal]\nStorage=persistent\nRateLimitBurst=0\n",
    "usr/lib/systemd/system.conf.d/testbed.conf": "[Manager]\nDefaultTimeoutStartSec=600\nDefaultTimeoutStopSec=60\n"
    "DefaultDeviceTimeoutSec=600\n",
}

# unshare -m bash -c IN_ROOT bash ROOT COMMAND…: a command in a root that has /proc and a /dev of its own.
IN_ROOT = r"""
set -eu
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=0755 dev "$root/dev"
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 0666 "$root/dev/${node%:*}" c 1 "${node#*:}"; done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=0755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
exec chroot "$root" "$@"
"""


def in_root(root: Path, *command: str) -> None:
    subprocess.run(["unshare", "--mount", "bash", "-c", IN_ROOT, "bash", root, *command], check=True)


def base() -> Path:
    """The root of every virtual machine, with a kernel, before anything of ours is in it."""
    return roots.debian("forky", PACKAGES).layers[0]


def recipe() -> list[str | Path]:
    return [base().parent.name, HERE / "disks.py", *sorted(p for p in GUEST.iterdir() if p.is_file())]


class Caught(NamedTuple):
    """A machine caught right after its boot: it goes on from there as often as wanted, in a second."""

    disk: Path
    memory: Path
    boot: Boot
    size: dict[str, int]  # CPUs, MiB
    find_boot: Callable[[Path], Boot]

    def wake(self, folder: Path, name: str = "vm") -> VM:
        """The machine, running, with a disk of its own in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        vm = VM(overlay(self.disk, folder / f"{name}.qcow2"), self.find_boot, folder=folder, name=name, **self.size)
        return vm.wake(self.memory, self.boot)


def caught(name: str, disk: Path, find_boot: Callable[[Path], Boot], size: dict[str, int]) -> Caught:
    """The disk's machine, booted once and kept in the cache as it was then."""
    version = subprocess.run([qemu(), "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    parts: list[str | Path] = [disk.parent.name, version, BOOTING, str(size), HERE / "vm.py"]

    def build(new: Path) -> None:
        with VM(overlay(disk, new / "disk.qcow2"), find_boot, folder=new, name=name, **size) as vm:
            boot = find_boot(vm.disk)
            shutil.copy(boot.kernel, new / "kernel")
            shutil.copy(boot.initrd, new / "initrd")
            (new / "options").write_text(boot.options)
            vm.boot()
            vm.suspend(new / "memory")

    OneAtATime.take()  # before the cache's lock, as everybody who has a machine running and wants another
    try:
        folder = cache.built(f"{name}-up", parts, build)
    finally:
        OneAtATime.give()
    boot = Boot(folder / "kernel", folder / "initrd", (folder / "options").read_text())
    return Caught(folder / "disk.qcow2", folder / "memory", boot, size, find_boot)


def plain() -> Caught:
    """The plain machine, with 8 CPUs."""
    disk, boot = plain_disk()
    return caught("vm-plain", disk, lambda _: boot, {"cpus": 8, "memory": 3072})


def plain_disk() -> tuple[Path, Boot]:
    """The plain machine's disk, to be booted by way of an overlay only, and what boots it."""

    def build(new: Path) -> None:
        root = new / "root"
        copy(base(), root)
        lay_ours(root)
        for name, uid in USERS.items():
            in_root(root, "useradd", "--create-home", "--shell", "/bin/bash", "--uid", str(uid), name)
        in_root(root, "sh", "-c", "rm -f /boot/initrd.img-* && update-initramfs -c -k all")
        (root / "boot").rename(new / "boot")
        for version in GO:
            copy_go(version, root / "opt/go" / version)
        file_system(root, new / "disk.img", "8G")
        cache.remove(root)

    folder = cache.built("vm-plain", [*recipe(), *GO], build)
    return folder / "disk.img", Boot(
        next((folder / "boot").glob("vmlinuz-*")),
        next((folder / "boot").glob("initrd.img-*")),
        "root=/dev/vda rw console=ttyS0",
    )


def lay_ours(root: Path) -> None:
    """What every virtual machine has of ours: the agent, and settings for a slow processor."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    ours = root / "usr/lib/testbed"
    ours.mkdir()
    shutil.copy(GUEST / "agent.py", ours)
    shutil.copy(GUEST / "testbed-agent.service", root / "usr/lib/systemd/system")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "testbed-agent.service").symlink_to("/usr/lib/systemd/system/testbed-agent.service")
    for name in ("usr/sbin/policy-rc.d", "var/lib/systemd/random-seed"):
        (root / name).unlink(missing_ok=True)
    (root / "var/log/journal").mkdir(parents=True, exist_ok=True)


def toolchain(version: str) -> Path:
    """A real Go tree on this machine."""
    subprocess.run([cache.TREE / "packaging/dev/fetch-go", sys.executable, cache.home(), version], check=True)
    return cache.home() / "go" / version


def copy_go(version: str, to: Path) -> None:
    """A Go tree without the parts that no test asks for."""
    source = toolchain(version)

    def skip(folder: str, names: list[str]) -> set[str]:
        found = shutil.ignore_patterns(*NOT_NEEDED)(folder, names)
        return found | ({"cmd"} if Path(folder) == source / "src" else set())

    shutil.copytree(source, to, ignore=skip, symlinks=True)


def copy(source: Path, to: Path) -> None:
    subprocess.run(["cp", "--archive", "--reflink=auto", source, to], check=True)


def file_system(root: Path, image: Path, size: str, options: Sequence[str] = ()) -> None:
    """An ext4 image with the folder's contents; sparse, so it takes what is in it."""
    how = ["-q", "-t", "ext4", "-E", "lazy_itable_init=1", *options]
    subprocess.run(["mke2fs", *how, "-d", root, image, size], stdout=subprocess.DEVNULL, check=True)
