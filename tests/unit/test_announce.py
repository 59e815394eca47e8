# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal, record, message at login and metrics, in a root of the test's own; the journal's receiver is a socket."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import announcements
from tests.unit.announcements import DAY, HOUR, NOW, Receiver, decoded, examined, left_behind, state_of, workers

from go_health_hook.announce import journal, metrics, motd, publish, record

HOOK = Path(__file__).parents[2] / "hook"
root, receiver, eight_days = announcements.root, announcements.receiver, announcements.eight_days


# --- the journal


@given(st.lists(st.tuples(st.from_regex(r"\A[A-Z]{1,8}\Z"), st.text())))
def test_any_field_can_be_read_back(fields: list[tuple[str, str]]) -> None:
    expected: dict[str, list[str]] = {}
    for name, value in fields:
        expected.setdefault(name, []).append(value)
    assert decoded(journal.encode(fields)) == expected


def test_an_entry_too_large_for_a_datagram_arrives(root: Path, receiver: Receiver) -> None:
    journal.send("blocked", "x" * 3_000_000, journal.ERR, path=str(root / "run/systemd/journal/socket"))
    assert receiver.entry()["MESSAGE"] == ["x" * 3_000_000]


def test_no_journal_is_an_error(root: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        journal.send("blocked", "x", journal.ERR, path=str(root / "nothing"))


# --- the record


def test_a_block_is_counted_until_the_gate_lets_go() -> None:
    state = state_of(("dnf5", "fail", NOW), ("dnf5", "fail", NOW + DAY), ("dnf5", "fail", NOW + 2 * DAY))
    assert state["blocks"]["dnf5"]["since"] == NOW
    assert state["blocks"]["dnf5"]["count"] == 3
    assert record.held_since(state) == NOW
    over = record.take(state, record.entry(examined("pass"), "dnf5", record.VERDICT, NOW + 3 * DAY))
    assert [(b["gate"], b["count"], b["until"]) for b in over] == [("dnf5", 3, NOW + 3 * DAY)]
    assert state["blocks"] == {}
    assert state["history"] == over
    assert record.held_since(state) is None


def test_what_was_let_through_holds_nothing_back() -> None:
    state = state_of(("dnf5", "fail", NOW))
    record.take(state, record.entry(examined("fail"), "dnf5", record.OVERRIDE, NOW + HOUR))
    assert state["blocks"] == {}
    assert state["gates"]["dnf5"]["verdict"] == "block"


def test_a_persons_run_starts_no_block_and_ends_those_about_the_running_toolchain() -> None:
    state = state_of(("check", "fail", NOW))
    assert state["blocks"] == {}
    running = state_of(("dnf5", "fail", NOW), ("check", "pass", NOW + HOUR))
    assert running["blocks"] == {}
    incoming = state_of(("dnf5", "fail", NOW), kind="incoming")
    record.take(incoming, record.entry(examined("pass"), "check", record.VERDICT, NOW + HOUR))
    assert list(incoming["blocks"]) == ["dnf5"]


def test_a_fault_of_ours_proves_no_other_gate_healthy() -> None:
    state = state_of(("dnf5", "fail", NOW), ("staged", "error", NOW + HOUR))
    assert list(state["blocks"]) == ["dnf5"]


def test_the_state_stays_small() -> None:
    state = record.empty()
    for i in range(2000):
        status = "fail" if i % 2 else "pass"
        record.take(state, record.entry(examined(status), f"gate{i // 2 % 40}", record.VERDICT, NOW + i))
    assert len(json.dumps(state)) < 100_000
    assert len(state["gates"]) == record.MAX_GATES


def test_state_is_readable_by_all_and_its_lock_is_not(tmp_path: Path) -> None:
    run = record.entry(examined(), "x", record.VERDICT, NOW)
    record.update(lambda state: record.take(state, run), str(tmp_path / "lib"))
    assert (tmp_path / "lib/state.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "lib/.lock").stat().st_mode & 0o777 == 0o600
    assert record.read(str(tmp_path / "lib"))["gates"] == {"x": run}


def lacking(kind: str, key: str) -> str:
    """A state that lacks one key of its run or of its block."""
    state = state_of(("dnf5", "fail", NOW))
    del state[kind]["dnf5"][key]
    return json.dumps(state)


DAMAGED = ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "gates": {"a": 1}}', "\0" * 100, "[" * 100_000]
DAMAGED += [json.dumps(state_of(("dnf5", "fail", at))) for at in (float("nan"), float("inf"), 1e300)]
DAMAGED += [lacking("gates", key) for key in ("gate", "event", "exit_status", "elapsed_s", "results", "go_version")]
DAMAGED += [lacking("blocks", key) for key in ("gate", "since", "count", "reason", "remedy", "subject")]


@pytest.mark.parametrize("damage", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_state_is_said_and_begun_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "state.json").write_text(damage)
    with pytest.raises(record.StateError, match="is damaged"):
        record.read(str(tmp_path))
    record.update(lambda state: None, str(tmp_path))
    assert record.read(str(tmp_path)) == record.empty()
    assert (tmp_path / "state.json.damaged").read_text() == damage


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from go_health_hook.announce import record
record.LOCK_SECONDS = 600.0  # a busy machine is no reason to write without the lock
def change(state):
    words = {"gate": "dnf5", "reason": "x" * 5000, "remedy": "", "subject": "running"}
    block = state["blocks"].setdefault("dnf5", {**words, "since": 1.0, "count": 0})
    block["count"] += 1
for i in range(int(sys.argv[3])):
    record.update(change, sys.argv[2])
    print(i, flush=True)
"""


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(HOOK), str(tmp_path), "40"]
    writers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert record.read(str(tmp_path))["blocks"]["dnf5"]["count"] == 120
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "state.json"]


def test_a_writer_killed_half_way_leaves_a_whole_state(tmp_path: Path) -> None:
    for round_ in range(8):
        command = [sys.executable, "-c", WRITER, str(HOOK), str(tmp_path), "1000000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            for _ in range(round_ + 1):
                writer.stdout.readline()
            writer.kill()
        assert record.read(str(tmp_path))["blocks"]["dnf5"]["count"] > round_
    record.update(lambda state: None, str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "state.json"]


# --- the message at login


@pytest.mark.parametrize(
    ("after", "priority", "head"),
    [
        (0, journal.WARNING, "Updates are held back since "),
        (DAY - 1, journal.WARNING, "Updates are held back since "),
        (DAY, journal.ERR, "WARNING: updates have been held back for 1 day "),
        (7 * DAY - 1, journal.ERR, "WARNING: updates have been held back for 6 days "),
        (8 * DAY, journal.CRIT, "URGENT: updates have been held back for 8 days "),
        (-5 * DAY, journal.WARNING, "Updates are held back since "),
    ],
)
def test_the_message_grows_louder(after: float, priority: int, head: str) -> None:
    message = motd.text(state_of(("dnf5", "fail", NOW)), NOW + after)
    assert message.startswith(head)
    assert motd.level(after) == priority
    assert "dnf reinstall 'golang*'" in message
    assert max(len(line) for line in message.splitlines()) <= 79


def test_the_message_breaks_no_command_to_be_copied() -> None:
    command = f"bootc delete-deployment {'5e' * 64}"
    state = state_of(("staged", "fail", NOW))
    state["blocks"]["staged"]["remedy"] = f"{command} drops this update"
    assert command in motd.text(state, NOW)


def test_many_gates_fit_one_message() -> None:
    runs = [(f"gate{i}", "fail", NOW + i) for i in range(9)]
    assert len(motd.text(state_of(*runs), NOW).splitlines()) < 15


# --- metrics


def samples(text: str) -> dict[tuple[str, str], float]:
    found = {}
    # Not in every distribution's build root.
    parser = pytest.importorskip("prometheus_client.parser")
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[sample.name.removeprefix("go_health_hook_"), labels] = sample.value
    return found


def test_the_message_drives_no_terminal_whatever_the_state_holds() -> None:
    state = state_of(("dnf5", "fail", NOW))
    state["blocks"]["dnf5"].update(gate="\x1b]0;x\x07", reason="\x1b[2Jgone\u202e", remedy="type\rthis")
    assert all(line.isprintable() for line in motd.text(state, NOW).splitlines())


def test_metrics_are_what_the_state_says() -> None:
    state = state_of(("dnf5", "fail", NOW), ("dnf5", "fail", NOW + DAY))
    record.take(state, record.entry(examined("error"), "staged", record.VERDICT, NOW + HOUR))
    state["wired"] = {"dnf5": True, "dnf4": False}
    state["misaligned"] = 3
    found = samples(metrics.render(state, NOW + 2 * DAY))
    assert found["verdict_blocked", "gate=dnf5"] == 1
    assert found["check_status", "check=goroot,gate=dnf5,status=fail"] == 1
    assert found["check_status", "check=goroot,gate=dnf5,status=pass"] == 0
    assert found["blocked_since_timestamp_seconds", "gate=dnf5"] == NOW
    assert found["updates_held_back_seconds", ""] == 2 * DAY
    assert found["broken_since_timestamp_seconds", ""] == NOW
    assert found["not_judged_since_timestamp_seconds", "gate=staged"] == NOW + HOUR
    assert found["gomaxprocs_actual", "gate=dnf5"] == 8
    assert found["gomaxprocs_expected", "gate=dnf5"] == 2
    assert found["gate_wired", "gate=dnf4"] == 0
    assert found["misaligned_processes", ""] == 3
    assert {name for name, _ in found} == set(metrics.HELP)


def test_metrics_of_nothing_and_of_strange_names() -> None:
    assert samples(metrics.render(record.empty(), NOW))["updates_held_back_seconds", ""] == 0
    state = state_of(('a"b\\c', "pass", NOW))
    assert samples(metrics.render(state, NOW))["verdict_blocked", 'gate=a"b\\c'] == 0


# --- all of it


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a busy machine finish: how long it takes is not what is tested."""
    monkeypatch.setattr(publish, "WAIT", 60.0)


@pytest.mark.root
@pytest.mark.usefixtures("patient")
def test_a_block_reaches_every_place_and_its_end_too(root: Path, receiver: Receiver, capfd: Any) -> None:
    (root / "prom").mkdir()
    publish.publish(examined(metrics_directory="/prom"), "dnf5", root=str(root))
    entry = receiver.entry()
    assert entry["MESSAGE_ID"] == [journal.MESSAGE_IDS["blocked"]]
    assert entry["PRIORITY"] == ["4"]
    assert entry["GO_HEALTH_VERDICT"] == ["block"]
    assert entry["GO_HEALTH_CHECK"] == ["goroot"]
    assert entry["GO_HEALTH_GATE"] == ["dnf5"]
    assert entry["GO_HEALTH_SUBJECT"] == ["running /"]
    assert entry["GO_VERSION"] == ["go1.27.3"]
    assert re.fullmatch(r"\d+\.\d{3}", entry["ELAPSED"][0])
    assert (root / "etc/motd.d/go-health-hook").read_text().startswith("Updates are held back since")
    assert samples((root / "prom/go_health_hook.prom").read_text())["verdict_blocked", "gate=dnf5"] == 1
    publish.publish(examined("pass", metrics_directory="/prom"), "dnf5", root=str(root))
    # The gate tells of its run, its worker of the block's end: either may be first.
    kinds = {receiver.entry()["MESSAGE_ID"][0] for _ in range(2)}
    assert kinds == {journal.MESSAGE_IDS["allowed"], journal.MESSAGE_IDS["released"]}
    assert os.listdir(root / "etc/motd.d") == []
    assert samples((root / "prom/go_health_hook.prom").read_text())["verdict_blocked", "gate=dnf5"] == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.root
@pytest.mark.usefixtures("patient")
def test_an_override_is_on_the_record(root: Path, receiver: Receiver) -> None:
    publish.publish(examined(), "dnf5", event=record.OVERRIDE, root=str(root))
    assert receiver.entry()["MESSAGE_ID"] == [journal.MESSAGE_IDS["override"]]
    publish.note("override-set", "Updates pass for 2 h: testing", {"GO_HEALTH_REASON": "testing"}, root=str(root))
    entry = receiver.entry()
    assert (entry["MESSAGE_ID"], entry["GO_HEALTH_REASON"]) == ([journal.MESSAGE_IDS["override-set"]], ["testing"])
    assert record.read(str(root / "var/lib/go-health-hook"))["gates"]["dnf5"]["event"] == "override"
    assert (root / "etc/motd.d/go-health-hook").read_text().startswith("The Go toolchain on this machine is broken")


@pytest.mark.root
@pytest.mark.usefixtures("patient")
def test_what_was_only_found_is_not_said_to_be_held_back(root: Path, receiver: Receiver) -> None:
    """A person's run, and the look at Go after a transaction, which has gone through whatever it shows."""
    publish.publish(examined(), "dnf5", event=record.FOUND, root=str(root))
    entry = receiver.entry()
    assert (entry["MESSAGE_ID"], entry["PRIORITY"]) == ([journal.MESSAGE_IDS["broken"]], ["4"])
    assert entry["MESSAGE"][0].startswith("Go found broken (dnf5): ")
    assert record.read(str(root / "var/lib/go-health-hook"))["blocks"] == {}
    assert (root / "etc/motd.d/go-health-hook").read_text().startswith("The Go toolchain on this machine is broken")


@pytest.mark.root
@pytest.mark.usefixtures("patient")
def test_a_discarded_update_is_held_back_no_more(root: Path, receiver: Receiver) -> None:
    examination = examined(kind="staged")
    publish.publish(examination, "staged", root=str(root))
    receiver.entry()
    publish.release("staged", examination.announce, root=str(root))
    assert receiver.entry()["MESSAGE_ID"] == [journal.MESSAGE_IDS["released"]]
    assert not (root / "etc/motd.d/go-health-hook").exists()


@pytest.mark.root
@pytest.mark.usefixtures("patient")
def test_what_cannot_be_written_is_said_in_one_line_and_the_rest_is(root: Path, capfd: Any) -> None:
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/go-health-hook").write_text("a file where the directory belongs")
    publish.publish(examined(metrics_directory="/gone"), "dnf5", root=str(root))
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "journal: " in err
    assert "metrics: " in err
    assert "/var/lib/go-health-hook" in err
    assert (root / "etc/motd.d/go-health-hook").exists()


@pytest.fixture
def busy(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The record, with another writer in it: what it gives, called, lets go."""
    monkeypatch.setattr(record, "LOCK_SECONDS", 60.0)
    directory = root / "var/lib/go-health-hook"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.close


@pytest.mark.root
def test_what_takes_long_is_left_behind(root: Path, receiver: Receiver, capfd: Any, busy: Any) -> None:
    before = workers()
    publish.publish(examined(), "dnf5", root=str(root))
    assert "record, motd, metrics: still being written" in capfd.readouterr().err
    assert receiver.entry()["GO_HEALTH_GATE"] == ["dnf5"]
    busy()
    os.waitpid(left_behind(before), 0)
    assert record.read(str(root / "var/lib/go-health-hook"))["blocks"]["dnf5"]["count"] == 1


@pytest.mark.root
@pytest.mark.usefixtures("receiver")
def test_what_is_left_behind_does_not_end_because_it_is_asked_to(root: Path, busy: Any) -> None:
    """As when dnf5 automatic has been refused and has left: systemd ends what remains of its service."""
    before = workers()
    publish.publish(examined(), "dnf5", root=str(root))
    worker = left_behind(before)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(worker, number)
    busy()
    assert os.waitpid(worker, 0) == (worker, 0)
    assert record.read(str(root / "var/lib/go-health-hook"))["blocks"]["dnf5"]["count"] == 1
    assert (root / "etc/motd.d/go-health-hook").exists()


@pytest.mark.root
@pytest.mark.parametrize("status", ["fail", "pass"])
def test_another_writer_is_waited_for_before_anything_is_overwritten(
    root: Path, receiver: Receiver, eight_days: None, busy: Any, status: str
) -> None:
    message, figures = root / "etc/motd.d/go-health-hook", root / "prom/go_health_hook.prom"
    before, told, measured = workers(), message.read_text(), figures.read_text()
    assert told.startswith("URGENT: updates have been held back for 8 days")
    publish.publish(examined(status, metrics_directory="/prom"), "dnf5", root=str(root), wait=3)
    entry = receiver.entry()
    assert entry["MESSAGE_ID"] == [journal.MESSAGE_IDS["blocked" if status == "fail" else "allowed"]]
    assert entry["PRIORITY"] == [str(journal.CRIT if status == "fail" else journal.INFO)]
    assert (message.read_text(), figures.read_text()) == (told, measured)
    busy()
    os.waitpid(left_behind(before), 0)
    if status == "fail":
        assert message.read_text().startswith("URGENT: updates have been held back for 8 days")
        assert "dnf5, 2 times: " in message.read_text()
        assert samples(figures.read_text())["blocked_refusals", "gate=dnf5"] == 2
    else:
        assert receiver.entry()["MESSAGE_ID"] == [journal.MESSAGE_IDS["released"]]
        assert not message.exists()
        assert samples(figures.read_text())["verdict_blocked", "gate=dnf5"] == 0


@pytest.mark.root
def test_what_was_given_up_is_said(root: Path, busy: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(publish, "OUTLIVE", 1)
    publish.publish(examined(), "dnf5", root=str(root), wait=60)
    assert "record, motd, metrics: given up after 1 s" in capfd.readouterr().err


def test_the_fleet_is_told_how_to_select_what_was_held_back() -> None:
    text = (HOOK.parent / "docs/FLEET.md").read_text()
    named = re.findall("MESSAGE_ID=([0-9a-f]{32})", text)
    assert named == [journal.MESSAGE_IDS["blocked"], journal.MESSAGE_IDS["timeout"]]


def test_every_kind_of_event_has_a_number_of_its_own() -> None:
    ids = list(journal.MESSAGE_IDS.values())
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{32}", i) for i in ids)
