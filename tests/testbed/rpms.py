# SPDX-License-Identifier: GPL-2.0-or-later
"""Our own packages, built from the working tree as it is: spec, tarball, rpmbuild, with Fedora's macros."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testbed import cache, roots, rpmbuild
from tests.testbed.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterable

MACROS = Path(__file__).with_name("macros.fedora")
DEFINES = {
    ("forky", False): ["fedora 45", "dist .fc45", "_rpmformat 4"],
    ("forky", True): ["fedora 45", "dist .fc45.1", "_rpmformat 4"],
    ("bookworm", False): ["rhel 9", "dist .el9"],
    ("bookworm", True): ["rhel 9", "dist .el9.1"],
}
# What the packages are not made from: the tests that need what the packages are made for.
LEFT_OUT = re.compile(r"tests/(?!unit/|testbed/)[^/]+/")


def own_rpms(suite: str = "forky", newer: bool = False, tree: Path = cache.TREE) -> dict[str, Path]:
    """The packages of go-health-hook by name, built in and for that root; `newer` ones differ by their release."""
    return rpmbuild.found(own_build(suite, newer, tree))


def own_build(suite: str = "forky", newer: bool = False, tree: Path = cache.TREE) -> Path:
    """The folder with all that rpmbuild made: packages, the source package, and what it said (rpmbuild.log)."""
    (spec,) = tree.glob("*.spec")
    files = [path for path in tracked(tree) if not LEFT_OUT.match(str(path.relative_to(tree)))]

    def build(new: Path) -> None:
        with Machine(roots.debian(suite)) as machine:
            macros = re.findall(r"^Macro path: (.*)$", machine.run("rpm --showrc").stdout, re.M)[0]
            machine.write("/root/macros.fedora", MACROS.read_text())
            machine.write("/root/the.spec", spec.read_text())
            defined = [word for macro in DEFINES[suite, newer] for word in ("--define", macro)]
            flags = [f"--macros={macros}:/root/macros.fedora", *defined]
            parsed = machine.run(["rpmspec", *flags, "--parse", "/root/the.spec"]).stdout
            source = re.findall(r"^Source0?:\s*(\S+)$", parsed, re.M | re.I)[0].rsplit("/", 1)[-1]
            folder = machine.path("/root") / "rpmbuild/SOURCES"
            folder.mkdir(parents=True)
            pack(folder / source, re.sub(r"\.tar\..*$", "", source), tree, files)
            # make check has run these tests already, and tests/packaging runs them as %check.
            command = ["rpmbuild", "-ba", "--nodeps", "--nocheck", *flags, "/root/the.spec"]
            done = machine.run(command, timeout=900)
            (new / "rpmbuild.log").write_text(done.stdout + done.stderr)
            rpmbuild.collect(machine, new)

    names = [f"{path.relative_to(tree)} {path.lstat().st_mode & 0o111}" for path in files]
    contents = [os.readlink(path) if path.is_symlink() else path for path in files]
    recipe: list[str | Path] = [suite, *DEFINES[suite, newer], MACROS, *names, *contents]
    return cache.built(f"{spec.stem}-{suite}{'-newer' * newer}", recipe, build)


def tracked(tree: Path) -> list[Path]:
    """The files of a working tree that git has or would take."""
    listed = subprocess.run(
        ["git", "-C", tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    paths = (tree / name for name in sorted(set(listed.split("\0"))) if name)
    return [path for path in paths if path.is_file() or path.is_symlink()]


def pack(archive: Path, top: str, tree: Path, files: Iterable[Path]) -> None:
    """A tarball as `git archive` makes it."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mode = 0o755 if member.mode & 0o111 else 0o644
        return member

    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in files:
            tar.add(path, f"{top}/{path.relative_to(tree)}", recursive=False, filter=plain)
