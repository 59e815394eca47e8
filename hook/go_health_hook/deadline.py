# SPDX-License-Identifier: GPL-2.0-or-later
"""The one clock of a run. It is made where the run begins and handed down, so that no step waits longer than is left.

A budget is the time that a toolchain may take on a machine that gives it CPU and disk. With a ceiling, time in which
the machine kept the toolchain waiting is credited (see run/progress.py) and does not count, up to the ceiling.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# [budget] ceiling holds for unattended runs; these are the limits elsewhere (seconds).
CEILING_FOR_A_PERSON = 20.0
CEILING_AT_SHUTDOWN = 30.0
# The fields of the clock that processes share, all in seconds: time credited; the longest time without a break in
# which every thread was seen asleep; time in which the toolchain had a CPU; time of which nothing is known, or in which
# a disk was waited for that has not answered; and when (time.monotonic) the keeper of the clock looks again.
CREDIT, IDLE, RAN, DOUBT, NEXT = range(5)
# A run with this part of its budget credited or in doubt was cut on a starved machine. A part of the budget that was
# spent asleep, or on a CPU, proves a hang all the same. A healthy run may need half of a small budget's CPU time.
STARVED = 0.25
ASLEEP = 0.5
SPUN = 0.9
# The keeper of the clock may be late for want of a CPU: for so many seconds the others wait for its look, not longer,
# in steps of so many.
PATIENCE, STEP = 5.0, 0.02


class Clock:
    """What a deadline and those made of it share, with forked workers too: the figures, and who keeps them."""

    def __init__(self) -> None:
        self.owner = os.getpid()  # the outermost process watches the others
        self.watch: Any = None
        try:
            import mmap

            self.cell: Any = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")
        except (ImportError, OSError):
            self.cell = [0.0] * 5  # workers do not learn of the credit
        self.cell[NEXT] = time.monotonic()

    def credit(self, seconds: float) -> None:
        """Do not count that many seconds."""
        self.cell[CREDIT] += max(0.0, seconds)

    def is_behind(self) -> bool:
        """Whether the keeper, another process, is late with its look: until then there may be more credit."""
        late = time.monotonic() - self.cell[NEXT]
        return os.getpid() != self.owner and STEP < late < PATIENCE


class Deadline:
    """A point in time on the monotonic clock. All figures are seconds.

    Without `ceiling` all time counts. With it, credited time does not, until `ceiling` seconds have passed on the wall
    clock; the ceiling is never below the budget. Such a deadline is made in the outermost process, before it forks.
    """

    def __init__(
        self,
        budget: float,
        started: float | None = None,
        *,
        ceiling: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.budget = budget
        self.started = time.monotonic() if started is None else started
        self.ceiling = budget if ceiling is None else max(ceiling, budget)
        self.clock = Clock() if clock is None and ceiling is not None else clock
        # How the clock stood: it may have served other deadlines before.
        self._stood = list(self.clock.cell[:NEXT]) if self.clock else [0.0] * NEXT

    def elapsed(self) -> float:
        """Return the seconds since the run began, on the wall clock."""
        return time.monotonic() - self.started

    def credited(self) -> float:
        """Return the seconds of the run that do not count."""
        return self._grown(CREDIT)

    def _grown(self, field: int) -> float:
        """Return by how much a figure of the clock has grown for this deadline."""
        return float(self.clock.cell[field]) - self._stood[field] if self.clock else 0.0

    def _asleep(self) -> float:
        """Return the longest sleep; 0 where an earlier deadline of the clock had a longer one."""
        return float(self.clock.cell[IDLE]) if self.clock and self._grown(IDLE) else 0.0

    def remaining(self) -> float:
        """Return the seconds left, never below zero. More may be left later: look again before giving up."""
        elapsed = self.elapsed()
        left = self.budget - elapsed + self.credited()
        if left < STEP and self.clock and self.clock.is_behind():
            left = STEP
        return max(0.0, min(left, self.ceiling - elapsed))

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() <= 0.0

    @property
    def starved(self) -> bool:
        """Whether what has not answered by now lacked CPU or disk: its silence is no proof of a hang.

        True at the ceiling while the budget is not spent. Else a toolchain that was asleep or on a CPU for long is
        proven to hang. Without that proof, what is credited or in doubt excuses it, since both are measured and may be
        too little. So does credit that came too late for a check which gave up.
        """
        if self.clock is None:
            return False
        elapsed = self.elapsed()
        unspent = elapsed - self.credited() < self.budget
        if unspent and elapsed >= self.ceiling:
            return True
        if self._asleep() >= ASLEEP * self.budget or self._grown(RAN) >= SPUN * self.budget:
            return False
        return unspent or self.credited() + self._grown(DOUBT) >= STARVED * self.budget

    def ledger(self) -> str:
        """Return where the time went, in one line for the debug log."""
        if self.clock is None:
            return f"clock: {self.elapsed():.2f} s, nothing credited"
        return (
            f"clock: {self.elapsed():.2f} s of a budget of {self.budget:g} s, {self.credited():.2f} s credited, "
            f"{self._grown(DOUBT):.2f} s in doubt, {self._grown(RAN):.2f} s on a CPU, "
            f"asleep for {self._asleep():.2f} s at most"
        )

    def within(self, seconds: float, *, spare: float = 0.0) -> Deadline:
        """Return a deadline `seconds` from now, or this one's end if that comes first, on the same clock.

        Its ceiling leaves `spare` seconds for what comes after it.
        """
        wall = self.ceiling - self.elapsed() - spare if self.clock else None
        return Deadline(min(seconds, self.remaining()), ceiling=wall, clock=self.clock)

    def later(self, seconds: float) -> Deadline:
        """Return a deadline that ends `seconds` after this one, on the same clock."""
        end = Deadline(self.budget + seconds, self.started, ceiling=self.ceiling + seconds, clock=self.clock)
        end._stood = self._stood
        return end

    def credit(self, seconds: float) -> None:
        """Do not count that many seconds: somebody else, as the updater, took them."""
        if self.clock:
            self.clock.credit(seconds)


def ceiling_of(configured: float, *, person: bool = False, shutdown: bool = False) -> float:
    """Return the wall-clock limit (seconds) of a run: `[budget] ceiling`, less where a person or a shutdown waits."""
    if shutdown:
        return min(configured, CEILING_AT_SHUTDOWN)
    return min(configured, CEILING_FOR_A_PERSON) if person else configured
