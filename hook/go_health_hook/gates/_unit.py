# SPDX-License-Identifier: GPL-2.0-or-later
"""What the gates that run in systemd's units share: their lines in the journal, and the override in force."""

from __future__ import annotations

import os
import socket
import sys

from go_health_hook import override
from go_health_hook.errors import BadInput
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from go_health_hook.verdict import Examination

STREAM = "/run/systemd/journal/stdout"
# syslog(3)
ERR, WARNING, NOTICE, INFO = 3, 4, 5, 6


def say(priority: int, line: str) -> None:
    """Print one line; where stdout is the journal's, with the prefix that sets its priority (sd-daemon(3))."""
    prefix = f"<{priority}>" if _is_journal() else ""
    sys.stdout.write(f"{prefix}{clean(line, 2000)}\n")
    sys.stdout.flush()


def own_stream() -> None:
    """Have the journal show this process's lines under our name, in a unit that has another program's.

    A connection to journald of our own, as systemd-cat makes it (systemd's src/journal/cat.c): identifier, unit,
    priority, whether lines have a prefix, three more switches. Without journald the lines go where they went.
    """
    if not _is_journal():
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(1)
            stream.connect(STREAM)
            stream.sendall(f"go-health-hook\n\n{INFO}\n1\n0\n0\n0\n".encode())
            stream.settimeout(None)
            sys.stdout.flush()
            for fd in (1, 2):
                os.dup2(stream.fileno(), fd)
    except OSError:
        return
    info = os.fstat(1)
    os.environ["JOURNAL_STREAM"] = f"{info.st_dev}:{info.st_ino}"


def _is_journal() -> bool:
    """Whether stdout is the stream that $JOURNAL_STREAM names; a child of the unit's program may have a pipe there."""
    try:
        info = os.fstat(1)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


def overridden() -> override.Override | None:
    """Return the override in force; say why one that cannot be read is none."""
    try:
        return override.in_force()
    except BadInput as error:
        say(ERR, error.line())
        return None


def say_remedies(examination: Examination) -> None:
    """Say what to do about each finding that blocks."""
    for finding in examination.findings:
        if finding.blocks and finding.remedy:
            say(NOTICE, f"{finding.check}: {finding.remedy}")


def say_override(what_for: str) -> None:
    """Say how a person goes ahead anyway; every block ends so."""
    say(NOTICE, f"{what_for}: go-health-hook override --for 2h --reason TEXT")


def kept(write: Callable[[], None]) -> None:
    """Write a record; a full or read-only disk is said and changes nothing about the answer."""
    try:
        write()
    except OSError as error:
        say(WARNING, f"{clean(str(error.filename or ''))} is not written: {error.strerror}")
