# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dnf gate decides and says, as tables; and whole calls of it in this process, with workers that are real."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cases import CASES
from tests.unit.dnf_gate import ask, examined, forks, machine, recorded, settings, transaction

from go_health_hook import gates
from go_health_hook.announce import record
from go_health_hook.deadline import Deadline
from go_health_hook.gates import _dnf, _dnf_after, _dnf_incoming, _dnf_judge, _trace
from go_health_hook.gates._dnf_judge import Survey, Task, decide, found_afterwards
from go_health_hook.gates._dnf_transaction import Item, Transaction
from go_health_hook.run.worker import Gone, Worker
from go_health_hook.verdict import ERROR, FAIL, NOT_JUDGED, PASS, TIMEOUT, WARN, Examination

__all__ = ["forks", "machine"]

NO_OVERRIDE = ("", "")


# --- what is judged


@pytest.mark.parametrize(
    ("actions", "automatic", "everything", "planned"),
    [
        # (incoming, running), or None for nothing.
        ({"hello": "U"}, False, False, (False, True)),
        ({"hello": "I"}, False, False, None),
        ({"hello": "E"}, False, False, None),
        ({"hello": "I"}, False, True, (False, True)),
        ({"go-health-hook": "E"}, False, True, None),
        ({"golang": "U"}, False, False, (True, True)),
        ({"golang": "I"}, False, False, (True, False)),
        ({"golang": "I"}, False, True, (True, True)),
        # A person may remove Go, what runs unattended may not.
        ({"golang": "E"}, False, False, None),
        ({"golang": "E"}, False, True, None),
        ({"golang": "E", "hello": "U"}, False, False, (False, True)),
        ({"golang": "E", "hello": "U"}, True, False, (True, True)),
        ({"golang": "O", "hello": "I"}, True, False, (True, True)),
        ({"hello": "I"}, True, False, (False, True)),  # older ones of its name are installed
    ],
)
def test_plan_names_what_is_judged(actions: dict, automatic: bool, everything: bool, planned: tuple | None) -> None:
    names = {name for name in actions if name.startswith("golang")}
    task = _dnf.plan(
        transaction(actions, automatic), Survey("/usr/lib/golang", older_installed=True), names, everything=everything
    )
    assert (None if task is None else (task.incoming, task.running)) == planned


# --- what is decided and said


GO_BROKEN = "since the Go installed here is broken"
LEFT_BROKEN = "since the Go that this transaction would leave is broken"
LIMIT = "since the Go that it would leave ignores the CPU limit here"
KEEP_OUT = "-> update without it until its vendor has fixed it: dnf upgrade --exclude='golang,golang-bin'"
LEAVE_OUT = "-> update without it: dnf upgrade --exclude='golang,golang-bin'"
BY_HAND = "-> see whether it answers by hand: go version"
MORE_TIME = "set [budget] dnf = 20 in /etc/go-health-hook.conf"


@pytest.mark.parametrize(
    ("examination", "more", "status", "words"),
    [
        (examined(goroot=PASS), {}, 0, []),
        (examined(goroot=FAIL), {}, 1, [GO_BROKEN, "goroot: goroot says fail", "-> do something", _dnf_judge.ONCE]),
        (examined("incoming", version=FAIL), {}, 1, [LEFT_BROKEN, KEEP_OUT]),
        (examined("incoming", packages=FAIL), {}, 0, []),
        (examined(goroot=TIMEOUT), {}, 3, ["Go could not be judged within 5 s", BY_HAND, MORE_TIME]),
        (examined("incoming", goroot=TIMEOUT), {}, 3, [LEAVE_OUT, MORE_TIME]),
        # The CPU limit: only where the installed Go keeps to it, and never as a broken Go.
        (examined("incoming", gomaxprocs=FAIL), {}, 0, []),
        (examined("incoming", gomaxprocs=FAIL), {"sound_before": ["gomaxprocs"]}, 1, [LIMIT, "--exclude="]),
        (examined(gomaxprocs=FAIL), {}, 0, []),
        (examined(cgroup=(FAIL, NOT_JUDGED)), {}, 0, []),
        (
            examined("incoming", gomaxprocs=FAIL, goroot=FAIL),
            {"sound_before": ["gomaxprocs"]},
            1,
            [LEFT_BROKEN, KEEP_OUT],
        ),
        # What could not be judged.
        (examined(goroot=(WARN, NOT_JUDGED)), {}, 0, []),
        (examined(goroot=(TIMEOUT, NOT_JUDGED)), {}, 0, []),
        (examined(goroot=ERROR), {}, 4, []),
    ],
)
def test_decide_status_and_message(
    tmp_path: Path, examination: Examination, more: dict, status: int, words: list[str]
) -> None:
    more = {"names": ["golang", "golang-bin"] if examination.subject.kind == "incoming" else [], **more}
    answer = decide("dnf5", examination, settings(tmp_path), NO_OVERRIDE, **more)
    assert (answer.status, bool(answer.message)) == (status, bool(words)), answer.message
    assert [word for word in words if word not in answer.message] == []
    assert "vendor" not in answer.message or KEEP_OUT in words
    assert answer.entry is not None
    assert (answer.entry["event"], answer.entry["exit_status"]) == (record.VERDICT, status)


def test_decide_starved_blocks_where_that_is_asked_for(tmp_path: Path) -> None:
    given = settings(tmp_path, "[budget]\nstarved = block\n")
    answer = decide("dnf5", examined(goroot=(TIMEOUT, NOT_JUDGED)), given, NO_OVERRIDE)
    assert (answer.status, MORE_TIME in answer.message) == (3, True)


@pytest.mark.parametrize(
    ("examination", "said"),
    [
        (examined(goroot=PASS), ""),
        (examined(goroot=(WARN, None)), ""),
        (examined(goroot=(WARN, NOT_JUDGED)), "not judged: goroot: goroot says warn. The update goes on"),
        (examined(stdlib=ERROR), "not decided, could not be carried out: stdlib. The update goes on"),
        (examined("incoming", gomaxprocs=FAIL), "gomaxprocs: gomaxprocs says fail. The update goes on"),
    ],
)
def test_decide_says_once_what_is_not_judged(tmp_path: Path, examination: Examination, said: str) -> None:
    answer = decide("dnf5", examination, settings(tmp_path), NO_OVERRIDE)
    assert len(answer.said) == bool(said)
    assert not said or answer.said[0].startswith(said)
    assert "(0.25 s)" in answer.notes[0]


def test_decide_override_lets_a_broken_go_pass_and_is_recorded(tmp_path: Path) -> None:
    answer = decide("dnf5", examined(goroot=FAIL), settings(tmp_path), ("overridden by root", ""), notes=["a note"])
    assert (answer.status, answer.message, answer.notes) == (0, "", ["overridden by root", "a note"])
    assert answer.said == ["the update goes on although goroot: goroot says fail: overridden by root"]
    assert answer.entry and answer.entry["event"] == record.OVERRIDE


def test_decide_damaged_override_is_said_where_it_matters(tmp_path: Path) -> None:
    damaged = ("", "override.json: is damaged")
    assert decide("dnf5", examined(goroot=FAIL), settings(tmp_path), damaged).said == ["override.json: is damaged"]
    assert decide("dnf5", examined(goroot=PASS), settings(tmp_path), damaged).said == []


@pytest.mark.parametrize(
    ("statuses", "status", "said"),
    [
        ({"goroot": PASS}, 0, ""),
        ({"goroot": FAIL}, 1, "after this transaction Go is broken: goroot"),
        ({"goroot": (WARN, NOT_JUDGED)}, 0, "after this transaction: not judged: goroot"),
        ({"goroot": ERROR}, 4, "after this transaction: not decided"),
        ({"gomaxprocs": FAIL}, 0, ""),
    ],
)
def test_found_afterwards_is_said_and_recorded(tmp_path: Path, statuses: dict, status: int, said: str) -> None:
    answer = found_afterwards("dnf5", examined(**statuses), settings(tmp_path))
    assert (answer.status, answer.message, len(answer.said)) == (status, "", bool(said))
    assert not said or answer.said[0].startswith(said)
    assert answer.entry and answer.entry["event"] == record.AFTER


def test_incoming_go_is_named_by_its_final_path() -> None:
    private = "/run/go-health-hook/go-health-hook-incoming-8df9/root"
    examination = examined("incoming", goroot=FAIL)
    examination.findings[0].summary = f"{private}/bin/go is cut short"
    examination.findings[0].evidence = {"file": f"{private}/bin/go", "size": 5}
    examination.toolchain = {"goroot": private, "go": f"{private}/bin/go"}
    _dnf_incoming.name_final_paths(examination, private, "/usr/lib/golang")
    assert examination.findings[0].summary == "/usr/lib/golang/bin/go is cut short"
    assert private not in str(examination.to_dict())


def test_undecided_lets_the_update_go_on() -> None:
    answer = _dnf_judge.undecided("dnf5", "the file was not found", "incoming")
    assert (answer.status, answer.message, answer.look) == (4, "", True)
    assert answer.said == ["the file was not found. The update goes on"]
    assert answer.entry and (answer.entry["subject"], answer.entry["exit_status"]) == ("incoming", 4)


LEAF, PARENT, NONE, UNREAD = "v2-service-quota", "v2-session-slice-quota", "v2-root", "v2-mountinfo-missing"


@pytest.mark.parametrize(
    ("version", "case", "affinity", "sound"),
    [
        # The quota is the process's own: Go reads it since 1.25.
        ("1.27.3", LEAF, 64, True),
        ("1.24.11", LEAF, 64, False),
        ("1.24.11", LEAF, 2, True),  # no more CPUs than the quota allows
        ("1.27~rc2", LEAF, 64, True),
        # It is an ancestor's: no Go reads that.
        ("1.27.3", PARENT, 64, False),
        ("1.24.11", NONE, 64, True),
        ("1.27.3", UNREAD, 64, False),
        ("", LEAF, 64, False),
        ("nonsense", LEAF, 64, False),
    ],
)
def test_sound_before_is_predicted_by_the_installed_version(
    tmp_path: Path, version: str, case: str, affinity: int, sound: bool
) -> None:
    chain = next(c for c in CASES if c.name == case).read(tmp_path)
    assert _dnf_judge.sound_before(version, chain, affinity) == (["gomaxprocs"] if sound else [])


# --- whole calls


@pytest.mark.root
def test_call_ordinary_update_takes_one_fork(machine: Path, forks: list[int]) -> None:
    with (machine / "hook.conf").open("a") as file:
        file.write("[toolchain]\ngoroot = /nonexistent\n")
    answer = ask(machine, transaction({"hello": "U"}))
    assert len(forks) == 1
    assert (answer.status, GO_BROKEN in answer.message) == (1, True), answer.message
    assert list(recorded(machine)["blocks"]) == ["dnf5"]
    assert (machine / "motd").read_text().startswith("Updates are held back since")
    assert not (machine / "before").exists()


@pytest.mark.root
def test_call_without_go_is_allowed(machine: Path, forks: list[int]) -> None:
    answer = ask(machine, transaction({"hello": "U"}))
    assert len(forks) == 1
    assert (answer.status, answer.message) == (0, "")
    assert recorded(machine)["gates"]["dnf5"]["exit_status"] == 0


@pytest.mark.root
def test_call_that_judges_nothing_records_nothing(machine: Path, forks: list[int]) -> None:
    assert ask(machine, transaction({"hello": "I"})).status == 0
    assert ask(machine, transaction({})).status == 0
    assert len(forks) == 1
    assert recorded(machine) == record.empty()


@pytest.mark.root
@pytest.mark.parametrize(("automatic", "judged"), [(True, True), (False, False)])
def test_call_only_unattended_where_that_is_set(machine: Path, automatic: bool, judged: bool) -> None:
    with (machine / "hook.conf").open("a") as file:
        file.write("[dnf]\ntransactions = automatic\n")
    ask(machine, transaction({"hello": "U"}, automatic))
    assert ("dnf5" in recorded(machine)["gates"]) is judged


@pytest.mark.root
def test_call_incoming_file_not_found_lets_the_update_go_on(
    machine: Path, forks: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    coming = Item("golang", "1-1", "U", True, "golang-0:1-1.x86_64", lambda: [[(str(machine), "", "golang.rpm")]])
    answer = ask(machine, Transaction("dnf5", [coming], False, lambda installed: {"golang"}))
    assert (answer.status, answer.message, len(forks)) == (4, "", 3)
    assert "the file of golang-0:1-1.x86_64 was not found. The update goes on" in capfd.readouterr().err
    state = recorded(machine)
    assert (list(state["unjudged"]), state["gates"]["dnf5"]["subject"]) == (["dnf5"], "incoming")
    assert (machine / "before").exists()


@pytest.mark.root
def test_call_updater_that_left_gets_no_answer_and_no_record(machine: Path) -> None:
    read, write = os.pipe()
    os.close(write)
    with pytest.raises(Gone):
        ask(machine, transaction({"hello": "U"}, watched=(read,)))
    os.close(read)
    assert recorded(machine) == record.empty()
    assert not (machine / "before").exists()


@pytest.mark.root
def test_call_fault_of_ours_lets_the_update_go_on(machine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def fault(installed: Survey) -> set[str]:
        raise ValueError("no such thing")

    answer = ask(machine, transaction({"hello": "U"}, go_names=fault))
    assert answer.status == 4
    assert "a fault of the hook's own, please report it: ValueError('no such thing')" in capfd.readouterr().err
    assert list(recorded(machine)["unjudged"]) == ["dnf5"]


@pytest.mark.root
def test_call_worker_that_is_killed_lets_the_update_go_on(
    machine: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dnf_judge, "judge", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert ask(machine, transaction({"hello": "U"})).status == 4
    assert "was killed by SIGKILL" in capfd.readouterr().err


def test_call_interrupted_person_leaves_nothing_laid_out(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(watched: Any) -> None:
        watched.worker.close()
        raise KeyboardInterrupt

    def tidy(task: Any) -> None:
        (machine / "tidied").write_text("")

    monkeypatch.setattr(_dnf._Watched, "last_word", interrupt)
    monkeypatch.setattr(_dnf, "_tidy", tidy)
    task = Task(transaction({"golang": "U"}), Survey(), {"golang"}, True, True)
    with pytest.raises(KeyboardInterrupt):
        _dnf._result(_dnf._Watched(Worker(lambda send: None), Deadline(5), ()), task, settings(machine))
    assert (machine / "tidied").exists()


@pytest.mark.root
@pytest.mark.parametrize(
    ("stage", "status", "says"),
    [
        ("reading", 4, "time ran out while it was read out of its packages"),
        ("judging", 3, "goroot"),
        ("libraries", 4, "were searched for a library"),
        ("searching", 4, "were searched for parts of it"),
    ],
)
def test_call_worker_that_hangs_is_ended_in_time(
    machine: Path, monkeypatch: pytest.MonkeyPatch, stage: str, status: int, says: str
) -> None:
    def hang(task: Any, given: Any, deadline: Any, clock: Any, tell: Any) -> None:
        if stage != "reading":
            tell(stage, "running", Deadline(0.1))
        signal.pause()

    (machine / "hook.conf").write_text("[announce]\njournal = no\n[budget]\ndnf = 1\n")
    monkeypatch.setattr(_dnf_judge, "judge", hang)
    answer = ask(machine, transaction({"hello": "U"}))
    assert answer.status == status
    assert says in recorded(machine)["gates"]["dnf5"]["reason"]


@pytest.mark.root
def test_call_switched_off_ends_what_was_held_back(machine: Path) -> None:
    with (machine / "hook.conf").open("a") as file:
        file.write("[toolchain]\ngoroot = /nonexistent\n")
    assert ask(machine, transaction({"hello": "U"})).status == 1
    assert list(recorded(machine)["blocks"]) == ["dnf5"]
    with (machine / "hook.conf").open("a") as file:
        file.write("[dnf]\ntransactions = off\n")
    assert ask(machine, transaction({"hello": "U"})).status == 0
    assert recorded(machine)["blocks"] == {}


@pytest.mark.root
def test_call_with_a_broken_configuration_judges_nothing(machine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (machine / "hook.conf").write_text("[dnf]\ntransaction = off\n")
    for moment in ("before", "after"):
        _dnf_after.remember(7, "", _dnf_after.UNFINISHED)
        assert ask(machine, transaction({"hello": "U"}), moment).message == ""
        err = capfd.readouterr().err
        assert "hook.conf:2: unknown key transaction in [dnf]; the nearest known key is transactions" in err
    assert list(recorded(machine)["unjudged"]) == ["dnf5"]


@pytest.mark.root
def test_call_afterwards_looks_only_at_what_has_changed(machine: Path, forks: list[int]) -> None:
    assert ask(machine, transaction({}), "after").status == 0
    assert forks == []
    _dnf_after.remember(7, "", _dnf_after.looks(""))
    assert ask(machine, transaction({}), "after").status == 0
    assert recorded(machine) == record.empty()
    _dnf_after.remember(7, "", _dnf_after.UNFINISHED)
    with (machine / "hook.conf").open("a") as file:
        file.write("[toolchain]\ngoroot = /nonexistent\n")
    assert ask(machine, transaction({}), "after").status == 1
    state = recorded(machine)
    assert (state["gates"]["dnf5"]["event"], state["blocks"]) == (record.AFTER, {})
    assert state["broken"]["gate"] == "dnf5"
    assert len(forks) == 2


@pytest.mark.root
@pytest.mark.parametrize("moment", ["resolved", "prepare"])
def test_call_empty_transaction_ends_what_was_held_back(
    machine: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "hook.conf").write_text("[announce]\njournal = no\n[toolchain]\ngoroot = /nonexistent\n")
    assert ask(machine, transaction({"hello": "U"})).message
    held = machine / "held"
    assert list(recorded(machine)["blocks"]) == ["dnf5"] and held.read_text() == "dnf5\n"
    if moment == "resolved":
        assert not ask(machine, transaction({"hello": "U"}), moment).message
        assert list(recorded(machine)["blocks"]) == ["dnf5"], "it is judged before it is installed"
    monkeypatch.setattr(_dnf, "asks_for_all", lambda pid: False)
    assert not ask(machine, transaction({}), moment).message
    assert list(recorded(machine)["blocks"]) == ["dnf5"], "it is offered still"
    monkeypatch.setattr(_dnf, "asks_for_all", lambda pid: True)
    assert not ask(machine, transaction({}), moment).message
    assert recorded(machine)["blocks"] == {} and not held.exists()


# --- runs that are ended from outside


def killed(gate: str) -> int:
    """A run of a gate that is killed; return its process number."""
    pid = os.fork()
    if pid == 0:
        _trace.begin(gate)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return pid


def test_trace_leaves_its_folder_open_to_others(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services have UMask=0077. Programs without a view pass through the folder above, and everybody asks status."""
    monkeypatch.setattr(_trace, "FOLDER", f"{machine}/new/running")
    before = os.umask(0o077)
    try:
        _trace.end(_trace.begin("dnf5"))
    finally:
        os.umask(before)
    assert [(machine / name).stat().st_mode & 0o777 for name in ("new", "new/running")] == [0o755, 0o755]


def test_trace_tells_a_run_that_was_killed(machine: Path) -> None:
    assert _trace.lost("dnf5") is None
    running = _trace.begin("dnf5")
    killed("dnf4")
    assert _trace.lost("dnf5") is None
    assert (_trace.lost("dnf4") is None, _trace.lost("dnf4", remove=True) is None, _trace.lost("dnf4")) == (
        False,
        False,
        None,
    )
    _trace.end(running)
    assert os.listdir(_trace.FOLDER) == []


@pytest.mark.root
def test_gate_announces_a_run_that_was_killed(machine: Path) -> None:
    killed("staged")
    assert gates.answer("staged", gates.Call(config=str(machine / "hook.conf"))) == 0  # no image system
    assert _trace.lost("staged") is None
    state = recorded(machine)
    assert "was ended before it had answered" in state["unjudged"]["staged"]["reason"]
    assert state["gates"]["staged"]["event"] == record.LOST


def test_gates_main_unknown_gate_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert gates.main(["dnf6"]) == 2
    assert "no gate 'dnf6'; it is one of: boot, dnf4, dnf5" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["before"], ["before", "x"], ["sometime", "1"]])
def test_gates_main_wrong_arguments_are_a_usage_error(
    machine: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert gates.main(["dnf4", *words]) == 2
    assert "gate dnf4 takes: before|after|prepare|resolved PID" in capsys.readouterr().err
