# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines as folders: the files of a process's /proc and of cgroupfs, stored below cgroups/ or made by a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from go_health_hook.linux import cgroup

CASES = sorted((Path(__file__).parent / "cgroups").iterdir())


def read(root: Path, pid: int | str = "self") -> cgroup.Chain:
    """The chain of a process on the machine that is the folder `root`."""
    return cgroup.read_chain(pid, proc=f"{root}/proc", root=str(root))


def read_case(case: Path) -> tuple[cgroup.Chain, dict[str, Any]]:
    """The chain of a stored case, and what is expected of it."""
    wanted = json.loads((case / "expected.json").read_text())
    return read(case, wanted.get("pid", "self")), wanted


def make(root: Path, files: dict[str, bytes | str]) -> None:
    """Write files by their names in the machine."""
    for name, data in files.items():
        file = root / name.lstrip("/")  # joined as it is, an absolute name would leave the folder
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
