# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages built as a build system builds them: the declared BuildRequires alone, an ordinary user, no network."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tests.testbed import cache, roots, rpmbuild, rpms
from tests.testbed.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

SPEC = cache.TREE / "go-health-hook.spec"
USER = 1000
HOME = "/home/builder"
# The Debian package of each BuildRequires; systemd-rpm-macros is part of the testbed's macro file.
DEBIAN = {
    "make": "make",
    "python3-devel": "python3",
    "python3-hypothesis": "python3-hypothesis",
    "python3-pytest": "python3-pytest",
    "systemd-rpm-macros": "",
}


class Condition(NamedTuple):
    """A distribution for which rpmbuild runs: the Debian suite that stands for it, and what its macros define."""

    suite: str
    defines: tuple[str, ...]
    check: bool = False  # whether %check is run


# bullseye has EL 9's rpm 4.16 and Python 3.9; forky has rpm 6 and Python 3.14, as Fedora. %check runs once in each: no
# macro of a distribution changes what it does there.
CONDITIONS = {
    "rhel 9": Condition("bullseye", ("rhel 9", "el9 1", "dist .el9"), check=True),
    "rhel 10": Condition("forky", ("rhel 10", "el10 1", "dist .el10", "_rpmformat 4")),
    "fedora 43": Condition("forky", ("fedora 43", "fc43 1", "dist .fc43", "_rpmformat 4")),
    "fedora 44": Condition("forky", ("fedora 44", "fc44 1", "dist .fc44"), check=True),
}
# As Fedora and EL have it; the testbed's macro file says where Debian's dnf looks.
SITELIB = "python3_sitelib %{_prefix}/lib/python%{python3_version}/site-packages"


def build_requires() -> list[str]:
    """The names that the spec's BuildRequires lines declare."""
    return re.findall(r"^BuildRequires:\s+(\S+)", SPEC.read_text(), re.M)


def parents(path: str) -> tuple[PurePosixPath, ...]:
    """The directories above a path of a package."""
    return tuple(PurePosixPath(path).parents)


def clone(machine: Machine, where: str) -> None:
    """Copy the working tree into the machine, as an archive of it would be unpacked."""
    for path in source_files():
        target = machine.path(f"{where}/{path.relative_to(cache.TREE)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            target.symlink_to(os.readlink(path))
        else:
            shutil.copy(path, target)


def source_files() -> list[Path]:
    """The files of the working tree that packages are made from."""
    return [path for path in rpms.tracked(cache.TREE) if not rpms.LEFT_OUT.match(str(path.relative_to(cache.TREE)))]


def build(name: str) -> Path:
    """The folder with the packages of that condition and rpmbuild's output (rpmbuild.log).

    Raises machine.Failed where rpmbuild fails.
    """
    condition = CONDITIONS[name]
    files = source_files()
    packages = sorted({DEBIAN[required] for required in build_requires()} - {""})
    root = roots.builder(condition.suite, packages)

    def run(new: Path) -> None:
        with Machine(root) as machine:
            (new / "rpmbuild.log").write_text(rpmbuild_as_user(machine, condition, files))
            rpmbuild.collect(machine, new, HOME)

    names = [f"{path.relative_to(cache.TREE)} {path.lstat().st_mode & 0o111}" for path in files]
    contents = [os.readlink(path) if path.is_symlink() else path for path in files]
    recipe = [root.key(), str(condition.check), *condition.defines, SITELIB, rpms.MACROS, *names, *contents]
    return cache.built(f"packages-{name.replace(' ', '-')}", recipe, run)


def rpmbuild_as_user(machine: Machine, condition: Condition, files: list[Path]) -> str:
    """Run rpmbuild -ba in the machine; return its output."""
    macros = re.findall(r"^Macro path: (.*)$", machine.run("rpm --showrc").stdout, re.M)[0]
    machine.write("/etc/macros.fedora", rpms.MACROS.read_text())
    passwd = machine.read("/etc/passwd")
    machine.write("/etc/passwd", f"{passwd}builder:x:{USER}:{USER}::{HOME}:/bin/sh\n")
    spec = SPEC.read_text()
    version = re.findall(r"^Version:\s+(\S+)", spec, re.M)[0]
    top = f"go-health-hook-{version}"
    sources = machine.path(HOME) / "rpmbuild/SOURCES"
    sources.mkdir(parents=True)
    rpms.pack(sources / f"{top}.tar.gz", top, cache.TREE, files)
    machine.write(f"{HOME}/{SPEC.name}", spec)
    machine.run(["chown", "-R", f"{USER}:{USER}", HOME])
    defined = [word for macro in (*condition.defines, SITELIB) for word in ("--define", macro)]
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    checked = [] if condition.check else ["--nocheck"]
    command = [
        "rpmbuild",
        "-ba",
        "--nodeps",
        *checked,
        f"--macros={macros}:/etc/macros.fedora",
        *defined,
        f"{HOME}/{SPEC.name}",
    ]
    done = machine.run([*user, *command], timeout=900, env={"HOME": HOME, "USER": "builder"}, cwd=HOME)
    return done.stdout + done.stderr
