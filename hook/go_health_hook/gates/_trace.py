# SPDX-License-Identifier: GPL-2.0-or-later
"""The trace of a gate that is ended from outside: by the timeout of its caller, SIGKILL or the OOM killer.

A gate has a file in FOLDER while it runs, named after it and its process. One whose process is gone belongs to a run
without a verdict.
"""

from __future__ import annotations

import os

from go_health_hook import files

FOLDER = "/run/go-health-hook/running"


def begin(gate: str) -> str:
    """Leave the trace of this process; return its file for `end`, or an empty string where none can be left."""
    path = f"{FOLDER}/{gate}.{files.mark()}"
    try:
        files.make_directory(FOLDER)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
    except OSError:
        return ""
    return path


def end(path: str) -> None:
    """Remove the trace of this process: its run came to an end by itself."""
    if path:
        try:
            os.unlink(path)
        except OSError:
            pass


def lost(gate: str, *, remove: bool = False) -> float | None:
    """Return when the first run of a gate began that was ended from outside (seconds since 1970), or None."""
    first = None
    try:
        names = [name for name in os.listdir(FOLDER) if name.startswith(f"{gate}.")]
    except OSError:
        return None
    for name in names:
        if files.lives(name[len(gate) + 1 :]):
            continue
        path = f"{FOLDER}/{name}"
        try:
            began = os.stat(path).st_mtime
            if remove:
                os.unlink(path)
        except OSError:
            continue
        first = began if first is None else min(first, began)
    return first
