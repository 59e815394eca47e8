# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may change a toolchain, and who may use it: the two reasons for which one that is there is not judged.

Root's checks do not execute a toolchain that others can change. Its programs would run as another user in a view of
their own, so the machine is safe; but whoever can change it could hold back this machine's updates at will, by breaking
it. Where only some users may use a toolchain, the user whom its programs run as cannot: that says nothing about it.
"""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook.records import Record
from go_health_hook.subject import Step
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from go_health_hook.subject import Subject

FOREIGN = "foreign"  # a file or directory belongs to another user than root
WRITABLE = "writable"  # it is root's, and others may write to it
CLOSED = "closed"  # the user whom its programs run as may not use it


class Hindrance(Record):
    """Why a toolchain is not judged: `kind` is FOREIGN, WRITABLE or CLOSED, `text` one line on it.

    `readable` is False where not even the checks themselves can read it.
    """

    kind: str
    text: str
    readable: bool = True


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

    That is a user without privileges for root's checks, else the caller. Missing paths are left out.
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
            if _in_view(subject, goroot, step, steps[-1]) and not _open_to_others(step, program):
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
                if os.geteuid() == 0 and not (_open_to_others(step, False) and _readable_by_others(step)):
                    return Hindrance(CLOSED, _who_may(step))
    finally:
        os.close(top)
    denied = next((error for error in refused if error.errno in (errno.EACCES, errno.EPERM)), None)
    return Hindrance(CLOSED, f"you may not read all of {clean(directory)}", readable=False) if denied else None


def _in_view(subject: Subject, goroot: str, step: Step, last: Step) -> bool:
    """Whether the mode of that step holds for a toolchain's program.

    In a view of bubblewrap's the directories above a GOROOT outside /usr are new ones, open to all (run/sandbox.py).
    """
    from go_health_hook.run.sandbox import host

    if subject.root != "/" or not host().bwrap or step is last:
        return True
    return step.path.startswith(("/usr/", f"{goroot}/")) or step.path in (goroot, "/usr")


def _open_to_others(step: Step, program: bool) -> bool:
    """Whether the user whom programs run as may pass through a directory, execute a program or read a source."""
    if stat.S_ISLNK(step.info.st_mode):
        return True
    if stat.S_ISDIR(step.info.st_mode) or program:
        return bool(_bits(step) & stat.S_IXOTH)
    return _readable_by_others(step)


def _readable_by_others(step: Step) -> bool:
    """Whether the user whom programs run as may list a directory or read a file."""
    return stat.S_ISLNK(step.info.st_mode) or bool(_bits(step) & stat.S_IROTH)


def _bits(step: Step) -> int:
    """The permissions of the user whom root's programs run as, in the place of those for others."""
    from go_health_hook.run.sandbox import host

    shift = 6 if step.info.st_uid == host().uid else 3 if step.info.st_gid == host().gid else 0
    return step.info.st_mode >> shift


def _who_may(step: Step) -> str:
    group = bool(step.info.st_mode & stat.S_IXGRP)
    owner = "root" if step.info.st_uid == 0 else f"user {step.info.st_uid}"
    who = owner if not group else f"{owner} and group {step.info.st_gid}"
    return f"only {who} may use it: {clean(step.path)} has mode {stat.S_IMODE(step.info.st_mode):04o}"
