# SPDX-License-Identifier: GPL-2.0-or-later
"""This tree as it is installed, its modules compiled as in the packages: else every start compiles them once more."""

from __future__ import annotations

import subprocess
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
MODULES = "usr/lib/go-health-hook"
# As in the spec: Python then goes by the content, for ostree sets the time of every file to 0.
COMPILE = ("/usr/bin/python3", "-m", "compileall", "-q", "--invalidation-mode", "checked-hash")


def install(root: Path) -> Path:
    """Install this tree below `root`, compiled for this machine's Python; return `root`."""
    subprocess.run([TREE / "packaging/dev/install-tree", root], check=True)
    subprocess.run([*COMPILE, "-s", root, "-p", "/", root / MODULES], check=True)
    return root
