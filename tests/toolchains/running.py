# SPDX-License-Identifier: GPL-2.0-or-later
"""Go programs that run while a test looks at them."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.toolchains.trees import Hook

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@contextmanager
def started(
    program: Path | str, *args: str, env: dict[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A Go program that has said its GOMAXPROCS on stderr and waits."""
    process = subprocess.Popen([program, *args], env=env or {"PATH": os.environ["PATH"]}, text=True, **PIPES, **options)
    try:
        yield process
    finally:
        process.communicate("")


def taken(process: subprocess.Popen[str]) -> int:
    assert process.stderr
    return int(process.stderr.readline().split()[1])


def listed(hook: Hook, pid: int, **options: Any) -> dict[str, Any]:
    done = hook("ps", "--json", **options)
    assert done.returncode == 0, done.stderr
    return next(p for p in json.loads(done.stdout)["processes"] if p["pid"] == pid)
