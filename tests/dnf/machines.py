# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that have the hook from its own packages, ways to break their Go, and what an update left."""

from __future__ import annotations

import json
import os
import select
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.testbed import baseline, golang
from tests.testbed.machine import Machine
from tests.testbed.updaters import UPDATERS

if TYPE_CHECKING:
    from pathlib import Path

SUITES = ["forky", "bookworm"]
EVERY_UPDATER = pytest.mark.parametrize(
    ("suite", "updater"),
    [pytest.param(suite, name, id=name.replace(" ", "-")) for suite, names in UPDATERS.items() for name in names],
)
GO = f"{golang.GOROOT}/bin/go"
ONCE = "go-health-hook override --for 2h --reason TEXT"
Done = subprocess.CompletedProcess


def machine(suite: str) -> Machine:
    """One with the distribution's Go and the hook."""
    return Machine(baseline.with_hook(suite))


def without_go(suite: str) -> Machine:
    """One with the hook and no Go."""
    return Machine(baseline.with_hook(suite, baseline.without_go(suite)))


def go(suite: str, label: str) -> list[Path]:
    """The packages of a release of Go for that suite; `without-src` without its golang-src."""
    return [
        p for n, p in golang.packages(label, golang.DISTS[suite]).items() if (label, n) != ("without-src", "golang-src")
    ]


def truncate_go(m: Machine) -> None:
    m.run(["truncate", "-s", "5M", GO])


def update(m: Machine, suite: str, updater: str) -> Done[str]:
    return UPDATERS[suite][updater](m)


def said(done: Done[str]) -> str:
    return done.stdout + done.stderr


def assert_vetoed(done: Done[str], *words: str) -> None:
    """Refused by the gate, with these words, and with how to go ahead."""
    text = said(done)
    assert done.returncode == 1, text
    assert "go-health-hook: nothing is installed, since " in text, text
    assert ONCE in text, text
    for word in words:
        assert word in text, text


def assert_done(done: Done[str]) -> None:
    assert done.returncode == 0, said(done)
    assert "go-health-hook: nothing is installed" not in said(done)


def assert_silent(done: Done[str]) -> None:
    """Nothing of the hook's, but that a busy machine may still be writing what was announced."""
    lines = [line for line in said(done).splitlines() if "go-health-hook" in line]
    assert not [line for line in lines if not line.startswith("go-health-hook: not announced everywhere: ")]


def recorded(m: Machine) -> dict[str, Any]:
    """The state that `status` reads."""
    state: dict[str, Any] = json.loads(m.read("/var/lib/go-health-hook/state.json"))
    return state


def hello(m: Machine) -> str:
    """The version of hello that is installed."""
    return m.run("hello").stdout.split()[-1]


def ends(pid: int) -> bool:
    """Whether a process that was killed a moment ago comes to its end."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 5)[0])
    finally:
        os.close(process)


def assert_nothing_left(m: Machine) -> None:
    """No private directory, no process of the hook's."""
    places = ("/var/cache/go-health-hook", "/var/lib/go-health-hook", "/run/go-health-hook", "/tmp")
    left = [str(p) for place in places if m.path(place).is_dir() for p in m.path(place).glob("go-health-hook-*")]
    assert not left
    for pid, command in m.processes().items():
        if "go-health" in command or GO in command or "bwrap" in command:
            assert ends(pid), f"{command} goes on"
