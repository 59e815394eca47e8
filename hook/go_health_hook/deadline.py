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
# The fields of the clock that processes share, all in seconds: time credited; the longest time without a
# break in which nothing ran and nothing waited for the machine; time in which the toolchain had a CPU.
CREDIT, IDLE, RAN = range(3)
# A run that was credited this part of its budget or more was cut on a starved machine. The second part of the budget,
# spent idle or on a CPU, proves a hang all the same.
STARVED = 0.25
PROVEN = 0.5


class Clock:
    """What a deadline and those made of it share, with forked workers too: the figures, and who keeps them."""

    def __init__(self) -> None:
        self.owner = os.getpid()  # the outermost process watches the others
        self.watch: Any = None
        try:
            import mmap

            self.cell: Any = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")
        except (ImportError, OSError):
            self.cell = [0.0] * 3  # workers do not learn of the credit

    def credit(self, seconds: float) -> None:
        """Do not count that many seconds."""
        self.cell[CREDIT] += max(0.0, seconds)


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
        self._since = self.clock.cell[CREDIT] if self.clock else 0.0

    def elapsed(self) -> float:
        """Return the seconds since the run began, on the wall clock."""
        return time.monotonic() - self.started

    def credited(self) -> float:
        """Return the seconds of the run that do not count."""
        return float(self.clock.cell[CREDIT]) - self._since if self.clock else 0.0

    def remaining(self) -> float:
        """Return the seconds left, never below zero. More may be left later: look again before giving up."""
        elapsed = self.elapsed()
        return max(0.0, min(self.budget - elapsed + self.credited(), self.ceiling - elapsed))

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() <= 0.0

    @property
    def starved(self) -> bool:
        """Whether time ran out for want of CPU or disk: that is no proof of a hang.

        True at the ceiling while the budget is not spent. Also true where much was credited, and neither an idle
        toolchain nor its use of the CPU proves that it hangs: what was credited is measured, and may be too little.
        """
        if self.clock is None or not self.expired:
            return False
        if self.elapsed() - self.credited() < self.budget:
            return True
        spent = max(self.clock.cell[IDLE], self.clock.cell[RAN])
        return self.credited() >= STARVED * self.budget and spent < PROVEN * self.budget

    def within(self, seconds: float, *, spare: float = 0.0) -> Deadline:
        """Return a deadline `seconds` from now, or this one's end if that comes first, on the same clock.

        Its ceiling leaves `spare` seconds for what comes after it.
        """
        wall = self.ceiling - self.elapsed() - spare if self.clock else None
        return Deadline(min(seconds, self.remaining()), ceiling=wall, clock=self.clock)

    def later(self, seconds: float) -> Deadline:
        """Return a deadline that ends `seconds` after this one, on the same clock."""
        end = Deadline(self.budget + seconds, self.started, ceiling=self.ceiling + seconds, clock=self.clock)
        end._since = self._since
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
