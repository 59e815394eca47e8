# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command that an image gate prints as a remedy, carried out as printed in each state that prints it.

The programs' rules are those of rpm-ostree 2026.2, bootc 1.16.9 and libostree 2026.4: what refuses, and what changes.
"""

from __future__ import annotations

import shlex

import pytest

from go_health_hook.linux import ostree
from go_health_hook.linux.deployments import Deployment, State

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
FIRST_SIGHT = 72


class Refused(Exception):
    """A program ends with an error."""


class Machine:
    """Deployments in boot order as (checksum, mark), and the program that manages them."""

    def __init__(self, program: str, staged: bool, previous: bool, queued: bool) -> None:
        self.program = program
        self.order = [(A, "booted")]
        if previous:
            self.order.insert(0 if queued else 1, (C, ""))
        if staged:
            self.order.insert(0, (B, "staged"))
        self.rebooted = False
        self.updated = False

    def state(self) -> State:
        found = [Deployment("debian", c, 0, booted=m == "booted", staged=m == "staged") for c, m in self.order]
        return State(found)

    def carry_out(self, line: str) -> None:
        for command in line.split(" && "):
            self.run(*shlex.split(command))

    def run(self, program: str, *words: str) -> None:
        if program in ("rpm-ostree", "bootc") and program != self.program:
            raise Refused(f"{program} is not installed")
        finished = [d for d in self.order if d[1] != "staged"]
        said = " ".join((program, *words))
        if said in ("rpm-ostree cleanup -p", "ostree admin undeploy 0"):
            if program == "ostree" and self.order[0][1] != "staged":
                raise Refused("the first deployment is not staged")
            self.order = finished
        elif said in ("rpm-ostree rollback --reboot", "bootc rollback"):
            if program == "rpm-ostree" and len(finished) != len(self.order):
                raise Refused("Staged deployment (remove with cleanup -p)")
            if len(finished) < 2:
                raise Refused("No rollback deployment found")
            self.order = finished[1::-1]
            self.rebooted = "--reboot" in words
        elif said.startswith("ostree admin set-default "):
            self.order.insert(0, self.order.pop(int(words[2])))
        elif said in ("rpm-ostree upgrade", "bootc upgrade", "ostree admin upgrade"):
            self.updated = True
        elif said == "systemctl reboot":
            self.rebooted = True
        else:
            raise Refused(f"unknown: {said}")


PROGRAMS = ("rpm-ostree", "bootc", "ostree")


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setattr(ostree, "driver", lambda: name)
    return name


@pytest.mark.parametrize("staged", [True, False])
@pytest.mark.parametrize("queued", [True, False])
def test_roll_back_boots_the_previous_deployment(program: str, staged: bool, queued: bool) -> None:
    machine = Machine(program, staged=staged, previous=True, queued=queued)
    if queued and staged:
        return  # a finished rollback is queued only where nothing is staged any more
    line = ostree.Ostree().roll_back(machine.state())
    machine.carry_out(line)
    assert machine.rebooted
    default = next(c for c, mark in machine.order if mark != "staged")
    assert default == C
    assert not (program == "ostree" and machine.order[0][1] == "staged")


@pytest.mark.parametrize("staged", [True, False])
@pytest.mark.parametrize("previous", [True, False])
def test_repair_begins_with_a_whole_command_that_works(program: str, staged: bool, previous: bool) -> None:
    machine = Machine(program, staged=staged, previous=previous, queued=False)
    words = ostree.Ostree().repair(machine.state())
    line = words.partition(": back to " if previous else ", once ")[0]
    assert len(line) < FIRST_SIGHT
    machine.carry_out(line)
    assert machine.rebooted
    assert previous or machine.updated


def test_drop_removes_what_is_staged_and_nothing_else(program: str) -> None:
    machine = Machine(program, staged=True, previous=True, queued=False)
    machine.carry_out(ostree.Ostree().drop())
    assert machine.order == [(A, "booted"), (C, "")]


def test_install_names_the_program_that_is_there(program: str) -> None:
    assert (
        ostree.Ostree()
        .install("golang")
        .startswith(
            "rpm-ostree install golang" if program == "rpm-ostree" else "add golang to the image: RUN dnf install"
        )
    )
