# SPDX-License-Identifier: GPL-2.0-or-later
"""cpu, ps and exec: their starts against Python's own, and ps among a thousand processes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.bench.measure import quiet, row, seconds, side_by_side
from tests.toolchains import waiting
from tests.toolchains.trees import CACHE, TOP

PROCESSES, GO_PROCESSES = 1000, 100


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["make", "-s", "install", f"DESTDIR={folder}"], cwd=TOP, check=True)
        subprocess.run(["/usr/bin/python3", "-m", "compileall", "-q", f"{folder}/usr/lib/go-health-hook"], check=True)
        _figures(str(Path(folder) / "usr/bin/go-health-hook"))


def _figures(hook: str) -> None:
    print(quiet())
    python = ["/usr/bin/python3", "-I", "-c", "pass"]
    go = str(CACHE / "go/1.27.3/bin/go")
    a, b, ratio = side_by_side([[hook, "exec", "--", go, "version"]], [python, [go, "version"]])
    row("exec -- go version", a, "s")
    row("python3 -I -c pass; go version", b, "s")
    row("ratio", ratio, "", 1.6)
    # What --unit asks about is predicted, not measured, so that this is the command alone, toolchain or not.
    _, _, ratio = side_by_side([[hook, "cpu", "--unit", "/"]], [python])
    row("cpu --unit / python3 -I -c pass: no toolchain is run", ratio, "", 2.0)
    # bubblewrap, setpriv and the toolchain have to start as well as Python.
    _, _, ratio = side_by_side([[hook, "--goroot", str(CACHE / "go/1.27.3"), "cpu"]], [python])
    row("cpu, asking a toolchain in its sandbox / python3", ratio, "", 4.0)
    _crowd(hook)


def _crowd(hook: str) -> None:
    """A thousand processes, a hundred of them Go's, of several builds."""
    programs = [str(waiting.program(name)) for name in waiting.WAYS]
    reading, writing = os.pipe()
    crowd = []
    try:
        for i in range(PROCESSES - GO_PROCESSES):
            crowd.append(
                subprocess.Popen([["sleep", "1000"], ["cat"]][i % 2], stdin=reading, stdout=subprocess.DEVNULL)
            )
        for i in range(GO_PROCESSES):
            crowd.append(subprocess.Popen([programs[i % len(programs)]], stdin=reading, stderr=subprocess.DEVNULL))
        worst = max(seconds([[hook, "ps", "--json"]]) for _ in range(5))
        row(f"ps among {PROCESSES} processes, {GO_PROCESSES} of Go: worst of 5", worst, "s", 1.5)
    finally:
        os.close(reading)
        os.close(writing)
        for process in crowd:
            process.send_signal(signal.SIGKILL)
        for process in crowd:
            process.wait()
