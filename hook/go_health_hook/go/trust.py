# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may change a toolchain, and who may use it: the two reasons for which one that is there is not judged.

A toolchain that others can change is not executed by root's checks, although its programs would run as nobody in a view
of their own: whoever can change it could otherwise hold back this machine's updates at will, by breaking it. It never
blocks, so nothing is lost but the finding. Where only some users may use a toolchain, user nobody cannot run it, which
says nothing about the program.
"""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook.linux.kernel_files import Record
from go_health_hook.subject import Step
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from go_health_hook.subject import Subject

NOBODY = 65534

FOREIGN = "foreign"  # a file or directory belongs to another user than root
WRITABLE = "writable"  # it is root's, and others may write to it
CLOSED = "closed"  # the user whom its programs run as may not use it


class Hindrance(Record):
    """Why a toolchain is not judged: `kind` is FOREIGN, WRITABLE or CLOSED, `text` one line on it.

    `readable` is False where not even the checks themselves can read it.
    """

    __slots__ = ("kind", "readable", "text")

    def __init__(self, kind: str, text: str, readable: bool = True) -> None:
        self.kind = kind
        self.text = text
        self.readable = readable


def changeable(subject: Subject, paths: Iterable[str]) -> Hindrance | None:
    """Return why others than root can change one of `paths` or the way to it, or None. A missing path is neither."""
    found = None
    for path in paths:
        try:
            why = subject.untrusted(path)
            if not why:
                continue
            if any(step.info.st_uid for step in subject.walk(path)):
                return Hindrance(FOREIGN, why)
        except OSError:
            continue
        found = found or Hindrance(WRITABLE, why)
    return found


def closed(subject: Subject, goroot: str, programs: Iterable[str], sources: Iterable[str]) -> Hindrance | None:
    """Return why the user whom the toolchain's programs run as may not use one of these paths, or None.

    That is nobody for root's checks, else the caller. Missing paths are left out.
    """
    for path, program in [*((p, True) for p in programs), *((p, False) for p in sources)]:
        try:
            steps = subject.walk(path)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                return Hindrance(CLOSED, f"{clean(str(error.filename or path))}: {error.strerror}", readable=False)
            continue
        if os.geteuid() != 0:
            if not os.access(steps[-1].host, os.X_OK if program else os.R_OK):
                return Hindrance(CLOSED, f"you may not use {clean(path)}", readable=False)
            continue
        for step in steps:
            if _in_view(subject, goroot, step, steps[-1]) and not _open_to_nobody(step, program):
                return Hindrance(CLOSED, _who_may(step))
    return None


def closed_below(subject: Subject, directory: str) -> Hindrance | None:
    """Return which directory or Go source below `directory` the toolchain's programs may not read, or None."""
    refused: list[OSError] = []
    try:
        top = subject.open_path(directory)
    except OSError:
        return None
    try:
        for place, _, files, fd in os.fwalk(".", onerror=refused.append, dir_fd=top):
            here = os.path.normpath(f"{directory}/{place}")
            steps = [Step(here, here, os.fstat(fd))]
            for name in files if os.geteuid() == 0 else ():
                if name.endswith(".go"):
                    steps.append(Step(f"{here}/{name}", "", os.stat(name, dir_fd=fd, follow_symlinks=False)))
            for step in steps:
                if os.geteuid() == 0 and not (_open_to_nobody(step, False) and _readable_by_nobody(step)):
                    return Hindrance(CLOSED, _who_may(step))
    finally:
        os.close(top)
    denied = next((error for error in refused if error.errno in (errno.EACCES, errno.EPERM)), None)
    return Hindrance(CLOSED, f"you may not read all of {clean(directory)}", readable=False) if denied else None


def _in_view(subject: Subject, goroot: str, step: Step, last: Step) -> bool:
    """Whether the mode of that step holds for a toolchain's program.

    In a view of bubblewrap's the directories above a GOROOT outside /usr are made anew, open to all (run/sandbox.py).
    """
    from go_health_hook.run.sandbox import host

    if subject.root != "/" or not host().bwrap or step is last:
        return True
    return step.path.startswith(("/usr/", f"{goroot}/")) or step.path in (goroot, "/usr")


def _open_to_nobody(step: Step, program: bool) -> bool:
    """Whether user nobody may pass through a directory, execute a program or read a source."""
    info = step.info
    if stat.S_ISLNK(info.st_mode):
        return True
    shift = 6 if info.st_uid == NOBODY else 3 if info.st_gid == NOBODY else 0
    if stat.S_ISDIR(info.st_mode) or program:
        return bool(info.st_mode >> shift & stat.S_IXOTH)
    return _readable_by_nobody(step)


def _readable_by_nobody(step: Step) -> bool:
    """Whether user nobody may list a directory or read a file."""
    info = step.info
    shift = 6 if info.st_uid == NOBODY else 3 if info.st_gid == NOBODY else 0
    return stat.S_ISLNK(info.st_mode) or bool(info.st_mode >> shift & stat.S_IROTH)


def _who_may(step: Step) -> str:
    group = bool(step.info.st_mode & stat.S_IXGRP)
    owner = "root" if step.info.st_uid == 0 else f"user {step.info.st_uid}"
    who = owner if not group else f"{owner} and group {step.info.st_gid}"
    return f"only {who} may use it: {clean(step.path)} has mode {stat.S_IMODE(step.info.st_mode):04o}"
