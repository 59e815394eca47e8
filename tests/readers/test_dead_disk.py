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

from go_health_hook import config
from go_health_hook.announce import publish, record
from go_health_hook.errors import BadInput
from go_health_hook.run import settings

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


@pytest.mark.parametrize("link", ["go-health-hook.conf", "go-health-hook.conf.d", "go-health-hook.conf.d/50-site.conf"])
def test_configuration_on_a_dead_disk_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    """Without the look of another process, the updater would wait for as long as it lets its gate run."""
    monkeypatch.setattr(config, "ADMIN", f"{tmp_path}/go-health-hook.conf")
    monkeypatch.setattr(config, "DROPINS", f"{tmp_path}/go-health-hook.conf.d")
    (tmp_path / "dead").mkdir()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "dead/site")
    before = workers()
    with dead_mount(tmp_path / "dead") as asked:
        with pytest.raises(BadInput, match=f"{link}: what it leads to does not answer"):
            settings.load()
        assert asked.is_set()
        for worker in workers() - before:
            os.kill(worker, signal.SIGKILL)


def test_configuration_that_a_link_leads_to_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "ADMIN", f"{tmp_path}/go-health-hook.conf")
    (tmp_path / "site").write_text("[dnf]\ntransactions = off\n")
    (tmp_path / "go-health-hook.conf").symlink_to(tmp_path / "site")
    assert settings.load().get("dnf", "transactions") == "off"
