# SPDX-License-Identifier: GPL-2.0-or-later
"""Run CMD and record its GOMAXPROCS, idle Ps, run queue, the CPUs it really used and how its CPU limit held it back.

Its exit status is CMD's. With --json, what CMD writes to stdout goes to stderr.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time

from go_health_hook.cpu import _chart, _limits, _settings, _tasks
from go_health_hook.cpu._schedtrace import HOLD, Separator
from go_health_hook.cpu.exec import NOT_EXECUTABLE, NOT_FOUND, environment, find_program
from go_health_hook.deadline import Deadline
from go_health_hook.errors import BadInput
from go_health_hook.go import buildinfo, maxprocs
from go_health_hook.linux import cgroup
from go_health_hook.report.style import Style
from go_health_hook.run.attended import Attended
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.cpu._schedtrace import Sample
    from go_health_hook.cpu._throttling import Stat
    from go_health_hook.run.process import Running

PLAIN = True
RUNS_COMMAND = True
INTERVAL_MS = 100
SAMPLES_MAX = 100_000
SAME_START = 0.15  # seconds by which the start of a process and of the runtime in it may differ
PERF = "/usr/bin/perf"
LABEL = 13


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options, then CMD after `--`."""
    parser.usage = (
        "go-health-hook trace [--seconds N] [--interval MS] [--svg FILE] [--no-live] [--json] -- CMD [ARG ...]"
    )
    parser.add_argument(
        "--seconds", metavar="N", type=float, help="end CMD and what it started (SIGTERM) after N seconds"
    )
    parser.add_argument("--interval", metavar="MS", type=int, default=INTERVAL_MS, help="between samples (default 100)")
    parser.add_argument("--svg", metavar="FILE", help="also write the chart to FILE")
    parser.add_argument("--no-live", action="store_true", help="leave the terminal to CMD while it runs")
    parser.add_argument("cmd", nargs="...", metavar="CMD", help="what to run, and its arguments")


class Recording:
    """What was seen: times are seconds since CMD was started."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.began = 0.0  # on the boot clock, as in /proc/PID/stat
        self.moments: list[tuple[float, _tasks.Moment]] = []
        self.stats: list[tuple[float, Stat]] = []
        self.trace = Separator()
        self.seconds = 0.0
        self.cpu_s = 0.0
        self.status = 0
        self.perf: dict[str, int] | None = None
        self.perf_why = ""
        self.processes: dict[int, tuple[str, float]] = {}  # of Go: pid, name, when it began on the boot clock
        self.known: dict[tuple[int, str], bool] = {}
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


def run(args: argparse.Namespace, _settings: Config | None) -> int:
    """Run CMD under observation, report, and return its exit status (128 + its number for a signal)."""
    if not args.cmd:
        raise BadInput("no command to run", hint="go-health-hook trace -- CMD [ARG ...]")
    if not 5 <= args.interval <= 60_000:
        raise BadInput(f"--interval {args.interval}: is not from 5 to 60000", hint="it is in milliseconds")
    if args.seconds is not None and not 0 < args.seconds <= 86400:
        raise BadInput(f"--seconds {args.seconds:g}: is not from above 0 to 86400", hint="it is in seconds")
    env = environment()
    path = find_program(args.cmd[0], env)
    if not path:
        print(f"go-health-hook: {clean(args.cmd[0])}: no such command on the search path", file=sys.stderr)
        return NOT_FOUND
    out = _open_svg(args.svg) if args.svg else None
    _ask_for_trace(env, args.interval, path)
    recording = Recording(args.cmd)
    live = _live(args)
    try:
        program = _start([path, *args.cmd[1:]], env, ("stdout", "stderr") if live or args.json else ("stderr",))
    except OSError as error:
        print(f"go-health-hook: {clean(args.cmd[0])}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # they are CMD's, which has them from the terminal too
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: program.signal(received))
    try:
        _observe(program, recording, args, live)
    finally:
        program.close()
        if live:
            live.stop()
    facts = _facts(recording)
    if args.json:
        import json

        print(json.dumps(facts, indent=2))
    else:
        print(_report(facts, recording, Style()))
    if out:
        with out:
            if os.path.isfile(args.svg):
                out.truncate(0)
            out.write(_svg(facts, recording))
    status = recording.status
    return 128 - status if status < 0 else status


def _start(command: list[str], env: dict[str, str], through: tuple[str, ...]) -> Attended:
    try:
        return Attended(command, env, through)
    except OSError as error:
        # A script without its first line, which a shell would run.
        if error.errno != errno.ENOEXEC:
            raise
        return Attended(["/bin/sh", *command], env, through)


def _ask_for_trace(env: dict[str, str], interval: int, path: str) -> None:
    """Have the Go programs below CMD trace their schedulers, but not those whose messages the go command keeps.

    It stores what compiler, assembler and linker write to stderr with their results, and shows it again whenever it
    uses those: a trace in there would come back at every later build. So these tools run without one; cmd/go asks a
    tool for its version through -toolexec too, so that the build cache is the same as ever. Tests run, as with
    -count=1, where it has their results already; before Go 1.24 it stored those of a trace for all others.
    """
    before = env.get("GODEBUG", "")
    env["GODEBUG"] = f"{before},schedtrace={interval}" if before else f"schedtrace={interval}"
    go = path if os.path.basename(path) == "go" else find_program("go", env)
    flags = _settings.split(_settings.effective(env, go).get("GOFLAGS", ""))
    own = [flag.partition("=")[2] for flag in flags if flag.lstrip("-").startswith("toolexec=")]
    quiet = ["/usr/bin/env", f"GODEBUG={before},schedtrace=0", *_settings.split(own[-1] if own else "")]
    try:
        env["GOFLAGS"] = _settings.join(["-count=1", *flags, f"-toolexec={_settings.join(quiet)}"])
    except ValueError as error:
        raise BadInput(f"GOFLAGS or GODEBUG: {clean(str(error))}", hint="set it otherwise for the trace") from None


def _open_svg(path: str) -> Any:
    """Open the file before CMD runs, so that a bad name ends the command first; it is emptied later."""
    try:
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--svg {clean(path)}: {error.strerror}", hint="name a file that can be written") from None


def _live(args: argparse.Namespace) -> Any:
    """A line of progress at the bottom of a terminal, or None where there is none or rich is not installed."""
    if args.no_live or args.json or not (sys.stderr.isatty() and sys.stdout.isatty()):
        return None
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return None
    live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
    live.start()
    return live


def _observe(program: Attended, recording: Recording, args: argparse.Namespace, live: Any) -> None:
    """Pass CMD's streams on, and take a sample at every interval until it has ended."""
    recording.began = time.clock_gettime(time.CLOCK_BOOTTIME) - (time.monotonic() - program.started)
    perf, folder = _start_perf(program.pid, recording)
    level = recording.chain.tightest or recording.chain.leaf
    interval = args.interval / 1000
    target = 1 if not args.json else 2
    due = program.started
    ending = args.seconds if args.seconds is not None else float("inf")
    killing = ending + 5.0

    def pass_on(stream: str, data: bytes) -> None:
        if stream == "stderr":
            data = recording.trace.feed(data, time.monotonic() - program.started)
        _write(2 if stream == "stderr" else target, data, live)

    while program.status is None:
        now = time.monotonic()
        if now >= due:
            _sample(program, recording, level, now - program.started)
            if live:
                live.update(_line(recording), refresh=True)
            # What takes longer to look at than the interval is looked at less often.
            due = max(due + interval, now + 4 * (time.monotonic() - now))
        if now - program.started >= ending:
            _end(program, signal.SIGTERM if now - program.started < killing else signal.SIGKILL)
            ending = killing
        wait = min(due, program.started + ending) - time.monotonic()
        came = program.read(max(0.0, min(wait, HOLD) if recording.trace.waiting else wait))
        for stream, data in came or [("stderr", b"")]:
            pass_on(stream, data)
    recording.seconds = time.monotonic() - program.started
    for stream, data in program.read(0):
        pass_on(stream, data)
    _write(2, recording.trace.end(), live)
    recording.status = program.status or 0
    stat = _limits.stat_of(level)
    if stat is not None:
        recording.stats.append((recording.seconds, stat))
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    recording.cpu_s = max(usage.ru_utime + usage.ru_stime, recording.moments[-1][1].cpu_s if recording.moments else 0.0)
    _end_perf(perf, folder, recording)


def _end(program: Attended, number: int) -> None:
    """Signal CMD and all that it has started: a shell alone would leave what it runs behind."""
    below = _tasks.look(program.pid).processes
    program.signal(number)  # first, or it might end by itself when what it waits for does
    for pid in below:
        if pid != program.pid:
            try:
                os.kill(pid, number)
            except OSError:
                pass  # it has ended, or is not ours to end


def _write(fd: int, data: bytes, live: Any) -> None:
    if not data:
        return
    if live:
        live.update("", refresh=True)
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return


def _sample(program: Attended, recording: Recording, level: Any, at: float) -> None:
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


def _line(recording: Recording) -> str:
    at, moment = recording.moments[-1] if recording.moments else (0.0, None)
    used = recording.cpus()[-1][1] if len(recording.moments) > 1 else 0.0
    samples = recording.trace.samples
    procs = f"GOMAXPROCS {samples[-1].gomaxprocs}, {samples[-1].queued} queued, " if samples else ""
    held = recording.throttled()
    share = f", throttled {held[-1][1]:.0f}%" if held and recording.chain.tightest else ""
    threads = moment.threads if moment else 0
    return f"  {at:6.1f} s  {procs}{used:.1f} CPUs used, {threads} threads{share}"


def _start_perf(pid: int, recording: Recording) -> tuple[Running | None, str]:
    """Have perf record the switches between threads, where it is installed and the kernel allows it."""
    if not os.path.exists(PERF):
        recording.perf_why = "perf is not installed"
        return None, ""
    paranoid = 2
    try:
        with open("/proc/sys/kernel/perf_event_paranoid", encoding="ascii") as file:
            paranoid = int(file.read())
    except (OSError, ValueError):
        pass
    if os.geteuid() != 0 and paranoid > -1:
        recording.perf_why = f"perf is allowed to root only (kernel.perf_event_paranoid = {paranoid})"
        return None, ""
    import tempfile

    from go_health_hook.run import process

    folder = tempfile.mkdtemp(prefix="go-health-hook-")
    argv = [PERF, "record", "-q", "-e", "sched:sched_switch", "-p", str(pid), "-o", f"{folder}/data"]
    return process.start(argv, Deadline(86400.0)), folder


def _end_perf(perf: Running | None, folder: str, recording: Recording) -> None:
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


def _facts(recording: Recording) -> dict[str, Any]:
    chain = recording.chain
    first, last = (recording.stats[0][1], recording.stats[-1][1]) if recording.stats else (None, None)

    def since(field: str) -> int:
        return max(0, (getattr(last, field) or 0) - (getattr(first, field) or 0))

    seen = frozenset().union(*(moment.cpus for _, moment in recording.moments)) if recording.moments else frozenset()
    programs = [_program(pid, samples, recording) for pid, samples in recording.programs()]
    return {
        "schema": 1,
        "command": [clean(word) for word in recording.command],
        "exit_status": recording.status,
        "seconds": round(recording.seconds, 3),
        "cpu_seconds": round(recording.cpu_s, 3),
        "cpus_mean": round(recording.cpu_s / recording.seconds, 3) if recording.seconds else 0.0,
        "cpus_seen": sorted(seen),
        "affinity_cpus": recording.affinity,
        "allowance_cpus": _limits.allowance(chain, recording.affinity),
        "limiting_level": clean(chain.tightest.path) if chain.tightest else None,
        "expected_gomaxprocs": maxprocs.expected(recording.affinity, chain),
        "throttling": None
        if chain.tightest is None or first is None
        else {name: since(name) for name in ("periods", "throttled", "throttled_us")},
        "programs": programs,
        "scheduler": recording.perf,
        "scheduler_why": recording.perf_why or None,
        "series": {
            "cpus": [[round(at, 3), round(v, 2)] for at, v in recording.cpus()],
            "throttled_percent": [[round(at, 3), round(v, 1)] for at, v in recording.throttled()],
        },
    }


def _program(pid: int | None, samples: list[Sample], recording: Recording) -> dict[str, Any]:
    changes: list[dict[str, Any]] = []
    for sample in samples:
        if not changes or changes[-1]["value"] != sample.gomaxprocs:
            changes.append({"at": round(sample.at, 3), "value": sample.gomaxprocs})
    name, start = recording.processes.get(pid or 0, ("", recording.began + samples[0].at))
    count = len(samples)
    return {
        "pid": pid,
        "name": name,
        "started_s": round(start - recording.began, 3),
        "samples": count,
        "gomaxprocs": changes if pid is not None else sorted({s.gomaxprocs for s in samples}),
        "idle_mean": round(sum(s.idle for s in samples) / count, 2),
        "queued_mean": round(sum(s.queued for s in samples) / count, 2),
        "queued_most": max(s.queued for s in samples),
        "threads_most": max(s.threads for s in samples),
    }


def _report(facts: dict[str, Any], recording: Recording, style: Style) -> str:
    lines = [""]
    ended = f"status {facts['exit_status']}" if facts["exit_status"] >= 0 else f"signal {-facts['exit_status']}"
    head = f"{' '.join(facts['command'])}: {_limits.duration(facts['seconds'])}, {ended}"
    lines.append(style.paint(_limits.fit(head, style.width), "1"))
    allowed, used = facts["allowance_cpus"], facts["cpus_mean"]
    where = f"; seen on {cgroup.format_cpus(facts['cpus_seen'])}" if facts["cpus_seen"] else ""
    lines.append(_row("CPUs", f"{used:.1f} used on average of {cgroup.figure(allowed)} allowed{where}", style))
    lines += _limit_rows(facts, style)
    spoken = [p for p in facts["programs"] if p["pid"] is not None]
    for program in spoken[:4]:
        lines += _program_rows(program, facts["expected_gomaxprocs"], style)
    short = [p for p in facts["programs"] if p["pid"] is None]
    if short:
        values = ", ".join(map(str, short[0]["gomaxprocs"]))
        lines.append(
            _row("short-lived", f"{short[0]['samples']} more lines, of programs with GOMAXPROCS {values}", style)
        )
    if not facts["programs"]:
        lines.append(_row("GOMAXPROCS", "no Go program spoke: CMD starts none, or changes GODEBUG", style))
    if facts["scheduler"]:
        s = facts["scheduler"]
        said = f"{s['switches']} switches, {s['preempted']} of them forced, {s['migrations']} to another CPU (perf)"
        lines.append(_row("scheduler", said, style))
    else:
        lines.append(_row("scheduler", facts["scheduler_why"] or "not asked", style))
    return "\n".join([*lines, *_panels(facts, recording, style)])


def _row(label: str, text: str, style: Style) -> str:
    return f"  {label:<{LABEL}}{style.wrap(text, LABEL + 2)}"


def _limit_rows(facts: dict[str, Any], style: Style) -> list[str]:
    t = facts["throttling"]
    if t is None:
        return [_row("limit", "no quota", style)]
    where = facts["limiting_level"].rsplit("/", 1)[-1] or "/"
    share = t["throttled"] / t["periods"] if t["periods"] else 0.0
    said = f"throttled in {t['throttled']} of {t['periods']} periods ({100 * share:.0f}%), "
    said += f"{t['throttled_us'] / 1e6:.1f} s in all, by {where}"
    row = _row("limit", said, style)
    return [style.paint(row, "1;31" if share > 0.5 else "33") if share > 0.1 else row]


def _program_rows(program: dict[str, Any], fits: int, style: Style) -> list[str]:
    values = program["gomaxprocs"]
    said = str(values[0]["value"]) + "".join(f", {c['value']} from {c['at']:.1f} s" for c in values[1:6])
    wrong = values[-1]["value"] != fits
    verdict = f" where {fits} fits" if wrong else ", which fits"
    who = f"{program['name'] or 'CMD'} ({program['pid']})"
    row = _row("GOMAXPROCS", f"{said}{verdict}: {who}", style)
    more = (
        f"{program['idle_mean']:g} idle Ps, {program['queued_mean']:g} goroutines queued on average, "
        f"{program['queued_most']} at most, {program['threads_most']} threads"
    )
    return [style.paint(row, "1;31") if wrong else row, _row("", more, style)]


def _series(recording: Recording) -> tuple[list[Sample], str]:
    """The samples of the busiest program, and its name."""
    programs = recording.programs()
    if not programs:
        return [], ""
    pid, samples = programs[0]
    return samples, recording.processes.get(pid or 0, ("", 0.0))[0]


def _panels(facts: dict[str, Any], recording: Recording, style: Style) -> list[str]:
    seconds, count = recording.seconds, style.width - LABEL - 22
    samples, _ = _series(recording)
    used = recording.cpus()
    if len(used) < 3:
        return []
    most = max(v for _, v in used)
    allowed = facts["allowance_cpus"]
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")

    def line(label: str, points: list[tuple[float, float]], top: float, said: str, colour: str) -> str:
        drawn = _chart.spark(_chart.resample(points, seconds, count), top, unicode)
        return f"  {label:<{LABEL}}{style.paint(f'{drawn:<{count}}', colour)} {said}"

    lines = ["", line("CPUs used", used, max(most, allowed), f"most {most:.1f} of {cgroup.figure(allowed)}", "34")]
    if samples:
        procs = [(s.at, float(s.gomaxprocs)) for s in samples]
        top = max(v for _, v in procs)
        lines.append(line("GOMAXPROCS", procs, top, f"last {samples[-1].gomaxprocs}", "31"))
        idle = [(s.at, float(s.idle)) for s in samples]
        lines.append(line("idle Ps", idle, top, f"most {max(s.idle for s in samples)}", "32"))
        queue = max(s.queued for s in samples)
        lines.append(line("run queue", [(s.at, float(s.queued)) for s in samples], float(queue), f"most {queue}", "35"))
    if facts["throttling"]:
        held = recording.throttled()
        lines.append(line("throttled", held, 100.0, "% of periods", "33"))
    end = f"{seconds:.3g} s"
    lines.append(f"  {'':<{LABEL}}0{end:>{count - 1}}")
    return lines


def _svg(facts: dict[str, Any], recording: Recording) -> str:
    samples, name = _series(recording)
    cpus = _chart.Panel("CPUs", "")
    cpus.areas.append(("CPUs used", "used", recording.cpus()))
    if samples:
        cpus.lines.append(("GOMAXPROCS", "procs", [(s.at, float(s.gomaxprocs)) for s in samples], True))
    cpus.level = (f"allowed: {cgroup.figure(facts['allowance_cpus'])}", facts["allowance_cpus"])
    panels = [cpus]
    if samples:
        queue = _chart.Panel(f"Scheduler of {name or 'the program'}", "")
        queue.lines.append(("goroutines queued", "queue", [(s.at, float(s.queued)) for s in samples], False))
        queue.lines.append(("idle Ps", "idle", [(s.at, float(s.idle)) for s in samples], False))
        panels.append(queue)
    if facts["throttling"]:
        held = _chart.Panel("Throttled periods", "%")
        held.areas.append(("share of periods", "throttled", recording.throttled()))
        panels.append(held)
    subtitle = (
        f"{facts['seconds']:.1f} s, {facts['cpus_mean']:.2f} CPUs on average, "
        f"{cgroup.figure(facts['allowance_cpus'])} allowed"
    )
    if facts["limiting_level"]:
        subtitle += f" by {facts['limiting_level']}"
    return _chart.svg(
        _limits.fit(" ".join(facts["command"]), 90), _limits.fit(subtitle, 120), panels, recording.seconds
    )
