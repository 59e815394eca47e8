# SPDX-License-Identifier: GPL-2.0-or-later
"""What trace sees of a running command: samples of its processes, its scheduler's trace, throttling and switches."""

from __future__ import annotations

import os

from go_health_hook import files
from go_health_hook.cpu import _limits, _tasks
from go_health_hook.cpu._schedtrace import Separator
from go_health_hook.cpu._throttling import Stat
from go_health_hook.deadline import Deadline
from go_health_hook.go import buildinfo
from go_health_hook.linux import cgroup
from go_health_hook.records import Record
from go_health_hook.run.attended import Attended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.cpu._schedtrace import Sample
    from go_health_hook.cpu._throttling import Stat
    from go_health_hook.run.process import Running

SAMPLES_MAX = 100_000
SAME_START = 0.15  # seconds by which the start of a process and of the runtime in it may differ
PERF = "/usr/bin/perf"


class Recording(Record):
    """What was seen: times are seconds since CMD was started."""

    command: list[str]
    began: float = 0.0  # on the boot clock, as in /proc/PID/stat
    moments: list[tuple[float, _tasks.Moment]] = []
    stats: list[tuple[float, Stat]] = []
    seconds: float = 0.0
    cpu_s: float = 0.0
    status: int = 0
    perf: dict[str, int] | None = None
    perf_why: str = ""
    processes: dict[int, tuple[str, float]] = {}  # of Go: pid, name, when it began on the boot clock
    known: dict[tuple[int, str], bool] = {}

    def __post_init__(self) -> None:
        self.trace = Separator()
        self.chain = cgroup.read_chain()
        self.affinity = cgroup.affinity()

    def cpus(self) -> list[tuple[float, float]]:
        """CPUs used between samples, over time."""
        points = []
        for (before, old), (at, new) in zip(self.moments, self.moments[1:]):
            if at > before:
                points.append((at, max(0.0, new.cpu_s - old.cpu_s) / (at - before)))
        # CPU time is counted in ticks of 10 ms, so that short intervals jump: a mean of three is what is drawn.
        return [
            (at, sum(v for _, v in points[max(0, i - 1) : i + 2]) / len(points[max(0, i - 1) : i + 2]))
            for i, (at, _) in enumerate(points)
        ]

    def throttled(self) -> list[tuple[float, float]]:
        """The share of periods that were throttled between samples, in percent, over time."""
        points = []
        for (_, old), (at, new) in zip(self.stats, self.stats[1:]):
            periods = (new.periods or 0) - (old.periods or 0)
            share = ((new.throttled or 0) - (old.throttled or 0)) / periods if periods > 0 else 0.0
            points.append((at, 100 * min(1.0, max(0.0, share))))
        return points

    def programs(self) -> list[tuple[int | None, list[Sample]]]:
        """The trace's samples by the process they are of (told by when it began), the busiest first."""
        found: dict[int | None, list[Sample]] = {}
        for sample in self.trace.samples[:SAMPLES_MAX]:
            began = sample.at - sample.since_start
            near = [(abs(began - (start - self.began)), pid) for pid, (_, start) in self.processes.items()]
            distance, pid = min(near, default=(1e9, 0))
            # On a busy machine a line comes late, which leaves no doubt where there was one program only.
            found.setdefault(pid if distance < SAME_START or len(near) == 1 else None, []).append(sample)
        return sorted(found.items(), key=_busy)


def _busy(program: tuple[int | None, list[Sample]]) -> tuple[bool, int]:
    pid, samples = program
    return pid is None, -sum(s.gomaxprocs - s.idle for s in samples)


def sample(program: Attended, recording: Recording, level: Any, at: float) -> None:
    moment = _tasks.look(program.pid)
    if not moment.processes or len(recording.moments) >= SAMPLES_MAX:
        return
    recording.moments.append((at, moment))
    for pid, (name, start) in moment.processes.items():
        # A shell becomes the program that it starts: same process, another name.
        if (pid, name) not in recording.known:
            recording.known[pid, name] = _is_go(pid)
        if recording.known[pid, name]:
            recording.processes[pid] = (name, start)
    stat = _limits.stat_of(level)
    if stat is not None:
        recording.stats.append((at, stat))


def _is_go(pid: int) -> bool:
    try:
        return bool(buildinfo.read(f"/proc/{pid}/exe").version)
    except (buildinfo.NotGo, OSError):
        return False


def start_perf(pid: int, recording: Recording) -> tuple[Running | None, str]:
    """Have perf record the switches between threads, where it is installed and the kernel allows it."""
    if not os.path.exists(PERF):
        recording.perf_why = "perf is not installed"
        return None, ""
    paranoid = int(files.head("/proc/sys/kernel/perf_event_paranoid") or 2)
    if os.geteuid() != 0 and paranoid > -1:
        recording.perf_why = f"perf is allowed to root only (kernel.perf_event_paranoid = {paranoid})"
        return None, ""
    import tempfile

    from go_health_hook.run import process

    folder = tempfile.mkdtemp(prefix="go-health-hook-")
    argv = [PERF, "record", "-q", "-e", "sched:sched_switch", "-p", str(pid), "-o", f"{folder}/data"]
    return process.start(argv, Deadline(86400.0)), folder


def end_perf(perf: Running | None, folder: str, recording: Recording) -> None:
    if perf is None:
        return
    import shutil

    from go_health_hook.run import process

    try:
        perf.deadline = Deadline(5.0)  # it ends with the process it watches
        done = perf.wait()
        if done.timed_out or not os.path.exists(f"{folder}/data"):
            recording.perf_why = "perf saw nothing" if done.ok else f"perf saw nothing: it {done.why()}"
            return
        shown = process.run([PERF, "script", "-i", f"{folder}/data"], Deadline(20.0), max_output=256 << 20)
        recording.perf = _switches(shown.stdout)
        if not recording.perf["switches"]:
            recording.perf, recording.perf_why = None, "perf saw nothing"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _switches(script: bytes) -> dict[str, int]:
    """Count, in perf script's lines, the switches, those forced on a thread, and threads that changed CPUs."""
    import re

    form = re.compile(rb" (\d+) +\[(\d+)\] .*sched:sched_switch: .*prev_state=(\S+) ==> ")
    last: dict[bytes, bytes] = {}
    counts = {"switches": 0, "preempted": 0, "migrations": 0}
    for line in script.splitlines():
        match = form.search(line)
        if match:
            thread, cpu, state = match.groups()
            counts["switches"] += 1
            counts["preempted"] += state.startswith(b"R")
            counts["migrations"] += last.get(thread, cpu) != cpu
            last[thread] = cpu
    return counts
