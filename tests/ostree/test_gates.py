# SPDX-License-Identifier: GPL-2.0-or-later
"""The gates before an automatic update and after the boot, in a machine with real Go and a stand-in for rpm-ostree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ostree.test_bus import BOOTED, CACHED, CONFIG, DIFF, STAGED
from tests.testbed import baseline, cache
from tests.testbed.machine import Machine

pytestmark = pytest.mark.root

ADDRESS = "/run/dbus/system_bus_socket"
GO = "/usr/lib/golang/bin/go"
TRUNCATE = f"truncate -s 5M {GO}"
PIECES = ("usr/libexec/go-health-hook/only-veto", "usr/lib/greenboot/check/required.d/50_go_health_hook.sh")


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine with Go and the hook that takes itself for an image system, with a system bus."""
    with Machine(baseline.with_hook("forky"), binds={"/tests": Path(__file__).parent}) as machine:
        machine.write("/run/ostree-booted", "")
        for piece in PIECES:
            machine.write(f"/{piece}", (cache.TREE / "conf" / piece).read_text(), 0o755)
        budget(machine, 60)
        yield machine


def budget(machine: Machine, seconds: float) -> None:
    """The time before an automatic update, which is 3 s where nothing is said: enough but for a machine under load."""
    machine.write("/etc/go-health-hook.conf", f"[budget]\nrpm-ostree = {seconds}\n")


def on_disk(machine: Machine) -> None:
    """An ostree that lists the deployments, as of 2026.4, for when the bus says nothing."""
    lines = f"  fedora {STAGED['checksum']}.0 (staged)\n* fedora {BOOTED['checksum']}.0\n"
    machine.write("/usr/bin/ostree", f"#!/bin/sh\nprintf '%s' '{lines}'\n", 0o755)


def staged_root(machine: Machine) -> str:
    """Where the staged deployment's tree lies: for now with the same Go as the machine's."""
    root = f"/ostree/deploy/fedora/deploy/{STAGED['checksum']}.0"
    machine.run(f"mkdir -p {root}/usr/lib && cp -r --reflink=auto /usr/lib/golang {root}/usr/lib")
    return root


def rpm_ostreed(machine: Machine, **state: object) -> None:
    """Start a bus and the stand-in, which end with the machine."""
    machine.write("/run/bus.conf", CONFIG.format(socket=ADDRESS))
    machine.write("/run/state.json", json.dumps({"deployments": [STAGED, BOOTED], **state}))
    machine.run("mkdir -p /run/dbus")
    bus = machine.start(["dbus-daemon", "--nofork", "--print-address", "--config-file=/run/bus.conf"])
    assert bus.stdout
    assert bus.stdout.readline()
    daemon = machine.start(["python3", "/tests/rpm_ostreed.py", "/run/state.json"])
    assert daemon.stdout
    assert daemon.stdout.readline() == "ready\n"


def gate(machine: Machine, name: str = "rpm-ostree") -> tuple[int, str]:
    answer = machine.run(["/usr/libexec/go-health-hook/only-veto", "300", name], check=False)
    return answer.returncode, answer.stdout + answer.stderr


def test_a_sound_go_passes(machine: Machine) -> None:
    status, said = gate(machine)
    assert status == 0
    assert "the running Go: healthy" in said


def test_a_broken_go_stops_the_update_when_nothing_is_known_of_a_repair(machine: Machine) -> None:
    machine.run(TRUNCATE)
    status, said = gate(machine)
    assert status == 1
    assert "the automatic update is stopped" in said
    assert "cut short" in said
    assert "go-health-hook override" in said


@pytest.mark.parametrize(
    "state", [{"diff": DIFF}, {"deployments": [BOOTED], "cached": CACHED}], ids=["staged", "cached"]
)
def test_an_update_that_brings_another_go_is_let_through(machine: Machine, state: dict[str, object]) -> None:
    machine.run(TRUNCATE)
    rpm_ostreed(machine, **state)
    status, said = gate(machine)
    assert status == 0
    assert "an update waits that changes Go (golang" in said


@pytest.mark.parametrize(
    "state",
    [
        {"diff": DIFF[1:]},
        {"deployments": [BOOTED]},
        {"diff": DIFF, "misbehave": {"GetAll": "never"}},
        {"diff": DIFF, "misbehave": {"GetDeploymentsRpmDiff": "error"}},
    ],
    ids=["something else", "nothing", "never answers", "error"],
)
def test_an_update_that_does_not_is_stopped(machine: Machine, state: dict[str, object]) -> None:
    machine.run(TRUNCATE)
    staged_root(machine)
    on_disk(machine)
    if "never" in str(state):
        budget(machine, 3)
    rpm_ostreed(machine, **state)
    status, said = gate(machine)
    assert status == 1, said


@pytest.mark.parametrize("how", ["never answers", "knows of no package", "no dbus-next"])
def test_a_go_that_waits_is_seen_in_the_tree(machine: Machine, how: str) -> None:
    staged_root(machine)
    machine.run(TRUNCATE)
    on_disk(machine)
    if how == "no dbus-next":
        machine.run("rm -r /usr/lib/python3/dist-packages/dbus_next")
    elif how == "never answers":
        # Then the bus has taken all the time there is.
        budget(machine, 1)
        rpm_ostreed(machine, misbehave={"GetAll": "never"})
    else:
        rpm_ostreed(machine, diff=DIFF[1:])
    status, said = gate(machine)
    assert status == 0, said
    assert "is staged and brings another Go, which may repair it" in said


def test_without_dbus_next_the_gates_decide_as_ever(machine: Machine) -> None:
    machine.run("rm -r /usr/lib/python3/dist-packages/dbus_next")
    assert gate(machine)[0] == 0
    machine.run(TRUNCATE)
    status, said = gate(machine)
    assert status == 1
    assert "python3-dbus-next is not installed" in said
    status, said = gate(machine, "boot")
    assert status == 1
    assert "Go is broken after this boot" in said


def test_a_fault_of_the_hook_stops_nothing(machine: Machine) -> None:
    machine.run(TRUNCATE)
    machine.write("/etc/go-health-hook.conf", "[nonsense]\n")
    status, said = gate(machine)
    assert status == 0
    assert "nothing was decided" in said
    machine.run("rm /etc/go-health-hook.conf; rm -r /usr/lib/go-health-hook/go_health_hook/checks")
    assert gate(machine)[0] == 0
    machine.run("rm /usr/libexec/go-health-hook/gate")
    assert gate(machine) == (0, "")


def test_an_override_lets_it_through(machine: Machine) -> None:
    machine.run(TRUNCATE)
    machine.run("go-health-hook override --for 1h --reason 'trying it'")
    status, said = gate(machine)
    assert status == 0
    assert "trying it" in said


def greenboot(machine: Machine) -> int:
    """Run the required checks as greenboot does (src/lib/greenboot.rs): bash -C for *.sh, any failure counts."""
    runner = (
        "for d in /etc/greenboot/check/required.d /usr/lib/greenboot/check/required.d; do "
        'for f in "$d"/*.sh; do [ ! -e "$f" ] || bash -C "$f" || exit 1; done; done'
    )
    return machine.run(runner, check=False).returncode


def test_greenboot_hears_of_a_broken_go(machine: Machine) -> None:
    assert greenboot(machine) == 0
    machine.run("rm -r /usr/lib/golang/src/crypto/tls")
    assert greenboot(machine) == 1
    machine.run("rm /usr/libexec/go-health-hook/gate")
    assert greenboot(machine) == 0
