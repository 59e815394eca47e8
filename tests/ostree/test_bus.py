# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking rpm-ostree what waits, over a real system bus of the test's own."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from go_health_hook.deadline import Deadline
from go_health_hook.errors import HookError
from go_health_hook.linux import rpm_ostree
from go_health_hook.linux.deployments import Deployment
from tests.ostree.deployments import CONFIG, GO, recorded

if not shutil.which("dbus-daemon"):
    pytest.skip("dbus-daemon is not installed", allow_module_level=True)

# Long enough for a machine under load: only answers that never come take it.
PATIENT, BRIEF = 60.0, 1.0


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a system bus."""
    folder = tmp_path_factory.mktemp("bus")
    (folder / "bus.conf").write_text(CONFIG.format(socket=folder / "socket"))
    command = ["dbus-daemon", "--nofork", "--print-address", f"--config-file={folder / 'bus.conf'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout
        yield daemon.stdout.readline().strip()
        daemon.terminate()


@contextlib.contextmanager
def rpm_ostreed(bus: str, folder: Path, name: str = "staged", **more: object) -> Iterator[subprocess.Popen[str]]:
    """The stand-in, having its name: it answers as was recorded in that state."""
    path = folder / "state.json"
    path.write_text(json.dumps({**recorded(name), **more}))
    script = Path(__file__).with_name("rpm_ostreed.py")
    with subprocess.Popen(
        [sys.executable, script, path], stdout=subprocess.PIPE, text=True, env={"DBUS_SYSTEM_BUS_ADDRESS": bus}
    ) as daemon:
        assert daemon.stdout
        assert daemon.stdout.readline() == "ready\n"
        try:
            yield daemon
        finally:
            daemon.kill()


@pytest.fixture
def address(bus: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
    return bus


@pytest.mark.parametrize(("name", "changes"), [
    ("staged", GO),
    ("staged-locked", GO),
    ("update-known", GO),
    ("booted-alone", []),
])  # fmt: skip
def test_inquiry_names_each_package_that_waits_once(
    address: str, tmp_path: Path, name: str, changes: list[str]
) -> None:
    with rpm_ostreed(address, tmp_path, name):
        update = rpm_ostree.Inquiry(Deadline(PATIENT)).answer()
    assert [str(c) for c in update.changes] == changes
    assert bool(update.checksum) == bool(changes)
    assert bool(update.state.staged) == name.startswith("staged")


def test_inquiry_answers_during_a_transaction(address: str, tmp_path: Path) -> None:
    transaction = {"type": "(sss)", "data": ["upgrade", ":1.9", "/"]}
    with rpm_ostreed(address, tmp_path, "staged", **{"Sysroot.ActiveTransaction": transaction}):
        assert rpm_ostree.Inquiry(Deadline(PATIENT)).answer().changes


def test_a_slow_answer_is_an_answer(address: str, tmp_path: Path) -> None:
    with rpm_ostreed(address, tmp_path, misbehave={"GetDeploymentsRpmDiff": "slow"}) as daemon:
        inquiry = rpm_ostree.Inquiry(Deadline(PATIENT))
        daemon.send_signal(signal.SIGUSR1)  # blocked there until it is waited for, so never too early
        assert inquiry.answer().changes


@pytest.mark.parametrize("member", ["GetAll", "GetDeploymentsRpmDiff", "Get"])
@pytest.mark.parametrize("how", ["never", "error", "nonsense", "vanish"])
def test_a_daemon_that_misbehaves_is_an_error_in_time(address: str, tmp_path: Path, member: str, how: str) -> None:
    limit = BRIEF if how == "never" else PATIENT
    with rpm_ostreed(address, tmp_path, misbehave={member: how}):
        inquiry = rpm_ostree.Inquiry(Deadline(limit))
        with pytest.raises(HookError) as caught:
            inquiry.answer()
    assert caught.value.line().isprintable()
    assert "Traceback" not in caught.value.line()


def test_no_daemon(address: str) -> None:
    with pytest.raises(HookError, match=r"org\.projectatomic\.rpmostree1"):
        rpm_ostree.Inquiry(Deadline(PATIENT)).answer()


def test_no_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(HookError, match="bus cannot be reached"):
        rpm_ostree.Inquiry(Deadline(PATIENT)).answer()


def test_a_bus_that_takes_the_call_and_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/silent")
        with pytest.raises(HookError, match=r"did not answer|no answer"):
            rpm_ostree.Inquiry(Deadline(BRIEF)).answer()


def test_without_dbus_next_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dbus_next.aio.message_bus", None)
    with pytest.raises(HookError, match="python3-dbus-next is not installed"):
        rpm_ostree.Inquiry(Deadline(PATIENT)).answer()


def test_what_changed_between_two_deployments(address: str, tmp_path: Path) -> None:
    with rpm_ostreed(address, tmp_path):
        state = rpm_ostree.Inquiry(Deadline(PATIENT)).answer().state
        assert state.booted and state.staged
        changes = rpm_ostree.go_changes(state.booted, state.staged, Deadline(PATIENT))
        assert [str(c) for c in changes] == GO
        assert rpm_ostree.go_changes(state.booted, state.booted, Deadline(PATIENT)) == []
        unknown = Deployment("debian", "c" * 64, 0)
        with pytest.raises(HookError, match="Invalid deployment id"):
            rpm_ostree.go_changes(state.booted, unknown, Deadline(PATIENT))
        with pytest.raises(HookError, match="not found"):
            rpm_ostree.go_changes(state.booted, Deployment("fedora", "c" * 64, 0), Deadline(PATIENT))
