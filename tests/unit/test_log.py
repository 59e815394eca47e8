# SPDX-License-Identifier: GPL-2.0-or-later
"""The debug log: every command that is run, and those that did not answer, which the journal gets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from go_health_hook import gates
from go_health_hook.cli import main
from go_health_hook.deadline import Deadline
from go_health_hook.run import log, process
from go_health_hook.run.worker import Worker, bounded


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The socket of syslog(3), which journald reads."""
    monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        receiver.setblocking(False)
        yield receiver


@pytest.fixture
def debugging() -> Any:
    """Enables the log, within the test: its stderr is another one than that of its fixtures."""
    yield log.enable
    log.release()


def test_log_names_command_time_and_end(debugging: Any, capfd: pytest.CaptureFixture[str]) -> None:
    debugging()
    process.run(["/bin/sh", "-c", "exit 0"], Deadline(60))
    start, end = capfd.readouterr().err.splitlines()
    assert start.endswith("]: + /bin/sh -c 'exit 0'")
    assert end.endswith(" s: /bin/sh -c 'exit 0': exited with status 0")


def test_log_reaches_stderr_from_a_worker(debugging: Any, capfd: pytest.CaptureFixture[str]) -> None:
    debugging()
    assert bounded(lambda: process.run(["/bin/true"], Deadline(60)).ok, Deadline(60), False)
    assert "]: + /bin/true" in capfd.readouterr().err


def test_log_is_silent_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    process.run(["/bin/true"], Deadline(60))
    assert capfd.readouterr().err == ""


def test_log_below_systemd_has_its_priority(
    debugging: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    debugging()
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log.debug("a\x1b[31m line")
    assert capfd.readouterr().err.startswith("<7>go-health-hook[")


def test_log_command_without_an_answer_reaches_the_journal(syslog: socket.socket) -> None:
    process.run(["/bin/sleep", "1000"], Deadline(0.1))
    message = syslog.recv(10000).decode()
    assert message.startswith("<31>go-health-hook[")
    assert "/bin/sleep 1000 did not answer within 0." in message


def commands(pids: Iterable[int]) -> list[str]:
    """The command lines of these processes; empty for one that starts its program just now."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip())
    return found


def test_log_worker_that_is_ended_tells_what_it_waits_for(syslog: socket.socket) -> None:
    worker = Worker(lambda send: send(process.run(["/bin/sleep", "1000"], Deadline(1000)).ok))
    while "/bin/sleep 1000" not in commands(process.children(worker.pid)):
        pass
    assert [*worker.messages(Deadline(0.05))] == []
    worker.close()
    assert "had not answered when time ran out: /bin/sleep 1000" in syslog.recv(10000).decode()


def test_log_answered_worker_leaves_nothing_in_the_journal(syslog: socket.socket) -> None:
    assert bounded(lambda: 1, Deadline(60), 0) == 1
    with pytest.raises(BlockingIOError):
        syslog.recv(10000)


def test_log_without_a_journal_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "nothing"))
    log.unanswered("x")


@pytest.mark.parametrize(("value", "on"), [("debug", True), ("7", True), ("info", False), ("", False)])
def test_log_environment_asks_for_it(monkeypatch: pytest.MonkeyPatch, value: str, on: bool) -> None:
    monkeypatch.setenv("SYSTEMD_LOG_LEVEL", value)
    for ask in (lambda: gates.main(["no-such-gate"]), lambda: main(["no-such-command"])):
        assert ask() == 2
        assert bool(log.kept()) is on
        log.release()


def test_debug_option_shows_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "--root", str(tmp_path), "--dry-run"]) == 0
    assert log.kept()
    log.release()
