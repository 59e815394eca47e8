# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler's trace (GODEBUG=schedtrace=N) told apart from what a program itself writes to stderr.

Form: runtime/proc.go, schedtrace: "SCHED 50ms: gomaxprocs=8 idleprocs=5 threads=5 … runqueue=0 [ 0 0 … ] schedticks=…"
"""

from __future__ import annotations

import re

from go_health_hook.linux.kernel_files import Record

_LINE = re.compile(
    rb"SCHED (\d{1,12})ms: gomaxprocs=(\d{1,6}) idleprocs=(\d{1,6}) threads=(\d{1,9})"
    rb"[^\[\n]{0,200}? runqueue=(\d{1,9})[^\[\n]{0,100}\[([ \d]*)\][^\n]*\n"
)
_HEAD = b"SCHED "
_LONGEST = 1 << 16  # bytes of a line whose end has not come: it is the program's own after all


class Sample(Record):
    """One line of the trace.

    at           seconds since the observation began
    since_start  seconds since the runtime that wrote it began
    gomaxprocs   in force
    idle         Ps with nothing to run
    threads      of the program
    queued       goroutines that wait for a P, in all queues
    """

    __slots__ = ("at", "gomaxprocs", "idle", "queued", "since_start", "threads")

    def __init__(self, at: float, since_start: float, gomaxprocs: int, idle: int, threads: int, queued: int) -> None:
        self.at = at
        self.since_start = since_start
        self.gomaxprocs = gomaxprocs
        self.idle = idle
        self.threads = threads
        self.queued = queued


class Separator:
    """Takes stderr as it comes, keeps the trace's lines as samples and gives back the rest, byte for byte."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._held = b""

    def feed(self, data: bytes, at: float) -> bytes:
        """Take data that came `at` seconds after the start; return what of it is the program's own."""
        data = self._held + data
        own = []
        last = 0
        for match in _LINE.finditer(data):
            own.append(data[last : match.start()])
            last = match.end()
            ms, procs, idle, threads, queue = (int(match.group(i)) for i in range(1, 6))
            queue += sum(int(n) for n in match.group(6).split() if len(n) < 10)
            self.samples.append(Sample(at, ms / 1000, procs, idle, threads, queue))
        rest = data[last:]
        # A line of the trace may be cut anywhere; what cannot become one is given back at once, prompts included.
        start = rest.rfind(b"\n") + 1
        hold = rest.find(_HEAD, start)
        if hold < 0:
            hold = next((len(rest) - n for n in range(len(_HEAD) - 1, 0, -1) if rest.endswith(_HEAD[:n])), len(rest))
        if len(rest) - hold > _LONGEST:
            hold = len(rest)
        self._held = rest[hold:]
        own.append(rest[:hold])
        return b"".join(own)

    def end(self) -> bytes:
        """What was held back when no more comes."""
        held, self._held = self._held, b""
        return held
