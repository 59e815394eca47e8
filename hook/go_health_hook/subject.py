# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose toolchain is judged: the running root, another root, or what a transaction brings in."""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook.errors import NotJudged
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# What the machine lacks; no fault of a path's.
WANT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
MAX_LINKS = 40  # as the kernel has it (include/linux/namei.h, MAXSYMLINKS)


class Step(Record):
    """One directory, link or file passed on the way to a path: where it is in the subject and on the host."""

    path: str
    host: str
    info: os.stat_result


class Subject:
    """A root to judge, and what is laid over it.

    `kind` is "running", "root", "staged" or "incoming". `binds` are (host directory, path in the subject): an incoming
    toolchain lies in a private directory and is judged at its final path; `ownership` says which packages it is from
    (None: ask the root's package database). Paths given to methods are the subject's.
    """

    def __init__(self, kind: str = "running", root: str = "/", binds: Sequence[tuple[str, str]] = ()) -> None:
        self.kind = kind
        self.root = root.rstrip("/") or "/"
        self.binds = list(binds)
        self.ownership: Any = None

    def on_host(self, path: str) -> str:
        """The host's path of a canonical path of the subject."""
        for source, target in sorted(self.binds, key=lambda bind: -len(bind[1])) if self.binds else ():
            if path == target or path.startswith(target + "/"):
                return source + path[len(target) :]
        return path if self.root == "/" else self.root + path

    def walk(self, path: str) -> list[Step]:
        """Return every step from the subject's root to `path`, links followed inside the subject; the last is no link.

        Raises OSError (ENOENT, ELOOP, ENOTDIR, EACCES) as the kernel would, with the subject's path that it is about.
        """
        steps: list[Step] = []
        os.close(self._resolve(path, lambda step, fd: steps.append(step)))
        return steps

    def _resolve(self, path: str, visit: Callable[[Step, int], object] | None = None, *, last: bool = True) -> int:
        """Return an O_PATH descriptor of `path`, the caller's to close; `visit` sees each step and its descriptor.

        The kernel follows no link and no "..": each name is looked up in the open directory before it. A subject
        that changes meanwhile cannot lead outside (the rule of openat2's RESOLVE_IN_ROOT). With `last` false, a link
        at the end is not followed either. Raises OSError as `walk` does.
        """
        if "\0" in path:
            raise OSError(errno.EINVAL, "A name with a NUL in it", path.replace("\0", "\\0"))
        rest = [part for part in path.split("/") if part not in ("", ".")][::-1]
        binds = {target: source for source, target in self.binds}
        opened = [("/", self._open(binds.get("/", self.root)))]
        links = 0
        try:
            if visit:
                visit(Step("/", self.on_host("/"), os.fstat(opened[0][1])), opened[0][1])
            while rest:
                part = rest.pop()
                if part == "..":
                    if len(opened) > 1:
                        os.close(opened.pop()[1])
                    continue
                here = f"{opened[-1][0].rstrip('/')}/{part}"
                try:
                    fd = self._open(binds[here]) if here in binds else self._open(part, opened[-1][1])
                except OSError as error:
                    if error.errno in WANT:
                        raise NotJudged(f"{clean(here)} cannot be looked at here: {error.strerror}") from None
                    raise OSError(error.errno, error.strerror, here) from None
                opened.append((here, fd))
                info = os.fstat(fd)
                if visit:
                    visit(Step(here, self.on_host(here), info), fd)
                if stat.S_ISLNK(info.st_mode) and (rest or last):
                    links += 1
                    if links > MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), here)
                    target = os.readlink("", dir_fd=fd)
                    os.close(opened.pop()[1])
                    if target.startswith("/"):
                        while len(opened) > 1:
                            os.close(opened.pop()[1])
                    rest += [p for p in target.split("/") if p not in ("", ".")][::-1]
                elif rest and not stat.S_ISDIR(info.st_mode):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), here)
            return opened.pop()[1]
        finally:
            for _, fd in opened:
                os.close(fd)

    @staticmethod
    def _open(name: str, directory: int | None = None) -> int:
        return os.open(
            name, os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if directory is not None else 0), dir_fd=directory
        )

    def realpath(self, path: str) -> str:
        """The canonical path in the subject. Raises OSError as `walk` does."""
        return self.walk(path)[-1].path

    def host_path(self, path: str) -> str:
        """The host's path of `path`, to be named, not to be opened. Raises OSError as `walk` does."""
        return self.on_host(self.realpath(path))

    def exists(self, path: str) -> bool:
        """Whether `path` leads to something in the subject."""
        try:
            os.close(self.open_path(path))
        except OSError:
            return False
        return True

    def has_name(self, path: str) -> bool:
        """Whether `path` is there, if only as a link that leads nowhere."""
        try:
            os.close(self._resolve(path, last=False))
        except OSError:
            return False
        return True

    def readlink(self, path: str) -> str:
        """Where a link leads, as it stands in the link; an empty string for what is none."""
        try:
            fd = self._resolve(path, last=False)
        except OSError:
            return ""
        try:
            return os.readlink("", dir_fd=fd)
        except OSError:
            return ""
        finally:
            os.close(fd)

    def open_path(self, path: str) -> int:
        """Return an O_PATH descriptor of what `path` leads to. Raises OSError as `walk` does."""
        return self._resolve(path)

    def stat(self, path: str) -> os.stat_result:
        """The file status of what `path` leads to. Raises OSError as `walk` does."""
        fd = self.open_path(path)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def listdir(self, path: str) -> list[str]:
        """The names in a directory. Raises OSError as `walk` does."""
        fd = self.open_path(path)
        try:
            return os.listdir(f"/proc/self/fd/{fd}")
        except OSError as error:
            if error.errno in WANT:
                raise NotJudged(f"{clean(path)} cannot be looked at here: {error.strerror}") from None
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(fd)

    def open(self, path: str, *, home: str = "") -> int:
        """Return a descriptor for reading a regular file; no other kind is ever opened.

        With `home`, what is in the file may be shown: where links lead out of that directory, root opens only what
        every user could read. Raises OSError as `walk` does, EINVAL for what is no regular file, and EACCES.
        """
        closed: list[str] = []
        last = path

        def visit(step: Step, fd: int) -> None:
            nonlocal last
            last = step.path
            mode = step.info.st_mode
            if not (stat.S_ISLNK(mode) or mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH)):
                closed.append(step.path)

        fd = self._resolve(path, visit)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            if home and closed and not last.startswith(f"{home}/") and os.geteuid() == 0:
                raise OSError(errno.EACCES, "Only root may read it", closed[0])
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in WANT:
                raise NotJudged(f"{clean(path)} cannot be opened here: {error.strerror}") from None
            raise OSError(error.errno, error.strerror, error.filename if error.filename in closed else path) from None
        finally:
            os.close(fd)

    def untrusted(self, path: str) -> str:
        """Why root must not execute `path`, or an empty string.

        Every directory and link on the way must be root's and writable by nobody else; a sticky directory of root's
        counts as safe, since others cannot replace root's entries in it. Raises OSError as `walk` does.
        """
        fd, why = self.open_checked(path)
        os.close(fd)
        return why

    def open_checked(self, path: str) -> tuple[int, str]:
        """Return what `open_path` returns, and what `untrusted` does. Raises OSError as `walk` does."""
        whys: list[str] = []
        seen = set()

        def visit(step: Step, fd: int) -> None:
            if step.host not in seen:
                seen.add(step.host)
                whys.append(_distrust(step, fd))

        if self.root != "/":
            os.close(Subject()._resolve(self.root, visit))
        fd = self._resolve(path, visit)
        return fd, next((why for why in whys if why), "")


def _distrust(step: Step, fd: int) -> str:
    mode = step.info.st_mode
    if step.info.st_uid != 0:
        return f"{clean(step.host)} belongs to user {step.info.st_uid}, not to root"
    if stat.S_ISLNK(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        return ""
    if mode & stat.S_IWOTH:
        return f"{clean(step.host)} is writable by everybody"
    if mode & stat.S_IWGRP and (step.info.st_gid != 0 or _has_acl(f"/proc/self/fd/{fd}")):
        return f"{clean(step.host)} is writable by group {step.info.st_gid} or an access list"
    return ""


def _has_acl(path: str) -> bool:
    """Whether a POSIX access list stands behind the group bits (acl(5): they are then the list's mask)."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False
