# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker that is late and one that is dead are two things."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from go_health_hook import examine
from go_health_hook.config import Config, severities
from go_health_hook.deadline import Deadline
from go_health_hook.policy import Case, settle
from go_health_hook.run.worker import Died, Worker, bounded, unless_stuck
from go_health_hook.subject import Subject
from go_health_hook.verdict import ERROR, NOT_JUDGED, TIMEOUT, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
from go_health_hook.run import worker as worker_module


def by_signal(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_bounded_late_worker_gives_the_other_value() -> None:
    assert bounded(lambda: threading.Event().wait(), Deadline(0.05), "late") == "late"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_bounded_killed_worker_raises_and_says_how(number: signal.Signals) -> None:
    with pytest.raises(Died, match=f"was killed by {number.name}"):
        bounded(by_signal(number), Deadline(60), "late")


def test_bounded_worker_that_leaves_without_a_word_raises() -> None:
    with pytest.raises(Died, match="ended with status 7"):
        bounded(lambda: os._exit(7), Deadline(60), "late")


def test_bounded_dead_worker_gives_what_the_caller_says() -> None:
    assert bounded(by_signal(signal.SIGKILL), Deadline(60), "late", dead="dead") == "dead"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_examine_killed_worker_is_no_veto(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    monkeypatch.setattr(examine, "_work", lambda *_: os.kill(os.getpid(), number))
    config = Config(severities())
    found = examine.examine(Subject(), config, Deadline(60, ceiling=60))
    assert {finding.ground for finding in found.findings} == {NOT_JUDGED}
    assert number.name in found.findings[0].summary
    settle(found, Case())
    assert not found.verdict.block


def test_unless_stuck_leaves_what_does_not_answer() -> None:
    never = threading.Event()
    assert unless_stuck(never.wait, 0.05, "otherwise") == "otherwise"
    never.set()


def test_unless_stuck_returns_and_raises_what_answers() -> None:
    assert unless_stuck(lambda: 1, 60, 0) == 1
    with pytest.raises(ValueError, match="seven"):
        unless_stuck(lambda: int("seven"), 60, 0)


@pytest.mark.root
def test_worker_that_is_ended_keeps_nobody_waiting_for_a_dead_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has left is removed by another process: the places may be on a disk that does not answer."""
    monkeypatch.setattr(worker_module, "sweep_scratch", lambda: threading.Event().wait())
    monkeypatch.setattr(worker_module, "SWEEP_SECONDS", 1)
    worker = Worker(lambda send: signal.pause())
    assert [*worker.messages(Deadline(0.05))] == []
    worker.close()


def test_children_of_another_pid_namespace_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers name other processes, and what is listed may be killed."""
    worker = Worker(lambda send: signal.pause())
    assert worker.pid in worker_module.children(os.getpid())
    monkeypatch.setattr(worker_module, "has_own_proc", lambda: False)
    assert worker_module.children(os.getpid()) == []
    os.kill(worker.pid, signal.SIGKILL)
    worker.close()


def test_worker_without_proc_and_devices_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(os, "devnull", "/nonexistent/null")
    monkeypatch.setattr(os, "listdir", missing)
    assert bounded(lambda: 7, Deadline(60), "late") == 7


def test_worker_that_listens_is_told_once() -> None:
    worker = Worker(lambda send, receive: send(receive()), listens=True)
    assert worker.tell(["a", 1])
    assert not worker.tell("again")
    assert list(worker.messages(Deadline(10))) == [["a", 1]]
    worker.close()
    assert worker.end() == ""


def test_worker_that_listens_is_not_told_what_could_block() -> None:
    worker = Worker(lambda send, receive: send(receive()), listens=True)
    assert not worker.tell("x" * 5000)
    worker.leave()
    worker.leave()
    os.waitpid(worker.pid, 0)
    assert not worker.tell("gone")


@pytest.mark.parametrize(("work", "status"), [(lambda send: None, TIMEOUT), (lambda send: os._exit(7), ERROR)])
def test_examine_worker_that_gave_up_has_run_out_of_time_and_one_that_died_has_not(
    work: Callable[..., None], status: Outcome
) -> None:
    """Credit that comes after it has given up leaves the deadline with time: that is no fault of the hook's."""
    worker = Worker(work)
    assert list(worker.messages(Deadline(30))) == []
    worker.close()
    assert examine._unanswered(worker, "").status is status
