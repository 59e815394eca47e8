# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a staged image: refused, finalized, let through, left alone. bootc is a stand-in (bootc.py)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from go_health_hook.errors import EXIT_VETO
from tests.testbed import composefs
from tests.testbed.machine import Machine

pytestmark = pytest.mark.root

STAGED = "/run/composefs/staged-deployment"
GATE = "/usr/libexec/go-health-hook/gate"
BREAKAGES = {
    "truncated": "bin/go is cut short",
    "other-compile": "mixed GOROOT",
    "no-crypto-tls": "crypto/tls",
}


class Backend:
    """The machine, and the ids of its images by name."""

    def __init__(self, machine: Machine, images: dict[str, str]) -> None:
        self.machine = machine
        self.images = images

    def stage(self, name: str, *options: str) -> None:
        """What `bootc switch` leaves behind."""
        self.machine.run(["bootc", "stage", self.images[name], *options])

    def judge(self, *words: str) -> tuple[int, str]:
        """The path unit's run, or the guard's: status, and what it said."""
        done = self.machine.run([GATE, "staged", *words], check=False)
        return done.returncode, done.stdout + done.stderr

    def file(self) -> dict[str, object]:
        return dict(json.loads(self.machine.read(STAGED)))

    @property
    def locked(self) -> bool:
        return bool(self.file()["finalization_locked"])

    def next_boot(self) -> str:
        """The image that boots after a shutdown: the guard, then bootc's own finalization."""
        self.judge("shutdown")
        self.machine.run(["bootc", "composefs-finalize-staged"])
        first = self.machine.read("/boot/loader/entries").split()[0]
        return next(name for name, id in self.images.items() if id == first)

    def status(self) -> dict[str, object]:
        return dict(json.loads(self.machine.run("go-health-hook status --json", check=False).stdout))


@pytest.fixture
def backend() -> Iterator[Backend]:
    for machine, images in composefs.booted():
        machine.write("/etc/go-health-hook.conf", "[budget]\nstaged = 60\n")
        yield Backend(machine, images)


def test_sound_image_is_finalized(backend: Backend) -> None:
    backend.stage("good")
    code, said = backend.judge()
    assert (code, "healthy" in said, backend.locked) == (0, True, False), said
    assert backend.next_boot() == "good"


@pytest.mark.parametrize("name", BREAKAGES)
def test_broken_image_is_not_finalized_until_a_sound_one_comes(backend: Backend, name: str) -> None:
    backend.stage(name)
    code, said = backend.judge()
    assert code == 1, said
    assert BREAKAGES[name] in said
    assert f"example.com/{name} (sha256:" in said
    assert backend.locked
    report = backend.status()
    assert report["exit_status"] == 1
    assert BREAKAGES[name] in json.dumps(report)
    assert BREAKAGES[name].split()[-1] in backend.machine.read("/etc/motd.d/go-health-hook")
    assert backend.next_boot() == "main"
    backend.stage("good")
    assert backend.judge()[0] == 0
    assert backend.next_boot() == "good"
    assert not backend.machine.path("/etc/motd.d/go-health-hook").exists()


def test_broken_image_is_refused_by_the_guard_alone(backend: Backend) -> None:
    backend.stage("truncated")
    assert backend.next_boot() == "main"


def test_image_without_go_is_finalized(backend: Backend) -> None:
    backend.stage("none")
    assert backend.next_boot() == "none"


def test_override_lifts_our_lock_and_its_end_sets_it_again(backend: Backend) -> None:
    backend.stage("truncated")
    backend.judge()
    backend.machine.run("go-health-hook override --for 2h --reason mirror")
    code, said = backend.judge()
    assert (code, backend.locked) == (0, False), said
    backend.machine.run("go-health-hook override --clear")
    backend.judge()
    assert backend.locked
    backend.machine.run("go-health-hook override --for 2h --reason mirror")
    assert backend.next_boot() == "truncated"


def test_lock_of_download_only_is_left_alone(backend: Backend) -> None:
    backend.stage("good", "--download-only")
    backend.judge()
    assert backend.locked
    assert backend.next_boot() == "main"
    # With a broken image too: ours is none, so no override lifts what the operator has set.
    backend.stage("truncated", "--download-only")
    backend.judge()
    backend.machine.run("go-health-hook override --for 2h --reason mirror")
    backend.judge()
    assert backend.locked
    backend.machine.run("go-health-hook override --clear; bootc upgrade --from-downloaded")
    backend.judge()
    assert backend.locked, "once the operator lets it go, the gate refuses it"


def test_soft_reboot_into_a_refused_image_is_taken_back(backend: Backend) -> None:
    backend.stage("truncated")
    id = backend.images["truncated"]
    for _ in range(2):  # one stacked on the other
        backend.machine.run(["bootc", "internals", "prep-soft-reboot", id])
    code, said = backend.judge()
    assert code == 1, said
    assert "nextroot" not in backend.machine.run("cat /proc/1/mountinfo").stdout
    assert "taken back" in said


def test_discard_is_bootcs_own(backend: Backend) -> None:
    backend.machine.write("/etc/go-health-hook.conf", "[budget]\nstaged = 60\n[ostree]\non-failure = discard\n")
    backend.stage("truncated")
    backend.judge()
    assert not backend.machine.path(STAGED).exists()
    assert backend.status()["exit_status"] == 1


def test_going_back_with_something_staged_is_left_to_bootc(backend: Backend) -> None:
    backend.machine.run("bootc rollback")
    backend.stage("truncated")
    assert backend.judge()[0] == 1
    assert backend.next_boot() == "same"


@pytest.mark.parametrize(
    "spoil",
    [
        "umount -l /sysroot/composefs; mount -t tmpfs none /sysroot/composefs; mkdir /sysroot/composefs/images",
        f"sed -i 's/}}/,\"version\":2}}/' {STAGED}",
        f"echo garbage >{STAGED}",
        f"rm {STAGED}; mkfifo {STAGED}",
        f"rm {STAGED}; ln -s /etc/passwd {STAGED}",
    ],
    ids=["no image", "unknown field", "garbage", "fifo", "link"],
)
def test_what_cannot_be_read_is_not_judged_and_holds_nothing_back(backend: Backend, spoil: str) -> None:
    backend.stage("truncated")
    backend.machine.run(spoil)
    before = backend.machine.run(f"ls -l {STAGED}; timeout 1 cat {STAGED}", check=False).stdout
    code, said = backend.judge()
    assert code not in (1, 3), said
    assert "the update goes on" in said
    assert backend.machine.run(f"ls -l {STAGED}; timeout 1 cat {STAGED}", check=False).stdout == before
    report = backend.status()
    assert report["exit_status"] == 3, report


@pytest.mark.parametrize(
    ("previous", "status", "words"),
    [
        ("same", EXIT_VETO, "to go back: bootc rollback && systemctl reboot"),
        ("truncated", 0, "the Go of the previous deployment is broken as well"),
        ("none", 0, "the previous deployment has no Go"),
    ],
)
def test_boot_of_a_broken_image_is_failed_where_going_back_mends_it(previous: str, status: int, words: str) -> None:
    for machine, _ in composefs.booted("bad", previous):
        done = machine.run([GATE, "boot", "greenboot"], check=False)
        assert done.returncode == status, done.stdout
        assert words in done.stdout


def test_nothing_is_written_below_sysroot_and_nothing_stays_mounted(backend: Backend) -> None:
    count = "find /sysroot -xdev -newer /run/mark | grep -v '^/sysroot/state/os/default/var\\|/etc/motd.d' | sort"
    mounts = "cut -d' ' -f4-5 /proc/self/mountinfo | sort"
    before = backend.machine.run(mounts).stdout
    backend.machine.run("touch /run/mark")
    backend.stage("truncated")
    backend.judge()
    backend.judge("shutdown")
    assert "composefs" not in backend.machine.run(count, check=False).stdout
    assert backend.machine.run(mounts).stdout == before


@pytest.mark.parametrize("turns", [20, pytest.param(200, marks=pytest.mark.long)])
def test_killed_at_any_moment_the_file_is_whole_and_a_sound_image_unlocked(backend: Backend, turns: int) -> None:
    dice = random.Random(1)
    mounts = "cut -d' ' -f4-5 /proc/self/mountinfo | sort"
    before = backend.machine.run(mounts).stdout
    seconds = 0.4
    for turn in range(turns):
        name = ("good", "truncated")[turn % 2]
        backend.stage(name)
        process = backend.machine.start([GATE, "staged", *(["shutdown"] if turn % 4 > 1 else [])])
        # The moment is what the test is about: any is right.
        try:
            process.wait(dice.random() * seconds)
        except Exception:
            for pid, words in backend.machine.processes().items():
                if GATE in words:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        process.communicate()
        assert set(backend.file()) == {"depl_id", "finalization_locked"}
        assert backend.file()["depl_id"] == backend.images[name]
        assert not (name == "good" and backend.locked)
    assert backend.machine.run(mounts).stdout == before
    backend.stage("truncated")
    backend.judge()
    assert backend.locked
    left = [p.name for p in Path(backend.machine.path("/run/go-health-hook")).iterdir()]
    assert not [name for name in left if name.startswith("staged-deployment.")]
