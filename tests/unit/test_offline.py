# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients store of an update that waits for a reboot, and what is said of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from go_health_hook.config import Config, severities
from go_health_hook.deadline import Deadline
from go_health_hook.gates import _dnf_judge, _dnf_transaction
from go_health_hook.linux import offline
from go_health_hook.subject import Subject
from go_health_hook.verdict import FAIL, Examination, Finding

STATE = {
    "status": "download-complete",
    "verb": "upgrade",
    "target_releasever": "45",
    "cmd_line": "/usr/bin/dnf5 -y upgrade --offline",
}


def settings() -> Config:
    return Config(severities())


def write(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dnf5(root: Path, state: dict[str, str], rpms: list[dict[str, str]]) -> None:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in state.items())
    write(root, offline.DNF5_STATE, f"[offline-transaction-state]\npoweroff_after = false\n{lines}state_version = 2\n")
    write(root, f"{offline.DNF5}/transaction.json", json.dumps({"rpms": rpms, "version": "1.0"}))


def rpm(nevra: str, action: str = "Upgrade", path: str = "") -> dict[str, str]:
    return {"nevra": nevra, "action": action, "repo_id": "updates", **({"package_path": path} if path else {})}


def test_prepared_by_dnf5_has_packages_paths_and_command(tmp_path: Path) -> None:
    dnf5(
        tmp_path,
        STATE,
        [
            rpm("golang-1:1.27.3-2.fc45.x86_64", path="/var/lib/dnf/offline/packages/golang.rpm"),
            rpm("hello-2-1.noarch", "Install", "./packages/hello.rpm"),
            rpm("golang-1.25.5-1.fc45.x86_64", "Replaced"),
            rpm("kept-1-1.noarch", "Reason Change"),
        ],
    )
    (update,) = offline.prepared(str(tmp_path))
    assert [(p.name, p.evr, p.full, p.action, p.coming) for p in update.packages] == [
        ("golang", "1:1.27.3-2.fc45", "golang-1:1.27.3-2.fc45.x86_64", "U", True),
        ("hello", "2-1", "hello-0:2-1.noarch", "I", True),
        ("golang", "1.25.5-1.fc45", "golang-0:1.25.5-1.fc45.x86_64", "O", False),
    ]
    assert update.packages[0].places == [("", "", "var/lib/dnf/offline/packages/golang.rpm")]
    assert update.packages[1].places == [(f"{tmp_path}{offline.DNF5}", "", "./packages/hello.rpm")]
    assert update.without(["b", "a"]) == "dnf5 -y upgrade --offline --exclude=a,b && dnf5 offline reboot"


@pytest.mark.parametrize("status", ["", "download-incomplete", "transaction-incomplete"])
def test_prepared_by_dnf5_that_is_not_ready_is_none(tmp_path: Path, status: str) -> None:
    dnf5(tmp_path, {**STATE, "status": status}, [rpm("hello-2-1.noarch")])
    assert offline.prepared(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("state", "command"),
    [
        ({"cmd_line": ""}, "dnf5 upgrade --offline"),
        ({"cmd_line": "dnf5daemon-server"}, "dnf5 upgrade --offline"),
        ({"cmd_line": "", "verb": "system-upgrade download"}, "dnf5 system-upgrade download --releasever=45"),
        ({"cmd_line": "dnf5 upgrade -x foo --offline"}, "dnf5 upgrade --offline"),
        ({"cmd_line": "dnf5 --setopt=excludepkgs=foo bar upgrade --offline"}, "dnf5 upgrade --offline"),
        ({"cmd_line": "dnf5 upgrade golang hello --offline"}, "dnf5 upgrade --offline"),
        (
            {"cmd_line": "dnf5 system-upgrade download --releasever 45", "verb": "system-upgrade download"},
            "dnf5 system-upgrade download --releasever=45",
        ),
        ({"cmd_line": "dnf5 upgrade --offline --exclude=a*;reboot"}, "dnf5 upgrade --offline '--exclude=a*;reboot'"),
    ],
)
def test_prepared_again_is_a_command_that_works_there(tmp_path: Path, state: dict[str, str], command: str) -> None:
    dnf5(tmp_path, {**STATE, **state}, [])
    assert offline.prepared(str(tmp_path))[0].again() == f"{command} && dnf5 offline reboot"


@pytest.mark.parametrize("line", ["dnf5 install golang --offline", "dnf5 do --action=upgrade ./my pk/a.rpm --offline"])
def test_prepared_for_something_named_is_dropped(tmp_path: Path, line: str) -> None:
    dnf5(tmp_path, {**STATE, "cmd_line": line, "verb": line.split()[1]}, [])
    (update,) = offline.prepared(str(tmp_path))
    assert not update.repeatable
    assert update.without(["golang"]) == "dnf5 offline clean; dnf5 upgrade --exclude=golang"


def test_prepared_go_alone_is_dropped_and_not_prepared_without_go(tmp_path: Path) -> None:
    dnf5(tmp_path, STATE, [])
    (update,) = offline.prepared(str(tmp_path))
    update.alone = True
    assert update.without(["golang"]) == "dnf5 offline clean; dnf5 upgrade --exclude=golang"
    assert update.again() == "dnf5 -y upgrade --offline && dnf5 offline reboot"


def test_prepared_by_dnf4_has_packages_in_its_own_cache(tmp_path: Path) -> None:
    state = {"download_status": "complete", "upgrade_command": "system-upgrade", "target_releasever": "10"}
    write(tmp_path, offline.DNF4_STATE, json.dumps(state))
    stored = {"rpms": [rpm("golang-1.27.3-2.el9.x86_64"), rpm("golang-1.25.5-1.el9.x86_64", "Upgraded")]}
    write(tmp_path, f"{offline.DNF4}/system-upgrade-transaction.json", json.dumps(stored))
    (update,) = offline.prepared(str(tmp_path))
    assert update.packages[0].places == [
        (f"{tmp_path}{offline.DNF4}", "updates-", "packages/golang-1.27.3-2.el9.x86_64.rpm")
    ]
    assert [p.action for p in update.packages] == ["U", "O"]
    assert update.without(["golang"]) == (
        "dnf system-upgrade download --releasever=10 --exclude=golang && dnf system-upgrade reboot"
    )


@pytest.mark.parametrize("text", ["[update]\nprepared_ids={}\n", "{}\n"])
def test_prepared_by_packagekit_is_known_by_its_ids(tmp_path: Path, text: str) -> None:
    ids = ["golang;1:1.27.3-2.fc45;x86_64;updates", "hello;2-1;noarch;installed:fedora"]
    write(tmp_path, offline.PACKAGEKIT_UPDATE, text.format(",".join(ids)))
    (tmp_path / "var/cache/PackageKit/45").mkdir(parents=True)
    (update,) = offline.prepared(str(tmp_path))
    assert [p.full for p in update.packages] == ["golang-1:1.27.3-2.fc45.x86_64", "hello-0:2-1.noarch"]
    cache = f"{tmp_path}/var/cache/PackageKit/45/metadata"
    assert update.packages[0].places[0] == (cache, "updates-", "packages/golang-1.27.3-2.fc45.x86_64.rpm")
    assert update.packages[1].places[0] == (cache, "fedora-", "packages/hello-2-1.noarch.rpm")


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"rpms": [7]}', '{"rpms": {}}x'])
def test_prepared_store_that_makes_no_sense_is_an_error(tmp_path: Path, text: str) -> None:
    dnf5(tmp_path, STATE, [])
    write(tmp_path, f"{offline.DNF5}/transaction.json", text)
    with pytest.raises(ValueError):
        offline.prepared(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "client"),
    [
        (["dnf5", "offline", "_execute"], "dnf5"),
        (["/usr/bin/dnf", "--releasever=46", "system-upgrade", "upgrade"], "dnf 4"),
        (["dnf", "offline-upgrade", "upgrade"], "dnf 4"),
        (["dnf5", "upgrade"], ""),
        (["dnf", "system-upgrade", "download"], ""),
    ],
)
def test_applied_at_a_boot_is_told_by_the_command(words: list[str], client: str) -> None:
    shell = ["/bin/sh", "-c", "echo runs; read -r line", *words]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as updater:
        assert updater.stdin and updater.stdout and updater.stdout.readline()
        update = _dnf_transaction.applied(updater.pid)
        updater.stdin.close()
    assert (update is not None) is bool(client)
    assert update is None or not update.waits


def test_decide_update_that_waits_is_said_to_be_refused_later() -> None:
    update = offline.Prepared("dnf5", [], ["dnf5", "upgrade", "--offline"], "dnf5 offline reboot")
    for waits, head in ((True, _dnf_judge.REFUSED), (False, "nothing is installed")):
        update.waits = waits
        examination = Examination(Subject("incoming"), Deadline(5))
        finding = Finding(FAIL, "go is cut short", "reinstall it")
        finding.check = "goroot"
        examination.findings.append(finding)
        answer = _dnf_judge.decide("offline", examination, settings(), ("", ""), names=["golang"], offline=update)
        lines = answer.message.splitlines()
        assert lines[0].startswith(f"go-health-hook: {head}, since")
        assert lines[2].endswith("dnf5 upgrade --offline --exclude=golang && dnf5 offline reboot")
        assert lines[-1].endswith("TEXT") is waits
        assert answer.entry is not None
        assert answer.entry["reason"].startswith(_dnf_judge.REFUSED) is waits
