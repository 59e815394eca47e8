# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole commands timed side by side: in turn, A B A B …, so that a machine that slows down slows both."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Sequence

Command = Sequence[str]


def seconds(commands: Sequence[Command], env: dict[str, str] | None = None) -> float:
    """The wall time of running commands one after another."""
    started = time.monotonic()
    for command in commands:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    return time.monotonic() - started


def side_by_side(
    a: Sequence[Command], b: Sequence[Command], runs: int = 15, env: dict[str, str] | None = None
) -> tuple[float, float, float]:
    """The median seconds of A and of B, and the median of the ratios A ÷ B pair by pair, after a warm-up."""
    seconds(a, env), seconds(b, env)
    pairs = [(seconds(a, env), seconds(b, env)) for _ in range(runs)]
    return (
        statistics.median(x for x, _ in pairs),
        statistics.median(y for _, y in pairs),
        statistics.median(x / y for x, y in pairs),
    )


# Runs a command and waits for all that it leaves behind, whose CPU time counts too (prctl(2), PR_SET_CHILD_SUBREAPER).
WAIT_FOR_ALL = """
import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    while True:
        os.wait()
except ChildProcessError:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(used.ru_utime + used.ru_stime)
"""


def cpu_seconds(command: Command, runs: int = 7, env: dict[str, str] | None = None) -> float:
    """The median CPU time of a command and of all that it starts or leaves behind, in seconds."""
    argv = ["/usr/bin/python3", "-I", "-c", WAIT_FOR_ALL, *command]
    return statistics.median(
        float(subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout) for _ in range(runs)
    )


def peak_mib(command: Command) -> float:
    """The largest resident set, in MiB, of the command and its workers; what runs in its own sandbox is left out."""
    script = "import os,resource,subprocess,sys;subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL);"
    script += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", script, *command], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1024


def row(what: str, value: float, unit: str, aim: float | None = None) -> None:
    """Print one figure, with what is aimed at."""
    mark = "" if aim is None else f"   aim <= {aim:g}" + ("" if value <= aim else "   MISSED")
    print(f"  {what:<58}{value:8.3f} {unit}{mark}")


def quiet() -> str:
    """How busy the machine is, since every figure depends on it."""
    return f"  load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
