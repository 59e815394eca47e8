# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker that is late and one that is dead are two things."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from go_health_hook import checks, examine
from go_health_hook.config import Config
from go_health_hook.deadline import Deadline
from go_health_hook.policy import Case, settle
from go_health_hook.run.worker import Died, bounded
from go_health_hook.subject import Subject
from go_health_hook.verdict import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Callable


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
    config = Config({check.name: check.severity for check in checks.every()})
    found = examine.examine(Subject(), config, Deadline(60, ceiling=60))
    assert {finding.ground for finding in found.findings} == {NOT_JUDGED}
    assert number.name in found.findings[0].summary
    settle(found, Case())
    assert not found.verdict.block
