# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the processes that a test's subject has left behind."""

from __future__ import annotations

import os
import select
from pathlib import Path

# To end a dead run only: one that has been killed may still be giving its memory back, and an event ends the wait.
DEAD = 120


def left_behind(words: str) -> list[str]:
    """The processes whose command line contains `words` and that do not end."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if words not in line:
                continue
            pidfd = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        if not select.select([pidfd], [], [], DEAD)[0]:
            found.append(f"{entry.name}: {line}")
        os.close(pidfd)
    return found
