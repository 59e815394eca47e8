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


GREENBOOT = """
[Unit]
Before=boot-complete.target
RequiresMountsFor=/boot /etc
[Service]
Type=oneshot
RemainAfterExit=yes
PrivateMounts=yes
ExecStart=/usr/lib/testbed/greenboot.py health-check
[Install]
WantedBy=multi-user.target
"""
TRIGGER = """
[Unit]
DefaultDependencies=no
After=ostree-finalize-staged.service
RequiresMountsFor=/boot
{order}
[Service]
Type=oneshot
RemainAfterExit=yes
PrivateMounts=yes
ExecStop=/usr/lib/testbed/greenboot.py set-rollback-trigger
[Install]
RequiredBy=ostree-finalize-staged.service
"""
GRUBENV, GREENBOOT_LOG = "/boot/grub2/grubenv", "/var/lib/testbed/greenboot"
SYSTEM = "/etc/systemd/system"


def greenboot(vm: VM, order: str = "") -> None:
    """Install the stand-in for greenboot-rs; `order` is how its trigger is ordered against the guard."""
    vm.put(f"{SYSTEM}/greenboot-healthcheck.service", GREENBOOT)
    vm.put(f"{SYSTEM}/greenboot-set-rollback-trigger.service", TRIGGER.format(order=order))
    vm.ok("mount -o remount,bind,rw /boot; mkdir -p /boot/grub2; rm -f /boot/grub2/grubenv")
    vm.ok("systemctl daemon-reload; systemctl enable greenboot-healthcheck greenboot-set-rollback-trigger")


def first_is_booted(vm: VM) -> bool:
    return vm.ok("ostree admin status").startswith("*")


@pytest.mark.long
def test_staged_update_is_refused_whatever_ends_its_staging(machine: VM) -> None:
    """One shutdown for all: an updater that goes on staging, greenboot-rs's note, and a soft reboot before it."""
    # /boot stays mounted longer than the journal here, so the trigger is stopped by another unit than boot.mount; and
    # after the updater, so that there is something to note.
    greenboot(machine, "Conflicts=final.target\nBefore=final.target updater.service")
    # Two soft reboots into what was refused, stacked; and the lock as ostree shows it.
    said = stage(machine, "truncated", STAYS)
    assert any("bin/go is cut short" in line for line in said)
    assert any("go-health-hook override --for 2h" in line for line in said)
    assert locked(machine)
    assert note(machine)["marks"] == ["file", "key"]
    since = now(machine)
    machine.ok("ostree admin prepare-soft-reboot 0")
    judged(machine, since, "has been taken back")
    machine.ok(f"systemctl stop {PATH}; ostree admin prepare-soft-reboot 0; ostree admin prepare-soft-reboot 0 || :")
    assert "/run/nextroot" in machine.ok("cat /proc/1/mountinfo")
    assert machine.run(f"systemctl start {STAGED}").status != 0
    assert "/run/nextroot" not in machine.ok("cat /proc/1/mountinfo")
    assert locked(machine)
    report = status(machine)
    assert report["exit_status"] == 1
    assert report["image"]["staged"]["locked_by"] == ["go-health-hook"]
    assert "cut short" in machine.ok(f"cat {MOTD}")

    # An updater that is sent SIGTERM and stages all the same, while the machine goes down.
    machine.ok("ostree admin undeploy 0; systemctl stop ostree-finalize-staged.service")
    updater = "[Service]\nType=oneshot\nKillSignal=SIGCONT\nTimeoutStopSec=300\n"
    machine.put(
        f"{SYSTEM}/updater.service", f"{updater}ExecStart=/usr/bin/ostree admin deploy --stage debian/truncated\n"
    )
    machine.ok("rm -f /var/lib/go-health-hook/refused.json; systemctl daemon-reload")
    since = now(machine)
    machine.ok("systemctl start --no-block updater.service")
    heard(machine, since, "Finished go-health-hook-guard.service")
    machine.reboot()
    assert ostree.booted(machine) == "main"
    assert first_is_booted(machine)
    log = machine.ok(f"cat {GREENBOOT_LOG}")
    assert "noted" in log
    assert "rollback" not in log
    assert "next_deployment_id" not in machine.ok(f"cat {GRUBENV}")
    refused = status(machine)["image"]["refused"]
    assert [entry["reboots"] for entry in refused] == [1]
    before = [e["MESSAGE"] for e in machine.journal("--boot=-1", "--identifier=go-health-hook")]
    assert any("brings a broken Go" in line for line in before)

    # Remembered by the commit, and a sound one is finalized.
    machine.ok(f"systemctl stop {PATH}")
    machine.ok("ostree admin deploy --stage debian/truncated")
    root = ostree.staged(machine)
    machine.ok(f"mount --bind {GO} {root}{GO}")
    assert machine.run(f"systemctl start {STAGED}").status != 0
    assert locked(machine)
    answer = machine.run(f"{GATE} staged recheck")
    assert answer.status == 0, answer
    assert "our finalization lock has been lifted" in answer.stdout
    assert not locked(machine)
    machine.ok(f"umount {root}{GO}; systemctl start {PATH}")
    stage(machine, "good", "good (debian")
    assert status(machine)["held_back"] is None
    assert finalize(machine)


@pytest.mark.long
@pytest.mark.parametrize("order", ["Before=go-health-hook-guard.service", "After=go-health-hook-guard.service", ""])
def test_greenboot_note_of_a_refused_deployment_never_lasts(machine: VM, order: str) -> None:
    greenboot(machine, order)
    stage(machine, "truncated", STAYS)
    machine.ok("systemctl start go-health-hook-greenboot.service")
    if not order:  # the guard does not get its turn
        machine.ok(f"systemctl kill --signal=KILL {GUARD} || :; mount --bind /usr/bin/false {GATE}")
    # As the shutdown stops both. Nothing stops the trigger together with the finalization alone.
    machine.ok("systemctl stop ostree-finalize-staged.service greenboot-set-rollback-trigger.service")
    assert first_is_booted(machine)
    assert "noted" in machine.ok(f"cat {GREENBOOT_LOG}")
    machine.run(f"umount {GATE}")
    machine.ok("systemctl stop go-health-hook-greenboot.service")
    assert "next_deployment_id" not in machine.ok(f"cat {GRUBENV}")
    # A note of another deployment is left alone.
    machine.ok(
        "mount -o remount,bind,rw /boot; grub2-editenv /boot/grub2/grubenv set greenboot_next_deployment_id=0123"
    )
    machine.ok("systemctl start go-health-hook-greenboot.service")
    assert "next_deployment_id=0123" in machine.ok(f"cat {GRUBENV}")


BOOT = "go-health-hook-boot.service"


@pytest.mark.long
def test_boot_on_a_starved_machine_is_never_red(machine: VM) -> None:
    greenboot(machine)
    for limit in ("CPUQuota=10%", "MemoryMax=48M", "MemoryMax=96M"):
        machine.put(f"/run/systemd/system/{BOOT}.d/limit.conf", f"[Service]\n{limit}\n")
        machine.ok(f"systemctl daemon-reload; systemctl restart {BOOT}; /usr/libexec/go-health-hook/boot-verdict")


@pytest.mark.long
def test_boot_is_failed_only_where_going_back_repairs_it(machine: VM) -> None:
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
    boot = [e["MESSAGE"] for e in machine.journal("--boot=0", f"--unit={BOOT}")]
    assert any("this boot passes although" in line and "trying it" in line for line in boot), boot

    # Nobody acts on a failed boot: zincati and all else behind boot-complete.target start.
    machine.ok("go-health-hook override --clear")
    since = now(machine)
    machine.ok(f"systemctl restart {BOOT}; systemctl start boot-complete.target")
    heard(machine, since, "this boot passes all the same: nothing on this machine acts on a failed boot")
    assert "broken since" in machine.ok(f"cat {MOTD}")

    # With greenboot, and a sound deployment before, it is red.
    greenboot(machine)
    since = now(machine)
    assert machine.run(f"systemctl restart {BOOT}").status != 0
    said = "\n".join(heard(machine, since, "to go back: ostree admin set-default 1 && systemctl reboot"))
    assert "Go is broken after this boot" in said
    assert "changed since main (debian" in said
    assert machine.run("bash -C /usr/lib/greenboot/check/required.d/50_go_health_hook.sh").status == 1

    # With the same fault in the deployment before, it is not.
    previous = machine.ok('ostree admin status | awk \'/rollback/ {print "/ostree/deploy/" $1 "/deploy/" $2}\'')
    machine.ok(f"head -c 5M {GO}/bin/go >/run/go && chmod +x /run/go && mount --bind /run/go {previous}{GO}/bin/go")
    since = now(machine)
    machine.ok(f"systemctl restart {BOOT}")
    heard(machine, since, "the Go of the previous deployment is broken as well")
    assert machine.run("bash -C /usr/lib/greenboot/check/required.d/50_go_health_hook.sh").status == 0


ZINCATI = """
[Service]
Type=notify
ExecStart=/usr/lib/testbed/zincati.py
Restart=on-failure
"""


@pytest.mark.long
def test_zincati_reboots_once_at_most_for_what_is_refused(machine: VM) -> None:
    machine.put("/run/systemd/system/zincati.service", ZINCATI)
    machine.put("/run/graph", "truncated\n")
    machine.ok("mkfifo /run/ticks; systemctl daemon-reload")
    ticks = machine.start("exec 3<>/run/ticks; while read -r line; do echo tick >&3; echo done; done", stdin=None)
    since = now(machine)
    machine.ok("systemctl start zincati.service")

    def go_on(times: int) -> None:
        for _ in range(times):
            ticks.write(b"x\n")
            assert ticks.line() == "done"
            machine.ok(f"while systemctl is-active --quiet {STAGED}; do sleep 0.2; done")

    go_on(24)
    lines = machine.ok(
        f"journalctl --sync; journalctl --unit=zincati --output=cat --after-cursor='{since}'"
    ).splitlines()
    assert lines.count("reboot") <= 1, lines
    assert "deploy truncated" in lines
    assert first_is_booted(machine)
    machine.put("/run/graph", "truncated good\n")
    for _ in range(10):
        go_on(4)
        if not first_is_booted(machine):
            break
    assert "good (debian" in machine.ok(f"journalctl --unit={STAGED} --output=cat --after-cursor='{since}'")
    assert not first_is_booted(machine)


@pytest.mark.long
def test_locks_of_others_and_our_own(machine: VM) -> None:
    machine.ok(f"systemctl stop {PATH}")
    machine.ok("ostree admin deploy --stage debian/truncated && ostree admin lock-finalization")
    since = now(machine)
    assert machine.run(f"systemctl start {STAGED}").status != 0
    judged(machine, since, "locked by somebody else as well")
    assert locked(machine)
    assert not note(machine)["marks"]
    machine.ok(f"systemctl start {PATH}")

    # Theirs is gone, ours comes.
    since = now(machine)
    machine.ok("ostree admin lock-finalization --unlock")
    judged(machine, since, STAYS)
    assert locked(machine)
    assert note(machine)["marks"]

    # ostree takes that lock away when another one is staged, a moment after it is there: it is not taken for another's.
    stage(machine, "other-compile", "other-compile (debian", STAYS)
    assert locked(machine)
    assert note(machine)["marks"]
    assert not finalize(machine)

    # A lock that is no longer ours is not lifted for a Go that is sound.
    machine.ok(f"systemctl stop {PATH}")
    machine.ok("ostree admin deploy --stage debian/good && ostree admin lock-finalization")
    since = now(machine)
    machine.ok(f"systemctl start {STAGED}")
    judged(machine, since, "locked by somebody else: that lock is left alone")
    assert not finalize(machine)


def test_a_go_that_hangs_is_locked_in_time_and_none_at_all_is_let_through(machine: VM) -> None:
    # Enough for the running Go on an emulated processor: where that does not answer either, the machine is slow.
    configure(machine, budget="staged = 45\nceiling = 100")
    stage(machine, "hangs", STAYS)
    assert machine.ok(f"systemctl show --property=ExecMainStatus --value {STAGED}") == "3"
    assert locked(machine)
    assert "time ran out" in machine.ok(f"cat {MOTD}")
    stage(machine, "none", "nothing to protect")
    assert machine.run(f"cat {MOTD}").status != 0
    assert finalize(machine)


@pytest.mark.long
def test_discarded_and_only_warned_about(machine: VM) -> None:
    configure(machine, ostree="on-failure = discard")
    stage(machine, "truncated", "has been discarded")
    assert not ostree.staged(machine)

    stage(machine, "other-go", "has been discarded")
    configure(machine)
    stage(machine, "truncated", STAYS)
    configure(machine, ostree="on-failure = warn")
    since = now(machine)
    machine.ok(f"systemctl start {STAGED}")
    judged(machine, since, "on-failure = warn", "our finalization lock has been lifted")
    assert machine.run(f"cat {MOTD}").status != 0
    assert finalize(machine)


@pytest.mark.long
def test_a_guard_that_is_killed_hung_or_gone_holds_nothing_up(machine: VM) -> None:
    assert machine.ok(f"systemctl show --property=TimeoutStopUSec --value {GUARD}") == "1min"
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
