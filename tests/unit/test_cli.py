# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: one line for an error of the caller's, exit status 2, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import go_health_hook
from go_health_hook import VERSION, cli, start
from go_health_hook.cli import main
from go_health_hook.config import severities

SHOWN = ["goroot", "version", "stdlib", "cgroup", "gomaxprocs", "packages"]
PACKAGE = Path(go_health_hook.__file__).parent
TREE = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--buget", "3"], "unrecognized arguments: --buget"),
        (["--budget", "soon"], "is not a number of seconds"),
        (["--budget", "0"], "is not a number of seconds"),
        (["--budget", "nan"], "is not a number of seconds"),
        (["frobnicate"], "unknown command 'frobnicate'; it is one of: "),
        (["\x1b[31m"], "unknown command '\\\\x1b[31m'"),
        (["--root", "/nonexistent/root"], "/nonexistent/root is not a directory"),
        (["--config", "/nonexistent/conf"], "/nonexistent/conf: cannot be read"),
        (["gate", "nosuch"], "invalid choice"),
        (["--root", ""], "an empty path, or one with a NUL in it, names nothing"),
        (["--root", "/usr", "status", "--refresh"], "below another root nothing is written; leave --root out"),
        (["--root", "/usr", "override", "--clear"], "below another root nothing is written; leave --root out"),
        (["--goroot="], "an empty path, or one with a NUL in it, names nothing"),
        (["--goroot", "/a\0b"], "an empty path, or one with a NUL in it, names nothing"),
    ],
)
def test_bad_arguments(capsys: pytest.CaptureFixture[str], argv: list[str], words: str) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("go-health-hook: ")
    assert words in err


def test_a_working_directory_that_is_gone_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["--goroot", "go"]) == 2
    assert capsys.readouterr().err.count("the working directory is gone") == 1


@pytest.mark.parametrize("closed", [[0, 2], [1], [0, 1, 2]], ids=str)
def test_standard_streams_may_be_closed(tmp_path: Path, closed: list[int]) -> None:
    (tmp_path / "go/bin").mkdir(parents=True)
    shut = " ".join(f"{fd}>&-" for fd in closed)
    argv = [sys.executable, "-m", "go_health_hook", "--root", str(tmp_path), "--goroot", "/go"]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {shut}', "sh", *argv],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_interrupted_command_says_one_line_and_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert start.run(interrupted) == 130
    assert capsys.readouterr().err == "go-health-hook: interrupted\n"


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interrupted_check_ends_what_it_has_started(tmp_path: Path, number: signal.Signals) -> None:
    tree = Path(__file__).parents[2]
    (tmp_path / "bin").mkdir()
    (tmp_path / "pkg/tool").mkdir(parents=True)
    (tmp_path / "VERSION").write_text("go1.27.3\n")
    os.mkfifo(tmp_path / "go.env")  # whoever opens it waits
    tmp_path.chmod(0o755)  # what is closed to others is not run
    (tmp_path / "bin/go").write_text("#!/bin/sh\n# A stand-in for a go that hangs.\nsleep 1000\n")
    (tmp_path / "bin/go").chmod(0o755)
    # A shell starts what it puts into the background with SIGINT ignored, nohup with SIGHUP; all below inherit that.
    command = [
        "env",
        "--default-signal=INT,HUP",
        sys.executable,
        "-m",
        "go_health_hook",
        "--dry-run",
        "--budget",
        "600",
    ]
    command += ["--goroot", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(tree / "hook")}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as check:
        while not Path(f"/proc/{check.pid}/task/{check.pid}/children").read_text():
            assert check.poll() is None
        check.send_signal(number)
        _, err = check.communicate()
    assert (check.returncode, err) == (130, "go-health-hook: interrupted\n")


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_print_and_return_0(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """By a status: a launcher ends with it and hears of no exception."""
    assert main([option]) == 0
    out = capsys.readouterr().out
    assert (VERSION if option == "--version" else "Exit status") in out
    assert max(map(len, out.splitlines())) <= 80


def test_no_go_is_allowed_unless_it_is_required(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--root", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["toolchain"] is None
    assert {r["status"] for r in report["results"]} == {"skip"}


@pytest.mark.parametrize("severity", ["required", "advisory", "off"])
def test_go_that_is_required_and_missing_blocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], severity: str
) -> None:
    conf = tmp_path / "required.conf"
    names = ("goroot", "version", "stdlib", "cgroup", "gomaxprocs", "packages")
    checks = "".join(f"{name} = {severity}\n" for name in names)
    conf.write_text(f"[toolchain]\nrequired = yes\n[checks]\n{checks}")
    assert main(["--json", "--root", str(tmp_path), "--config", str(conf)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "block"
    assert report["reason"] == "goroot: no Go toolchain is installed"
    assert report["results"][0]["remedy"]


def test_a_root_s_name_does_not_drive_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "\x1b[31mred\nUpdates allowed"
    root.mkdir()
    assert main(["--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\nUpdates allowed\n" not in out
    assert "\\x1b[31mred" in out


def test_the_json_is_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--dry-run", "--json", "--root", str(tmp_path), "--goroot", "/nowhere"])
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == 1
    assert report["exit_status"] == 1 and report["verdict"] == "block"
    assert report["subject"] == {"kind": "root", "root": str(tmp_path)}
    keys = {"verdict", "exit_status", "reason", "budget_s", "elapsed_s", "subject", "toolchain", "cpu", "results"}
    assert keys <= set(report)
    fields = {"check", "status", "severity", "ground", "summary", "remedy", "evidence", "elapsed_s"}
    assert all(set(result) == fields for result in report["results"])


def test_tools_absent_are_named_with_their_package(tmp_path: Path) -> None:
    """Without cpu/ the rest works, and a tool's name says which package brings it."""
    shutil.copytree(PACKAGE, tmp_path / "go_health_hook", ignore=shutil.ignore_patterns("cpu", "__pycache__"))
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from go_health_hook.cli import main; sys.exit(main())"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", code, str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True)

    for name in cli.TOOLS:
        done = run(name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"go-health-hook: {name} is not installed; dnf install go-health-hook-tools\n"
    empty = tmp_path / "root"
    empty.mkdir()
    assert "Traceback" not in run("--root", str(empty), "--dry-run").stderr
    assert run("--root", str(empty), "--json", "status").stdout.startswith("{")
    assert not set(cli.TOOLS) & set(run("--help").stdout.replace(",", " ").split())


def test_tools_are_all_commands_of_their_room() -> None:
    assert list(cli.TOOLS) == cli.commands("cpu")


@pytest.mark.parametrize("name", sorted(severities()))
def test_check_that_is_off_is_not_carried_out(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "hook.conf").write_text(f"[checks]\n{name} = off\n")
    assert main(["--config", str(tmp_path / "hook.conf"), "--root", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    shown = [r["check"] for r in report["results"]]
    assert [check for check in shown if check in SHOWN] == [other for other in SHOWN if other != name]
    assert name not in shown


def test_severity_of_a_check_is_the_configured_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hook.conf").write_text("[checks]\npackages = required\nstdlib = advisory\n")
    assert main(["--config", str(tmp_path / "hook.conf"), "--root", str(tmp_path), "--json"]) == 0
    given = {r["check"]: r["severity"] for r in json.loads(capsys.readouterr().out)["results"]}
    assert (given["packages"], given["stdlib"], given["goroot"]) == ("required", "advisory", "required")


@pytest.mark.parametrize("command", ["status", "cpu"])
def test_launcher_without_its_modules_says_that_it_is_damaged(tmp_path: Path, command: str) -> None:
    launcher = tmp_path / "usr/bin/go-health-hook"
    launcher.parent.mkdir(parents=True)
    shutil.copy(TREE / "conf/usr/bin/go-health-hook", launcher)
    done = subprocess.run([launcher, command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert "is damaged; reinstall it" in done.stderr
