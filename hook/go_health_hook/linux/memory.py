# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory this process may use: the machine's, or the limit of a cgroup above it."""

from __future__ import annotations

import contextlib
import os

ROOT = "/sys/fs/cgroup"


def limit(proc: str = "/proc", root: str = ROOT) -> int:
    """Return the bytes of memory that this process and what it starts may use together; 0 where nothing is known.

    MemTotal, or the smallest memory.max (cgroup v2) from the process's cgroup up to the root.
    """
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"{proc}/meminfo", encoding="ascii") as file:
        found += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemTotal:")]
    path = ""
    with contextlib.suppress(OSError), open(f"{proc}/self/cgroup", encoding="utf-8", errors="replace") as file:
        path = next((line[3:].strip() for line in file if line.startswith("0::")), "")
    while path.strip("/"):
        with contextlib.suppress(OSError, ValueError), open(f"{root}{path}/memory.max", encoding="ascii") as file:
            found.append(int(file.read()))
        path = os.path.dirname(path)
    return min(found, default=0)
