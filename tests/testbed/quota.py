# SPDX-License-Identifier: GPL-2.0-or-later
"""A control group with a limit on its CPU time, for what is run in a machine to live in."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUPS = Path("/sys/fs/cgroup")
PERIOD = 100_000  # microseconds


@contextlib.contextmanager
def cpu_quota(cpus: float) -> Iterator[Path]:
    """The folder of a new group that gets `cpus` processors' worth of time; what runs in it must have ended first."""
    limit = int(cpus * PERIOD)
    unified = (CGROUPS / "cgroup.controllers").exists()
    if unified and "cpu" not in (CGROUPS / "cgroup.subtree_control").read_text().split():
        (CGROUPS / "cgroup.subtree_control").write_text("+cpu")
    group = Path(tempfile.mkdtemp(prefix="testbed-", dir=CGROUPS if unified else CGROUPS / "cpu"))
    try:
        if unified:
            (group / "cpu.max").write_text(f"{limit} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(limit))
        yield group
    finally:
        group.rmdir()
