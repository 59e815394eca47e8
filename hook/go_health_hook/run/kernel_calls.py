# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that os has not in every Python of ours. All of them raise OSError, ENOSYS where ctypes is missing."""

from __future__ import annotations

import errno
import os
import threading

# mount(2)
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
DETACH = 2  # umount2(2)
NEWNS = 0x00020000  # clone(2)
AT_FDCWD, EXCHANGE = -100, 2  # renameat2(2)
SET_CHILD_SUBREAPER = 36  # prctl(2)

_of_thread = threading.local()


def private_mounts() -> None:
    """Give this thread a mount namespace of its own, once. It sees what others mount; they do not see its mounts.

    What the thread starts shares it.
    """
    if not hasattr(_of_thread, "private"):
        _call("unshare", NEWNS)
        mount(None, "/", None, REC | SLAVE, None)
        _of_thread.private = True


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    """mount(2); the error's filename is the source."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, options)]
    try:
        _call("mount", words[0], words[1], words[2], flags, words[3])
    except OSError as error:
        raise OSError(error.errno, error.strerror, source or target) from None


def detach(target: str) -> None:
    """Take a mount and all below it away as soon as nobody uses it."""
    _call("umount2", os.fsencode(target), DETACH)


def exchange(one: str, other: str) -> None:
    """Have two files change places in one step."""
    try:
        _call("renameat2", AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE)
    except OSError as error:
        raise OSError(error.errno, error.strerror, other) from None


def become_subreaper() -> None:
    """Have orphans below this process become its children."""
    _call("prctl", SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _call(name: str, *arguments: int | bytes | None) -> None:
    try:
        import ctypes

        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (ImportError, AttributeError) as error:
        raise OSError(errno.ENOSYS, str(error), name) from None
    if function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)) != 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number), name)
