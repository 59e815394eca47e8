# SPDX-License-Identifier: GPL-2.0-or-later
"""The clock of a run: what is credited, the ceiling, and what a timeout is worth as proof."""

from __future__ import annotations

import os
import time

import pytest

from go_health_hook.deadline import DOUBT, IDLE, NEXT, PATIENCE, RAN, STEP, Deadline, ceiling_of


def begun(seconds_ago: float, budget: float, ceiling: float | None) -> Deadline:
    return Deadline(budget, time.monotonic() - seconds_ago, ceiling=ceiling)


def test_deadline_without_a_ceiling_takes_no_credit() -> None:
    deadline = begun(4, 5, None)
    deadline.credit(3)
    assert deadline.remaining() == pytest.approx(1, abs=0.5)
    assert not begun(6, 5, None).starved


def test_deadline_credit_is_added_to_what_is_left() -> None:
    deadline = begun(4, 5, 60)
    deadline.credit(3)
    assert deadline.remaining() == pytest.approx(4, abs=0.5)
    assert deadline.elapsed() == pytest.approx(4, abs=0.5)


def test_deadline_ends_at_the_ceiling_as_starved() -> None:
    deadline = begun(20, 5, 20)
    deadline.credit(19)
    assert deadline.expired
    assert deadline.starved


def test_deadline_ceiling_is_never_below_the_budget() -> None:
    assert begun(0, 120, 60).remaining() == pytest.approx(120, abs=0.5)


@pytest.mark.parametrize(
    ("field", "seconds", "starved"), [(IDLE, 4.9, False), (RAN, 4.9, False), (IDLE, 1.0, True), (RAN, 3.0, True)]
)
def test_deadline_spent_budget_is_proof_where_it_was_spent_idle_or_on_a_cpu(
    field: int, seconds: float, starved: bool
) -> None:
    deadline = begun(10, 5, 60)
    deadline.credit(5)
    assert deadline.clock
    deadline.clock.cell[field] = seconds
    assert deadline.expired
    assert deadline.starved is starved


@pytest.mark.parametrize(("doubt", "idle", "starved"), [(2.0, 1.0, True), (1.0, 1.0, False), (2.0, 4.0, False)])
def test_deadline_doubt_counts_as_credit_does_and_gives_no_time(doubt: float, idle: float, starved: bool) -> None:
    deadline = begun(5.2, 5, 60)
    assert deadline.clock
    deadline.clock.cell[DOUBT], deadline.clock.cell[IDLE] = doubt, idle
    assert deadline.expired
    assert deadline.starved is starved


def test_deadline_credit_that_comes_late_takes_the_proof_away() -> None:
    """A check gave up by itself; what its read had been kept waiting was known a moment later."""
    deadline = begun(5.2, 5, 60)
    assert deadline.expired
    assert not deadline.starved
    deadline.credit(0.4)
    assert not deadline.expired
    assert deadline.starved
    assert deadline.clock
    deadline.clock.cell[IDLE] = 3.0
    assert not deadline.starved


def test_deadline_counts_nothing_that_the_clock_showed_before() -> None:
    """A clock serves one Go of a transaction after another."""
    clock = Deadline(5, ceiling=60).clock
    assert clock
    clock.cell[RAN], clock.cell[IDLE], clock.cell[DOUBT] = 4.6, 4.0, 3.0
    deadline = Deadline(5, time.monotonic() - 9, ceiling=60, clock=clock)
    deadline.credit(3.9)
    assert deadline.starved
    clock.cell[RAN] += 4.9
    assert not deadline.starved
    assert not deadline.later(0.2).starved


def test_deadline_worker_waits_for_a_late_look_and_not_for_ever() -> None:
    deadline = begun(5.2, 5, 60)
    assert deadline.clock
    deadline.clock.cell[NEXT] = time.monotonic() - 1.0
    assert deadline.remaining() == 0.0
    deadline.clock.owner = 1  # as in a worker
    assert deadline.remaining() == STEP
    deadline.clock.cell[NEXT] = time.monotonic() + 1.0
    assert deadline.remaining() == 0.0
    deadline.clock.cell[NEXT] = time.monotonic() - PATIENCE
    assert deadline.remaining() == 0.0


def test_deadline_little_credit_leaves_a_timeout_as_it_is() -> None:
    deadline = begun(5.2, 5, 60)
    deadline.credit(0.2)
    assert deadline.expired
    assert not deadline.starved


def test_deadline_within_shares_the_clock_from_now_on() -> None:
    whole = begun(4, 20, 60)
    whole.credit(2)
    part = whole.within(3)
    assert part.remaining() == pytest.approx(3, abs=0.5)
    part.credit(1)
    assert part.remaining() == pytest.approx(4, abs=0.5)
    assert whole.remaining() == pytest.approx(19, abs=0.5)
    assert whole.within(3, spare=10).ceiling == pytest.approx(46, abs=0.5)


def test_deadline_later_ends_later_by_that_much() -> None:
    deadline = begun(1, 5, 60)
    deadline.credit(1)
    assert deadline.later(2).remaining() == pytest.approx(7, abs=0.5)


def test_deadline_credit_reaches_a_forked_process() -> None:
    deadline = Deadline(5, ceiling=60)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(told, 1)
        os._exit(int(deadline.credited()))
    deadline.credit(40)
    os.write(tell, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 40


def test_ceiling_is_lower_where_somebody_waits() -> None:
    assert ceiling_of(60) == 60
    assert ceiling_of(60, person=True) == 20
    assert ceiling_of(60, shutdown=True) == 30
    assert ceiling_of(10, person=True) == ceiling_of(10, shutdown=True) == 10
