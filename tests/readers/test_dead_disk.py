# SPDX-License-Identifier: GPL-2.0-or-later
"""What is announced while the disk that the record is on does not answer at all."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.toolchains.deadfs import dead_mount
from tests.unit import announcements
from tests.unit.announcements import Receiver, examined, left_behind, workers

from go_health_hook.announce import publish, record

pytestmark = pytest.mark.root
root, receiver, eight_days = announcements.root, announcements.receiver, announcements.eight_days


@pytest.fixture
def dead(root: Path) -> Any:
    """A disk that never answers, where the record is."""
    (root / "var/lib/go-health-hook").mkdir(parents=True, exist_ok=True)
    with dead_mount(root / "var/lib/go-health-hook"):
        yield


def test_a_message_that_is_there_is_not_replaced_by_a_guess(
    root: Path, receiver: Receiver, eight_days: None, dead: None
) -> None:
    message = root / "etc/motd.d/go-health-hook"
    told = message.read_text()
    for status in ("fail", "pass"):
        before = workers()
        publish.publish(examined(status), "dnf5", root=str(root), wait=0.5)
        assert receiver.entry()["GO_HEALTH_GATE"] == ["dnf5"]
        assert message.read_text() == told
        for worker in workers() - before:
            os.kill(worker, signal.SIGKILL)


def test_a_first_message_does_not_wait_for_the_disk(root: Path, receiver: Receiver, dead: None) -> None:
    before = workers()
    publish.publish(examined(), "dnf5", root=str(root))
    assert receiver.entry()["GO_HEALTH_GATE"] == ["dnf5"]
    stuck, *others = sorted(workers() - before)
    for worker in others:
        assert os.waitpid(worker, 0) == (worker, 0)
    os.kill(stuck, signal.SIGKILL)
    assert (root / "etc/motd.d/go-health-hook").read_text().startswith("Updates are held back since")


def test_the_next_writer_comes_after_the_message(root: Path, receiver: Receiver) -> None:
    (root / "etc/motd.d").mkdir(parents=True)
    directory = root / "var/lib/go-health-hook"
    with dead_mount(root / "etc/motd.d"):
        before = workers()
        publish.publish(examined(), "dnf5", root=str(root), wait=0.5)
        assert record.read(str(directory))["blocks"]["dnf5"]["count"] == 1
        with (directory / ".lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(left_behind(before), signal.SIGKILL)
