# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole calls of both dnf gates in this process; the updater's side of the pipes is the test's."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.dnf_gate import examined, machine, recorded, settings, transaction

from go_health_hook import gates
from go_health_hook.config import Config
from go_health_hook.deadline import Clock, Deadline
from go_health_hook.gates import _dnf, _dnf_incoming, _dnf_judge, dnf4, dnf5
from go_health_hook.gates._dnf_judge import Survey, Task
from go_health_hook.gates._libraries import NotFound
from go_health_hook.run.worker import Gone, Worker
from go_health_hook.subject import Subject
from go_health_hook.verdict import FAIL, PASS, Examination

__all__ = ["machine"]

PACKAGE = {
    "name": "hello", "evr": "2-1", "full_nevra": "hello-0:2-1.noarch", "action": "U", "direction": "IN",
    "repo_id": "updates", "location": "hello-2-1.noarch.rpm",
}  # fmt: skip


class Updater(threading.Thread):
    """A stand-in for dnf5 with its actions plugin: answers what a gate asks, as libdnf5-actions(8) has it."""

    def __init__(self, packages: list[dict[str, str]], owners: list[str], leave_at: str = "") -> None:
        super().__init__(daemon=True)
        self.packages, self.owners, self.leave_at = packages, owners, leave_at
        self.requests: list[dict[str, Any]] = []
        requests, self.out = os.pipe()
        self.replies, replies = os.pipe()
        self.reader, self.writer = os.fdopen(requests, "r"), os.fdopen(replies, "w")
        self.start()

    def run(self) -> None:
        for line in self.reader:
            request = json.loads(line)
            self.requests.append(request)
            if request["op"] == self.leave_at:
                break
            if request["op"] != "stop":
                self.writer.write(json.dumps({"op": "reply", "status": "OK", "return": self.answer(request)}) + "\n")
                self.writer.flush()
        self.reader.close()
        self.writer.close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("domain") == "trans_packages":
            if "filters" in request["args"]:
                return {"trans_packages": [{"name": name} for name in self.owners]}
            return {"trans_packages": self.packages}
        return {"keys_val": [{"value": "/nowhere"}]} if request.get("domain") == "conf" else {}

    def ask(self, path: Path, moment: str = "before") -> int:
        try:
            call = gates.Call([moment, str(os.getpid())], config=str(path / "hook.conf"))
            return dnf5.tell(dnf5.Conversation(self.replies, self.out), call)
        finally:
            os.close(self.out)
            self.join()
            os.close(self.replies)


def without_goroot(path: Path) -> None:
    with (path / "hook.conf").open("a") as file:
        file.write("[toolchain]\ngoroot = /nonexistent\n")


@pytest.mark.root
def test_dnf5_broken_go_stops_the_transaction(machine: Path) -> None:
    without_goroot(machine)
    updater = Updater([PACKAGE], [])
    assert updater.ask(machine) == 1
    assert updater.requests[-1]["op"] == "stop"
    assert "nothing is installed, since the Go installed here is broken" in updater.requests[-1]["args"]["message"]
    assert list(recorded(machine)["blocks"]) == ["dnf5"]


@pytest.mark.root
def test_dnf5_without_go_the_verdict_is_in_the_log(machine: Path) -> None:
    updater = Updater([PACKAGE], [])
    assert updater.ask(machine) == 0
    (entry,) = [r for r in updater.requests if r["op"] == "log"]
    assert "no Go toolchain is installed" in entry["args"]["message"]
    patterns = [r["args"]["filters"][0]["value"] for r in updater.requests if "filters" in r.get("args", {})]
    assert patterns == ["*/bin/go"]


@pytest.mark.root
def test_dnf5_incoming_go_that_is_not_found_is_looked_for_everywhere(machine: Path) -> None:
    updater = Updater([{**PACKAGE, "name": "golang-bin"}], ["golang-bin"])
    assert updater.ask(machine) == 4
    asked = [r["args"]["key"] for r in updater.requests if r.get("domain") == "conf"]
    assert asked == ["cachedir", "system_cachedir", "updates.baseurl", "destdir"]
    assert "was not found" in recorded(machine)["unjudged"]["dnf5"]["reason"]


@pytest.mark.root
@pytest.mark.parametrize("moment", ["get", "log"])
def test_dnf5_that_left_gets_no_answer(machine: Path, moment: str) -> None:
    with pytest.raises(Gone):
        Updater([PACKAGE], [], leave_at=moment).ask(machine)
    assert list(recorded(machine)["unjudged"]) == []


@pytest.mark.root
def test_dnf5_nonsense_is_a_fault_of_the_hooks(machine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert Updater([{"name": "hello"}], []).ask(machine) == 4
    assert "dnf5 does not say what is in the transaction" in capfd.readouterr().err
    assert list(recorded(machine)["unjudged"]) == ["dnf5"]


PLUGIN = {"name": "hello", "evr": "2-1", "full": "hello-0:2-1.noarch", "action": "U", "coming": True, "path": "",
          "go": False}  # fmt: skip


def ask_dnf4(path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes) -> int:
    stdin = io.TextIOWrapper(io.BytesIO(said))
    monkeypatch.setattr("sys.stdin", stdin)
    return dnf4.answer(gates.Call(["before", "1"], config=str(path / "hook.conf")))


@pytest.mark.root
@pytest.mark.parametrize(("broken", "status"), [(True, 1), (False, 0)])
def test_dnf4_veto_is_printed(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: bool, status: int
) -> None:
    if broken:
        without_goroot(machine)
    assert ask_dnf4(machine, monkeypatch, json.dumps({"packages": [PLUGIN]}).encode()) == status
    out = capsys.readouterr().out
    assert ("go-health-hook: nothing is installed, since" in out) is broken
    assert recorded(machine)["gates"]["dnf4"]["exit_status"] == status


@pytest.mark.root
@pytest.mark.parametrize("said", [b"", b"[]", b'{"packages": [{"name": "hello"}]}'])
def test_dnf4_nonsense_is_a_fault_of_the_hooks(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: bytes
) -> None:
    assert ask_dnf4(machine, monkeypatch, said) == 4
    assert "standard input is not what dnf's plugin sends; update both packages" in capsys.readouterr().err


# --- the worker's part, in this process


def stages(into: list[str]) -> Any:
    return lambda name, kind, until: into.append(f"{name} {kind}")


@pytest.mark.root
def test_judge_running_go_names_its_stage(machine: Path, tmp_path: Path) -> None:
    given = settings(tmp_path, "[toolchain]\ngoroot = /nonexistent\n[budget]\nstarved = block\n")
    task = _dnf.plan(transaction({"hello": "U"}), Survey(), set(), everything=False)
    assert task is not None
    seen: list[str] = []
    answer = _dnf_judge.judge(task, given, Deadline(60), Clock(), stages(seen))
    assert (answer.status, seen[0]) == (1, "judging running")
    assert answer.entry and answer.entry["subject"] == "running"


@pytest.mark.root
@pytest.mark.parametrize("incoming", [False, True])
def test_judge_goes_by_the_clock_that_the_gate_keeps(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, incoming: bool
) -> None:
    """Its own deadline where nothing was read before, else a new one on the clock that is for what comes after."""
    given = settings(tmp_path, "[toolchain]\ngoroot = /nonexistent\n")
    task = Task(transaction({"golang": "U"}), Survey(), {"golang"}, incoming, True)
    monkeypatch.setattr("go_health_hook.gates._dnf_incoming.judge", lambda *_: [])
    used: list[Deadline] = []

    def examine(subject: Subject, config: Config, deadline: Deadline, **_: Any) -> Examination:
        used.append(deadline)
        return Examination(subject, deadline)

    monkeypatch.setattr("go_health_hook.examine.examine_here", examine)
    mine, clock = Deadline(5, ceiling=60), Clock()
    told: list[Deadline] = []
    _dnf_judge.judge(task, given, mine, clock, lambda name, kind, until: told.append(until))
    assert told == used
    assert used[0].clock is (clock if incoming else mine.clock)
    assert (used[0] is mine) is not incoming


@pytest.mark.parametrize("same", [True, False])
def test_watched_keeps_its_deadline_where_the_worker_has_the_same(same: bool) -> None:
    def work(send: Any) -> None:
        send({"stage": "judging", "kind": "running", "same": same, "budget": 7.0, "ceiling": 60.0})
        send({"status": 0})

    deadline, clock = Deadline(5, ceiling=60), Clock()
    watched = _dnf._Watched(Worker(work), deadline, clock=clock)
    assert watched.last_word() == {"status": 0}
    assert (watched.deadline is deadline) is same
    assert watched.deadline.clock is (deadline.clock if same else clock)


@pytest.mark.root
def test_judge_does_not_look_twice_for_what_is_installed(machine: Path, tmp_path: Path) -> None:
    given = settings(tmp_path, "[toolchain]\ngoroot = /nonexistent\n")
    task = _dnf.plan(transaction({"hello": "U"}), Survey(), set(), everything=False)
    assert task is not None
    task.found = None
    assert _dnf_judge.judge(task, given, Deadline(60), Clock(), stages([])).status == 0


def test_judge_incoming_package_without_a_place_is_asked_for_again(tmp_path: Path) -> None:
    task = Task(transaction({"golang": "U"}), Survey(), {"golang"}, True, True)
    with pytest.raises(NotFound, match="golang-0:1-1"):
        _dnf_judge.judge(task, settings(tmp_path), Deadline(60), Clock(), stages([]))
    task.last = True
    answer = _dnf_judge.judge(task, settings(tmp_path), Deadline(60), Clock(), stages([]))
    assert (answer.status, "the file of golang-0:1-1.noarch was not found" in answer.said[0]) == (4, True)


def test_judge_person_who_removes_the_go_command_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dnf_judge, "_go_owner", lambda goroot: "golang-bin")
    removal = transaction({"golang-bin": "E", "hello": "U"})
    task = _dnf.plan(removal, Survey("/usr/lib/golang"), {"golang-bin"}, everything=False)
    assert task is not None and not task.incoming
    answer = _dnf_judge.judge(task, settings(tmp_path), Deadline(60), Clock(), stages([]))
    assert (answer.status, answer.notes) == (0, ["a person removes Go: not judged"])


def test_survey_tells_what_is_installed(tmp_path: Path) -> None:
    found = Survey(**_dnf_judge.survey(_dnf_judge.find_installed(settings(tmp_path)), ["no-such-package"], True))
    assert (found.older_installed, bool(found.looks)) == (False, True)


@pytest.mark.parametrize(("problem", "named"), [("it removes Go and brings none", True), ("", False)])
def test_incoming_problem_needs_no_check(tmp_path: Path, problem: str, named: bool) -> None:
    examination = _dnf_incoming.made_up(problem or "x", settings(tmp_path), Deadline(5))
    names = ["golang"] if named else []
    answer = _dnf_judge.decide("dnf5", examination, settings(tmp_path), ("", ""), names=names)
    assert examination.subject.kind == "incoming"
    assert ("--exclude='golang'" in answer.message) is named or answer.status == 0


def test_override_file_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from go_health_hook import override

    monkeypatch.setattr(override, "FILE", str(tmp_path / "override.json"))
    assert _dnf_judge.in_force() == ("", "")
    (tmp_path / "override.json").write_text("{}")
    line, trouble = _dnf_judge.in_force()
    assert (line, "override.json" in trouble) == ("", True)


def test_notes_of_a_veto_are_bounded(tmp_path: Path) -> None:
    notes = [f"note {i}" for i in range(20)]
    answer = _dnf_judge.decide("dnf5", examined(goroot=FAIL), settings(tmp_path), ("", ""), notes=notes)
    assert answer.message.count("note ") == _dnf_judge.MAX_NOTES
    passed = _dnf_judge.decide("dnf5", examined(goroot=PASS), settings(tmp_path), ("", ""), notes=notes)
    assert len(passed.notes) == 21
