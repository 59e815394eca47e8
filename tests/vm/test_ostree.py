# SPDX-License-Identifier: GPL-2.0-or-later
"""Deployments staged for real on a machine that ostree booted: which of them becomes the default, and who says why.

What a shutdown does to a staged deployment is mostly had without one: ostree-finalize-staged.service is stopped.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.testbed import ostree_vm as ostree
from tests.testbed.vm import VM

pytestmark = pytest.mark.root

STAGED, GUARD, PATH = "go-health-hook-staged.service", "go-health-hook-guard.service", "go-health-hook-staged.path"
MOTD = "/etc/motd.d/go-health-hook"
GATE = "/usr/libexec/go-health-hook/gate"
GO = "/usr/lib/golang"
STAYS = "is locked: this system stays the default"
# An emulated processor is slow, and only answers that never come take all of it.
SETTINGS = {"[budget]": "staged = 60\nboot = 20\nrpm-ostree = 14", "[ostree]": "on-failure = lock"}


def configure(vm: VM, **ostree_or_budget: str) -> None:
    """The settings of these tests, with some replaced: budget="staged = 3"."""
    sections = {**SETTINGS, **{f"[{name}]": text for name, text in ostree_or_budget.items()}}
    vm.put("/etc/go-health-hook.conf", "".join(f"{name}\n{text}\n" for name, text in sections.items()))


@pytest.fixture
def machine(ostree_vm: VM) -> VM:
    """The machine, with budgets for an emulated processor."""
    configure(ostree_vm)
    return ostree_vm


def now(vm: VM) -> str:
    """This moment, as a place in the journal."""
    return vm.ok("journalctl --sync; journalctl --lines=0 --show-cursor").split("cursor: ")[1]


def heard(vm: VM, since: str, *words: str) -> list[str]:
    """Waits until lines with these words, one after the other, have come into the journal; all lines until then."""
    job = vm.start('exec journalctl --follow --no-tail --output=cat --after-cursor="$1"', since)
    lines: list[str] = []
    for word in words:
        while word not in (line := job.line()):
            lines.append(line)
        lines.append(line)
    job.kill()
    return lines


def judged(vm: VM, since: str, *words: str) -> list[str]:
    """Waits until the path unit's service has said these words and ended."""
    return heard(vm, since, *words, f"{STAGED}: Consumed")


def stage(vm: VM, name: str, *words: str) -> list[str]:
    """Stages a commit, and waits until the service that this starts has said the words about it."""
    since = now(vm)
    vm.ok(f"ostree admin deploy --stage debian/{name}")
    return judged(vm, since, *words)


def locked(vm: VM) -> bool:
    return "(finalization locked)" in vm.ok("ostree admin status")


def note(vm: VM) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(vm.get("/run/go-health-hook/staged.json"))
    return written


def status(vm: VM) -> dict[str, Any]:
    answer = vm.run("go-health-hook status --json")
    report: dict[str, Any] = json.loads(answer.stdout)
    assert answer.status == report["exit_status"]
    return report


def verdict(report: dict[str, Any]) -> dict[str, Any]:
    """The last verdict on a staged deployment."""
    found: dict[str, Any] = next(v for v in report["verdicts"] if v["gate"] == "staged")
    return found


def finalize(vm: VM) -> bool:
    """What a shutdown does to what is staged: the guard, then ostree; whether it has become the default."""
    assert ostree.staged(vm)
    vm.ok("systemctl stop ostree-finalize-staged.service")
    first = vm.ok("ostree admin status").splitlines()[0]
    return not first.startswith("*") and not first.endswith(("(staged)", "(finalization locked)"))


def test_a_broken_go_is_held_back_until_a_sound_one_comes(machine: VM) -> None:
    said = stage(machine, "truncated", STAYS)
    assert any("bin/go is cut short" in line for line in said)
    assert any("go-health-hook override --for 2h" in line for line in said)
    assert locked(machine)
    assert note(machine)["ours"]
    assert machine.ok(f"systemctl show --property=ExecMainStatus --value {STAGED}") == "1"
    report = status(machine)
    assert report["exit_status"] == 1
    assert "cut short" in verdict(report)["reason"]
    assert "cut short" in machine.ok(f"cat {MOTD}")

    # Staged again, with a Go laid over it that would pass: the commit's refusal is remembered, until that is forgotten.
    machine.ok(f"systemctl stop {PATH}; ostree admin deploy --stage debian/truncated")
    root = ostree.staged(machine)
    machine.ok(f"mount --bind {GO} {root}{GO}")
    since = now(machine)
    assert machine.run(f"systemctl start {STAGED}").status != 0
    assert any("bin/go is cut short" in line for line in judged(machine, since, STAYS))
    assert locked(machine)
    answer = machine.run(f"{GATE} staged recheck")
    assert answer.status == 0, answer
    assert "our finalization lock has been lifted" in answer.stdout
    assert not locked(machine)
    machine.ok(f"umount {root}{GO}; systemctl start {PATH}")

    said = stage(machine, "good", "good (debian")
    assert any("good (debian" in line and "healthy" in line for line in said)
    assert status(machine)["held_back"] is None
    assert machine.run(f"cat {MOTD}").status != 0
    machine.reboot()
    assert ostree.booted(machine) == "good"


def test_staged_and_rebooted_at_once(machine: VM) -> None:
    machine.ok(f"systemctl stop {PATH}")  # it would have had no time
    machine.ok("ostree admin deploy --stage debian/other-go")
    machine.reboot()
    assert ostree.booted(machine) == "main"
    report = status(machine)
    assert report["exit_status"] == 1
    reason = verdict(report)["reason"]
    before = [e["MESSAGE"] for e in machine.journal("--boot=-1", "--identifier=go-health-hook")]
    assert any("brings a broken Go" in line and reason in line for line in before)
    ostree_said = [e["MESSAGE"] for e in machine.journal("--boot=-1", "--unit=ostree-finalize-staged")]
    assert "locked for finalization" in "\n".join(ostree_said)
    assert "staged" in machine.ok(f"cat {MOTD}")


def test_an_override_lets_it_become_the_default_and_the_next_boot_fails(machine: VM) -> None:
    stage(machine, "truncated", STAYS)
    override = "go-health-hook override --for 1h --reason 'trying it'"
    for command, words in (
        (override, "our finalization lock has been lifted"),
        ("go-health-hook override --clear", STAYS),
        (override, "our finalization lock has been lifted"),
    ):
        since = now(machine)
        machine.ok(command)
        judged(machine, since, words)
        assert locked(machine) == (words == STAYS)
    machine.reboot()
    assert ostree.booted(machine) == "truncated"
    boot = [e["MESSAGE"] for e in machine.journal("--boot=0", "--unit=go-health-hook-boot")]
    assert any("this boot passes although" in line and "trying it" in line for line in boot), boot
    machine.ok("systemctl start boot-complete.target")

    machine.ok("go-health-hook override --clear; systemctl stop boot-complete.target go-health-hook-boot.service")
    since = now(machine)
    assert machine.run("systemctl start boot-complete.target").status != 0
    assert machine.ok("systemctl is-failed go-health-hook-boot.service") == "failed"
    said = "\n".join(heard(machine, since, "to roll back: ostree admin set-default 1 && systemctl reboot"))
    assert "Go is broken after this boot" in said
    assert "this is truncated (debian" in said
    assert "changed since main (debian" in said


def test_locks_of_others_and_our_own(machine: VM) -> None:
    machine.ok(f"systemctl stop {PATH}")
    machine.ok("ostree admin deploy --stage debian/truncated && ostree admin lock-finalization")
    since = now(machine)
    assert machine.run(f"systemctl start {STAGED}").status != 0
    judged(machine, since, "locked by somebody else already")
    assert locked(machine)
    assert not note(machine)["ours"]
    machine.ok(f"systemctl start {PATH}")

    # Theirs is gone, ours comes.
    since = now(machine)
    machine.ok("ostree admin lock-finalization --unlock")
    judged(machine, since, STAYS)
    assert locked(machine)
    assert note(machine)["ours"]

    # ostree takes that lock away when another one is staged, a moment after it is there: it is not taken for another's.
    stage(machine, "other-compile", "other-compile (debian", STAYS)
    assert locked(machine)
    assert note(machine)["ours"]
    assert not finalize(machine)

    # A lock that is no longer ours is not lifted for a Go that is sound.
    machine.ok(f"systemctl stop {PATH}")
    machine.ok("ostree admin deploy --stage debian/good && ostree admin lock-finalization")
    since = now(machine)
    machine.ok(f"systemctl start {STAGED}")
    judged(machine, since, "locked by somebody else: that lock is left alone")
    assert not finalize(machine)


def test_a_go_that_hangs_is_locked_in_time_and_none_at_all_is_let_through(machine: VM) -> None:
    configure(machine, budget="staged = 4")
    stage(machine, "hangs", STAYS)
    assert machine.ok(f"systemctl show --property=ExecMainStatus --value {STAGED}") == "3"
    assert locked(machine)
    assert "time ran out" in machine.ok(f"cat {MOTD}")
    stage(machine, "none", "nothing to protect")
    assert machine.run(f"cat {MOTD}").status != 0
    assert finalize(machine)


def test_discarded_and_only_warned_about(machine: VM) -> None:
    configure(machine, ostree="on-failure = discard")
    stage(machine, "truncated", "has been discarded")
    assert not ostree.staged(machine)

    # Where that fails, the lock is what is left.
    machine.ok(
        "mkdir /run/up /run/work && mount -t overlay -o lowerdir=/usr/bin,upperdir=/run/up,workdir=/run/work x /usr/bin"
    )
    machine.put("/usr/bin/rpm-ostree", "#!/bin/sh\necho error: Transaction in progress >&2\nexit 1\n", 0o755)
    said = stage(machine, "truncated", STAYS)
    assert any("could not be discarded" in line and "Transaction in progress" in line for line in said)
    assert locked(machine)
    assert note(machine)["ours"]
    assert status(machine)["exit_status"] == 1
    machine.ok("rm /usr/bin/rpm-ostree")

    configure(machine, ostree="on-failure = warn")
    since = now(machine)
    machine.ok(f"systemctl start {STAGED}")
    judged(machine, since, "on-failure = warn", "our finalization lock has been lifted")
    assert machine.run(f"cat {MOTD}").status != 0
    assert finalize(machine)


def test_a_guard_that_is_killed_hung_or_gone_holds_nothing_up(machine: VM) -> None:
    assert machine.ok(f"systemctl show --property=TimeoutStopUSec --value {GUARD}") == "40s"
    machine.ok(f"systemctl stop {PATH}")

    machine.ok("ostree admin deploy --stage debian/hangs")
    since = now(machine)
    machine.ok("systemctl stop --no-block ostree-finalize-staged.service")
    heard(machine, since, f"Stopping {GUARD}")
    machine.ok(f"systemctl kill --signal=KILL {GUARD}; systemctl stop ostree-finalize-staged.service")
    heard(machine, since, f"{GUARD}: Sent signal SIGKILL to control process", "Bootloader updated")
    assert not machine.ok("ostree admin status").startswith("*")

    # Killed by systemd once its time is over; here that is cut short.
    machine.put(f"/run/systemd/system/{GUARD}.d/short.conf", "[Service]\nTimeoutStopSec=2\n")
    machine.put("/run/hangs", "#!/bin/sh\nexec sleep infinity\n", 0o755)
    machine.ok(f"systemctl daemon-reload; mount --bind /run/hangs {GATE}")
    machine.ok("ostree admin deploy --stage debian/truncated")
    since = now(machine)
    assert finalize(machine)
    heard(machine, since, f"{GUARD}: Stopping timed out. Killing", "Bootloader updated")

    machine.ok(f"umount {GATE}; mkdir /run/none; mount --bind /run/none /usr/libexec/go-health-hook")
    machine.ok("ostree admin deploy --stage debian/other-go")
    assert finalize(machine)


def test_an_automatic_update_does_not_start_from_a_broken_go(machine: VM) -> None:
    unit = "rpm-ostreed-automatic.service"
    machine.put(f"/etc/systemd/system/{unit}", "[Service]\nExecStart=/usr/bin/touch /run/updated\nType=oneshot\n")
    machine.ok(f"systemctl daemon-reload; systemctl start {unit}; ls /run/updated; rm /run/updated")
    machine.ok(f"head -c 5M {GO}/bin/go >/run/go; chmod +x /run/go; mount --bind /run/go {GO}/bin/go")
    since = now(machine)
    assert machine.run(f"systemctl start {unit}").status != 0
    said = heard(machine, since, "the automatic update is stopped", f"Failed to start {unit}")
    assert any("bin/go is cut short" in line for line in said)
    assert any("Control process exited, code=exited, status=1" in line for line in said)
    assert machine.run("ls /run/updated").status != 0
