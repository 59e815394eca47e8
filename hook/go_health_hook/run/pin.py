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
from go_health_hook.run.sandbox import Unsandboxed
from go_health_hook.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PLACE = "/run/go-health-hook/view"
# sched.h, sys/mount.h
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE, MS_NOSUID, MS_NODEV = 0x1000, 0x4000, 0x80000, 0x2, 0x4

_pinned = threading.local()


def pin(root: str, paths: Sequence[str]) -> list[tuple[str, str]]:
    """Return (host path, path in the root) of each of `paths` that leads to a directory or regular file in `root`.

    The host paths are mounts below PLACE, which only this thread and what it starts can see. Raises Unsandboxed.
    """
    known: dict[tuple[str, tuple[str, ...]], list[tuple[str, str]]] = _pinned.__dict__.setdefault("known", {})
    key = (root, tuple(paths))
    if key not in known:
        known[key] = _pin(root, paths, f"{PLACE}/{len(known)}")
    return known[key]


def _pin(root: str, paths: Sequence[str], place: str) -> list[tuple[str, str]]:
    mount = _mounter()
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
            mount(f"/proc/self/fd/{fd}", source, None, MS_BIND | MS_REC)
            pins.append((source, path))
        finally:
            os.close(fd)
    return pins


def _mounter() -> Any:
    """Return a function like mount(2); this thread has a mount namespace of its own when it returns."""
    mount = getattr(_pinned, "mount", None)
    if mount is not None:
        return mount
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError) as error:
        raise _cannot(str(error)) from None

    def call(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
        words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
        if libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]):
            raise _cannot(f"mount of {target}: {os.strerror(ctypes.get_errno())}")

    try:
        files.make_directory(PLACE)
        info = os.lstat(PLACE)
    except OSError as error:
        raise _cannot(f"{PLACE}: {error.strerror}") from None
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0:
        raise _cannot(f"{PLACE} is not a directory of root's")
    if libc.unshare(CLONE_NEWNS):
        raise _cannot(f"unshare: {os.strerror(ctypes.get_errno())}")
    call("none", "/", None, MS_REC | MS_SLAVE)
    call("tmpfs", PLACE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=1m")
    _pinned.mount = call
    return call


def _cannot(why: str) -> Unsandboxed:
    return Unsandboxed(f"cannot show a program another root here: {why}", hint="run it as root with CAP_SYS_ADMIN")
