# SPDX-License-Identifier: GPL-2.0-or-later
"""bootc's composefs backend: which machine it is, what its files say, and its lock, on recorded answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from go_health_hook.deadline import Deadline
from go_health_hook.linux import composefs
from go_health_hook.linux.composefs import FIELD, Composefs, parse_staged, parse_status, set_locked
from go_health_hook.linux.deployments import State, Unreadable

RECORDED = Path(__file__).parent / "data/recorded"
STAGED = (RECORDED / "bootc-composefs-staged-deployment").read_text()
ID = json.loads(STAGED)["depl_id"]
OTHER = "b" * 128
ROOT = "26 1 0:25 / {point} ro,relatime shared:1 - overlay {source} ro,lowerdir+=/x,datadir+=/y,{options}\n"


def answer(state: str) -> Any:
    return json.loads((RECORDED / f"bootc-composefs-{state}.json").read_text())


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cmdline: str, source: str, options: str = "ro") -> None:
    (tmp_path / "cmdline").write_text(cmdline + "\n")
    (tmp_path / "mountinfo").write_text(ROOT.format(point="/", source=source, options=options))
    monkeypatch.setattr(composefs, "CMDLINE", str(tmp_path / "cmdline"))
    monkeypatch.setattr(composefs, "MOUNTS", str(tmp_path / "mountinfo"))


@pytest.mark.parametrize(
    ("cmdline", "source", "booted"),
    [
        (f"quiet composefs={ID} rw", f"composefs:{ID}", ID),
        (f"composefs=?{ID}", f"composefs:{ID}", ID),
        (f"composefs={ID[:64]}", f"composefs:{ID[:64]}", ID[:64]),
        # A root whose changes are lost at the next boot.
        (f"composefs={ID}", f"transient:composefs={ID}", ID),
        # After a soft reboot the command line is the old one.
        (f"composefs={OTHER}", f"composefs:{ID}", ID),
        # ostree has composefs too, and another argument.
        ("ostree=/ostree/boot.1/debian/0", "composefs", ""),
        ("root=/dev/vda", "/dev/vda", ""),
        (f"composefs={ID}", "overlay", ""),
        (f"composefs={ID}", "composefs:../../etc", ""),
        (f"rd.composefs={ID}", f"composefs:{ID}", ""),
    ],
)
def test_booted_is_told_as_bootc_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cmdline: str, source: str, booted: str
) -> None:
    machine(tmp_path, monkeypatch, cmdline, source)
    assert composefs.booted() == booted


def test_booted_without_proc_is_no() -> None:
    assert composefs.booted() == ""


@pytest.mark.parametrize("options", ["verity=require", "metacopy=on,verity=on"])
def test_mounted_says_how_verity_is_asked_for(tmp_path: Path, options: str) -> None:
    (tmp_path / "m").write_text(
        ROOT.format(point="/", source=f"composefs:{OTHER}", options="ro")
        + ROOT.format(point="/", source=f"composefs:{ID}", options=options)
    )
    assert composefs._mounted(str(tmp_path / "m"), "/") == [(OTHER, ""), (ID, options.rpartition("=")[2])]


@pytest.mark.parametrize(
    ("state", "places", "title"),
    [
        ("booted", "booted", ""),
        ("staged", "staged booted", "/var/lib/images/oci:truncated (sha256:3528bafd7d06)"),
        ("finalized", "staged booted", "/var/lib/images/oci:truncated (sha256:3528bafd7d06)"),
    ],
)
def test_parse_status_recorded_answers_are_read(state: str, places: str, title: str) -> None:
    found = parse_status(answer(state))
    assert ["booted" if d.booted else "staged" for d in found] == places.split()
    assert found[-1].name == "/var/lib/images/oci:main (sha256:32284c98e987)"
    if title:
        assert found[0].checksum == ID
        assert found[0].name == title
        assert found[0].digest.startswith("sha256:3528bafd")
        assert not found[0].locked


def test_parse_status_download_only_is_a_lock_and_a_rollback_comes_after() -> None:
    status = answer("staged")
    status["status"]["staged"]["downloadOnly"] = True
    status["status"]["rollback"] = {**status["status"]["booted"], "composefs": {"verity": OTHER}}
    state = State(parse_status(status))
    assert state.staged is not None and state.staged.marks == {FIELD}
    assert state.previous is not None and state.previous.checksum == OTHER
    assert not state.going_back
    status["status"]["rollbackQueued"] = True
    assert State(parse_status(status)).going_back


@pytest.mark.parametrize(
    "status", [None, [], {"status": None}, {"status": {"booted": {"composefs": {"verity": "../etc"}}}}]
)
def test_parse_status_of_another_form_is_refused(status: object) -> None:
    with pytest.raises(Unreadable):
        parse_status(status)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        json.dumps({"depl_id": ID}),
        json.dumps({"depl_id": ID, "finalization_locked": "false"}),
        json.dumps({"depl_id": ID, "finalization_locked": False, "version": 2}),
        json.dumps({"depl_id": ID[:-1], "finalization_locked": False}),
        json.dumps({"depl_id": "../" * 40, "finalization_locked": False}),
        json.dumps({"depl_id": 5, "finalization_locked": False}),
    ],
)
def test_parse_staged_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        parse_staged(text.encode())


@pytest.fixture
def staged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "composefs/staged-deployment"
    path.parent.mkdir()
    path.write_text(STAGED)
    path.chmod(0o600)
    monkeypatch.setattr(composefs, "STAGED", str(path))
    monkeypatch.setattr(composefs, "OURS", str(tmp_path / "ours"))
    return path


def test_set_locked_changes_the_field_and_nothing_else(staged_file: Path) -> None:
    before = json.loads(staged_file.read_text())
    assert set_locked(ID, True)
    assert json.loads(staged_file.read_text()) == {**before, "finalization_locked": True}
    assert staged_file.stat().st_mode & 0o777 == 0o600
    assert not set_locked(ID, True), "it was locked already: that lock is another's"
    assert set_locked(ID, False)
    assert json.loads(staged_file.read_text()) == before
    assert os.listdir(staged_file.parent) == ["staged-deployment"], "bootc's directory has nothing of ours"
    assert not os.listdir(staged_file.parents[1] / "ours")


def test_set_locked_of_another_deployment_changes_nothing(staged_file: Path) -> None:
    with pytest.raises(Unreadable):
        set_locked(OTHER, True)
    assert staged_file.read_text() == STAGED


def test_set_locked_file_that_bootc_replaces_meanwhile_is_put_back(
    staged_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = json.dumps({"depl_id": OTHER, "finalization_locked": False})
    write = composefs._write

    def stage_then_write(*arguments: object) -> None:
        (staged_file.parent / "new").write_text(theirs)
        os.rename(staged_file.parent / "new", staged_file)
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(composefs, "_write", stage_then_write)
    with pytest.raises(Unreadable):
        set_locked(ID, True)
    assert staged_file.read_text() == theirs
    assert not os.listdir(staged_file.parents[1] / "ours")


def test_set_locked_unknown_field_is_left_alone(staged_file: Path) -> None:
    text = json.dumps({**json.loads(STAGED), "soft_reboot": True})
    staged_file.write_text(text)
    with pytest.raises(Unreadable):
        set_locked(ID, True)
    assert staged_file.read_text() == text


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_read_staged_what_is_no_file_is_refused_at_once(staged_file: Path, make: object) -> None:
    staged_file.unlink()
    make(staged_file)  # type: ignore[operator]
    with pytest.raises(Unreadable):
        composefs.read_staged()


def test_sweep_leaves_what_a_living_run_writes(staged_file: Path) -> None:
    ours = staged_file.parents[1] / "ours"
    ours.mkdir()
    (ours / "staged-deployment.999999999.aa").touch()
    (ours / f"staged-deployment.{os.getpid()}.aa").touch()
    (ours / "staged.json").touch()
    assert set_locked(ID, True)
    assert sorted(os.listdir(ours)) == [f"staged-deployment.{os.getpid()}.aa", "staged.json"]


class Answer:
    """What bootc prints."""

    def __init__(self, text: str) -> None:
        self.ok = bool(text)
        self.stdout = text.encode()


@pytest.mark.parametrize("text", ["", "{", '{"status": []}', '{"status": {"booted": {"composefs": {"verity": 5}}}}'])
def test_read_staged_needs_no_answer_of_bootc(
    staged_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    machine(tmp_path, monkeypatch, f"composefs={OTHER}", f"composefs:{OTHER}")
    monkeypatch.setattr(composefs.process, "run_host", lambda *arguments: Answer(text))
    state = Composefs().read(Deadline(1))
    assert [d.checksum for d in state.deployments] == [ID, OTHER]
    assert state.staged is not None and state.staged.checksum == ID
    assert state.booted is not None and state.previous is None
    assert not state.complete


def test_drop_names_the_deployment(staged_file: Path) -> None:
    assert Composefs().drop() == f"bootc delete-deployment {ID}"
    staged_file.unlink()
    assert Composefs().drop() == "bootc status"
