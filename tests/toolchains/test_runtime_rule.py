# SPDX-License-Identifier: GPL-2.0-or-later
"""Go's own runtime, put into every stored machine: what it takes there is what is written down and predicted."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.toolchains import eight_cpus
from tests.unit.cases import CASES, read
from tests.unit.measured import ROWS, build, taken

from go_health_hook.go.maxprocs import gate, predict
from go_health_hook.go.versions import parse_version

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = ["1.25.5", "1.27.3"]


def run_in(root: Path, program: Path, env: dict[str, str]) -> int:
    """What the program takes where `root` is its whole file system."""
    inside = root / "eight"
    shutil.copy(program, inside)
    try:
        done = subprocess.run(
            ["/eight"], preexec_fn=lambda: os.chroot(root), cwd="/", env=env, capture_output=True, text=True
        )
    finally:
        inside.unlink()
    assert done.returncode == 0, done.stderr
    return int(done.stderr)


@pytest.mark.root
@pytest.mark.parametrize("version", VERSIONS)
def test_stored_machines(version: str, tmp_path: Path) -> None:
    program = eight_cpus.program(version)
    wrong, count = [], 0
    for case in CASES:
        wanted = case.expected
        # What no kernel writes has no answer; of another process's machine we have only what is seen from outside.
        if not wanted["go"] or "pid" in wanted:
            continue
        root = tmp_path / case.name
        chain = case.read(root)
        got = run_in(root, program, {})
        predicted = predict(parse_version(version), eight_cpus.CPUS, chain).value
        count += 1
        if got != predicted or min(got, wanted["affinity"]) != wanted["go"][version]:
            wrong.append((case.name, got, predicted, wanted["go"][version]))
    assert not wrong
    assert count > 70


@pytest.mark.root
@pytest.mark.parametrize("version", VERSIONS)
def test_measured_machines(version: str, tmp_path: Path) -> None:
    program = eight_cpus.program(version)
    wrong, count = [], 0
    for i, row in enumerate(ROWS):
        root = build(tmp_path / str(i), row, inside=True)
        root.mkdir(exist_ok=True)
        env = row.get("env", {})
        got = run_in(root, program, env)
        open_gate = gate(version, environment=env.get("GODEBUG"))
        predicted = predict(
            parse_version(version),
            eight_cpus.CPUS,
            read(root),
            environment_value=env.get("GOMAXPROCS"),
            gate=open_gate,
        ).value
        measured = taken(row)[f"{version} modself"]
        count += 1
        if got != predicted or min(got, row["affinity"]) != min(measured, row["affinity"]):
            wrong.append((row["placement"], got, predicted, measured))
    assert not wrong
    assert count == len(ROWS) == 76
