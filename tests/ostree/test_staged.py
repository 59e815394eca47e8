# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate for what is staged, where ostree fails it: an `ostree` that locks, lists and stumbles as a test says.

What the real one does is asked of a machine that it booted (tests/vm/test_ostree.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from go_health_hook import deadline
from go_health_hook.gates import staged
from tests.testbed import baseline, cache
from tests.testbed.machine import Machine

pytestmark = pytest.mark.root

A, B, C = "a" * 64, "b" * 64, "c" * 64
# The staged deployments' Go, which is none of the machine's own.
GO = "/run/golang/bin/go"
TRUNCATE = f"truncate -s 5M {GO}"
LOCK = "/run/ostree/staged-deployment-locked"
NOTE = "/run/go-health-hook/staged.json"
# The note of a deployment that was refused and locked, besides its name.
REFUSED = {"digest": "", "verdict": "block", "proven": True, "marks": ["file", "key"]}
# libostree's other mark, which is a key inside the staged file.
KEY = "/run/key"
OSTREE = Path(__file__).with_name("ostree.sh").read_text()


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine that takes itself for an image system, in which a root with the same Go as its own is staged."""
    with Machine(baseline.with_hook("forky")) as machine:
        machine.write("/run/ostree-booted", "")
        machine.write("/usr/bin/ostree", OSTREE, 0o755)
        machine.run("mkdir -p /run/ostree /run/stumble && cp -r --reflink=auto /usr/lib/golang /run/golang")
        configure(machine)
        stage(machine, B)
        yield machine


def configure(machine: Machine, more: str = "", budget: int = 60) -> None:
    machine.write("/etc/go-health-hook.conf", f"[budget]\nstaged = {budget}\n{more}")


def stage(machine: Machine, checksum: str) -> None:
    """Another deployment with a Go of its own, without a lock: ostree takes away that of the one before."""
    lay(machine, checksum)
    machine.run(f"rm -f {KEY} {LOCK}; echo {checksum} >/run/staged")


def lay(machine: Machine, checksum: str) -> None:
    """The deployment's root: the machine's own with another Go in it."""
    root = f"/ostree/deploy/debian/deploy/{checksum}.0"
    machine.run(f"mkdir -p {root} && mount --bind / {root} && mount --bind /run/golang {root}/usr/lib/golang")


def stumble(machine: Machine, what: str, how: str) -> None:
    machine.write(f"/run/stumble/{what}", how + "\n")


def gate(machine: Machine, *words: str) -> tuple[int, str]:
    answer = machine.run(["/usr/libexec/go-health-hook/gate", "staged", *words], check=False)
    return answer.returncode, answer.stdout + answer.stderr


def locked(machine: Machine) -> bool:
    return machine.path(LOCK).exists() or machine.path(KEY).exists()


def note(machine: Machine) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(machine.path(NOTE).read_text())
    return written


def held_back(machine: Machine) -> dict[str, Any] | None:
    """The block of this gate as the record has it, which is what status, the message at login and metrics show."""
    path = machine.path("/var/lib/go-health-hook/state.json")
    state = json.loads(path.read_text()) if path.exists() else {"blocks": {}}
    block: dict[str, Any] | None = state["blocks"].get("staged")
    return block


def budget(machine: Machine) -> float:
    """The seconds that the last verdict was given."""
    state = json.loads(machine.path("/var/lib/go-health-hook/state.json").read_text())
    given: float = state["gates"]["staged"]["budget_s"]
    return given


def asked(machine: Machine) -> list[str]:
    words = machine.path("/run/asked").read_text().split()
    machine.run("rm /run/asked")
    return words


def test_locked_lifted_and_locked_again(machine: Machine) -> None:
    assert gate(machine)[0] == 0
    assert not locked(machine)
    machine.run(TRUNCATE)
    status, said = gate(machine)
    assert status == 1
    assert "is locked: this system stays the default" in said
    assert "wait for a build whose Go is whole" in said
    assert locked(machine)
    assert note(machine) == {**REFUSED, "deployment": f"debian-{B}.0"}
    block = held_back(machine)
    assert block
    assert "cut short" in block["reason"]
    machine.run("go-health-hook override --for 1h --reason 'trying it'")
    assert gate(machine)[0] == 0
    assert not locked(machine)
    assert held_back(machine) is None
    machine.run("go-health-hook override --clear")
    assert gate(machine)[0] == 1
    assert locked(machine)


def test_a_lock_of_ours_is_known_for_ours_when_ostree_cannot_be_asked_right_after(machine: Machine) -> None:
    machine.run(TRUNCATE)
    stumble(machine, "status", f"[ ! -e {LOCK} ] || {{ echo 'error: locked' >&2; exit 1; }}")
    status, said = gate(machine)
    assert status == 1
    assert "is locked: this system stays the default" in said
    assert "nothing was decided" not in said
    assert note(machine)["marks"]
    machine.run("rm /run/stumble/status; go-health-hook override --for 1h --reason 'trying it'")
    assert gate(machine)[0] == 0
    assert not locked(machine)


def test_what_cannot_be_locked_is_not_said_to_be_held_back(machine: Machine) -> None:
    machine.run(TRUNCATE)
    stumble(machine, "lock", "echo 'error: no space' >&2; exit 1")
    machine.run("rmdir /run/ostree && touch /run/ostree")
    status, said = gate(machine)
    assert status == 4
    assert "the update goes on" in said
    assert "no space" in said
    assert "stays the default" not in said
    assert held_back(machine) is None
    machine.run("rm /run/ostree /run/stumble/lock; mkdir /run/ostree")
    assert gate(machine)[0] == 1
    assert locked(machine)
    assert held_back(machine)


def test_what_cannot_be_discarded_stays_locked_and_is_announced(machine: Machine) -> None:
    machine.run(TRUNCATE)
    configure(machine, "[ostree]\non-failure = discard\n")
    stumble(machine, "undeploy", "echo 'error: busy' >&2; exit 1")
    status, said = gate(machine)
    assert status == 1
    assert "could not be discarded; it stays locked" in said
    assert "busy" in said
    assert "nothing was decided" not in said
    assert locked(machine)
    assert note(machine)["marks"]
    assert held_back(machine)


def test_what_has_been_discarded_is_missed_until_a_sound_one_comes(machine: Machine) -> None:
    machine.run(f"cp {GO} /run/go; {TRUNCATE}")
    configure(machine, "[ostree]\non-failure = discard\n")
    assert gate(machine)[0] == 1
    assert not machine.path("/run/staged").exists()
    assert gate(machine)[0] == 0
    block = held_back(machine)
    assert block
    assert block["count"] == 1
    stage(machine, B)
    assert gate(machine)[0] == 1
    block = held_back(machine)
    assert block
    assert block["count"] == 2
    machine.run(f"cp /run/go {GO}")
    stage(machine, C)
    assert gate(machine)[0] == 0
    assert held_back(machine) is None


def test_a_lock_that_cannot_be_lifted_is_not_called_lifted(machine: Machine) -> None:
    machine.run(TRUNCATE)
    assert gate(machine)[0] == 1
    machine.run("go-health-hook override --for 1h --reason 'trying it'")
    stumble(machine, "unlock", "echo 'error: busy' >&2; exit 1")
    # A lock that ostree knows of, and no bare file, is nothing that could be removed in its stead.
    machine.write("/usr/bin/ostree", OSTREE.replace(f"[ -e {LOCK} ]", "true"), 0o755)
    machine.run(f"rm {LOCK}")
    status, said = gate(machine)
    assert status == 4
    assert "stays locked" in said
    assert "busy" in said
    assert "the update goes on" not in said
    assert note(machine)["marks"]
    assert held_back(machine)
    assert asked(machine).count("unlock") > 1


def test_a_lock_on_what_was_staged_meanwhile_is_left_alone(machine: Machine) -> None:
    machine.run(TRUNCATE)
    assert gate(machine)[0] == 1
    machine.run("go-health-hook override --for 1h --reason 'trying it'")
    machine.run("rm -f /run/asked")
    # zincati stages another one, locked, while the first one is judged.
    lay(machine, C)
    stumble(machine, "status", f"[ -e /run/once ] && echo {C} >/run/staged; : >/run/once")
    _, said = gate(machine)
    assert "our finalization lock has been lifted" not in said
    assert "unlock" not in asked(machine)
    assert locked(machine)


def test_what_was_staged_while_locking_is_judged_with_the_lock_known_for_ours(machine: Machine) -> None:
    machine.run(TRUNCATE)
    lay(machine, C)
    stumble(machine, "lock", f"echo {C} >/run/staged")
    status, said = gate(machine)
    assert status == 1
    assert note(machine) == {**REFUSED, "deployment": f"debian-{C}.0"}
    assert f"{C[:12]}.0 is locked" in said
    assert "somebody else" not in said


SOFT = f"""
for mount in 1 2; do
    mount -t tmpfs next /run/nextroot && mkdir /run/nextroot/etc
    mount --bind /ostree/deploy/debian/deploy/{B}.0/etc /run/nextroot/etc
done
touch /run/soft
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("reset", ["works", "fails"])
def test_staged_soft_reboot_with_stacked_mounts_is_taken_back(machine: Machine, when: str, reset: str) -> None:
    machine.run(TRUNCATE)
    if when == "after":
        assert gate(machine)[0] == 1
    machine.run(f"mkdir /run/nextroot; {SOFT}")
    if reset == "fails":
        stumble(machine, "reset", "echo 'error: busy' >&2; exit 1")
    status, said = gate(machine)
    assert status == 1, said
    assert "the soft reboot that was prepared for it has been taken back" in said
    assert "nextroot" not in machine.run("cat /proc/1/mountinfo").stdout
    assert locked(machine)


def test_staged_soft_reboot_that_stays_holds_nothing_back(machine: Machine) -> None:
    machine.run(TRUNCATE)
    machine.run(f"mkdir /run/nextroot; {SOFT}")
    stumble(machine, "reset", "exit 1")
    machine.write("/usr/bin/umount", "#!/bin/sh\necho 'umount: target is busy' >&2\nexit 32\n", 0o755)
    status, said = gate(machine)
    assert status == 4
    assert "the update goes on: the prepared soft reboot could not be taken back" in said
    assert not locked(machine)
    assert held_back(machine) is None


def test_at_shutdown_ostree_is_not_asked_once_more(machine: Machine) -> None:
    machine.run(TRUNCATE)
    assert gate(machine, "shutdown")[0] == 1
    assert asked(machine).count("lock") == 1
    # Nor is a decision taken back where the last look fails.
    stage(machine, C)
    stumble(machine, "status", "grep -q lock /run/asked && exit 1")
    status, said = gate(machine)
    assert status == 1
    assert "nothing was decided" not in said
    assert "not looked at again" in said


def test_at_shutdown_judging_is_bounded_whatever_is_configured(machine: Machine) -> None:
    configure(machine, budget=3600)
    machine.run(TRUNCATE)
    assert gate(machine)[0] == 1
    assert 3000 < budget(machine) <= 3600
    stage(machine, C)
    assert gate(machine, "shutdown")[0] == 1
    assert 0 < budget(machine) <= 20


def test_the_guard_has_locked_before_systemd_ends_it() -> None:
    unit = (cache.TREE / "conf/usr/lib/systemd/system/go-health-hook-guard.service").read_text()
    bound = int(unit.split("\nTimeoutStopSec=")[1].split("\n")[0])
    longest = deadline.CEILING_AT_SHUTDOWN + staged.READ_SECONDS + staged.LOCK_SECONDS + staged.TELL_SECONDS_AT_SHUTDOWN
    assert longest + 5 < bound


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    machine.run(TRUNCATE)
    assert gate(machine)[0] == 1
    kept = {name: machine.path(name).read_text() for name in (NOTE, "/var/lib/go-health-hook/refused.json")}
    dry = ["/usr/bin/go-health-hook", "--dry-run", "gate", "staged"]
    said = machine.run([*dry, "recheck"]).stdout
    assert "would be refused" in said
    machine.run("rm /run/staged")
    machine.run(dry)
    assert {name: machine.path(name).read_text() for name in kept} == kept
    assert held_back(machine)


def test_a_refusal_is_remembered_by_the_commit(machine: Machine) -> None:
    machine.run(f"cp {GO} /run/go; {TRUNCATE}")
    assert gate(machine)[0] == 1
    machine.run(f"cp /run/go {GO}")
    stage(machine, B)
    machine.run(f"rm {NOTE}")
    status, said = gate(machine)
    assert status == 1
    assert "cut short" in said
    assert locked(machine)
    assert gate(machine, "recheck")[0] == 0
    assert not locked(machine)


def test_a_goroot_in_var_is_nothing_that_a_deployment_brings(machine: Machine) -> None:
    machine.run("mkdir -p /var/usrlocal /usr/local; rm -rf /usr/local; ln -s ../var/usrlocal /usr/local")
    machine.run(f"umount --recursive /ostree/deploy/debian/deploy/{B}.0")
    machine.run(f"mkdir -p /ostree/deploy/debian/deploy/{B}.0/usr /ostree/deploy/debian/deploy/{B}.0/var")
    machine.run(f"ln -s ../var/usrlocal /ostree/deploy/debian/deploy/{B}.0/usr/local")
    configure(machine, "[toolchain]\ngoroot = /usr/local/go\n")
    status, said = gate(machine)
    assert status == 0
    assert "which is not part of the deployment" in said
    assert not locked(machine)
    # What the deployment should have, and has not, is its fault.
    configure(machine, "[toolchain]\ngoroot = /usr/lib/golang\n")
    assert gate(machine)[0] == 1
    assert locked(machine)
