# SPDX-License-Identifier: GPL-2.0-or-later
"""Control groups for what is run in a machine to live in: with a limit on its CPU time, or named like a service's."""

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
def service() -> Iterator[Path]:
    """The folder of a new group with a service's name, as what a daemon starts is in; it must have ended first."""
    with _group(".service") as group:
        yield group


@contextlib.contextmanager
def cpu_quota(cpus: float) -> Iterator[Path]:
    """The folder of a new group that gets `cpus` processors' worth of time; what runs in it must have ended first."""
    limit = int(cpus * PERIOD)
    if _unified() and "cpu" not in (CGROUPS / "cgroup.subtree_control").read_text().split():
        (CGROUPS / "cgroup.subtree_control").write_text("+cpu")
    with _group("") as group:
        if _unified():
            (group / "cpu.max").write_text(f"{limit} {PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(limit))
        yield group


def _unified() -> bool:
    return (CGROUPS / "cgroup.controllers").exists()


@contextlib.contextmanager
def _group(suffix: str) -> Iterator[Path]:
    group = Path(tempfile.mkdtemp(suffix, "testbed-", CGROUPS if _unified() else CGROUPS / "cpu"))
    try:
        yield group
    finally:
        group.rmdir()
