# SPDX-License-Identifier: GPL-2.0-or-later
"""The check, gate and command of docs/HACKING.md work as they stand there, in a scratch copy: one file each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
HACKING = (TREE / "docs/HACKING.md").read_text()
DEFAULTS = "conf/usr/lib/go-health-hook/defaults.conf"


def example(title: str) -> str:
    """Return the code of a section, without what its lines say of themselves."""
    section = HACKING.partition(f"## {title}\n")[2].partition("\n## ")[0]
    block = max(re.findall(r"(?:^    .*\n|^\n)+", section, re.M), key=len)
    return re.sub(r"(?m)^    | {2,}# .*$", "", block).strip() + "\n"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    for folder in ("hook", "conf"):
        shutil.copytree(TREE / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def added(scratch: Path, name: str, code: str, section: str = "", line: str = "") -> None:
    (scratch / "hook/go_health_hook" / name).write_text(code)
    if line:
        defaults = scratch / DEFAULTS
        defaults.write_text(defaults.read_text().replace(f"[{section}]\n", f"[{section}]\n{line}\n"))


def run(scratch: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "go_health_hook", *words]
    if os.geteuid() == 0:
        # Nothing of the toy's is recorded on the machine that runs the tests.
        state = "mkdir -p /var/lib/go-health-hook && mount -t tmpfs tests /var/lib/go-health-hook"
        command = ["unshare", "--mount", "--propagation=private", "sh", "-c", f'{state} && exec "$@"', "sh", *command]
    env = {**os.environ, "PYTHONPATH": str(scratch / "hook")}
    return subprocess.run(command, cwd=scratch, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_hacking_check_is_shown(scratch: Path) -> None:
    added(scratch, "checks/gofmt.py", example("Add a check"), "checks", "gofmt = advisory")
    done = run(scratch, "--dry-run")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^  gofmt +(ok|skip) ", done.stdout, re.M), done.stdout


def test_hacking_gate_answers_and_is_in_status(scratch: Path) -> None:
    added(scratch, "gates/apk.py", example("Add a gate"), "budget", "apk = 5")
    done = run(scratch, "gate", "apk")
    assert done.returncode == 0, done.stdout
    assert re.search(r"not here .*\bapk\b", run(scratch, "status").stdout)


def test_hacking_command_runs(scratch: Path) -> None:
    added(scratch, "commands/where.py", example("Add a command"))
    done = run(scratch, "where")
    assert (done.returncode, done.stdout) == (0, "auto\n")
