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

from go_health_hook.cpu import _limits, _settings, _tasks
from go_health_hook.cpu._recording import Recording, end_perf, sample, start_perf
from go_health_hook.cpu._schedtrace import HOLD
from go_health_hook.cpu._trace_report import facts_of, live_line, report, svg
from go_health_hook.cpu.exec import NOT_EXECUTABLE, NOT_FOUND, environment, find_program
from go_health_hook.errors import BadInput
from go_health_hook.report.style import Style, print_json
from go_health_hook.run.attended import Attended
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from go_health_hook.config import Config

PLAIN = True
RUNS_COMMAND = True
INTERVAL_MS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options, then CMD after `--`."""
    parser.usage = (
        "go-health-hook trace [--seconds N] [--interval MS] [--svg FILE] [--no-live] [--json] -- CMD [ARG ...]"
    )
    parser.add_argument("--seconds", metavar="N", type=float, help="end CMD and its children (SIGTERM) after N seconds")
    parser.add_argument("--interval", metavar="MS", type=int, default=INTERVAL_MS, help="between samples (default 100)")
    parser.add_argument("--svg", metavar="FILE", help="also write the chart to FILE")
    parser.add_argument("--no-live", action="store_true", help="leave the terminal to CMD while it runs")
    parser.add_argument("cmd", nargs="...", metavar="CMD", help="the command to run, and its arguments")


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
    facts = facts_of(recording)
    if args.json:
        print_json(facts)
    else:
        print(report(facts, recording, Style()))
    if out:
        with out:
            if os.path.isfile(args.svg):
                out.truncate(0)
            out.write(svg(facts, recording))
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
    perf, folder = start_perf(program.pid, recording)
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
            sample(program, recording, level, now - program.started)
            if live:
                live.update(live_line(recording), refresh=True)
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
    end_perf(perf, folder, recording)


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
