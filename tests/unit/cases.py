# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines as folders: the files of a process's /proc and of cgroupfs, stored below cgroups/ or made by a test.

A stored case is one text file: what is expected, as JSON, and then the files of the machine. A line `== PATH` starts a
file, `== PATH -> TARGET` is a symbolic link, and after `== PATH (escaped)` the contents stand as in a Python literal,
without the last newline. A text file can be checked out on file systems that have no links and fewer characters for
names.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from go_health_hook.linux import cgroup
from go_health_hook.linux.cgroup_chain import Chain

SECTION = re.compile(r"== (?P<path>.+?)(?: -> (?P<target>.+)|(?P<escaped> \(escaped\)))?")


class Case(NamedTuple):
    """A stored machine: its files and links by their paths, and what is expected of the chain."""

    name: str
    expected: dict[str, Any]
    files: dict[str, bytes | str]
    links: dict[str, str]

    def make(self, root: Path) -> Path:
        """Write the machine below `root`, and return that."""
        make(root, self.files)
        for path, target in self.links.items():
            link = root / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        return root

    def read(self, root: Path) -> Chain:
        """The chain of the case's process, on the machine made below `root`."""
        return read(self.make(root), self.expected.get("pid", "self"))


def parse_case(name: str, text: str) -> Case:
    """Read a stored case. Raises ValueError for what is none."""
    head, *sections = re.split(r"^(?=== )", text, flags=re.MULTILINE)
    case = Case(name, json.loads(head), {}, {})
    for section in sections:
        title, _, body = section.partition("\n")
        match = SECTION.fullmatch(title)
        if match is None or match["path"] in case.files or match["path"] in case.links:
            raise ValueError(f"{name}: {title!r} is no file of a case, or is there twice")
        if match["target"]:
            case.links[match["path"]] = match["target"]
        elif match["escaped"]:
            case.files[match["path"]] = body.rstrip("\n").encode("ascii").decode("unicode_escape").encode("latin-1")
        else:
            case.files[match["path"]] = body
    return case


CASES = [
    parse_case(path.stem, path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "cgroups").iterdir())
]


def read(root: Path, pid: int | str = "self") -> Chain:
    """The chain of a process on the machine that is the folder `root`."""
    return cgroup.read_chain(pid, proc=f"{root}/proc", root=str(root))


def make(root: Path, files: dict[str, bytes | str]) -> None:
    """Write files by their names in the machine."""
    for name, data in files.items():
        file = root / name.lstrip("/")  # joined as it is, an absolute name would leave the folder
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
