# SPDX-License-Identifier: GPL-2.0-or-later
"""Private directories for programs that have no view, and their removal."""

from __future__ import annotations

import os

from go_health_hook.run.sandbox import NOBODY

# Where this run's scratch directories are; its workers, which are forked, know the mark as well.
_SCRATCH = f"/tmp/go-health-hook-{os.urandom(8).hex()}-"


def scratch_directory() -> str:
    """A new directory for a program without a view of its own, open to it alone."""
    path = f"{_SCRATCH}{os.urandom(8).hex()}"
    os.mkdir(path, 0o700)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


def remove_scratch(*paths: str) -> None:
    import shutil

    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def sweep_scratch() -> None:
    """Remove what a worker that was ended has left: its directories have this run's mark in their names."""
    directory, mark = os.path.split(_SCRATCH)
    try:
        remove_scratch(*(f"{directory}/{name}" for name in os.listdir(directory) if name.startswith(mark)))
    except OSError:
        pass
