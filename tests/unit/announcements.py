# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts to announce, and a root with a journal's socket to announce them in."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline
from go_health_hook.policy import Case, settle
from go_health_hook.subject import Subject
from go_health_hook.verdict import Examination, Finding, Outcome

HOUR, DAY = 3600, 86400
NOW = 1_700_000_000.0


def examined(status: str = "fail", kind: str = "running", metrics_directory: str = "") -> Examination:
    examination = Examination(Subject(kind), Deadline(5))
    finding = Finding(Outcome(status), "/usr/lib/golang/bin/go is cut short", "dnf reinstall 'golang*'")
    finding.check = "goroot"
    examination.findings = [finding]
    examination.toolchain = {"goroot": "/usr/lib/golang", "version": "go1.27.3"}
    examination.cpu = {"expected_gomaxprocs": 2, "actual_gomaxprocs": 8}
    examination.announce["metrics-directory"] = metrics_directory
    settle(examination, Case())
    return examination


def state_of(*runs: tuple[str, str, float], kind: str = "running") -> dict[str, Any]:
    state = record.empty()
    for gate, status, at in runs:
        event = record.FOUND if (gate, status) == ("check", "fail") else record.VERDICT
        record.take(state, record.entry(examined(status, kind), gate, event, at))
    return state


class Receiver:
    """The journal's socket, read as journald reads it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def entry(self) -> dict[str, list[str]]:
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, _, fds in ancillary:
            fd = int.from_bytes(fds[:4], sys.byteorder)
            data = os.pread(fd, 1 << 24, 0)
            os.close(fd)
        return decoded(data)


def decoded(data: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[9 + size :]
        fields.setdefault(name.decode(), []).append(value.decode())
    return fields


@pytest.fixture
def root() -> Any:
    # A socket's path may have 107 characters.
    path = Path(tempfile.mkdtemp(prefix="ann-"))
    (path / "run/systemd/system").mkdir(parents=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def receiver(root: Path) -> Any:
    receiver = Receiver(root / "run/systemd/journal/socket")
    yield receiver
    receiver.socket.close()


def workers() -> set[int]:
    """The processes that this one has started and not seen the end of."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ends meanwhile has none
            found.update(map(int, (task / "children").read_text().split()))
    return found


def left_behind(before: set[int]) -> int:
    return min(workers() - before)  # a first message has a second one, which ends at once


@pytest.fixture
def eight_days(root: Path) -> None:
    """A state in which dnf5 has held updates back for eight days, with its message at login."""
    (root / "prom").mkdir()
    directory = root / "var/lib/go-health-hook"
    since = time.time() - 8 * DAY - 60  # whole days are said
    run = record.entry(examined(), "dnf5", record.VERDICT, since)
    record.update(lambda state: record.take(state, run), str(directory))
    publish.refresh(record.read(str(directory)), [], examined(metrics_directory="/prom").announce, root=str(root))
