# SPDX-License-Identifier: GPL-2.0-or-later
# Stands for libostree's commands about a staged deployment, which need a machine that ostree booted.
"""Written from what ostree 2026.4 did: a staged file with a key in it, a lock file, and a lock on the sysroot.

Time passes by `pause`: the hook sleeps between two looks, and the test's script goes on by one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from go_health_hook.gates import _refused, staged
from go_health_hook.linux import ostree, soft_reboot
from go_health_hook.run import process
from go_health_hook.run.result import Result

A, B, C = "a" * 64, "b" * 64, "c" * 64


class Libostree:
    """The deployments of one machine. `script` is a generator: each step is what others do meanwhile."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock_file = folder / "staged-deployment-locked"
        self.staged = ""
        self.key = False
        self.transaction = False
        self.zincati = False
        self.asked: list[str] = []
        self.script: Iterator[None] = iter(())
        monkeypatch.setattr(ostree, "LOCK_FILE", str(self.lock_file))
        monkeypatch.setattr(ostree, "BOOTED", str(folder))
        monkeypatch.setattr(ostree, "SYSROOT_LOCK", str(folder / "none"))
        monkeypatch.setattr(soft_reboot, "MOUNTS", "/dev/null")
        monkeypatch.setattr(process, "run_host", self.run)
        monkeypatch.setattr(process, "has_host", lambda name: name == "ostree")
        monkeypatch.setattr(_refused, "NOTE", str(folder / "note.json"))
        monkeypatch.setattr(_refused, "KEPT", str(folder / "refused.json"))
        monkeypatch.setattr(staged, "STEP_SECONDS", 0.0)
        monkeypatch.setattr(staged.time, "sleep", self.pause)

    @property
    def locked(self) -> bool:
        """Whether a shutdown would leave what is staged as it is."""
        return self.key or self.lock_file.exists()

    def pause(self, seconds: float) -> None:
        """Let the others go on."""
        next(self.script, None)

    def stage(self, checksum: str, *, key: bool = False) -> None:
        """Stage a deployment: the lock of the one before goes."""
        self.staged, self.key = checksum, key
        self.lock_file.unlink(missing_ok=True)

    def lock(self) -> None:
        """Lock it as a person does."""
        self.key = True
        self.lock_file.touch()

    def run(self, name: str, arguments: Sequence[str], deadline: object) -> Result:
        """One command, as the hook runs it."""
        result = Result([name, *arguments])
        words = " ".join(arguments)
        if name == "systemctl":
            result.status = 0 if self.zincati else 3
            return result
        if name != "ostree":
            result.error = "is not installed"
            return result
        self.asked.append(words)
        if self.transaction and words != "admin status --skip-signatures":
            result.timed_out = True
            return result
        result.status = 0
        if words == "admin lock-finalization":
            result.stdout = b"Staged deployment is already locked\n" if self.key else b""
            self.lock()
        elif words == "admin lock-finalization --unlock":
            result.status = 0 if self.key else 1
            if self.key:
                self.key = False
                self.lock_file.unlink(missing_ok=True)
        elif words == "admin undeploy 0":
            self.stage("")
        elif words == "admin status --skip-signatures":
            mark = "finalization locked" if self.key else "staged"
            lines = [f"  debian {self.staged}.0 ({mark})"] if self.staged else []
            result.stdout = "\n".join([*lines, f"* debian {A}.0"]).encode()
        return result
