# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler's trace (GODEBUG=schedtrace=N) told apart from what a program itself writes to stderr.

Form: runtime/proc.go, schedtrace: "SCHED 50ms: gomaxprocs=8 idleprocs=5 threads=5 … runqueue=0 [ 0 0 … ] schedticks=…"

The runtime writes a line in as many pieces as print has arguments. Other output may come to stand between any two of
these pieces.
"""

from __future__ import annotations

import re

from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAMED = rb"(?: [a-z]{1,40}=(?:\d{1,12}|\[[ \d]*\]))"
_LINE = re.compile(
    rb"SCHED (\d{1,12})ms: gomaxprocs=(\d{1,6}) idleprocs=(\d{1,6}) threads=(\d{1,9})"
    rb"%b{0,16}? runqueue=(\d{1,9})%b{0,16}? \[([ \d]*)(?:(?<=\d)\]|\]%b{1,16})\n" % (_NAMED, _NAMED, _NAMED)
)
_HEAD = b"SCHED "
_BETWEEN_MAX = 32  # lines of others' in one of the trace's; with more it is the program's own after all
WAIT, NONE = -1, -2  # in place of a line's end: it has not come yet; there is no such line
HOLD = 0.2  # seconds to wait for the rest of a line, of which the runtime writes each in far less

# The pieces as Go 1.21 to 1.27 write them: what may come in a state, and the state behind it. None is a number; the
# last state is the end.
_FIELDS = (b"SCHED ", b"ms: gomaxprocs=", b" idleprocs=", b" threads=", b" spinningthreads=", b" needspinning=",
           b" idlethreads=", b" runqueue=")  # fmt: skip
_PIECES: list[list[tuple[bytes | None, int]]] = []
for _field in _FIELDS:
    _PIECES += [[(_field, len(_PIECES) + 1)], [(None, len(_PIECES) + 2)]]
_PROCS, _LIST = 3, len(_PIECES)
_PIECES += [
    [(b" ", _LIST + 1)],
    [(b"[ ", _LIST + 4), (b"[", _LIST + 2)],
    [(None, _LIST + 3)],  # to 1.24: "[1 0]\n"
    [(b" ", _LIST + 2), (b"]\n", _LIST + 9)],
    [(None, _LIST + 5)],  # from 1.25: "[ 1 0 ] schedticks=[ 7 8 ]\n"
    [(b" ]", _LIST + 6), (b" ", _LIST + 4)],
    [(b" schedticks=[ ", _LIST + 7)],
    [(b"]\n", _LIST + 9), (None, _LIST + 8)],
    [(b" ", _LIST + 7)],
]
_END = len(_PIECES)
_NUMBER = re.compile(rb"\d{1,12}")


class Sample(Record):
    """One line of the trace.

    at           seconds since the observation began
    since_start  seconds since the runtime that wrote it began
    gomaxprocs   in force
    idle         Ps with nothing to run
    threads      of the program
    queued       goroutines that wait for a P, in all queues
    """

    at: float
    since_start: float
    gomaxprocs: int
    idle: int
    threads: int
    queued: int


class Separator:
    """Takes stderr as it comes, keeps the trace's lines as samples and gives back the rest, byte for byte."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._held = b""
        self._since = self._last = 0.0

    @property
    def waiting(self) -> bool:
        """Whether something is held back: to be asked again, with no data, when HOLD seconds are over."""
        return bool(self._held)

    def feed(self, data: bytes, at: float) -> bytes:
        """Take data that came `at` seconds after the start; return what of it is the program's own."""
        self._last = at
        return self._parted(data, self._held != b"" and at - self._since >= HOLD)

    def end(self) -> bytes:
        """What was held back when no more comes."""
        return self._parted(b"", True, True)

    def _parted(self, data: bytes, expired: bool, final: bool = False) -> bytes:
        """As `feed`; what was held is held no longer where its time has `expired`, and nothing where it is `final`."""
        before, data = self._held, self._held + data
        own: list[bytes] = []
        done = 0
        start = data.find(_HEAD)
        while start >= 0:
            end, foreign = self._line(data, start)
            if end == WAIT and not (final or (expired and start == 0)):
                break
            if end < 0:
                end, foreign = start + len(_HEAD), _HEAD
            own += [data[done:start], foreign]
            done = end
            start = data.find(_HEAD, end)
        if start < 0:
            # The head may be cut anywhere; what cannot become one is given back at once, prompts included.
            hold = not final and not (expired and data == before)
            part = next((n for n in range(len(_HEAD) - 1, 0, -1) if hold and data.endswith(_HEAD[:n], done)), 0)
            start = len(data) - part
        own.append(data[done:start])
        self._held = data[start:]
        if start or not before:
            self._since = self._last
        return b"".join(own)

    def _line(self, data: bytes, start: int) -> tuple[int, bytes]:
        """Take the line that begins there: its end and what else stood in it, or WAIT or NONE and nothing."""
        match = _LINE.match(data, start)
        if match and self._take(match):
            return match.end(), b""
        end, line, foreign = _unravel(data, start)
        if end < 0:
            return end, b""
        match = _LINE.fullmatch(line)
        if not match or not self._take(match):
            return NONE, b""
        # Others of Go write such lines too.
        return end, _LINE.sub(lambda found: b"" if self._take(found) else found.group(), foreign)

    def _take(self, line: re.Match[bytes]) -> bool:
        """Keep a line's sample; False for one that has not a queue for each P, so that it is not whole."""
        ms, procs, idle, threads, queue = (int(line.group(i)) for i in range(1, 6))
        queues = [int(n) for n in line.group(6).split() if len(n) < 10]
        if len(queues) == procs:
            self.samples.append(Sample(self._last, ms / 1000, procs, idle, threads, queue + sum(queues)))
        return len(queues) == procs


def _unravel(data: bytes, start: int) -> tuple[int, bytes, bytes]:
    """A line of the trace that others' lines stand in: where it ends (or WAIT, or NONE), the line, what others wrote.

    Searched with both choices at each place between pieces, the next piece before a line of another's; a place that
    leads nowhere is not tried twice. A list has a number for each P, or it is not that list.
    """
    tried: set[tuple[int, int, int]] = set()
    found = NONE
    # State, place, how many numbers so far, GOMAXPROCS, how many lines of others', and the steps there, of which each
    # is (those before it, from, to, whether it is ours).
    ways: list[tuple[int, int, int, int, int, Any]] = [(0, start, 0, 0, 0, None)]
    while ways:
        state, at, numbers, procs, between, steps = ways.pop()
        if state == _END:
            return (at, *_told_apart(data, steps))
        if (state, at, numbers) in tried:
            continue
        tried.add((state, at, numbers))
        newline = data.find(b"\n", at)
        if newline < 0:
            found = WAIT
        elif state and between < _BETWEEN_MAX:
            ways.append((state, newline + 1, numbers, procs, between + 1, (steps, at, newline + 1, False)))
        for piece, then in reversed(_PIECES[state]):
            if piece is None:
                number = _NUMBER.match(data, at)
                if number:
                    most = int(number.group()) if state == _PROCS else procs
                    ways.append((then, number.end(), numbers + 1, most, between, (steps, at, number.end(), True)))
            elif data.startswith(piece, at) and (b"]" not in piece or numbers - len(_FIELDS) in (procs, 2 * procs)):
                end = at + len(piece)
                ways.append((then, end, numbers, procs, between, (steps, at, end, True)))
    return found, b"", b""


def _told_apart(data: bytes, step: Any) -> tuple[bytes, bytes]:
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    while step:
        step, begin, end, ours = step
        parts[not ours].append(data[begin:end])
    return b"".join(reversed(parts[0])), b"".join(reversed(parts[1]))
