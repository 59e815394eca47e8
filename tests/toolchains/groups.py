# SPDX-License-Identifier: GPL-2.0-or-later
"""Real cgroups of this machine for tests, v1 or v2 as it has them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from go_health_hook.linux import cgroup, mountinfo

PERIOD = 100_000


class Groups:
    """Groups of our own below the root of the hierarchy that has the CPU controller here."""

    def __init__(self) -> None:
        mounts, _ = mountinfo.parse_mounts(Path("/proc/self/mountinfo").read_bytes())
        self.version = cgroup.read_chain().version
        usable = [m for m in mounts if m.has(self.version, "cpu") and m.root == "/" and not m.covered]
        if not usable:
            pytest.skip("no cgroup file system with the CPU controller is mounted here")
        self.point = Path(usable[0].point)
        self.options = ",".join(o for o in usable[0].options if o.startswith(("cpu", "net")))
        self.name = f"go-health-hook-test-{os.getpid()}"
        self.made: list[Path] = []
        self.was_enabled = True
        try:
            if self.version == 2:
                control = self.point / "cgroup.subtree_control"
                self.was_enabled = "cpu" in control.read_text().split()
                control.write_text("+cpu")
            self.make("")
            self.limit("", 800)
        except OSError as e:
            self.close()
            pytest.skip(f"no group with a quota can be made below {self.point}: {e}")

    def path(self, name: str) -> str:
        return f"/{self.name}/{name}".rstrip("/")

    def directory(self, name: str) -> Path:
        return self.point / self.path(name)[1:]

    def make(self, name: str) -> Path:
        """Make the group; where it is v2, hand the controller down to it."""
        directory = self.directory(name)
        if self.version == 2 and self.made:
            (directory.parent / "cgroup.subtree_control").write_text("+cpu")
        directory.mkdir()
        self.made.append(directory)
        return directory

    def limit(self, name: str, percent: float) -> None:
        directory = self.directory(name)
        if self.version == 2:
            (directory / "cpu.max").write_text(f"{int(percent * PERIOD / 100)} {PERIOD}")
        else:
            (directory / "cpu.cfs_quota_us").write_text(str(int(percent * PERIOD / 100)))

    def start(self, name: str, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        procs = self.directory(name) / "cgroup.procs"

        def enter() -> None:
            procs.write_text(str(os.getpid()))

        return subprocess.Popen(command, preexec_fn=enter, text=True, **options)  # noqa: PLW1509

    def run(self, name: str, *command: str | Path, status: int = 0) -> tuple[str, str]:
        """What a program in the group prints, and its messages."""
        process = self.start(name, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate()
        assert process.returncode == status, err
        return out, err

    def close(self) -> None:
        for directory in reversed(self.made):
            directory.rmdir()
        if not self.was_enabled:
            (self.point / "cgroup.subtree_control").write_text("-cpu")
