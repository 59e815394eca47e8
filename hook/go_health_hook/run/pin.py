# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts that pin the directories of another root, in a mount namespace of this thread and of what it starts.

A path below another root may lead elsewhere a moment later. A mount made from an open directory cannot
(mount(2) on /proc/self/fd/N), so the view of such a root is made of these.
"""

from __future__ import annotations

import os
import stat
import threading

from go_health_hook import files
from go_health_hook.run import kernel_calls
from go_health_hook.run.sandbox import Unsandboxed
from go_health_hook.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE = "/run/go-health-hook/view"

_pinned = threading.local()


def pin(root: str, paths: Sequence[str]) -> list[tuple[str, str]]:
    """Return (host path, path in the root) of each of `paths` that leads to a directory or regular file in `root`.

    The host paths are mounts below PLACE, which only this thread and what it starts can see. Raises Unsandboxed.
    """
    known: dict[tuple[str, tuple[str, ...]], list[tuple[str, str]]] = _pinned.__dict__.setdefault("known", {})
    key = (root, tuple(paths))
    try:
        if not known:
            _make_place()
        if key not in known:
            known[key] = _pin(root, paths, f"{PLACE}/{len(known)}")
    except OSError as error:
        raise _cannot(f"{error.filename}: {error.strerror}") from None
    return known[key]


def _pin(root: str, paths: Sequence[str], place: str) -> list[tuple[str, str]]:
    subject = Subject("root", root)
    pins: list[tuple[str, str]] = []
    os.mkdir(place, 0o755)
    for number, path in enumerate(paths):
        try:
            fd = subject.open_path(path)
        except OSError:
            continue
        try:
            mode = os.fstat(fd).st_mode
            source = f"{place}/{number}"
            if stat.S_ISDIR(mode):
                os.mkdir(source)
            elif stat.S_ISREG(mode):
                os.close(os.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            else:
                continue
            kernel_calls.mount(f"/proc/self/fd/{fd}", source, None, kernel_calls.BIND | kernel_calls.REC, None)
            pins.append((source, path))
        finally:
            os.close(fd)
    return pins


def _make_place() -> None:
    """Give this thread a mount namespace of its own, with an empty PLACE. Raises OSError, Unsandboxed."""
    files.make_directory(PLACE)
    info = os.lstat(PLACE)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0:
        raise _cannot(f"{PLACE} is not a directory of root's")
    kernel_calls.private_mounts()
    flags = kernel_calls.NOSUID | kernel_calls.NODEV
    kernel_calls.mount("tmpfs", PLACE, "tmpfs", flags, "mode=0700,size=1m")


def _cannot(why: str) -> Unsandboxed:
    return Unsandboxed(f"cannot show a program another root here: {why}", hint="run it as root with CAP_SYS_ADMIN")
