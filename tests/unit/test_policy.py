# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy as a table: what blocks, what is only said, and with which exit status."""

from __future__ import annotations

import pytest

from go_health_hook.deadline import Deadline
from go_health_hook.policy import Action, Case, decide
from go_health_hook.subject import Subject
from go_health_hook.verdict import (
    ADVISORY,
    BROKEN,
    ERROR,
    FAIL,
    NOT_JUDGED,
    OFF,
    PASS,
    REGRESSION,
    REQUIRED,
    SKIP,
    TIMEOUT,
    WARN,
    WORSE,
    Examination,
    Finding,
    Ground,
    Outcome,
)


def finding(status: Outcome, severity: str = REQUIRED, check: str = "version", ground: Ground | None = None) -> Finding:
    made = Finding(status, f"it is {status}", "reinstall it", ground=ground)
    made.check, made.severity = check, severity
    return made


@pytest.mark.parametrize(
    ("statuses", "exit_status", "action"),
    [
        ([PASS], 0, Action.ALLOW),
        ([PASS, WARN], 0, Action.ALLOW),
        ([PASS, SKIP], 0, Action.ALLOW),
        ([PASS, FAIL], 1, Action.BLOCK),
        ([PASS, TIMEOUT], 3, Action.BLOCK),
        ([TIMEOUT, FAIL], 1, Action.BLOCK),
        ([PASS, ERROR], 4, Action.UNDECIDED),
        ([FAIL, ERROR], 1, Action.BLOCK),
    ],
)
def test_decide_outcomes_give_status_and_action(statuses: list[Outcome], exit_status: int, action: Action) -> None:
    decision = decide([finding(s) for s in statuses], Case())
    assert (decision.verdict.exit_status, decision.action) == (exit_status, action)
    assert decision.verdict.word == ("block" if exit_status in (1, 3) else "allow")
    assert decision.verdict.reason


SOUND = {"sound_before": ["version"]}
HAND = {"by_hand": True}


@pytest.mark.parametrize(
    ("status", "severity", "ground", "case", "exit_status", "after"),
    [
        # What is broken blocks, whatever it was before and whoever asks.
        (FAIL, REQUIRED, BROKEN, {}, 1, (FAIL, BROKEN)),
        (FAIL, REQUIRED, BROKEN, SOUND, 1, (FAIL, BROKEN)),
        # A hanging toolchain is broken; one that the machine has kept waiting is not judged.
        (TIMEOUT, REQUIRED, BROKEN, {}, 3, (TIMEOUT, BROKEN)),
        (TIMEOUT, REQUIRED, NOT_JUDGED, {}, 0, (TIMEOUT, NOT_JUDGED)),
        (TIMEOUT, REQUIRED, NOT_JUDGED, HAND, 0, (TIMEOUT, NOT_JUDGED)),
        (TIMEOUT, REQUIRED, NOT_JUDGED, {"starved_blocks": True}, 3, (TIMEOUT, NOT_JUDGED)),
        (TIMEOUT, REGRESSION, BROKEN, {}, 0, (TIMEOUT, BROKEN)),
        # What could not be told never blocks.
        (WARN, REQUIRED, NOT_JUDGED, {}, 0, (WARN, NOT_JUDGED)),
        (WARN, REQUIRED, NOT_JUDGED, HAND, 0, (WARN, NOT_JUDGED)),
        (ERROR, REQUIRED, None, {}, 4, (ERROR, NOT_JUDGED)),
        (ERROR, REGRESSION, None, {}, 4, (ERROR, NOT_JUDGED)),
        # A regression: a warning without an update that makes it worse, a failure where a person asks.
        (FAIL, REGRESSION, BROKEN, {}, 0, (WARN, None)),
        (FAIL, REGRESSION, BROKEN, SOUND, 1, (FAIL, WORSE)),
        (FAIL, REGRESSION, BROKEN, {"sound_before": ["goroot"]}, 0, (WARN, None)),
        (FAIL, REGRESSION, BROKEN, HAND, 1, (FAIL, BROKEN)),
        (FAIL, REGRESSION, NOT_JUDGED, {}, 0, (WARN, NOT_JUDGED)),
        (FAIL, REGRESSION, NOT_JUDGED, SOUND, 1, (FAIL, WORSE)),
        (FAIL, REGRESSION, NOT_JUDGED, HAND, 1, (FAIL, NOT_JUDGED)),
        # `required` in the configuration: as strict as a person's own run.
        (FAIL, REQUIRED, NOT_JUDGED, {}, 1, (FAIL, NOT_JUDGED)),
        # Advice is advice.
        (FAIL, ADVISORY, BROKEN, {}, 0, (FAIL, BROKEN)),
        (FAIL, ADVISORY, BROKEN, SOUND | HAND, 0, (FAIL, BROKEN)),
        (TIMEOUT, ADVISORY, BROKEN, {}, 0, (TIMEOUT, BROKEN)),
        (ERROR, ADVISORY, None, {}, 0, (ERROR, NOT_JUDGED)),
    ],
)
def test_decide_ground_severity_and_case_decide(
    status: Outcome, severity: str, ground: Ground | None, case: dict, exit_status: int, after: tuple[str, str | None]
) -> None:
    decision = decide([finding(PASS, check="goroot"), finding(status, severity, ground=ground)], Case(**case))
    assert decision.verdict.exit_status == exit_status
    taken = decision.findings[1]
    assert (taken.status, taken.ground) == after
    assert taken.blocks == (exit_status in (1, 3))


@pytest.mark.parametrize(
    ("case", "action", "note"),
    [
        ({"override": "overridden by root"}, Action.OVERRIDE, "overridden by root"),
        ({"powerless": "no previous deployment"}, Action.WARN, "no previous deployment"),
        ({"standing": ["version", "goroot"]}, Action.WARN, "without this update"),
        ({"standing": ["goroot"]}, Action.BLOCK, ""),
        ({"standing": ["version"], "standing_blocks": True}, Action.BLOCK, ""),
        # A person's word goes before what the gate has found out.
        ({"override": "overridden", "standing": ["version"], "powerless": "x"}, Action.OVERRIDE, "overridden"),
    ],
)
def test_decide_block_becomes_another_action(case: dict, action: Action, note: str) -> None:
    decision = decide([finding(FAIL)], Case(**case))
    assert decision.action == action
    assert note in decision.note
    assert decision.verdict.block, "the verdict stays what was found; the action says what became of it"


@pytest.mark.parametrize("case", [{"override": "overridden"}, {"powerless": "x"}, {"standing": ["version"]}])
def test_decide_nothing_to_block_stays_allowed(case: dict) -> None:
    assert decide([finding(PASS)], Case(**case)).action == Action.ALLOW


def test_decide_leaves_its_arguments_alone() -> None:
    given = finding(FAIL, REGRESSION)
    decide([given], Case(sound_before=["version"]))
    assert (given.status, given.ground, given.blocks) == (FAIL, BROKEN, False)


def test_decide_reason_names_the_checks() -> None:
    assert "stdlib" in decide([finding(FAIL, check="stdlib")], Case()).verdict.reason
    late = decide([finding(TIMEOUT, check="goroot"), finding(TIMEOUT)], Case())
    assert "goroot, version" in late.verdict.reason
    unjudged = decide([finding(WARN, check="goroot", ground=NOT_JUDGED)], Case())
    assert unjudged.verdict.reason.startswith("not judged: goroot")


def test_decide_no_toolchain_is_allowed() -> None:
    assert decide([finding(SKIP)], Case(nothing="no Go")).verdict.reason == "no Go"


def test_finding_text_cannot_drive_a_terminal() -> None:
    made = Finding(FAIL, "a\x1b[31m\nb\u202e", "r\r", {"k": b"\xff".decode("latin1") + "\x07"})
    assert made.summary.isprintable() and made.remedy.isprintable()
    assert all(str(v).isprintable() for v in made.evidence.values())


@pytest.mark.parametrize("status", [PASS, FAIL, WARN, SKIP, TIMEOUT, ERROR])
@pytest.mark.parametrize("ground", [None, BROKEN, WORSE, NOT_JUDGED])
def test_finding_survives_the_way_through_json(status: Outcome, ground: Ground | None) -> None:
    made = finding(status, ground=ground)
    assert Finding.from_dict(made.to_dict()).to_dict() == made.to_dict()


def test_decide_what_an_update_breaks_in_addition_blocks() -> None:
    findings = [finding(FAIL, check="version"), finding(FAIL, check="goroot")]
    assert decide(findings, Case(standing=["version"])).action == Action.BLOCK
    assert decide(findings, Case(standing=["version", "goroot"])).action == Action.WARN


@pytest.mark.parametrize(
    ("severity", "counts"), [(REQUIRED, True), (REGRESSION, True), (ADVISORY, False), (OFF, False)]
)
def test_examination_not_judged_leaves_out_advice(severity: str, counts: bool) -> None:
    examination = Examination(Subject(), Deadline(1))
    examination.findings = [finding(WARN, severity, ground=NOT_JUDGED), finding(FAIL)]
    assert examination.not_judged == (examination.findings[:1] if counts else [])
