# SPDX-License-Identifier: GPL-2.0-or-later
"""only-veto: nothing but a gate's own status counts as a veto, and nothing is started a second time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from go_health_hook.errors import EXIT_VETO

ONLY_VETO = Path(__file__).parents[2] / "conf/usr/libexec/go-health-hook/only-veto"
GATE = "/usr/libexec/go-health-hook/gate"


def run(folder: Path, script: str, seconds: str = "60") -> subprocess.CompletedProcess[str]:
    """Run only-veto with a gate of the test's own, which is shell."""
    gate, program = folder / "gate", folder / "only-veto"
    gate.write_text(f"#!/bin/sh\necho run >>{folder}/runs\n{script}\n")
    gate.chmod(0o755)
    program.write_text(ONLY_VETO.read_text().replace(GATE, str(gate)))
    return subprocess.run(["sh", program, seconds, "boot", "word"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("status", [0, *range(1, 5), 120, 124, 125, 126, 127, 130, 134, 137, 139, 143, 203, 255])
def test_only_veto_lets_every_other_status_pass(tmp_path: Path, status: int) -> None:
    answer = run(tmp_path, f"exit {status}")
    assert answer.returncode == 0
    assert ("nothing was decided" in answer.stderr) == (status != 0)
    assert (tmp_path / "runs").read_text() == "run\n"


def test_only_veto_turns_the_gates_own_status_into_one(tmp_path: Path) -> None:
    assert run(tmp_path, f'[ "$*" = "boot word" ] && exit {EXIT_VETO}').returncode == 1


@pytest.mark.parametrize("script", ["kill -KILL $$", "exec /nowhere", "exec sleep 60"])
def test_only_veto_lets_what_does_not_end_by_itself_pass(tmp_path: Path, script: str) -> None:
    assert run(tmp_path, script, "1" if "sleep" in script else "60").returncode == 0


def test_only_veto_without_a_gate_lets_pass(tmp_path: Path) -> None:
    program = tmp_path / "only-veto"
    program.write_text(ONLY_VETO.read_text().replace(GATE, str(tmp_path / "gate")))
    assert subprocess.run(["sh", program, "9", "boot"], check=False).returncode == 0
