# SPDX-License-Identifier: GPL-2.0-or-later
"""What the threads of a process and of all below it do at a moment: the CPUs they run on, the CPU time they have used.

Fields: proc_pid_stat(5).
"""

from __future__ import annotations

import os

from go_health_hook.linux.kernel_files import Malformed, read_file
from go_health_hook.records import Record
from go_health_hook.text import clean

TICK = os.sysconf("SC_CLK_TCK")
_TREE_MAX = 4096  # processes of one tree that are looked at


class Moment(Record):
    """The tree at a moment.

    cpu_s      CPU time so far, seconds, of what lives and of what was waited for
    cpus       the CPUs on which a thread was running
    running    how many threads were runnable
    threads    of the whole tree
    processes  pid: (name, when it began, seconds on the boot clock)
    """

    cpu_s: float
    cpus: frozenset[int]
    running: int
    threads: int
    processes: dict[int, tuple[str, float]]


def look(pid: int) -> Moment:
    """Look at a process and all below it; what vanishes meanwhile is left out."""
    ticks = running = threads = 0
    cpus: set[int] = set()
    processes: dict[int, tuple[str, float]] = {}
    waiting = [pid]
    while waiting and len(processes) < _TREE_MAX:
        process = waiting.pop()
        if process in processes:
            continue
        fields = _stat(f"/proc/{process}/stat")
        if fields is None:
            continue
        name, rest = fields
        ticks += sum(rest[11:15])  # utime, stime, and of children waited for cutime, cstime
        processes[process] = (name, rest[19] / TICK)
        try:
            tasks = os.listdir(f"/proc/{process}/task")
        except OSError:
            continue
        threads += len(tasks)
        for task in tasks:
            place = f"/proc/{process}/task/{task}"
            one = _stat(f"{place}/stat")
            if one is not None and one[1][0]:
                running += 1
                cpus.add(one[1][36])
            try:
                waiting += [int(word) for word in read_file(f"{place}/children", 1 << 20).split()]
            except (OSError, Malformed, ValueError):
                pass
    return Moment(ticks / TICK, frozenset(cpus), running, threads, processes)


def _stat(path: str) -> tuple[str, list[int]] | None:
    """The name, and the numbers from the third field on, where the state is 1 for running and 0 for any other."""
    try:
        data = read_file(path)
    except (OSError, Malformed):
        return None
    # The name may have any character in it, brackets and spaces included.
    head, _, tail = data.rpartition(b")")
    words = tail.split()
    try:
        return clean(head.partition(b"(")[2], 32), [int(words[0] == b"R"), *(int(word) for word in words[1:])]
    except (ValueError, IndexError):
        return None
