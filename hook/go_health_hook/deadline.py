# SPDX-License-Identifier: GPL-2.0-or-later
"""The one clock of a run: made where the run begins and handed down, so that no step waits longer than is left."""

from __future__ import annotations

import time


class Deadline:
    """A point in time on the monotonic clock. All figures are seconds."""

    __slots__ = ("budget", "started")

    def __init__(self, budget: float, started: float | None = None) -> None:
        self.budget = budget
        self.started = time.monotonic() if started is None else started

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.budget - self.elapsed())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.elapsed() >= self.budget

    def within(self, seconds: float) -> Deadline:
        """A deadline `seconds` from now, or this one's end if that comes first."""
        return Deadline(min(seconds, self.remaining()))
