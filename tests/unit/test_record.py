# SPDX-License-Identifier: GPL-2.0-or-later
"""The record as a table: what each run leaves of what is held back, broken, or not judged."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.announcements import DAY, NOW, examined

from go_health_hook.announce import motd, record
from go_health_hook.policy import Case, settle
from go_health_hook.verdict import BROKEN, NOT_JUDGED, REGRESSION, WARN, Examination, Ground

VERDICT, FOUND, AFTER, OVERRIDE = record.VERDICT, record.FOUND, record.AFTER, record.OVERRIDE
LOST = record.LOST


def run(gate: str, status: str, kind: str = "running", event: str = VERDICT, ground: Ground | None = None) -> dict:
    examination = examined(status, kind)
    if ground:
        examination.findings[0].ground = ground
        settle(examination, Case())
    return record.entry(examination, gate, event, NOW)


def after(*runs: dict) -> dict:
    state = record.empty()
    for i, entry in enumerate(runs):
        record.take(state, {**entry, "time": NOW + i})
    return state


UNJUDGED: dict[str, Any] = {"status": WARN, "ground": NOT_JUDGED}


@pytest.mark.parametrize(
    ("runs", "held", "broken", "unjudged"),
    [
        ([run("dnf5", "fail")], ["dnf5"], True, []),
        ([run("dnf5", "pass")], [], False, []),
        # Whatever became of the update, Go is broken until somebody finds it sound.
        ([run("dnf5", "fail", event=OVERRIDE)], [], True, []),
        ([run("check", "fail", event=FOUND)], [], True, []),
        ([run("dnf5", "fail", event=AFTER), run("check", "pass")], [], False, []),
        ([run("dnf5", "fail", event=AFTER), run("boot", "pass")], [], False, []),
        ([run("dnf5", "timeout", event=AFTER)], [], True, []),
        # What comes in says nothing of what is installed, nor does what is staged.
        ([run("dnf5", "fail", "incoming")], ["dnf5"], False, []),
        ([run("dnf5", "fail", "incoming"), run("check", "pass")], ["dnf5"], False, []),
        ([run("dnf5", "fail"), run("staged", "pass", "staged")], ["dnf5"], True, []),
        ([run("check", "fail", event=FOUND), run("staged", "pass", "staged")], [], True, []),
        ([run("check", "fail", event=FOUND), run("dnf5", "pass", "incoming")], [], True, []),
        ([run("staged", "fail", "staged"), run("dnf5", "pass")], ["staged"], False, []),
        # What was not judged proves nothing: it ends neither another gate's block nor what is known to be broken.
        ([run("dnf5", "error")], [], False, ["dnf5"]),
        ([run("dnf5", **UNJUDGED)], [], False, ["dnf5"]),
        ([run("dnf5", "fail"), run("boot", **UNJUDGED)], ["dnf5"], True, ["boot"]),
        ([run("dnf5", "fail"), run("boot", "error")], ["dnf5"], True, ["boot"]),
        # A run that was ended from outside: what the gate has held back before stays so.
        ([run("staged", "fail", "staged"), run("staged", "error", "staged", LOST)], ["staged"], False, ["staged"]),
        # It stays until the gate judges an update again; the look at what the transaction left is none.
        ([run("dnf5", "error", "incoming"), run("dnf5", "pass", event=AFTER)], [], False, ["dnf5"]),
        ([run("dnf5", "error", "incoming"), run("check", "pass")], [], False, ["dnf5"]),
        ([run("dnf5", "error", "incoming"), run("dnf5", "pass")], [], False, []),
        ([run("dnf5", "error", "incoming"), run("dnf5", "fail")], ["dnf5"], True, []),
    ],
)
def test_record_runs_leave_state(runs: list, held: list, broken: bool, unjudged: list) -> None:
    state = after(*runs)
    assert (sorted(state["blocks"]), state["broken"] is not None, sorted(state["unjudged"])) == (held, broken, unjudged)


@pytest.mark.parametrize(
    ("later", "unjudged"),
    [
        (run("dnf5", "pass", event=AFTER), []),
        (run("dnf5", "fail", event=AFTER), ["dnf5"]),
        (run("dnf5", event=AFTER, **UNJUDGED), ["dnf5"]),
        (run("check", "pass"), ["dnf5"]),
    ],
)
def test_record_go_that_is_judged_later_counts_as_judged_once_it_is_sound(later: dict, unjudged: list) -> None:
    first = {**run("dnf5", kind="incoming", **UNJUDGED), "judged_later": True}
    assert sorted(after(first, later)["unjudged"]) == unjudged


def limit_does_not_fit() -> dict:
    examination: Examination = examined("fail")
    examination.findings[0].check, examination.findings[0].severity = "gomaxprocs", REGRESSION
    examination.findings[0].ground = BROKEN
    settle(examination, Case(by_hand=True))
    assert examination.verdict.block
    return record.entry(examination, "check", FOUND, NOW)


def test_record_limit_that_does_not_fit_says_nothing_of_go() -> None:
    assert after(limit_does_not_fit())["broken"] is None
    assert after(run("dnf5", "fail"), limit_does_not_fit())["broken"]["gate"] == "dnf5"


def test_record_broken_keeps_its_first_date() -> None:
    state = after(run("dnf5", "fail"), run("check", "fail", event=FOUND))
    assert state["broken"]["since"] == NOW
    assert state["broken"]["gate"] == "check"


def test_record_unjudged_counts_and_keeps_its_first_date() -> None:
    state = after(run("dnf5", "error"), run("dnf5", **UNJUDGED))
    assert (state["unjudged"]["dnf5"]["since"], state["unjudged"]["dnf5"]["count"]) == (NOW, 2)


def test_record_forgets_gates_beyond_its_size() -> None:
    state = after(run("first", "error"), *(run(f"gate{i}", "pass") for i in range(record.MAX_GATES)))
    assert "first" not in state["unjudged"]


@pytest.mark.parametrize(
    ("runs", "later", "says"),
    [
        ([run("dnf5", "fail", event=AFTER)], 0, "The Go toolchain on this machine is broken since"),
        ([run("dnf5", "fail")], 0, "Updates are held back since"),
        ([run("dnf5", "error")], DAY - 1, ""),
        ([run("dnf5", "error")], DAY, "WARNING: since "),
        ([run("dnf5", **UNJUDGED)], DAY, "WARNING: since "),
        ([run("check", "error")], DAY, ""),
        ([run("dnf5", "pass")], DAY, ""),
    ],
)
def test_motd_says_what_is_known(runs: list, later: float, says: str) -> None:
    text = motd.text(after(*runs), NOW + later)
    assert text.startswith(says) and bool(text) == bool(says)
    assert max((len(line) for line in text.splitlines()), default=0) <= 79
