# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose toolchain is judged: the running root, another root, or what a transaction brings in."""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MAX_LINKS = 40  # as the kernel has it (include/linux/namei.h, MAXSYMLINKS)


class Step:
    """One directory, link or file passed on the way to a path: where it is in the subject and on the host."""

    __slots__ = ("host", "info", "path")

    def __init__(self, path: str, host: str, info: os.stat_result) -> None:
        self.path = path
        self.host = host
        self.info = info


class Subject:
    """A root to judge, and what is laid over it.

    `kind` is "running", "root", "staged" or "incoming". `binds` are (host directory, path in the subject): an incoming
    toolchain lies in a private directory and is judged at its final path; `ownership` says which packages it is from
    (None: ask the root's package database). Paths given to methods are the subject's.
    """

    __slots__ = ("binds", "kind", "ownership", "root")

    def __init__(self, kind: str = "running", root: str = "/", binds: Sequence[tuple[str, str]] = ()) -> None:
        self.kind = kind
        self.root = root.rstrip("/") or "/"
        self.binds = list(binds)
        self.ownership: Any = None

    def on_host(self, path: str) -> str:
        """The host's path of a canonical path of the subject."""
        for source, target in sorted(self.binds, key=lambda bind: -len(bind[1])):
            if path == target or path.startswith(target + "/"):
                return source + path[len(target) :]
        return path if self.root == "/" else self.root + path

    def walk(self, path: str) -> list[Step]:
        """Every step from the subject's root to `path`, links followed inside the subject; the last is no link.

        Raises OSError (ENOENT, ELOOP, ENOTDIR, EACCES) as the kernel would, with the subject's path that it is about.
        """
        steps: list[Step] = []
        done = "/"
        links = 0
        rest = [part for part in path.split("/") if part not in ("", ".")][::-1]
        steps.append(Step("/", self.on_host("/"), os.lstat(self.on_host("/"))))
        while rest:
            part = rest.pop()
            if part == "..":
                done = os.path.dirname(done)
                continue
            here = f"{done.rstrip('/')}/{part}"
            host = self.on_host(here)
            try:
                info = os.lstat(host)
            except OSError as error:
                raise OSError(error.errno, error.strerror, here) from None
            steps.append(Step(here, host, info))
            if stat.S_ISLNK(info.st_mode):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), here)
                target = os.readlink(host)
                if target.startswith("/"):
                    done = "/"
                rest += [p for p in target.split("/") if p not in ("", ".")][::-1]
                continue
            if rest and not stat.S_ISDIR(info.st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), here)
            done = here
        return steps

    def realpath(self, path: str) -> str:
        """The canonical path in the subject. Raises OSError as `walk` does."""
        return self.walk(path)[-1].path

    def host_path(self, path: str) -> str:
        """The host's path of `path`, links followed inside the subject. Raises OSError as `walk` does."""
        return self.on_host(self.realpath(path))

    def exists(self, path: str) -> bool:
        """Whether `path` leads to something in the subject."""
        try:
            self.walk(path)
        except OSError:
            return False
        return True

    def untrusted(self, path: str) -> str:
        """Why root must not execute `path`, or an empty string.

        Every directory and link on the way must be root's and writable by nobody else; a sticky directory of root's
        counts as safe, since others cannot replace root's entries in it. Raises OSError as `walk` does.
        """
        steps = self.walk(path)
        if self.root != "/":
            outside = Subject().walk(self.root)
            steps = [*outside, *steps]
        seen = set()
        for step in steps:
            if step.host in seen:
                continue
            seen.add(step.host)
            if step.info.st_uid != 0:
                return f"{clean(step.host)} belongs to user {step.info.st_uid}, not to root"
            mode = step.info.st_mode
            if stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
                continue
            if mode & stat.S_IWOTH:
                return f"{clean(step.host)} is writable by everybody"
            if mode & stat.S_IWGRP and (step.info.st_gid != 0 or _has_acl(step.host)):
                return f"{clean(step.host)} is writable by group {step.info.st_gid} or an access list"
        return ""


def _has_acl(path: str) -> bool:
    """Whether a POSIX access list stands behind the group bits (acl(5): they are then the list's mask)."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False
