# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages made by the real rpmbuild, in a machine: what it can read it is shown, what it writes comes out as files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testbed import cache, roots
from tests.testbed.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Mapping

# Version 4 packages, packed quickly: readable by every rpm that the roots and EL have.
DEFINES = {
    "_rpmformat": "4",
    "_binary_payload": "w3.zstdio",
    "_source_payload": "w3.zstdio",
    "_build_id_links": "none",
    "debug_package": "%{nil}",
    "__os_install_post": "%{nil}",  # packs what it is given: nothing is stripped, compressed or linked again
    "source_date_epoch_from_changelog": "0",
    "_buildhost": "testbed",
}
# All that rpmbuild is told of kinds of files: to look at thousands of sources by every rule takes it ten seconds.
MAGIC = "0\tstring\t\\177ELF\tELF\n"


def packages(
    name: str, spec: str, defines: Mapping[str, str] | None = None, trees: Mapping[str, Path] | None = None
) -> dict[str, Path]:
    """The packages that the spec makes, by name; built once for the same spec, defines and trees.

    A tree is a host folder seen at /NAME in the machine; it counts by its path, which is to say what is in it.
    """
    defined = {**DEFINES, **(defines or {})}
    shown = {f"/{inside}": host for inside, host in (trees or {}).items()}

    def build(new: Path) -> None:
        arguments = [word for key, value in defined.items() for word in ("--define", f"{key} {value}")]
        with Machine(roots.debian("forky"), binds=shown) as machine:
            machine.write("/root/made.spec", spec)
            machine.write("/root/magic", MAGIC)
            command = ["rpmbuild", "-bb", "--nodeps", "--quiet", *arguments, "/root/made.spec"]
            machine.run(command, timeout=900, env={"MAGIC": "/root/magic"})
            collect(machine, new)

    recipe = [
        spec,
        MAGIC,
        *(f"{key}={value}" for key, value in defined.items()),
        *(f"{k}={v}" for k, v in shown.items()),
    ]
    return found(cache.built(name, recipe, build))


def collect(machine: Machine, folder: Path, home: str = "/root") -> None:
    """Copy what rpmbuild made below that home out of the machine."""
    made = [path for kind in ("RPMS", "SRPMS") for path in machine.path(f"{home}/rpmbuild/{kind}").rglob("*.rpm")]
    for path in made:
        shutil.copy(path, folder)


def found(folder: Path) -> dict[str, Path]:
    """The packages in a folder by name: what stands before version and release in the file's name."""
    return {path.name.rsplit("-", 2)[0]: path for path in sorted(folder.glob("*.rpm")) if ".src." not in path.name}
