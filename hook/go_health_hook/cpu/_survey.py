# SPDX-License-Identifier: GPL-2.0-or-later
"""A look at every process, of which any may be made to hold the look up: bounded for each, for each user and in all."""

from __future__ import annotations

import os
import resource

from go_health_hook import files
from go_health_hook.cpu._processes import Processes
from go_health_hook.deadline import Deadline
from go_health_hook.linux.kernel_files import Malformed, read_file
from go_health_hook.records import Record
from go_health_hook.run.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from go_health_hook.cpu._processes import GoProcess

PATIENCE = 3.0  # seconds for one process, of which most take a thousandth
PATIENCE_LEAST = 0.2  # after several that took longer
STALLS_MAX = 2  # processes of one user that may hold us up before the rest of that user's come last
_MEMORY = 512 << 20  # bytes that looking at them may take in addition to what Python itself has
_STATUS_MAX = 1 << 16


class Survey(Record):
    """What was made of the running Go processes.

    found    what `shown` was to make of each
    missed   the ids of processes that were not looked at: time ran out, or one of them held us up
    refused  of how many we may not see the executable
    """

    found: list[Any] = []
    missed: list[int] = []
    refused: int = 0

    def missed_by(self, proc: str = "/proc") -> dict[str, int]:
        """How many processes of which user were not looked at and still run, the user with most of them first."""
        names = Processes(proc)
        counts: dict[str, int] = {}
        for pid in self.missed:
            uid = _user(pid, proc)
            if uid >= 0:
                counts[names.name_of(uid)] = counts.get(names.name_of(uid), 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def survey(shown: Callable[[GoProcess], object], deadline: Deadline, proc: str = "/proc") -> Survey:
    """Take what `shown` makes of each Go process that can be looked into: of all as root, else of one's own.

    A worker looks and sends it, so plain values only. A process's owner may have put its files on a file system that
    never answers, or made them cost more than there is. The worker has bounded memory. When it is held up, another
    continues behind the process that did it. Each that holds us up gets half the time of
    the one before. A user whose processes did it STALLS_MAX times comes after all others.
    """
    done = Survey()
    pids = sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    patience = max(PATIENCE_LEAST, min(PATIENCE, deadline.remaining() / 10))
    stalls: dict[int, int] = {}
    while pids and not deadline.expired:
        looked = _look(pids, shown, deadline, patience, proc, done)
        if looked < len(pids) and not deadline.expired:
            culprit = pids[looked]
            done.missed.append(culprit)
            looked += 1
            patience = max(PATIENCE_LEAST, patience / 2)
            user = _user(culprit, proc)
            stalls[user] = stalls.get(user, 0) + 1
            if stalls[user] == STALLS_MAX:
                rest = [(_user(pid, proc), pid) for pid in pids[looked:]]
                pids[looked:] = [pid for _, pid in sorted(rest, key=lambda p: stalls.get(p[0], 0) >= STALLS_MAX)]
        pids = pids[looked:]
    done.missed += pids
    return done


def _look(
    pids: list[int], shown: Callable[[GoProcess], object], deadline: Deadline, patience: float, proc: str, done: Survey
) -> int:
    """Look at the processes in their order until one takes too long; return how many were looked at."""
    worker = Worker(lambda send: _work(tuple(pids), shown, proc, send))
    looked = refused = 0
    try:
        while looked < len(pids):
            message = next(worker.messages(deadline.within(patience)), None)
            if message is None:
                break
            if len(message) == 2:
                raise RuntimeError(message[1])
            found, refused, missed = message
            done.found += found
            done.missed += missed
            looked += 1
    finally:
        worker.close()
    done.refused += refused
    return looked


def _work(
    pids: tuple[int, ...], shown: Callable[[GoProcess], object], proc: str, send: Callable[[object], None]
) -> None:
    """In the worker: a message for each process, whatever it is."""
    own = int(files.head("/proc/self/statm").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + _MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    processes = Processes(proc)
    for pid in pids:
        found: list[object] = []
        missed: list[int] = []
        try:
            one = processes.one(pid)
            if one is not None:
                found.append(shown(one))
        except Exception:  # of whatever kind, it is one process's doing, and the others are still to be seen
            missed.append(pid)
        send((found, processes.refused, missed))


def _user(pid: int, proc: str) -> int:
    """The real user of a process, or -1. The folder's owner says less: root's, where the process is not dumpable."""
    try:
        for line in read_file(f"{proc}/{pid}/status", _STATUS_MAX).splitlines():
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    except (OSError, Malformed, ValueError):
        pass
    return -1
