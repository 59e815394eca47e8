# SPDX-License-Identifier: GPL-2.0-or-later
"""When a boot is failed: only if going back to the previous deployment repairs what is proven broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from go_health_hook import policy
from go_health_hook.deadline import Deadline
from go_health_hook.gates import _going_back
from go_health_hook.gates._going_back import Judged, proof, why_not
from go_health_hook.linux.deployments import Deployment, State
from go_health_hook.linux.image import ImageSystem
from go_health_hook.linux.ostree import Ostree
from go_health_hook.subject import Subject
from go_health_hook.verdict import (
    BROKEN,
    FAIL,
    NOT_JUDGED,
    PASS,
    REGRESSION,
    REQUIRED,
    TIMEOUT,
    WORSE,
    Examination,
    Finding,
    Ground,
    Outcome,
)

GO = "/usr/lib/golang"
VERSION, GOROOT = frozenset({"version"}), frozenset({"goroot"})
NONE: frozenset[str] = frozenset()
SOUND = Judged(GO)


@pytest.mark.parametrize(
    ("broken", "goroot", "own", "previous", "actor", "says"),
    [
        (VERSION, GO, Judged(GO, VERSION), SOUND, "greenboot", ""),
        (VERSION, GO, Judged(GO, VERSION), SOUND, "boot counting", ""),
        (VERSION | GOROOT, GO, Judged(GO, VERSION), SOUND, "greenboot", ""),
        # Nobody acts: zincati and all else behind boot-complete.target would only be stopped.
        (VERSION, GO, Judged(GO, VERSION), SOUND, "", "nothing on this machine acts"),
        # There is nothing better to go back to.
        (VERSION, GO, Judged(GO, VERSION), None, "greenboot", "no previous deployment"),
        (VERSION, GO, Judged(GO, VERSION), Judged(""), "greenboot", "has no Go"),
        (VERSION, GO, Judged(GO, VERSION), Judged(GO, VERSION), "greenboot", "broken as well"),
        # Broken in another way is broken: each of the two would send the machine to the other.
        (VERSION, GO, Judged(GO, VERSION), Judged(GO, GOROOT), "greenboot", "broken as well"),
        (VERSION, GO, Judged(GO, VERSION), Judged(GO, NONE, unclear=True), "greenboot", "could not be told"),
        # The image brings a sound Go, another one, or none: a mount, a system extension, /usr/local in /var, a limit.
        (VERSION, GO, Judged(GO), SOUND, "greenboot", "not this image's"),
        (VERSION, GO, Judged(GO, GOROOT), SOUND, "greenboot", "not this image's"),
        (VERSION, GO, Judged(""), SOUND, "greenboot", "not this image's"),
        (VERSION, "/usr/local/go", Judged(GO, VERSION), SOUND, "greenboot", "not this image's"),
        # No Go at all, as with `required = yes`; nothing that is proven.
        (GOROOT, "", Judged(""), SOUND, "greenboot", "not this image's"),
        (NONE, GO, Judged(GO, VERSION), SOUND, "greenboot", "not this image's"),
    ],
)
def test_why_not_names_what_going_back_would_not_mend(
    broken: frozenset[str], goroot: str, own: Judged, previous: Judged | None, actor: str, says: str
) -> None:
    reason = why_not(broken, goroot, own, previous, actor)
    assert bool(reason) == bool(says)
    assert says in reason


@pytest.mark.parametrize(
    ("status", "check", "severity", "ground", "is_proof"),
    [
        (FAIL, "version", REQUIRED, BROKEN, True),
        (TIMEOUT, "version", REQUIRED, BROKEN, True),
        (TIMEOUT, "version", REQUIRED, NOT_JUDGED, False),
        (FAIL, "version", REQUIRED, NOT_JUDGED, False),
        (FAIL, "version", REGRESSION, WORSE, False),
        (FAIL, "cgroup", REQUIRED, BROKEN, False),
        (FAIL, "gomaxprocs", REQUIRED, BROKEN, False),
        (FAIL, "packages", REQUIRED, BROKEN, False),
    ],
)
def test_proof_is_what_runs_or_reads_the_toolchain(
    status: Outcome, check: str, severity: str, ground: Ground, is_proof: bool
) -> None:
    examination = Examination(Subject(), Deadline(1))
    finding = Finding(status, "it is", ground=ground)
    finding.check, finding.severity = check, severity
    examination.findings = [finding]
    policy.settle(examination, policy.Case())
    assert bool(proof(examination)) == is_proof


def test_actor_is_greenboot_only_where_it_runs_our_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_going_back, "BOOT_COUNTING", f"{tmp_path}/LoaderBootCountPath-*")
    monkeypatch.setattr(_going_back.greenboot, "is_installed", lambda: False)
    assert _going_back.actor(called_by_greenboot=False) == ""
    assert _going_back.actor(called_by_greenboot=True) == "greenboot"
    (tmp_path / "LoaderBootCountPath-4a67b082").touch()
    assert _going_back.actor(called_by_greenboot=False) == "boot counting"


class Booted:
    """An image system with a deployment before the booted one; `judged` are the checks that fail, call by call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *judged: Judged) -> None:
        self.asked: list[str] = []
        left = list(judged)
        state = State([Deployment("os", "a" * 64, 0, booted=True), Deployment("os", "b" * 64, 0)])
        monkeypatch.setattr(Ostree, "read", lambda *_: state)

        def judge(system: ImageSystem, deployment: Deployment, seconds: float) -> Judged:
            self.asked.append(deployment.checksum[0])
            return left.pop(0)

        monkeypatch.setattr(_going_back, "judge", judge)

    def ask(self, status: Outcome, besides: str = "") -> tuple[str, Examination]:
        examination = Examination(Subject(), Deadline(1))
        examination.toolchain = {"goroot": GO}
        examination.findings = [Finding(status, "it is not sound", check="version", severity=REQUIRED)]
        if besides:
            examination.findings.append(Finding(FAIL, "it is not sound", check=besides, severity=REQUIRED))
        policy.settle(examination, policy.Case())
        return _going_back.ask(Ostree(), examination, "greenboot", 1.0), examination


HANGS = Judged(GO, VERSION)


# On a machine that is slow at its boot the deployment that is judged last looks best.
@pytest.mark.parametrize(
    ("status", "judged", "asked", "reason"),
    [
        (TIMEOUT, [HANGS, SOUND, HANGS], "aba", ""),
        (TIMEOUT, [HANGS, SOUND, SOUND], "aba", _going_back.ANSWERED),
        (TIMEOUT, [HANGS, SOUND, Judged(GO, NONE, unclear=True)], "aba", _going_back.ANSWERED),
        (TIMEOUT, [HANGS, Judged(GO, NONE, unclear=True)], "ab", _going_back.UNCLEAR),
        # The previous Go does not answer either; the booted one answers at the second question.
        (TIMEOUT, [HANGS, Judged(GO, VERSION, late=VERSION)], "ab", _going_back.UNCLEAR),
        (TIMEOUT, [HANGS, Judged(GO, VERSION)], "ab", "the Go of the previous deployment is broken as well"),
        (TIMEOUT, [SOUND], "a", _going_back.ANSWERED),
        (TIMEOUT, [Judged(GO, NONE, unclear=True)], "a", _going_back.ANSWERED),
        (TIMEOUT, [Judged("/opt/go")], "a", "the fault is not this image's, so going back would not repair it"),
        (FAIL, [HANGS, Judged(GO, VERSION, late=VERSION)], "ab", "the Go of the previous deployment is broken as well"),
        (FAIL, [HANGS, SOUND], "ab", ""),
    ],
)
def test_ask_judges_a_go_that_hangs_once_more(
    status: Outcome, judged: list[Judged], asked: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Booted(monkeypatch, *judged)
    assert system.ask(status)[0] == reason
    assert "".join(system.asked) == asked


@pytest.mark.parametrize(("status", "late"), [(TIMEOUT, VERSION), (FAIL, NONE), (PASS, NONE)])
def test_judge_tells_a_go_that_hangs_from_a_broken_one(
    status: Outcome, late: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(subject: Subject, settings: object, deadline: Deadline) -> Examination:
        examination = Examination(subject, deadline)
        examination.findings = [Finding(status, "it is", check="version", severity=REQUIRED)]
        return examination

    monkeypatch.setattr(_going_back, "examine", examine)
    judged = _going_back.judge(Ostree(), Deployment("os", "a" * 64, 0), 1.0)
    assert (judged.late, judged.broken) == (late, NONE if status is PASS else VERSION)


# What a fault of the machine has to do with the image is not more because a Go does not answer as well.
@pytest.mark.parametrize("besides", ["cgroup", "goroot"])
def test_ask_takes_no_other_fault_for_a_proof(besides: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Booted(monkeypatch, HANGS, SOUND, SOUND)
    assert system.ask(TIMEOUT, besides)[0] == _going_back.ANSWERED
    assert "".join(system.asked) == "aba"


@pytest.mark.parametrize("own", [HANGS, Judged(GO, GOROOT)])
def test_ask_needs_no_second_look_at_what_is_proved(own: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Booted(monkeypatch, own, SOUND, own)
    assert system.ask(TIMEOUT, "goroot")[0] == ""
    assert "".join(system.asked) == ("ab" if own.broken == GOROOT else "aba")


def test_excuse_late_leaves_nothing_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    examination = Booted(monkeypatch, HANGS, SOUND, SOUND).ask(TIMEOUT)[1]
    assert examination.verdict.block
    _going_back.excuse_late(examination)
    assert policy.settle(examination, policy.Case()).action is policy.Action.ALLOW
    assert [f.check for f in examination.not_judged] == ["version"]


# As on the first boot of a new machine: nothing tells a slow machine from a Go that hangs.
# Where the image system did not tell of all deployments, it is not even known that there is no other.
@pytest.mark.parametrize(
    ("fault", "own", "complete", "reason"),
    [
        (TIMEOUT, Judged(GO, VERSION, late=VERSION), True, _going_back.ALONE_LATE),
        (TIMEOUT, HANGS, True, _going_back.ALONE),
        (FAIL, HANGS, True, _going_back.ALONE),
        (TIMEOUT, HANGS, False, _going_back.NO_STATUS),
        (FAIL, HANGS, False, _going_back.NO_STATUS),
    ],
)
def test_alone_a_go_is_broken_on_proof_only(
    fault: Outcome, own: Judged, complete: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Booted(monkeypatch, own)
    state = State([Deployment("os", "a" * 64, 0, booted=True)], complete)
    monkeypatch.setattr(Ostree, "read", lambda *_: state)
    powerless, examination = system.ask(fault)
    assert powerless == reason
    if powerless in _going_back.SLOW:
        _going_back.excuse_late(examination)
    policy.settle(examination, policy.Case())
    excused = fault is TIMEOUT and (own.late == VERSION or not complete)
    assert examination.verdict.block is not excused


def test_ask_reads_once_more_where_not_all_deployments_were_told(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Booted(monkeypatch, HANGS, SOUND)
    whole = Ostree().read(Deadline(1))
    found = [State([Deployment("os", "a" * 64, 0, booted=True)], False), whole]
    monkeypatch.setattr(Ostree, "read", lambda *_: found.pop(0))
    assert system.ask(FAIL)[0] == ""
    assert found == []
