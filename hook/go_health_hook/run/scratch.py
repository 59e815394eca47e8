# SPDX-License-Identifier: GPL-2.0-or-later
"""Private directories for programs that have no view, and their removal."""

from __future__ import annotations

import contextlib
import os
import stat

from go_health_hook import files
from go_health_hook.run.sandbox import host

# Where they may be, the best first: any user may fill /tmp. All let the unprivileged user pass.
PLACES = ("/run/go-health-hook", "/var/lib/go-health-hook", "/tmp")
PREFIX = "go-health-hook-scratch-"
# The same for packages that come in (go/unpack.py). The first is closed to all but root.
INCOMING = "go-health-hook-incoming-"
INCOMING_PLACES = ("/var/cache/go-health-hook", *PLACES)
ROOM = 256 << 20  # bytes that building and running a program may take

# This run's directories have its mark in their names; its workers, which are forked, know it as well.
_MARK = files.mark()


def scratch_directory() -> str:
    """Return a new directory for a program without a view of its own, open to that program alone. Raises OSError."""
    h = host()
    path = f"{place()}/{PREFIX}{_MARK}-{os.urandom(8).hex()}"
    os.mkdir(path, 0o700)
    os.chmod(path, 0o700)
    if h.as_root:
        os.chown(path, h.uid, h.gid)
    return path


def place() -> str:
    """Return the first of PLACES that has room and lets programs run, or else the one with the most room."""
    rooms: dict[str, int] = {}
    for path in PLACES if host().as_root else PLACES[-1:]:
        with contextlib.suppress(OSError):
            if path != PLACES[-1] and not os.path.isdir(path):
                os.mkdir(path, 0o755)
                os.chmod(path, 0o755)  # noqa: S103  whatever the caller's umask
            info = os.lstat(path)
            if not stat.S_ISDIR(info.st_mode) or not info.st_mode & stat.S_IXOTH:
                continue
            room = os.statvfs(path)
            rooms[path] = 0 if room.f_flag & os.ST_NOEXEC else room.f_bavail * room.f_frsize
            if rooms[path] >= ROOM:
                return path
    return max(rooms, key=lambda path: rooms[path]) if rooms else PLACES[-1]


def remove_scratch(*paths: str) -> None:
    """Remove directories with all that is in them. Raises nothing."""
    for path in paths:
        files.remove_tree(path)


def sweep_scratch() -> None:
    """Remove what workers of this run have left. Raises nothing."""
    for directory in PLACES:
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                if name.startswith(f"{PREFIX}{_MARK}-"):
                    files.remove_tree(f"{directory}/{name}")


def sweep_killed() -> None:
    """Remove what killed runs have left, wherever a run makes private directories. Raises nothing."""
    for directory in {*PLACES, *INCOMING_PLACES}:
        for prefix in (PREFIX, INCOMING):
            sweep(directory, prefix)


def sweep(directory: str, prefix: str) -> None:
    """Remove private directories of that prefix, ours or root's, whose process is gone. Raises nothing."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(prefix) and not _in_use(f"{directory}/{name}", name[len(prefix) :]):
                files.remove_tree(f"{directory}/{name}")


def _in_use(path: str, token: str) -> bool:
    try:
        info = os.lstat(path)
    except OSError:
        return True
    ours = info.st_uid in (0, os.geteuid(), host().uid)
    # Names without a mark are of earlier versions.
    mark = token.partition("-")[0]
    return not stat.S_ISDIR(info.st_mode) or not ours or ("." in mark and files.lives(mark))
