# SPDX-License-Identifier: GPL-2.0-or-later
"""The debug log: every command with its arguments and view, its time and its end.

It is printed with --debug or SYSTEMD_LOG_LEVEL=debug (systemd(1)). Commands that had not answered when time ran out are
always put into the journal, at debug priority: journalctl -p debug -t go-health-hook.
"""

from __future__ import annotations

import contextlib
import os

from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from go_health_hook.run.result import Result

SYSLOG = "/dev/log"
PRIORITY = 3 << 3 | 7  # LOG_DAEMON, LOG_DEBUG (syslog(3))
LONGEST = 4000  # characters of a command that are shown
AGAIN = 160  # and where it has been shown before
LEVELS = ("debug", "7")

_fd = -1


def wanted() -> bool:
    """Return whether the environment asks for debug messages."""
    return os.environ.get("SYSTEMD_LOG_LEVEL", "").lower() in LEVELS


def enable() -> None:
    """Print every command on stderr from now on, those of workers too."""
    global _fd
    if _fd < 0:
        _fd = os.dup(2)


def kept() -> set[int]:
    """Return the descriptors that a worker has to keep for this."""
    return {_fd} if _fd >= 0 else set()


def release() -> None:
    """Print nothing any more, and hold nothing of the caller's: this process outlives it."""
    global _fd
    if _fd >= 0:
        with contextlib.suppress(OSError):  # closed with all the others already
            os.close(_fd)
        _fd = -1


def debug(line: str) -> None:
    """Print one line, where that is asked for; below systemd with the prefix of its priority (sd-daemon(3))."""
    if _fd >= 0:
        prefix = "<7>" if os.environ.get("JOURNAL_STREAM") else ""
        try:
            os.write(_fd, f"{prefix}go-health-hook[{os.getpid()}]: {clean(line, LONGEST)}\n".encode())
        except OSError:
            pass


def started(argv: Sequence[str]) -> None:
    """Print a command that has been started, with all that is put before it for its view."""
    if _fd >= 0:
        debug(f"+ {_joined(argv)}")


def ended(result: Result, seconds: float) -> None:
    """Print how a command ended; tell the journal of one that did not answer."""
    if _fd >= 0:
        how = "exited with status 0" if result.ok else result.why()
        debug(f"  {seconds:.3f} s: {clean(_joined(result.argv), AGAIN)}: {how}")
    if result.timed_out:
        unanswered(f"{_joined(result.argv)} did not answer within {seconds:.1f} s")


def _joined(argv: Sequence[str]) -> str:
    import shlex

    return shlex.join(argv)


def unanswered(line: str) -> None:
    """Put one line into the journal at debug priority, without ever waiting for it."""
    debug(line)
    import socket

    message = f"<{PRIORITY}>go-health-hook[{os.getpid()}]: {clean(line, LONGEST)}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
            channel.connect(SYSLOG)
            channel.send(message.encode())
    except OSError:
        pass  # no journal here, or one that takes nothing now
