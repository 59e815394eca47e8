# SPDX-License-Identifier: GPL-2.0-or-later
"""The gates that systemd's units call: look, boot, rpm-ostree and offline; what each decides, says and announces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.dnf_gate import examined

from go_health_hook import files
from go_health_hook.announce import publish, record
from go_health_hook.config import Config
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_VETO, BadInput
from go_health_hook.gates import Call, _going_back, _refused, boot, look, offline, rpm_ostree
from go_health_hook.gates._dnf_judge import Answer
from go_health_hook.linux.deployments import Deployment, State
from go_health_hook.linux.offline import Package, Prepared
from go_health_hook.run.result import Result
from go_health_hook.subject import Subject
from go_health_hook.verdict import ERROR, FAIL, PASS, TIMEOUT, Examination, Outcome

A, B = "a" * 64, "b" * 64
OVERRIDE = SimpleNamespace(line=lambda: "overridden by a test")
REFUSED = {"checksum": A, "digest": "", "base": "", "name": "42.1", "time": 0.0, "held": True, "lasting": True}


class Unit:
    """A machine on which a gate is called: what the checks find in turn, and what has been announced."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.capsys = capsys
        self.finds: list[Outcome] = [PASS]
        self.budgets: list[float] = []
        self.events: list[str] = []
        self.settings("")

    def settings(self, text: str) -> None:
        (self.path / "hook.conf").write_text(text)

    def examine(self, subject: Subject, settings: Config, deadline: Deadline, **options: Any) -> Examination:
        self.budgets.append(deadline.budget)
        return examined(version=self.finds.pop(0) if len(self.finds) > 1 else self.finds[0])

    def publish(self, examination: Examination, gate: str, *, event: str = record.VERDICT, **options: Any) -> None:
        self.events.append(event)

    def call(self, gate: Any, *words: str, dry_run: bool = False) -> tuple[int, str]:
        status = gate.answer(Call(list(words), dry_run, config=str(self.path / "hook.conf")))
        return status, self.capsys.readouterr().out


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Unit:
    made = Unit(tmp_path, capsys)
    monkeypatch.setattr(record, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(publish, "publish", made.publish)
    for gate in (look, boot, rpm_ostree):
        monkeypatch.setattr(gate, "examine", made.examine)
    monkeypatch.setattr(boot, "overridden", lambda: None)
    monkeypatch.setattr(boot, "DEEP", f"{tmp_path}/deep.json")
    monkeypatch.setattr(boot.image, "here", lambda: None)
    monkeypatch.setattr(rpm_ostree, "overridden", lambda: None)
    monkeypatch.setattr(rpm_ostree, "own_stream", lambda: None)
    monkeypatch.setattr(rpm_ostree, "_tell_waiting", lambda: None)
    monkeypatch.setattr(look.rpmdb, "state", list)
    return made


# --- the look after a transaction


@pytest.mark.parametrize(
    ("finds", "status", "says"),
    [
        (PASS, 0, "after an rpm transaction: healthy"),
        (FAIL, 1, "after an rpm transaction: version: version says fail"),
        (TIMEOUT, 3, "time ran out"),
        (ERROR, 4, "not decided"),
    ],
)
def test_look_announces_what_a_transaction_has_left(unit: Unit, finds: Outcome, status: int, says: str) -> None:
    unit.finds = [finds]
    given, said = unit.call(look)
    assert (given, unit.events) == (status, [record.AFTER])
    assert says in said and ("version: do something" in said) == (status in (1, 3))


def test_look_dry_run_announces_nothing(unit: Unit) -> None:
    unit.finds = [FAIL]
    status, said = unit.call(look, dry_run=True)
    assert (status, unit.events) == (0, [])
    assert "would be announced: version" in said


def test_look_switched_off_looks_at_nothing(unit: Unit) -> None:
    unit.settings("[dnf]\ntransactions = off\n")
    assert unit.call(look)[0] == 0
    assert (unit.budgets, unit.events) == ([], [])


@pytest.mark.parametrize(("changes", "looks"), [(0, 1), (1, 2), (99, look.MAX_ROUNDS)])
def test_look_looks_again_where_another_transaction_came(
    unit: Unit, monkeypatch: pytest.MonkeyPatch, changes: int, looks: int
) -> None:
    states = iter(range(1000))
    counted = [0]

    def state() -> list[tuple[int, int, int]]:
        counted[0] += 1
        return [(next(states), 0, 0)] if counted[0] <= 2 * changes else [(-1, 0, 0)]

    monkeypatch.setattr(look.rpmdb, "state", state)
    unit.call(look)
    assert (len(unit.budgets), unit.events) == (looks, [record.AFTER])


# --- after the boot


@pytest.mark.parametrize(
    ("finds", "why", "override", "status", "event", "says"),
    [
        (PASS, "", None, 0, record.FOUND, "Go after this boot: healthy"),
        (FAIL, "", None, EXIT_VETO, record.FOUND, "Go is broken after this boot"),
        (FAIL, "nothing here acts on it", None, 0, record.FOUND, "passes all the same: nothing here acts on it"),
        (FAIL, "", OVERRIDE, 0, record.OVERRIDE, "overridden by a test"),
        (ERROR, "", None, 0, record.FOUND, "this boot is not held against Go"),
    ],
)
def test_boot_is_failed_only_where_going_back_helps(
    unit: Unit,
    monkeypatch: pytest.MonkeyPatch,
    finds: Outcome,
    why: str,
    override: Any,
    status: int,
    event: str,
    says: str,
) -> None:
    unit.finds = [finds]
    monkeypatch.setattr(_going_back, "ask", lambda *arguments: why)
    monkeypatch.setattr(boot, "overridden", lambda: override)
    given, said = unit.call(boot)
    assert (given, unit.events) == (status, [event])
    assert says in said


def test_boot_dry_run_vetoes_and_announces_nothing(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    unit.finds = [FAIL]
    monkeypatch.setattr(_going_back, "ask", lambda *arguments: "")
    assert unit.call(boot, dry_run=True)[0] == 0
    assert unit.events == []


def test_boot_hang_gets_the_whole_budget(unit: Unit) -> None:
    unit.finds = [TIMEOUT, PASS]
    assert unit.call(boot)[0] == 0
    assert unit.budgets == [boot.FIRST_SECONDS, boot.BUDGET]


@pytest.mark.parametrize("gate", [boot, rpm_ostree])
def test_unit_gate_word_it_does_not_take_is_an_error(unit: Unit, gate: Any) -> None:
    with pytest.raises(BadInput, match="does not take 'x'"):
        unit.call(gate, "x")


def test_boot_renews_the_remedy_of_an_update_that_is_gone(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    system = SimpleNamespace(staged_file=str(unit.path / "staged"), later=lambda: "upgrade later")
    monkeypatch.setattr(boot.image, "here", lambda: system)
    monkeypatch.setattr(_going_back, "deployments", lambda *arguments: None)
    refused = record.entry(examined("staged", version=FAIL), "staged", record.VERDICT, 1.0)
    record.update(lambda state: record.take(state, {**refused, "verdict": "block"}))
    (unit.path / "staged").touch()
    unit.call(boot)
    assert record.read()["blocks"]["staged"]["remedy"] != "upgrade later"
    (unit.path / "staged").unlink()
    unit.call(boot)
    assert record.read()["blocks"]["staged"]["remedy"] == "upgrade later"


@pytest.mark.parametrize(
    ("finds", "events", "result", "says"),
    [
        (PASS, [record.FOUND], "that worked", "with a program built and run: healthy"),
        (FAIL, [record.FOUND], None, "Go is broken"),
        (TIMEOUT, [], "that did not fit into this machine", "[budget] deep gives it more time"),
        (ERROR, [], "that did not fit into this machine", "no program could be built"),
    ],
)
def test_boot_deep_is_told_and_tried_once(
    unit: Unit, finds: Outcome, events: list[str], result: str | None, says: str
) -> None:
    unit.finds = [finds]
    status, said = unit.call(boot, "deep")
    assert (status, unit.events) == (0, events)
    assert says in said
    assert files.read_object(boot.DEEP).get("result") == result
    unit.call(boot, "deep")
    assert len(unit.budgets) == (2 if result is None else 1)  # a broken Go is looked at again


def test_boot_deep_dry_run_keeps_nothing(unit: Unit) -> None:
    assert unit.call(boot, "deep", dry_run=True)[0] == 0
    assert (unit.events, Path(boot.DEEP).exists()) == ([], False)


# --- automatic updates of image systems


def test_rpm_ostree_that_only_checks_is_not_judged(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpm_ostree, "automatic_policy", lambda: "check")
    assert unit.call(rpm_ostree)[0] == 0
    assert unit.budgets == []


@pytest.mark.parametrize(
    ("finds", "event", "says"),
    [
        (PASS, record.VERDICT, "the running Go: healthy; the update goes on"),
        (FAIL, record.WARNED, "what it brings is judged before it is installed"),
        (ERROR, record.VERDICT, "the update goes on"),
    ],
)
def test_rpm_ostree_running_go_never_stops_an_update(
    unit: Unit, monkeypatch: pytest.MonkeyPatch, finds: Outcome, event: str, says: str
) -> None:
    unit.finds = [finds]
    monkeypatch.setattr(rpm_ostree, "automatic_policy", lambda: "stage")
    status, said = unit.call(rpm_ostree)
    assert (status, unit.events) == (0, [event])
    assert says in said


@pytest.fixture
def waiting(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Have rpm-ostree say that a commit waits, or fail with a status; A is one that was refused."""
    monkeypatch.setattr(rpm_ostree, "automatic_policy", lambda: "apply")
    monkeypatch.setattr(rpm_ostree.image, "here", SimpleNamespace)
    monkeypatch.setattr(_refused, "held", lambda: [{**REFUSED, "reason": "version: broken"}])

    def say(checksum: str, status: int = 0) -> None:
        answer = json.dumps({"deployments": [], "cached-update": {"checksum": checksum}}).encode()
        monkeypatch.setattr(rpm_ostree.process, "run_host", lambda *a: Result([], status=status, stdout=answer))

    return say


@pytest.mark.parametrize(
    ("checksum", "failed", "override", "status", "events"),
    [
        (A, 0, None, EXIT_VETO, [record.VERDICT]),
        (A, 0, OVERRIDE, 0, [record.OVERRIDE]),
        (B, 0, None, 0, [record.VERDICT]),
        # Who is not understood is not obeyed blindly: the staged gate judges what comes.
        (A, 1, None, 0, [record.VERDICT]),
        ("", 0, None, 0, [record.VERDICT]),
    ],
)
def test_rpm_ostree_stops_only_what_was_refused(
    unit: Unit,
    monkeypatch: pytest.MonkeyPatch,
    waiting: Callable[[str, int], None],
    checksum: str,
    failed: int,
    override: Any,
    status: int,
    events: list[str],
) -> None:
    waiting(checksum, failed)
    monkeypatch.setattr(rpm_ostree, "overridden", lambda: override)
    given, said = unit.call(rpm_ostree)
    assert (given, unit.events) == (status, events)
    assert ("42.1 was refused and is all that waits" in said) == (checksum == A and not failed)


@pytest.mark.parametrize(
    ("names", "lasting", "now", "is_it"),
    [
        ([A], True, 1e9, True),
        # Only the newest is installed next.
        ([B, A], True, 1e9, False),
        (["", A], True, 1e9, False),
        ([], True, 1e9, False),
        # What may pass, as a hang, is tried again after a day.
        ([A], False, rpm_ostree.AGAIN_SECONDS - 1, True),
        ([A], False, rpm_ostree.AGAIN_SECONDS + 1, False),
    ],
)
def test_match_finds_the_refused_update_that_is_next(names: list[str], lasting: bool, now: float, is_it: bool) -> None:
    assert (rpm_ostree.match(names, [{**REFUSED, "lasting": lasting}], now) is not None) == is_it


def test_rpm_ostree_dry_run_stops_nothing(unit: Unit, waiting: Callable[[str, int], None]) -> None:
    waiting(A, 0)
    assert unit.call(rpm_ostree, dry_run=True)[0] == 0
    assert unit.events == []


# --- an update that waits for a reboot


@pytest.fixture
def prepared(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> list[Prepared]:
    """Updates that wait; what would be refused is what unit.finds says of them."""
    updates: list[Prepared] = []
    monkeypatch.setattr(offline, "NOTE", f"{unit.path}/prepared")
    monkeypatch.setattr(offline.offline, "prepared", lambda: updates)
    monkeypatch.setattr(publish, "publish_entry", lambda entry, *a, **o: unit.events.append(entry["event"]))
    monkeypatch.setattr(publish, "release", lambda gate, *a: unit.events.append(f"released {gate}"))
    monkeypatch.setattr(
        offline._dnf_judge,
        "survey",
        lambda *a: {"goroot": "/usr/lib/golang", "looks": "", "owners": ["golang"], "older_installed": True},
    )

    def judge(task: Any, settings: Config, *more: Any) -> Answer:
        finds = unit.finds[0]
        entry = record.entry(examined(version=finds), "offline", record.VERDICT, 1.0)
        return Answer(1, "refused", entry=entry) if finds == FAIL else Answer(notes=["healthy"], entry=entry)

    monkeypatch.setattr(offline._dnf_judge, "judge", judge)
    return updates


def update(*names: str) -> Prepared:
    packages = [Package(name, "2-1", f"{name}-0:2-1.noarch", "U", []) for name in names]
    return Prepared("dnf5", packages, ["dnf5", "upgrade", "--offline"], "dnf5 offline reboot")


def test_offline_nothing_waits_releases_what_was_held(unit: Unit, prepared: list[Prepared]) -> None:
    (unit.path / "prepared").write_text("dnf5\n")
    refused = record.entry(examined(version=FAIL), "offline", record.VERDICT, 1.0)
    record.update(lambda state: record.take(state, {**refused, "verdict": "block"}))
    assert unit.call(offline)[0] == 0
    assert unit.events == ["released offline"]
    assert not (unit.path / "prepared").exists()


@pytest.mark.parametrize(("finds", "status"), [(PASS, 0), (FAIL, 1)])
def test_offline_update_is_judged_as_at_the_boot(
    unit: Unit, prepared: list[Prepared], finds: Outcome, status: int
) -> None:
    unit.finds = [finds]
    prepared += [update("golang")]
    given, said = unit.call(offline)
    assert (given, unit.events) == (status, [record.VERDICT])
    assert f"dnf5: {'refused' if status else 'healthy'}" in said
    assert (unit.path / "prepared").exists() == bool(status)


def test_offline_looks_again_where_another_update_was_stored(
    unit: Unit, prepared: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([1, 2, 2, 2])
    monkeypatch.setattr(files, "looks", lambda paths: next(looks))
    prepared += [update("golang")]
    unit.call(offline)
    assert len(unit.events) == 2


def test_offline_removal_of_go_is_let_in(unit: Unit, prepared: list[Prepared]) -> None:
    prepared += [Prepared("dnf5", [Package("golang", "2-1", "golang-0:2-1.noarch", "E", [])], [], "")]
    unit.finds = [FAIL]
    assert "it would be let in" in unit.call(offline)[1]


def test_offline_release_upgrade_of_packagekit_is_judged_by_the_running_go(
    unit: Unit, prepared: list[Prepared]
) -> None:
    prepared += [Prepared("PackageKit", [], [], "")]
    unit.finds = [FAIL]
    assert unit.call(offline)[0] == 1


@pytest.mark.parametrize("mode", ["off", "automatic"])
def test_offline_is_a_persons_update(unit: Unit, prepared: list[Prepared], mode: str) -> None:
    unit.settings(f"[dnf]\ntransactions = {mode}\n")
    prepared += [update("golang")]
    unit.finds = [FAIL]
    assert unit.call(offline)[0] == 0
    assert unit.events == []


def test_offline_store_that_makes_no_sense_is_not_judged(
    unit: Unit, prepared: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[Prepared]:
        raise ValueError("the stored transaction is not in a known format")

    monkeypatch.setattr(offline.offline, "prepared", broken)
    status, said = unit.call(offline)
    assert status == 4
    assert "is not judged: the stored transaction" in said


# --- whether going back helps, asked of a machine


@pytest.mark.parametrize(
    ("running", "previous", "says"),
    [
        (FAIL, PASS, ""),
        (FAIL, FAIL, "broken as well"),
        (PASS, PASS, "not this image's"),
    ],
)
def test_ask_judges_the_booted_and_the_previous_tree(
    unit: Unit, monkeypatch: pytest.MonkeyPatch, running: Outcome, previous: Outcome, says: str
) -> None:
    state = State([Deployment("os", A, 0, booted=True), Deployment("os", B, 0)])
    system: Any = SimpleNamespace(read=lambda deadline: state)

    def judge(system: Any, deployment: Deployment, seconds: float) -> _going_back.Judged:
        finds = running if deployment.booted else previous
        return _going_back.Judged("/usr/lib/golang", frozenset({"version"} if finds == FAIL else ()))

    monkeypatch.setattr(_going_back, "judge", judge)
    examination = examined(version=running)
    examination.toolchain = {"goroot": "/usr/lib/golang"}
    boot.policy.settle(examination, boot.policy.Case())
    why = _going_back.ask(system, examination, "greenboot", 1.0)
    assert says in why and bool(says) == bool(why)
