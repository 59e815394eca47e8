# SPDX-License-Identifier: GPL-2.0-or-later
"""A person's own program, run for `trace` as the person would run it."""

from __future__ import annotations

import contextlib
import os
import select
import time

from go_health_hook.run import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Attended:
    """A person's own program, run as they would run it: their environment, directory and terminal, no sandbox.

    It shares our process group, so that what is typed at the terminal reaches it; the streams in `through` come through
    us, the others are ours. Only `trace` starts such.
    """

    def __init__(self, argv: Sequence[str], env: dict[str, str], through: Sequence[str] = ("stderr",)) -> None:
        """Start it. Raises OSError where it cannot be started."""
        self.started = time.monotonic()
        self._process = process.attend(argv, env, through)
        self.pid: int = self._process.pid
        self.status: int | None = None
        self._poll = select.poll()
        self._open: dict[int, str] = {}
        for name in through:
            fd = getattr(self._process, name).fileno()
            os.set_blocking(fd, False)
            self._open[fd] = name
            self._poll.register(fd, select.POLLIN)
        self._exited = -1
        with contextlib.suppress(OSError, AttributeError):
            self._exited = os.pidfd_open(self.pid)
            self._poll.register(self._exited, select.POLLIN)

    def read(self, seconds: float) -> list[tuple[str, bytes]]:
        """What came through within that time, as (stream, data); returns sooner when something came, or it ended.

        Once it has ended, `status` is its exit status, or the negative number of the signal that killed it.
        """
        end = time.monotonic() + seconds
        came: list[tuple[str, bytes]] = []
        while not came and self.status is None:
            left = end - time.monotonic()
            if left <= 0:
                break
            wait = left if self._exited >= 0 else min(left, 0.02)
            for fd, _ in self._poll.poll(wait * 1000 + 1):
                if fd == self._exited:
                    continue
                came += self._take(fd)
            self.status = self._process.poll()
        if self.status is not None:
            # What it left running may hold the streams open; what is in them now is the end.
            for fd in list(self._open):
                came += self._take(fd)
        return came

    def _take(self, fd: int) -> list[tuple[str, bytes]]:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(fd)
            del self._open[fd]
            return []
        return [(self._open[fd], data)]

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.status is None:
            with contextlib.suppress(OSError):
                self._process.send_signal(number)

    def close(self) -> None:
        """Take its status and let go of its streams; one that still runs is killed."""
        if self.status is None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self.status = self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        if self._exited >= 0:
            os.close(self._exited)
            self._exited = -1
