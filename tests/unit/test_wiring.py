# SPDX-License-Identifier: GPL-2.0-or-later
"""What status says of a root: each way in which a gate can be unwired is noticed, with a remedy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.announcements import examined

from go_health_hook import cli, gates
from go_health_hook.announce import record
from go_health_hook.commands import status as status_command
from go_health_hook.config import Config, severities
from go_health_hook.deadline import Deadline
from go_health_hook.gates import _trace
from go_health_hook.linux import systemd
from go_health_hook.wiring import NOT_HERE, NOT_WIRED, WIRED, Wired, Wiring

GATE = "usr/libexec/go-health-hook/gate"
ACTIONS = "etc/dnf/libdnf5-plugins/actions.d/go-health-hook.actions"
ACTIONS_CONF = "etc/dnf/libdnf5-plugins/actions.conf"
SITE = "usr/lib/python3.9/site-packages"
UNITS = "usr/lib/systemd/system"
DNF5 = {
    "usr/bin/dnf5": "",
    GATE: "",
    "usr/lib64/libdnf5/plugins/actions.so": "",
    ACTIONS: "# gate\npre_transaction:::enabled=host-only mode=json raise_error=0:/usr/libexec/go-health-hook/gate\n",
    ACTIONS_CONF: "[main]\nname = actions\nenabled = host-only\n",
}
DNF4 = {f"{SITE}/dnf/__init__.py": "", f"{SITE}/dnf-plugins/go_health_hook.py": "", GATE: ""}
CONF = Path(__file__).parents[2] / "conf"
OURS = {
    str(path.relative_to(CONF)): path.read_text()
    for folder in (UNITS, "usr/lib/greenboot")
    for path in (CONF / folder).rglob("*")
    if path.is_file()
}
GREENBOOT = {
    f"{UNITS}/greenboot-healthcheck.service": "[Service]\n",
    "etc/systemd/system/multi-user.target.wants/greenboot-healthcheck.service": "",
}
OSTREE = {"run/ostree-booted": "", f"{UNITS}/rpm-ostreed-automatic.service": "[Service]\n", **GREENBOOT, **OURS}
LOCAL = "etc/systemd/system"


def laid(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return root


def wiring(root: Path, settings: str = "") -> Wiring:
    config = Config(severities())
    if settings:
        (root / "hook.conf").write_text(settings)
        config.read(str(root / "hook.conf"), severities())
    return Wiring(gates.every(), config, Deadline(10), str(root))


def gate(name: str, root: Path, settings: str = "") -> Wired:
    return next(g for g in wiring(root, settings).gates if g.name == name)


def test_an_empty_root_has_no_updater(tmp_path: Path) -> None:
    assert {g.state for g in wiring(tmp_path).gates} == {NOT_HERE}


@pytest.mark.parametrize(
    ("files", "names"), [(DNF5, {"dnf5"}), (DNF4, {"dnf4"}), (OSTREE, {"rpm-ostree", "staged", "boot"})]
)
def test_what_is_in_place_is_wired(tmp_path: Path, files: dict[str, str], names: set[str]) -> None:
    found = {g.name: g.state for g in wiring(laid(tmp_path, files)).gates}
    assert found == {name: WIRED if name in names else NOT_HERE for name in found}


@pytest.mark.parametrize(("files", "name"), [(DNF5, "dnf5"), (DNF4, "dnf4")])
def test_dnf_gates_need_every_file(tmp_path: Path, files: dict[str, str], name: str) -> None:
    needed = [f for f in files if f not in ("usr/bin/dnf5", f"{SITE}/dnf/__init__.py")]
    for missing in needed:
        root = laid(tmp_path / missing.replace("/", "_"), files)
        (root / missing).unlink()
        found = gate(name, root)
        assert found.state == NOT_WIRED, missing
        assert found.remedy, missing


@pytest.mark.parametrize(
    ("name", "files", "change", "says"),
    [
        ("dnf5", DNF5, {"etc/dnf/dnf.conf": "[main]\ngpgcheck=1\nplugins=0\n"}, "/etc/dnf/dnf.conf:3: plugins = 0"),
        ("dnf5", DNF5, {"etc/dnf/libdnf5.conf.d/a.conf": "[main]\nplugins = no\n"}, "a.conf:2: plugins = no"),
        ("dnf5", DNF5, {ACTIONS_CONF: "[main]\nenabled = 0\n"}, "actions.conf:2: enabled = 0"),
        ("dnf5", DNF5, {ACTIONS_CONF: "[main]\nenabled = installroot-only\n"}, "installroot-only"),
        ("dnf5", DNF5, {ACTIONS_CONF: "[main]\nname = actions\n"}, "is off"),
        ("dnf5", DNF5, {ACTIONS_CONF: "[main]\nname = other\nenabled = 1\n"}, "no file enables"),
        ("dnf5", DNF5, {ACTIONS: "#pre_transaction:::x\n"}, "no pre_transaction line"),
        ("dnf5", DNF5, {"etc/dnf/dnf.conf": "[main]\npluginconfpath=/opt/x\n"}, "dnf.conf:2: /opt/x"),
        ("dnf5", DNF5, {"etc/dnf/libdnf5.conf.d/a.conf": "[main]\nplugin_conf_dir=/a, /b\n"}, "a.conf:2: /a, /b"),
        ("dnf5", DNF5, {"etc/dnf/dnf.conf": "[main]\npluginpath=/opt/x\n"}, "pluginpath = /opt/x"),
        ("dnf4", DNF4, {"etc/dnf/dnf.conf": "[main]\npluginconfpath=/opt\n",
                        "opt/go_health_hook.conf": "[main]\nenabled=0\n"}, "enabled = 0"),
        ("rpm-ostree", OSTREE, {f"{LOCAL}/rpm-ostreed-automatic.service.d/50-go-health-hook.conf": ""},
         "does not call the gate"),
        ("rpm-ostree", OSTREE, {f"{LOCAL}/rpm-ostreed-automatic.service.d/90-x.conf": "[Service]\nExecStartPre=\n"},
         "does not call the gate"),
        ("staged", OSTREE, {f"{LOCAL}/ostree-finalize-staged.service.d/50-go-health-hook.conf": ""}, "does not want"),
        ("staged", OSTREE, {f"{LOCAL}/go-health-hook-staged.path": ""}, "go-health-hook-staged.path is masked"),
        ("staged", OSTREE, {f"{LOCAL}/go-health-hook-guard.service": ""}, "go-health-hook-guard.service is masked"),
        ("boot", OSTREE, {f"{LOCAL}/greenboot-healthcheck.service": ""}, "greenboot-healthcheck.service is masked"),
        ("boot", OSTREE, {"etc/greenboot/greenboot.conf": 'DISABLED_HEALTHCHECKS=("a.sh" "50_go_health_hook.sh")\n'},
         "greenboot.conf: DISABLED_HEALTHCHECKS"),
        ("dnf4", DNF4, {"etc/dnf/dnf.conf": "[main]\nplugins=False\n"}, "/etc/dnf/dnf.conf:2: plugins = False"),
        ("dnf4", DNF4, {"etc/dnf/plugins/go_health_hook.conf": "[main]\nenabled=0\n"}, "enabled = 0"),
        ("dnf4", DNF4, {"etc/dnf/dnf.conf": "[main]\npluginpath=/opt/plugins\n"}, "pluginpath = /opt/plugins"),
    ],
)  # fmt: skip
def test_settings_that_unwire_a_gate(
    tmp_path: Path, name: str, files: dict[str, str], change: dict[str, str], says: str
) -> None:
    found = gate(name, laid(tmp_path, {**files, **change}))
    assert (found.state, says in found.how) == (NOT_WIRED, True), found.how
    assert found.remedy


SHARE = "usr/share/dnf5"


@pytest.mark.parametrize(
    ("name", "files", "change"),
    [
        ("dnf5", DNF5, {"etc/dnf/libdnf5.conf.d/10.conf": "[main]\nplugins=0\n",
                        f"{SHARE}/libdnf.conf.d/20.conf": "[main]\nplugins=1\n"}),
        ("dnf5", DNF5, {"etc/dnf/libdnf5.conf.d/20.conf": "[main]\n",
                        f"{SHARE}/libdnf.conf.d/20.conf": "[main]\nplugins=0\n"}),
        ("dnf5", DNF5, {ACTIONS_CONF: "[main]\nname=x\n",
                        f"{SHARE}/libdnf.plugins.conf.d/z.conf": "[main]\nname=actions\nenabled=ON\n"}),
        ("dnf5", DNF5, {"etc/dnf/dnf.conf": "[main]\nplugin_conf_dir=/opt/x,/etc/dnf/libdnf5-plugins\n"}),
        ("rpm-ostree", OSTREE, {f"{LOCAL}/rpm-ostreed-automatic.service.d/10-x.conf": "[Service]\nExecStartPre=\n"}),
        ("boot", OSTREE, {"etc/greenboot/greenboot.conf": '# DISABLED_HEALTHCHECKS=("50_go_health_hook.sh")\n'}),
    ],
)  # fmt: skip
def test_settings_that_leave_a_gate_wired(
    tmp_path: Path, name: str, files: dict[str, str], change: dict[str, str]
) -> None:
    found = gate(name, laid(tmp_path, {**files, **change}))
    assert found.state == WIRED, found.how


def test_without_greenboot_the_boot_has_a_unit_of_its_own(tmp_path: Path) -> None:
    files = {name: text for name, text in OSTREE.items() if name not in GREENBOOT}
    assert gate("boot", laid(tmp_path, files)).how == "go-health-hook-boot.service"
    (tmp_path / UNITS / "multi-user.target.wants/go-health-hook-boot.service").unlink()
    found = gate("boot", tmp_path)
    remedy = "systemctl add-wants multi-user.target go-health-hook-boot.service"
    assert (found.state, found.remedy) == (NOT_WIRED, remedy)


def test_a_deployment_that_is_not_booted_is_an_image_system(tmp_path: Path) -> None:
    (laid(tmp_path, {**OSTREE, **DNF5}) / "run/ostree-booted").unlink()
    (tmp_path / "ostree").symlink_to("sysroot/ostree")
    found = {g.name: g.state for g in wiring(tmp_path).gates}
    assert (found["dnf5"], found["staged"]) == (NOT_HERE, WIRED)


def test_every_gate_has_its_wiring(tmp_path: Path) -> None:
    assert {g.name for g in wiring(tmp_path).gates} == set(gates.names())


def test_a_later_file_wins(tmp_path: Path) -> None:
    files = {"etc/dnf/libdnf5.conf.d/a.conf": "[main]\nplugins=0\n", "etc/dnf/dnf.conf": "[main]\nplugins=1\n"}
    assert gate("dnf5", laid(tmp_path, {**DNF5, **files})).state == WIRED


def test_a_gate_that_is_switched_off_is_not_wired(tmp_path: Path) -> None:
    found = gate("dnf5", laid(tmp_path, DNF5), "[dnf]\ntransactions = off\n")
    assert (found.state, found.how) == (NOT_WIRED, "switched off: [dnf] transactions = off")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("rpm-ostree", f"{UNITS}/rpm-ostreed-automatic.service.d/50-go-health-hook.conf"),
        ("staged", f"{UNITS}/ostree-finalize-staged.service.d/50-go-health-hook.conf"),
        ("boot", "usr/lib/greenboot/check/required.d/50_go_health_hook.sh"),
    ],
)
def test_ostree_gates_need_their_files(tmp_path: Path, name: str, missing: str) -> None:
    (laid(tmp_path, OSTREE) / missing).unlink()
    assert gate(name, tmp_path).state == NOT_WIRED


def test_settings_that_nothing_reads_are_named(tmp_path: Path) -> None:
    text = "[commands]\napply_updates = yes\nupgrade_command = go-health-hook && dnf upgrade\n"
    found = wiring(laid(tmp_path, {"etc/dnf/automatic.conf": text})).unread
    assert [(f["key"], f["place"]) for f in found] == [("upgrade_command", "/etc/dnf/automatic.conf:3")]


def status(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    code = cli.main(["--root", str(root), "status", *options])
    return code, capsys.readouterr().out


def held_back(
    root: Path, reason: str = "goroot: bin/go is cut short", names: Sequence[str] = ("dnf5",),
    remedy: str = "dnf reinstall 'golang*'",
) -> None:  # fmt: skip
    def change(state: dict[str, Any]) -> None:
        for i, name in enumerate(names):
            run = {
                "gate": name, "event": "verdict", "time": 1_700_000_000.0 + i, "verdict": "block",
                "exit_status": 1, "reason": reason, "remedy": remedy, "checks": ["goroot"],
                "subject": "incoming", "go_version": "go1.27.3", "results": [], "elapsed_s": 0.4,
                "expected_gomaxprocs": 2, "actual_gomaxprocs": 2, "broken": True, "not_judged": [],
            }  # fmt: skip
            record.take(state, run)

    record.update(change, f"{root}{record.DIRECTORY}")


def test_status_exits_with_what_matters_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = laid(tmp_path, DNF5)
    code, out = status(root, capsys)
    assert (code, "all is well" in out) == (0, True)
    (root / GATE).unlink()
    code, out = status(root, capsys)
    assert (code, "not wired in" in out) == (3, True)
    held_back(root)
    code, out = status(root, capsys)
    assert code == 1
    assert "updates held back for" in out
    assert "dnf reinstall 'golang*'" in out


def test_status_is_json_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_back(laid(tmp_path, DNF5))
    code, out = status(tmp_path, capsys, "--json")
    report = json.loads(out)
    assert report["exit_status"] == code == 1
    assert report["held_back"]["since"] == 1_700_000_000
    assert report["blocks"][0]["gate"] == report["verdicts"][0]["gate"] == "dnf5"
    assert {g["gate"]: g["state"] for g in report["gates"]}["dnf5"] == WIRED


PACKAGES = {
    **DNF5,
    **DNF4,
    "etc/dnf/dnf.conf": "[main]\nplugins=0\n",
    "etc/dnf/automatic.conf": "[commands]\nupgrade_command = x\n",
}
IMAGES = {
    **OSTREE,
    f"{UNITS}/bootc-fetch-apply-updates.service": "",
    f"{LOCAL}/rpm-ostreed-automatic.service.d/90-x.conf": "[Service]\nExecStartPre=\n",
    f"{LOCAL}/go-health-hook-staged.path": "",
    f"{LOCAL}/greenboot-healthcheck.service": "",
    "etc/rpm-ostreed.conf": "[Daemon]\nHookPost=x\n",
    **{f"etc/systemd/{name}.conf": "[Manager]\nCPUQuota=5%\n" for name in ("user", "system")},
}
TIMERS = [
    {"timer": f"{name}.timer", "active": False, "enabled": "disabled", "last_trigger": 1_700_000_000, "running": False,
     "result": "exit-code", "exit_status": 7}
    for name in ("rpm-ostreed-automatic", "bootc-fetch-apply-updates", "dnf-automatic-install")
]  # fmt: skip
LONG = {
    "words": "goroot: " + "a long reason " * 40,
    "one word": "goroot: /usr/lib/" + "x" * 400,
    "a full line": "x " * 32 + "y" * 400,
}


@pytest.mark.root
@pytest.mark.parametrize("reason", LONG.values(), ids=LONG)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("files", [PACKAGES, IMAGES], ids=["packages", "images"])
def test_the_worst_status_fits_one_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, files: dict[str, str],
    count: int, reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(Wiring, "_timers", lambda *_: TIMERS)
    root = laid(tmp_path, files)
    for name in ("check", "staged", "boot", "rpm-ostree"):
        run = record.entry(examined(), name, record.FOUND, 1_700_000_000.0)
        record.update(lambda state, run=run: record.take(state, run), f"{root}{record.DIRECTORY}")  # type: ignore[misc]
    names = ["dnf5", "dnf4"] if files is PACKAGES else ["staged", "boot", "rpm-ostree"]
    held_back(root, reason, names[:count], remedy="dnf --setopt=x reinstall 'golang*' " * 4)
    said = {"schema": 1, "reason": "because " * 30, "by": "somebody", "set": time.time(), "seconds": 9000,
            "boot": "", "clock": 0}  # fmt: skip
    (root / "var/lib/go-health-hook/override.json").write_text(json.dumps(said))
    code, out = status(root, capsys)
    lines = out.splitlines()
    assert code == 1
    assert len(lines) <= 24, out
    assert max(map(len, lines)) <= 80, out
    # What matters is there: what is held back and what to do, the override, each gate that is not wired and its remedy.
    assert "updates held back for" in lines[0]
    assert "-> dnf --setopt=x reinstall 'golang*'" in out
    assert "overridden by somebody until" in out
    unwired = [g for g in wiring(root).gates if g.state == NOT_WIRED]
    assert len(unwired) == (2 if files is PACKAGES else 3)
    for missing in unwired:
        column = {"rpm-ostree": "automatic"}.get(missing.name, missing.name)
        assert f"  {column:<13}not wired: " in out
    flat = " ".join(out.split())
    assert all(missing.remedy in flat for missing in unwired), out


@pytest.mark.parametrize(
    ("found", "event", "says"),
    [
        ("pass", record.VERDICT, "allowed: healthy (go1.27.3)"),
        ("fail", record.OVERRIDE, "overridden: goroot"),
        ("fail", record.WARNED, "warned about: goroot"),
        ("fail", record.FOUND, "found broken: goroot"),
        ("timeout", record.FOUND, "found broken, out of time: "),
        ("error", record.VERDICT, "not decided: "),
    ],
)
def test_a_verdict_is_shown_with_what_became_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], found: str, event: str, says: str
) -> None:
    run = record.entry(examined(found), "dnf5", event, 1_700_000_000.0)
    record.update(lambda state: record.take(state, run), f"{laid(tmp_path, DNF5)}{record.DIRECTORY}")
    assert says in status(tmp_path, capsys)[1]


def test_a_wired_machine_shows_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = laid(tmp_path, DNF5)
    reason = "all checks passed, and this is said in more words than a line has room for, so that it is cut"
    run = {**record.entry(examined("pass"), "dnf5", record.VERDICT, 1_700_000_000.0), "reason": reason}
    record.update(lambda state: record.take(state, run), f"{root}{record.DIRECTORY}")
    _, out = status(root, capsys)
    assert "Last verdicts\n  dnf5         " in out
    assert max(map(len, out.splitlines())) == 80
    assert out.rstrip().endswith("…")


def test_a_damaged_state_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    laid(tmp_path, {**DNF5, "var/lib/go-health-hook/state.json": "{"})
    code, out = status(tmp_path, capsys)
    assert (code, "is damaged" in out, "is not known" in out) == (3, True, True)


def test_a_gate_that_could_not_judge_is_not_all_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = laid(tmp_path, DNF5)
    examination = examined("error")
    for gate_name, expected in (("staged", 0), ("check", 0), ("dnf5", 3)):
        run = record.entry(examination, gate_name, record.VERDICT, 1_700_000_000.0)
        record.update(lambda state, run=run: record.take(state, run), f"{root}{record.DIRECTORY}")  # type: ignore[misc]
        code, out = status(root, capsys)
        assert (code, "could not judge: dnf5" in out) == (expected, bool(expected)), gate_name


def test_a_root_that_others_write_drives_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_back(laid(tmp_path, DNF5))
    state = tmp_path / "var/lib/go-health-hook/state.json"
    state.write_text(state.read_text().replace("is cut short", "\\u001b]0;owned\\u0007"))
    code, out = status(tmp_path, capsys)
    assert (code, "owned" in out, out.isascii(), "\x1b" in out) == (1, True, True, False)
    state.unlink()
    os.mkfifo(state)
    assert "cannot be read: Not a regular" in status(tmp_path, capsys)[1]


def test_a_terminal_that_cannot_show_it_gets_a_question_mark(tmp_path: Path) -> None:
    held_back(laid(tmp_path, DNF5), "goroot: " + "a long reason " * 40)
    hook = Path(__file__).parents[2] / "hook"
    command = [sys.executable, "-m", "go_health_hook", "--root", str(tmp_path), "status"]
    env = {**os.environ, "PYTHONPATH": str(hook), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr, "?" in done.stdout) == (1, "", True), done.stdout


@pytest.fixture
def writable_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command does to this machine, done to a root of the test's own."""
    monkeypatch.setattr(status_command, "_may_write", lambda root: None)


@pytest.mark.root
@pytest.mark.usefixtures("writable_root")
def test_refresh_writes_message_and_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    laid(tmp_path, {**DNF5, "prom/keep": "", "etc/go.conf": "[announce]\nmetrics-directory = /prom\n"})
    held_back(tmp_path)
    config = ["--config", str(tmp_path / "etc/go.conf"), "--root", str(tmp_path)]
    assert cli.main([*config, "status", "--refresh"]) == 1
    assert 'go_health_hook_verdict_blocked{gate="dnf5"} 1' in (tmp_path / "prom/go_health_hook.prom").read_text()
    assert 'go_health_hook_gate_wired{gate="dnf5"} 1' in (tmp_path / "prom/go_health_hook.prom").read_text()
    assert (tmp_path / "etc/motd.d/go-health-hook").read_text().startswith("URGENT: updates have been held back")
    shutil.rmtree(tmp_path / "var")
    assert cli.main([*config, "status", "--refresh"]) == 0
    assert not (tmp_path / "etc/motd.d/go-health-hook").exists()
    shutil.rmtree(tmp_path / "prom")
    capsys.readouterr()
    assert cli.main([*config, "status", "--refresh"]) == 4
    assert "prom/go_health_hook.prom: No such file" in capsys.readouterr().err


@pytest.mark.root
@pytest.mark.usefixtures("writable_root")
@pytest.mark.parametrize("place", ["/elsewhere", ""])
def test_refresh_takes_the_metrics_from_where_they_no_longer_belong(tmp_path: Path, place: str) -> None:
    settings = tmp_path / "etc/go.conf"
    laid(tmp_path, {**DNF5, "prom/keep": "", "elsewhere/keep": "", "etc/go.conf": ""})
    for directory in ("/prom", place):
        settings.write_text(f"[announce]\nmetrics-directory = {directory}\n")
        assert cli.main(["--config", str(settings), "--root", str(tmp_path), "status", "--refresh"]) == 0
    assert [path.name for path in (tmp_path / "prom").iterdir()] == ["keep"]
    assert (tmp_path / "elsewhere/go_health_hook.prom").exists() == bool(place)


@pytest.mark.root
@pytest.mark.usefixtures("writable_root")
@pytest.mark.parametrize("end", ["switched off", "removed", "unplugged"])
def test_refresh_ends_a_block_that_no_updater_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    laid(tmp_path, {**DNF5, "etc/go.conf": "[announce]\nmotd = yes\n"})
    held_back(tmp_path)
    run = ["--config", str(tmp_path / "etc/go.conf"), "--root", str(tmp_path), "status", "--refresh"]
    assert cli.main(run) == 1
    if end == "switched off":
        (tmp_path / "etc/go.conf").write_text("[dnf]\ntransactions = off\n")
    elif end == "removed":
        (tmp_path / ACTIONS).unlink()
    else:
        (tmp_path / "usr/bin/dnf5").unlink()
    capsys.readouterr()
    assert cli.main(run) == (0 if end == "unplugged" else 3)
    assert "held back for" not in capsys.readouterr().out
    assert not (tmp_path / "etc/motd.d/go-health-hook").exists()
    assert record.read(f"{tmp_path}{record.DIRECTORY}")["history"][-1]["gate"] == "dnf5"


@pytest.mark.root
@pytest.mark.usefixtures("writable_root")
def test_refresh_keeps_the_block_of_a_deployment_that_is_still_staged(tmp_path: Path) -> None:
    laid(tmp_path, {**OSTREE, "run/ostree/staged-deployment": ""})
    run = record.entry(examined(kind="staged"), "staged", record.VERDICT, 1_700_000_000.0)
    record.update(lambda state: record.take(state, run), f"{tmp_path}{record.DIRECTORY}")
    (tmp_path / f"{UNITS}/go-health-hook-staged.path").unlink()
    assert cli.main(["--root", str(tmp_path), "status", "--refresh"]) == 1
    (tmp_path / "run/ostree/staged-deployment").unlink()
    assert cli.main(["--root", str(tmp_path), "status", "--refresh"]) == 3


def test_the_words_of_systemctl_are_understood() -> None:
    blocks = systemd.parse(
        "Id=a.timer\nLastTriggerUSec=@1795366853\n\nId=b.service\nExecStartPre={ a }\nExecStartPre={ b }\n"
    )
    assert blocks == [
        {"Id": "a.timer", "LastTriggerUSec": "1795366853"},
        {"Id": "b.service", "ExecStartPre": "{ a }\n{ b }"},
    ]


def test_status_broken_go_is_headline_and_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = laid(tmp_path, DNF5)
    run = record.entry(examined("fail"), "dnf5", record.AFTER, 1_700_000_000.0)
    record.update(lambda state: record.take(state, run), f"{root}{record.DIRECTORY}")
    code, out = status(root, capsys)
    assert (code, "Go is broken since 2023-11-1" in out.splitlines()[0], "all is well" in out) == (1, True, False)
    assert "-> dnf reinstall 'golang*'" in out
    sound = record.entry(examined("pass"), "boot", record.VERDICT, 1_700_000_001.0)
    record.update(lambda state: record.take(state, sound), f"{root}{record.DIRECTORY}")
    assert status(root, capsys)[0] == 0


def test_status_update_not_judged_stays_after_the_look_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = laid(tmp_path, DNF5)
    for found, event in (("error", record.VERDICT), ("pass", record.AFTER)):
        run = record.entry(examined(found), "dnf5", event, 1_700_000_000.0)
        record.update(lambda state, run=run: record.take(state, run), f"{root}{record.DIRECTORY}")  # type: ignore[misc]
    code, out = status(root, capsys)
    assert (code, "could not judge: dnf5" in out, "not judged   dnf5, since" in out) == (3, True, True)


def test_status_on_an_image_system_shows_no_block_of_dnf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_back(laid(tmp_path, {**OSTREE, **DNF5}))
    code, out = status(tmp_path, capsys)
    assert (code, "held back for" in out, "dnf4, dnf5" in out) == (0, False, True)


@pytest.mark.root
def test_status_shows_a_run_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trace, "FOLDER", str(tmp_path / "running"))
    pid = os.fork()
    if pid == 0:
        _trace.begin("dnf5")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    found = wiring(laid(tmp_path, DNF5))
    assert status_command.gather(found, record.empty(), 0.0)["exit_status"] == 0, "it is another root's business"
    found.view.base = ""
    report = status_command.gather(found, record.empty(), 0.0)
    assert (report["exit_status"], report["could_not_judge"]) == (3, ["dnf5"])
    shown = " ".join(status_command.text({**report, "override_line": ""}).split())
    assert "was ended before it had answered" in shown
