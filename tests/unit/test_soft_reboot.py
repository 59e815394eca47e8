# SPDX-License-Identifier: GPL-2.0-or-later
"""PID 1's mounts at /run/nextroot: which deployments a soft reboot would enter, stacked mounts included."""

from __future__ import annotations

from pathlib import Path

import pytest

from go_health_hook.deadline import Deadline
from go_health_hook.linux import soft_reboot
from go_health_hook.linux.deployments import Unreadable

A, B = f"{'a' * 64}.0", f"{'b' * 64}.1"
BASE = "25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n26 25 0:24 / /run rw shared:2 - tmpfs tmpfs rw\n"


def overlay(number: int, parent: int, deployment: str) -> str:
    """A deployment mounted by composefs: an overlay, and the binds of its /etc and /sysroot below it."""
    return (
        f"{number} {parent} 0:50 / /run/nextroot ro - overlay composefs ro,lowerdir=x\n"
        f"{number + 1} {number} 254:0 /ostree/deploy/debian/deploy/{deployment}/etc "
        "/run/nextroot/etc rw - ext4 /dev/vda rw\n"
        f"{number + 2} {number} 254:0 / /run/nextroot/sysroot rw - ext4 /dev/vda rw\n"
    )


BIND = f"90 26 254:0 /ostree/deploy/debian/deploy/{A} /run/nextroot rw - ext4 /dev/vda rw\n"


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        (BASE, []),
        (BASE + BIND, [{A}]),
        (BASE + overlay(60, 26, A), [{A}]),
        (BASE + overlay(60, 26, A) + overlay(70, 60, B), [{A}, {B}]),
        (BASE + BIND.replace("/etc", "").replace(A, f"{A}//deleted"), [{A}]),
        (BASE + "90 26 0:61 / /run/nextroot rw - tmpfs x rw\n", [set()]),
        (BASE + "90 26 0:61 / /run/nextroots rw - tmpfs x rw\nnonsense\n\n", []),
    ],
)
def test_stack_names_the_deployment_of_each_mount(mounts: str, found: list[set[str]]) -> None:
    assert soft_reboot.stack(mounts) == found


class Machine:
    """A stand-in for PID 1's namespace: the mounts, and what `umount --lazy` and ostree do to them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, mounts: list[str], stuck: bool = False) -> None:
        self.mounts, self.stuck = mounts, stuck
        self.path = folder / "mountinfo"
        self.asked: list[str] = []
        self.write()
        monkeypatch.setattr(soft_reboot, "MOUNTS", str(self.path))
        monkeypatch.setattr(soft_reboot, "RECORD", str(folder / "nextroot-booted"))
        monkeypatch.setattr(soft_reboot, "in_first", self.run)

    def write(self) -> None:
        self.path.write_text(BASE + "".join(self.mounts))

    def run(self, program: str, arguments: list[str], deadline: Deadline) -> object:
        self.asked.append(program)
        if program == "umount" and not self.stuck:
            self.mounts.pop()
            self.write()

        class Answer:
            ok = program == "umount" and not self.stuck

            def why(self) -> str:
                return "exited with status 32: target is busy"

        return Answer()


def test_cancel_takes_away_every_stacked_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, [overlay(60, 26, B), overlay(70, 60, B)])
    (tmp_path / "nextroot-booted").touch()
    soft_reboot.cancel(B, Deadline(5))
    assert machine.mounts == []
    assert not (tmp_path / "nextroot-booted").exists()


def test_cancel_leaves_another_deployment_on_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, [overlay(60, 26, A), overlay(70, 60, B)])
    soft_reboot.cancel(B, Deadline(5))
    assert machine.mounts == [overlay(60, 26, A)]


def test_cancel_that_fails_is_not_called_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(tmp_path, monkeypatch, [overlay(60, 26, B)], stuck=True)
    with pytest.raises(Unreadable, match="target is busy"):
        soft_reboot.cancel(B, Deadline(5))
