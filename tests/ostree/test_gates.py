# SPDX-License-Identifier: GPL-2.0-or-later
"""The gates before an automatic update and after the boot, in a machine with real Go and a stand-in for rpm-ostree."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ostree.deployments import CONFIG, recorded
from tests.testbed import baseline, cache
from tests.testbed.machine import Machine

pytestmark = pytest.mark.root

ADDRESS = "/run/dbus/system_bus_socket"
GO = "/usr/lib/golang/bin/go"
TRUNCATE = f"truncate -s 5M {GO}"
A, C = "a" * 64, "c" * 64
PIECES = (
    "usr/libexec/go-health-hook/only-veto",
    "usr/libexec/go-health-hook/boot-verdict",
    "usr/lib/greenboot/check/required.d/50_go_health_hook.sh",
)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine with Go and the hook that takes itself for an image system, with a system bus."""
    with Machine(baseline.with_hook("forky"), binds={"/tests": Path(__file__).parent}) as machine:
        machine.write("/run/ostree-booted", "")
        for piece in PIECES:
            machine.write(f"/{piece}", (cache.TREE / "conf" / piece).read_text(), 0o755)
        policy(machine, "stage")
        yield machine


def rpm_ostreed(machine: Machine, name: str) -> None:
    """Start a bus and the stand-in, which end with the machine."""
    machine.write("/run/bus.conf", CONFIG.format(socket=ADDRESS))
    machine.write("/run/state.json", json.dumps(recorded(name)))
    machine.run("mkdir -p /run/dbus")
    bus = machine.start(["dbus-daemon", "--nofork", "--print-address", "--config-file=/run/bus.conf"])
    assert bus.stdout
    assert bus.stdout.readline()
    daemon = machine.start(["python3", "/tests/rpm_ostreed.py", "/run/state.json"])
    assert daemon.stdout
    assert daemon.stdout.readline() == "ready\n"


def gate(machine: Machine, name: str = "rpm-ostree", *words: str) -> tuple[int, str]:
    answer = machine.run(["/usr/libexec/go-health-hook/only-veto", "300", name, *words], check=False)
    return answer.returncode, answer.stdout + answer.stderr


def policy(machine: Machine, word: str) -> None:
    machine.write("/etc/rpm-ostreed.conf", f"[Daemon]\n#AutomaticUpdatePolicy=none\nAutomaticUpdatePolicy={word}\n")


@pytest.mark.parametrize("word", ["none", "check"])
def test_rpm_ostree_judges_nothing_where_nothing_is_installed(machine: Machine, word: str) -> None:
    policy(machine, word)
    machine.run(TRUNCATE)
    status, said = gate(machine)
    assert status == 0
    assert "nothing is judged" in said
    assert not machine.path("/etc/motd.d/go-health-hook").exists()
    assert not machine.path("/var/lib/go-health-hook/state.json").exists()


def test_rpm_ostree_tells_a_sound_go(machine: Machine) -> None:
    status, said = gate(machine)
    assert status == 0
    assert "the running Go: healthy" in said


@pytest.mark.parametrize("word", ["stage", "apply"])
@pytest.mark.parametrize("state", ["staged", "update-known", "booted-alone"])
def test_rpm_ostree_broken_running_go_stops_no_update(machine: Machine, word: str, state: str) -> None:
    policy(machine, word)
    machine.run(TRUNCATE)
    rpm_ostreed(machine, state)
    status, said = gate(machine)
    assert status == 0
    assert "the running Go is broken" in said
    assert "cut short" in said
    assert ("an update waits that changes Go (golang" in said) == (state != "booted-alone")


def test_rpm_ostree_called_by_bootc_does_not_ask_rpm_ostree(machine: Machine) -> None:
    machine.run(TRUNCATE)
    status, said = gate(machine, "rpm-ostree", "bootc")
    assert status == 0
    assert "the running Go is broken" in said
    assert "rpm-ostree was not asked" not in said


def test_rpm_ostree_without_dbus_next_tells_as_ever(machine: Machine) -> None:
    machine.run(f"rm -r /usr/lib/python3/dist-packages/dbus_next; {TRUNCATE}")
    status, said = gate(machine)
    assert status == 0
    assert "python3-dbus-next is not installed" in said


REFUSED = {
    "checksum": "b" * 64,
    "digest": f"sha256:{'d' * 64}",
    "name": "43.2 (fedora bbbbbbbbbbbb.0)",
    "fingerprint": "0" * 16,
    "exit_status": 1,
    "reason": "goroot: bin/go is cut short",
    "toolchain": None,
    "results": [],
}
RPM_OSTREE = """#!/bin/sh
echo "$@" >>/run/asked
[ "$1" = status ] && echo '{"deployments": [], "cached-update": {"checksum": "'$(cat /run/waits)'"}}'
"""
BOOTC = """#!/bin/sh
echo "$@" >>/run/asked
[ "$1" = status ] && echo '{"status": {"booted": {"cachedUpdate": {"imageDigest": "'$(cat /run/waits)'"}}}}'
"""


@pytest.mark.parametrize(("program", "known"), [("rpm-ostree", REFUSED["checksum"]), ("bootc", REFUSED["digest"])])
def test_apply_stops_only_for_the_update_that_was_refused(machine: Machine, program: str, known: str) -> None:
    words = ("bootc",) if program == "bootc" else ()
    policy(machine, "apply")
    machine.write(f"/usr/bin/{program}", BOOTC if program == "bootc" else RPM_OSTREE, 0o755)
    machine.write("/run/waits", known)
    assert gate(machine, "rpm-ostree", *words)[0] == 0  # nothing has been refused
    assert not machine.path("/run/asked").exists()
    entry = {**REFUSED, "time": time.time()}
    machine.write("/var/lib/go-health-hook/refused.json", json.dumps({"schema": 1, "refused": [entry]}))
    status, said = gate(machine, "rpm-ostree", *words)
    assert status == 1
    assert "43.2 (fedora bbbbbbbbbbbb.0) was refused" in said
    # It is asked what is there now, so that a repair is not missed.
    assert machine.path("/run/asked").read_text() == "upgrade --check\nstatus --json\n"
    machine.write("/run/waits", "f" * 64)
    assert gate(machine, "rpm-ostree", *words)[0] == 0
    machine.write("/run/waits", known)
    policy(machine, "stage")
    assert gate(machine, "rpm-ostree", *words)[0] == (1 if words else 0)
    policy(machine, "apply")
    machine.run("go-health-hook override --for 1h --reason 'trying it'")
    assert gate(machine, "rpm-ostree", *words)[0] == 0


def test_a_fault_of_the_hook_stops_nothing(machine: Machine) -> None:
    machine.run(TRUNCATE)
    machine.write("/etc/go-health-hook.conf", "[nonsense]\n")
    status, said = gate(machine, "boot", "greenboot")
    assert status == 0
    assert "nothing was decided" in said
    machine.run("rm /etc/go-health-hook.conf; rm -r /usr/lib/go-health-hook/go_health_hook/checks")
    assert gate(machine, "boot", "greenboot")[0] == 0
    machine.run("rm /usr/libexec/go-health-hook/gate")
    assert gate(machine, "boot", "greenboot") == (0, "")


def deployments(machine: Machine, previous: str = "sound") -> None:
    """The booted deployment's tree with the machine's own Go, and one before it with a Go that is `previous`."""
    trees = {A: "/usr/lib/golang", C: "/run/previous"} if previous else {A: "/usr/lib/golang"}
    machine.run("cp -r --reflink=auto /usr/lib/golang /run/previous")
    for checksum, goroot in trees.items():
        root = f"/ostree/deploy/fedora/deploy/{checksum}.0"
        machine.run(f"mkdir -p {root} && mount --bind / {root} && mount --bind {goroot} {root}/usr/lib/golang")
    if previous == "broken":
        machine.run("truncate -s 5M /run/previous/bin/go")
    lines = f"* fedora {A}.0\\n" + (f"  fedora {C}.0 (rollback)\\n" if previous else "")
    machine.write("/usr/bin/ostree", f"#!/bin/sh\nprintf '{lines}'\n", 0o755)


@pytest.mark.parametrize(("previous", "words", "red"), [
    ("sound", ["greenboot"], True),
    ("sound", [], False),
    ("broken", ["greenboot"], False),
    ("", ["greenboot"], False),
])  # fmt: skip
def test_boot_is_failed_only_where_going_back_mends_it(
    machine: Machine, previous: str, words: list[str], red: bool
) -> None:
    deployments(machine, previous)
    assert gate(machine, "boot", *words)[0] == 0
    machine.run(TRUNCATE)
    status, said = gate(machine, "boot", *words)
    assert status == int(red), said
    assert "Go is broken after this boot" in said
    assert ("this boot passes all the same" in said) == (not red)


@pytest.mark.parametrize("setting", [
    "[toolchain]\ngoroot = /usr/lib/golang-1.99\n",
    "[toolchain]\nmodules = crypto/tls no/such/package\n",
    "[checks]\ncgroup = required\ngomaxprocs = required\n",
])  # fmt: skip
def test_boot_is_not_failed_for_settings(machine: Machine, setting: str) -> None:
    deployments(machine)
    machine.write("/etc/go-health-hook.conf", setting)
    assert gate(machine, "boot", "greenboot")[0] == 0


def test_boot_is_not_failed_for_a_go_that_is_not_the_images(machine: Machine) -> None:
    deployments(machine)
    # What is mounted over the image's Go, as a system extension is, stays when the machine goes back.
    machine.run("cp -r --reflink=auto /usr/lib/golang /run/other && truncate -s 5M /run/other/bin/go")
    machine.run("mount --bind /run/other /usr/lib/golang")
    status, said = gate(machine, "boot", "greenboot")
    assert status == 0
    assert "not this image's" in said
    machine.run("umount /usr/lib/golang; mount -t tmpfs none /usr/lib/golang")
    machine.write("/etc/go-health-hook.conf", "[toolchain]\nrequired = yes\n")
    assert gate(machine, "boot", "greenboot")[0] == 0


def test_boot_passes_under_an_override(machine: Machine) -> None:
    deployments(machine)
    machine.run(TRUNCATE)
    machine.run("go-health-hook override --for 1h --reason 'trying it'")
    status, said = gate(machine, "boot", "greenboot")
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
    deployments(machine)
    assert greenboot(machine) == 0
    machine.run("rm -r /usr/lib/golang/src/crypto/tls")
    assert greenboot(machine) == 1
    machine.run("rm /usr/libexec/go-health-hook/gate")
    assert greenboot(machine) == 0
