# SPDX-License-Identifier: GPL-2.0-or-later
"""The staged gate's decisions and locks, with libostree's part played by tests/unit/libostree.py."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.libostree import B, C, Libostree

from go_health_hook import config
from go_health_hook.config import severities
from go_health_hook.deadline import Deadline
from go_health_hook.gates import Call, _locking, _refused, staged
from go_health_hook.linux.deployments import FILE, KEY
from go_health_hook.linux.ostree import Ostree
from go_health_hook.subject import Subject
from go_health_hook.verdict import FAIL, NOT_JUDGED, PASS, TIMEOUT, Examination, Finding, Outcome


class World:
    """A machine with something staged: what the checks find there, and what has been said and announced."""

    def __init__(self, ostree: Libostree, capsys: pytest.CaptureFixture[str]) -> None:
        self.ostree = ostree
        self.capsys = capsys
        self.override = False
        self.found: dict[str, Finding] = {}
        self.running = Finding(PASS, "it is sound")
        self.published: list[str] = []
        self.settings: dict[tuple[str, str], str] = {}

    def examine(self, subject: Subject, settings: Any, deadline: Deadline, **options: Any) -> Examination:
        """What the checks find: by the staged deployment, or of the running system."""
        examination = Examination(subject, deadline)
        found = next((f for name, f in self.found.items() if name in subject.root), self.running)
        examination.findings = [found.copy()]
        examination.findings[0].check = "version"
        return examination

    def gate(self, *words: str) -> tuple[int, str]:
        status = staged.answer(Call(list(words)))
        return status, self.capsys.readouterr().out

    def note(self) -> frozenset[str]:
        return _refused.Note.read().marks


class Override:
    """An override in force."""

    def line(self) -> str:
        return "overridden by a test"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    made = World(Libostree(tmp_path, monkeypatch), capsys)
    settings = config.Config(severities())
    known = settings.get
    monkeypatch.setattr(
        config.Config, "get", lambda self, section, key: made.settings.get((section, key), known(section, key))
    )
    monkeypatch.setattr(Call, "settings", lambda self: settings)
    monkeypatch.setattr(staged, "examine", made.examine)
    for module in (staged, _locking):
        monkeypatch.setattr(module, "overridden", lambda: Override() if made.override else None)
        monkeypatch.setattr(module.publish, "note", lambda kind, message, **_: made.published.append(kind))
    monkeypatch.setattr(
        staged.publish, "publish", lambda examination, gate, **how: made.published.append(examination.verdict.word)
    )
    monkeypatch.setattr(staged.publish, "release", lambda *_: made.published.append("released"))
    made.ostree.stage(B)
    made.found[B] = Finding(FAIL, "go version is broken")
    yield made


SOUND = Finding(PASS, "it is sound")


def test_staged_refusal_sets_the_file_then_the_key(world: World) -> None:
    status, said = world.gate()
    assert status == 1
    assert world.note() == {FILE, KEY}
    assert world.ostree.key and world.ostree.lock_file.exists()
    assert "is locked: this system stays the default" in said
    assert world.published == ["locked", "block"]
    assert world.gate() == (1, f"debian {B[:12]}.0 stays locked: version: go version is broken\n")
    assert world.published == ["locked", "block"]


@pytest.mark.parametrize("sound", [True, False])
def test_staged_container_image_is_called_by_its_version(
    world: World, sound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = []

    def describe(_: Any, deployment: Any, deadline: Deadline) -> None:
        locked.append(world.ostree.lock_file.exists())
        deployment.version = "44.1"

    monkeypatch.setattr(Ostree, "describe", describe)
    if sound:
        world.found[B] = SOUND
    assert f"44.1 (debian {B[:12]}.0)" in world.gate()[1]
    assert locked[0] is not sound, "a refusal is locked first"


def test_staged_file_is_there_while_a_transaction_goes_on(world: World) -> None:
    world.ostree.transaction = True
    seen = []

    def look() -> Iterator[None]:
        for _ in range(5):
            seen.append((world.ostree.lock_file.exists(), world.ostree.key))
            yield
        world.ostree.transaction = False

    world.ostree.script = look()
    assert world.gate()[0] == 1
    assert seen == [(True, False)] * 5
    assert world.note() == {FILE, KEY}


@pytest.mark.parametrize("standing", ["allow", "block"])
@pytest.mark.parametrize("running", [FAIL, PASS])
def test_staged_go_as_broken_as_the_running_one_is_not_locked(world: World, standing: str, running: Outcome) -> None:
    world.settings["ostree", "standing"] = standing
    world.running = Finding(running, "go version is the same")
    status, said = world.gate()
    lets_go = running == FAIL and standing == "allow"
    assert (status, world.ostree.locked) == ((0, False) if lets_go else (1, True))
    assert ("broken in the same way without this update" in said) == lets_go


# At shutdown the running Go has a few seconds, which a slow machine does not give it.
@pytest.mark.parametrize("when", ["", "shutdown"])
def test_staged_broken_go_stays_refused_where_the_running_one_does_not_answer(world: World, when: str) -> None:
    assert world.gate()[0] == 1
    world.running = Finding(TIMEOUT, "had not answered")
    assert world.gate(*when.split())[0] == 1
    assert world.ostree.locked
    world.ostree.stage(C)
    world.found[C] = Finding(FAIL, "go version is broken")
    assert world.gate(*when.split())[0] == 1
    assert world.ostree.locked


@pytest.mark.parametrize(("staged_go", "running"), [(FAIL, FAIL), (TIMEOUT, FAIL), (TIMEOUT, TIMEOUT)])
def test_staged_go_is_compared_with_a_running_one_that_is_broken(
    world: World, staged_go: Outcome, running: Outcome
) -> None:
    world.found[B] = Finding(staged_go, "it is broken")
    world.running = Finding(running, "it is broken")
    assert world.gate()[0] == 0
    assert not world.ostree.locked


@pytest.mark.parametrize("when", ["", "shutdown"])
def test_staged_want_of_time_locks_nothing(world: World, when: str) -> None:
    world.found[B] = Finding(TIMEOUT, "had not answered", ground=NOT_JUDGED)
    assert world.gate(*when.split())[0] == 0
    assert not world.ostree.locked


def test_staged_found_healthy_is_finalized_though_the_shutdown_is_slow(world: World) -> None:
    world.found[B] = SOUND
    world.gate()
    world.found[B] = Finding(TIMEOUT, "had not answered")
    status, said = world.gate("shutdown")
    assert (status, world.ostree.locked) == (0, False)
    assert "was found healthy before" in said


def test_staged_only_warned_about_is_not_locked(world: World) -> None:
    world.settings["ostree", "on-failure"] = "warn"
    status, said = world.gate()
    assert (status, world.ostree.locked) == (0, False)
    assert "is let through (on-failure = warn)" in said


@pytest.mark.parametrize(("running", "locks"), [(PASS, True), (TIMEOUT, False)])
def test_staged_hang_at_shutdown_needs_a_running_go_that_answers(world: World, running: Outcome, locks: bool) -> None:
    world.found[B] = Finding(TIMEOUT, "had not answered")
    world.settings["ostree", "standing"] = "block"
    world.running = Finding(running, "as it is")
    assert world.gate("shutdown")[0] == (3 if locks else 0)
    assert world.ostree.locked == locks


def test_staged_lock_stays_where_it_cannot_be_judged_again(world: World) -> None:
    assert world.gate()[0] == 1
    world.found[B] = Finding(TIMEOUT, "had not answered", ground=NOT_JUDGED)
    _refused.forget(B)
    said = world.gate("shutdown")[1]
    assert world.ostree.locked
    assert "stays locked as it is" in said


def test_staged_lock_of_a_run_that_was_ended_is_known_as_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Ostree.lock

    def ended(*arguments: Any) -> None:
        lock(*arguments)
        os._exit(9)

    monkeypatch.setattr(Ostree, "lock", ended)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            world.gate()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    world.ostree.key = True  # of the child's world
    assert world.note() == {FILE, KEY}
    monkeypatch.setattr(Ostree, "lock", lock)
    world.override = True
    assert world.gate()[0] == 0
    assert not world.ostree.locked


def test_staged_lock_waits_for_no_answer_about_zincati(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = []

    def is_active(deadline: Deadline) -> bool:
        locked.append(world.ostree.lock_file.exists())
        return False

    monkeypatch.setattr(staged.zincati, "is_active", is_active)
    assert world.gate()[0] == 1
    assert locked and all(locked)


# Of a Go that is proved broken a slow machine says nothing new, at whatever moment it is asked again.
@pytest.mark.parametrize("when", ["", "shutdown"])
@pytest.mark.parametrize("running", [Finding(TIMEOUT, "had not answered"), Finding(TIMEOUT, "", ground=NOT_JUDGED)])
def test_staged_lock_on_a_broken_go_outlasts_a_slow_machine(world: World, when: str, running: Finding) -> None:
    assert world.gate()[0] == 1
    world.found[B] = Finding(TIMEOUT, "had not answered")
    world.running = running
    assert _refused.find(B)
    _refused.change(B, lasting=False)
    said = world.gate(*when.split())[1]
    assert world.ostree.locked
    assert world.note() == {FILE, KEY}
    assert "stays locked as it is" in said or not when
    entry = _refused.find(B)
    assert entry and entry["held"] and entry["exit_status"] == 1


def test_staged_lock_on_a_hang_goes_where_the_shutdown_is_slow_for_both(world: World) -> None:
    world.found[B] = Finding(TIMEOUT, "had not answered")
    assert world.gate()[0] == 3
    world.running = Finding(TIMEOUT, "had not answered")
    assert world.gate("shutdown")[0] == 0
    assert not world.ostree.locked


@pytest.mark.parametrize("when", ["", "shutdown"])
def test_staged_hang_is_not_told_where_the_running_go_is_not_judged(world: World, when: str) -> None:
    world.found[B] = Finding(TIMEOUT, "had not answered")
    world.running = Finding(TIMEOUT, "had not answered", ground=NOT_JUDGED)
    status, said = world.gate(*when.split())
    assert (status, world.ostree.locked) == (0, False)
    assert "the machine is slow" in said


def test_staged_foreign_lock_is_neither_ours_nor_lifted(world: World) -> None:
    world.ostree.lock()
    said = world.gate()[1]
    assert "locked by somebody else" in said
    assert world.note() == frozenset()
    world.override = True
    assert world.gate()[0] == 0
    assert world.ostree.key and world.ostree.lock_file.exists()


def test_staged_override_lifts_only_what_is_ours(world: World) -> None:
    world.ostree.stage(B, key=True)  # as with --download-only
    assert world.gate()[0] == 1
    assert world.note() == {FILE}
    world.override = True
    said = world.gate()[1]
    assert world.ostree.key
    assert not world.ostree.lock_file.exists()
    assert "our finalization lock has been lifted" in said


def test_staged_lock_that_another_adds_later_is_not_lifted(world: World) -> None:
    world.ostree.transaction = True

    def end_and_lock() -> Iterator[None]:
        world.ostree.transaction = False
        world.ostree.lock()  # bootc upgrade --download-only, upon our bare file
        yield

    world.ostree.script = end_and_lock()
    world.gate()
    assert world.note() == {FILE}
    world.override = True
    world.gate()
    assert world.ostree.key


TEN = pytest.mark.parametrize("moment", range(10))


def others(world: World, moment: int, change: Callable[[], object]) -> Iterator[None]:
    """A transaction that goes on for ten looks of the hook, and a change at one of them."""
    for step in range(10):
        if step == moment:
            change()
        if step == 9:
            world.ostree.transaction = False
        yield


@TEN
def test_staged_override_during_a_transaction_lifts_all(world: World, moment: int) -> None:
    world.ostree.transaction = True
    world.ostree.script = others(world, moment, lambda: setattr(world, "override", True))
    said = world.gate()[1]
    assert not world.ostree.locked
    assert world.note() == frozenset()
    assert said.count("our finalization lock has been lifted") == 1


@TEN
def test_staged_override_that_ends_during_a_transaction_lifts_nothing(world: World, moment: int) -> None:
    assert world.gate()[0] == 1
    world.override = world.ostree.transaction = True
    world.ostree.script = others(world, moment, lambda: setattr(world, "override", False))
    said = world.gate()[1]
    assert world.ostree.key and world.ostree.lock_file.exists()
    assert world.note() == {FILE, KEY}
    assert "has been lifted" not in said
    assert "override" not in world.published


@TEN
@pytest.mark.parametrize("recheck", [True, False])
def test_staged_go_found_sound_during_a_transaction_is_set_free(world: World, moment: int, recheck: bool) -> None:
    world.ostree.transaction = True

    def sound() -> None:
        world.found[B] = SOUND
        world.ostree.stage(B)
        _refused.forget(B)

    world.ostree.script = others(world, moment, sound)
    world.gate()
    for _ in range(10):
        world.ostree.pause(0)
    said = world.gate(*["recheck"] * recheck)[1]
    assert not world.ostree.locked
    assert world.note() == frozenset()
    assert "brings a broken Go" not in said


@TEN
def test_staged_discard_waits_for_the_end_of_a_transaction(world: World, moment: int) -> None:
    world.settings["ostree", "on-failure"] = "discard"
    world.ostree.transaction = True
    world.ostree.script = others(world, moment, world.ostree.lock)
    status, said = world.gate()
    assert (status, world.ostree.staged) == (1, "")
    assert said.count("has been discarded") == 1
    assert "admin undeploy 0" in world.ostree.asked


@TEN
@pytest.mark.parametrize("outcome", [SOUND, Finding(FAIL, "another fault")])
def test_staged_second_staging_during_a_transaction_is_judged(world: World, moment: int, outcome: Finding) -> None:
    world.found[C] = outcome
    world.ostree.transaction = True
    world.ostree.script = others(world, moment, lambda: world.ostree.stage(C))
    world.gate()
    assert world.ostree.locked == (outcome.status == FAIL)
    assert world.note() == ((world.ostree.locked and {FILE, KEY}) or frozenset())


@TEN
def test_staged_foreign_lock_during_a_transaction_stays(world: World, moment: int) -> None:
    world.found[C] = SOUND
    world.ostree.transaction = True

    def stage_and_lock() -> None:
        world.ostree.stage(C)
        world.ostree.lock()

    world.ostree.script = others(world, moment, stage_and_lock)
    said = world.gate()[1]
    assert world.ostree.key and world.ostree.lock_file.exists()
    assert world.note() == frozenset()
    assert "has been lifted" not in said


def test_staged_lift_that_fails_is_not_called_lifted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.gate()[0] == 1
    world.override = True
    world.ostree.transaction = True
    monkeypatch.setattr(staged, "WAIT_SECONDS", 0.0)
    said = world.gate()[1]
    assert "stays until a transaction has ended" in said
    assert "has been lifted" not in said
    assert world.ostree.key and world.ostree.lock_file.exists()
    assert world.note() == {FILE, KEY}
    assert world.published.count("override") == 0
    world.ostree.transaction = False
    assert "our finalization lock has been lifted" in world.gate()[1]
    assert not world.ostree.locked


@pytest.mark.parametrize("key", [True, False])
def test_staged_zincati_update_is_discarded_whoever_locked_it(world: World, key: bool) -> None:
    world.ostree.zincati = True
    world.ostree.stage(B, key=key)
    status, said = world.gate()
    assert status == 1
    assert world.ostree.staged == ""
    assert "has been discarded" in said
    assert "discarded" in world.published
    entry = _refused.find(B)
    assert entry and entry["held"]
    # What is refused once is refused at once, and that stays announced until a sound one comes.
    world.ostree.stage(B, key=key)
    assert world.gate()[0] == 1
    assert world.ostree.staged == ""
    assert "released" not in world.published


def test_staged_nothing_left_releases_what_was_held_back(world: World) -> None:
    assert world.gate()[0] == 1
    world.ostree.stage("")
    assert world.gate()[0] == 0
    assert world.published[-1] == "released"


def test_staged_refusal_counts_the_reboots_that_changed_nothing(world: World) -> None:
    for count in (1, 2):
        assert world.gate("shutdown")[0] == 1
        entry = _refused.find(B)
        assert entry and entry["reboots"] == count
        world.ostree.stage(B)
        with contextlib.suppress(FileNotFoundError):
            Path(_refused.NOTE).unlink()


def test_staged_hang_is_no_lasting_reason(world: World) -> None:
    world.found[B] = Finding(TIMEOUT, "had not answered")
    assert world.gate()[0] == 3
    entry = _refused.find(B)
    assert entry and entry["held"] and not entry["lasting"]
    world.ostree.stage(B)
    Path(_refused.NOTE).unlink()
    world.found[B] = SOUND
    assert world.gate()[0] == 0
    assert not world.ostree.locked
    assert _refused.find(B) is None
