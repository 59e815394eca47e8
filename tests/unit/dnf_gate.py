# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions, examinations and a place for what a dnf gate writes, for the tests of both dnf gates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.announcements import workers

from go_health_hook import gates, override
from go_health_hook.announce import journal, motd, record
from go_health_hook.config import Config, load, severities
from go_health_hook.deadline import Deadline
from go_health_hook.gates import _dnf, _dnf_after, _dnf_judge, _trace
from go_health_hook.gates._dnf_transaction import Item, Transaction
from go_health_hook.subject import Subject
from go_health_hook.verdict import Examination, Finding


def settings(tmp_path: Path, text: str = "") -> Config:
    file = tmp_path / "hook.conf"
    file.write_text(text)
    return load(severities(), str(file), str(tmp_path))


def item(name: str, action: str, coming: bool | None = None) -> Item:
    return Item(name, "1-1", action, action in "IUDR" if coming is None else coming, f"{name}-0:1-1.noarch", list)


def transaction(actions: dict[str, str], automatic: bool = False, **more: Any) -> Transaction:
    go_names = more.pop("go_names", lambda installed: {name for name in actions if name.startswith("golang")})
    return Transaction("dnf5", [item(*pair) for pair in actions.items()], automatic, go_names, **more)


def examined(kind: str = "running", **statuses: Any) -> Examination:
    """An examination; each check's status, or (status, ground), by its name."""
    examination = Examination(Subject(kind), Deadline(5))
    for check, given in statuses.items():
        status, ground = given if isinstance(given, tuple) else (given, None)
        finding = Finding(status, f"{check} says {status}", "do something", ground=ground)
        finding.check, finding.severity = check, severities()[check]
        examination.findings.append(finding)
    examination.elapsed_s = 0.25
    return examination


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A place for all that a gate writes, and a configuration that names a GOROOT which is not there."""
    monkeypatch.setattr(record, "DIRECTORY", f"{tmp_path}/lib")
    monkeypatch.setattr(record, "HELD", f"{tmp_path}/held")
    monkeypatch.setattr(motd, "PATH", f"{tmp_path}/motd")
    monkeypatch.setattr(journal, "SOCKET", f"{tmp_path}/no-journal")
    monkeypatch.setattr(override, "FILE", f"{tmp_path}/lib/override.json")
    monkeypatch.setattr(_dnf_after, "BEFORE", f"{tmp_path}/before")
    monkeypatch.setattr(_trace, "FOLDER", f"{tmp_path}/running")
    (tmp_path / "hook.conf").write_text("[announce]\njournal = no\n[budget]\ndnf = 60\n")
    before = workers()
    yield tmp_path
    for pid in workers() - before:
        os.waitpid(pid, 0)


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that Python forked."""
    made: list[int] = []
    fork = os.fork

    def counted() -> int:
        pid = fork()
        made.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", counted)
    return made


def ask(machine: Path, what: Transaction, moment: str = "before") -> _dnf_judge.Answer:
    call = gates.Call([moment, "1"], config=str(machine / "hook.conf"))
    return _dnf.answer("dnf5", call, lambda pid: what)


def recorded(machine: Path) -> dict[str, Any]:
    for pid in workers():
        os.waitpid(pid, 0)
    return record.read(f"{machine}/lib")
