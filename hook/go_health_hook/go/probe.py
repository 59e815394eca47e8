# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking a toolchain's runtime for its own GOMAXPROCS, with nothing compiled."""

from __future__ import annotations

from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.deadline import Deadline
    from go_health_hook.go.toolchain import Toolchain
    from go_health_hook.run import process
    from go_health_hook.run.result import Result
    from go_health_hook.run.series import Held

# runtime/proc.go, schedtrace: "SCHED 0ms: gomaxprocs=8 idleprocs=5 threads=5 …"
SCHED, FIELD = b"SCHED ", b"ms: gomaxprocs="
TRACE = {"GODEBUG": "schedtrace=1"}


class Answer:
    """`value` is the runtime's GOMAXPROCS; None where it did not say, and then `why` says why. `result` is the run."""

    def __init__(self, value: int | None, result: Result) -> None:
        self.value = value
        self.result = result
        self.why = "" if value is not None else clean(result.why())
        self.timed_out = value is None and result.timed_out


def gomaxprocs(toolchain: Toolchain, deadline: Deadline) -> Answer:
    """The GOMAXPROCS that a Go program of the toolchain takes in the caller's cgroup."""
    first = answer(begin(toolchain, deadline))
    if first.value is not None or first.timed_out or toolchain.broken(toolchain.gofmt):
        return first
    return answer(_start(toolchain, deadline, _go_mod_edit(toolchain)))


def begin(toolchain: Toolchain, deadline: Deadline) -> process.Running:
    """Start a Go program of the toolchain in the caller's cgroup and read the first line of its scheduler's trace.

    The program is one that waits for its input, held open until the line has come: one that ends by itself may be gone
    before the trace's first tick.
    """
    return _start(toolchain, deadline, _waiting(toolchain))


def held(toolchain: Toolchain) -> Held:
    """Return the same program to be run as the last one of a series; `heard` gives what it said."""
    from go_health_hook.run.series import Held

    return Held(_waiting(toolchain), TRACE, _has_said)


def _waiting(toolchain: Toolchain) -> list[str]:
    return _go_mod_edit(toolchain) if toolchain.broken(toolchain.gofmt) else [toolchain.gofmt]


def _go_mod_edit(toolchain: Toolchain) -> list[str]:
    return [toolchain.go, "mod", "edit", "-json", "/dev/stdin"]


def _start(toolchain: Toolchain, deadline: Deadline, argv: list[str]) -> process.Running:
    return toolchain.start(argv, deadline, env=TRACE, until=_has_said)


def answer(running: process.Running) -> Answer:
    """Wait, in the thread that began it, for what the program says."""
    return heard(running.wait())


def heard(result: Result) -> Answer:
    """Return what a program has said that has ended."""
    return Answer(_said(result.stderr), result)


def _has_said(output: bytes) -> bool:
    return _said(output) is not None


def _said(output: bytes) -> int | None:
    """The number in the first whole line of the scheduler's trace."""
    for line in output.split(b"\n")[:-1]:
        before, field, rest = line.partition(FIELD)
        value = rest.partition(b" ")[0]
        if (
            field
            and before.startswith(SCHED)
            and before[len(SCHED) :].isdigit()
            and value.isdigit()
            and len(value) < 10
            and int(value)  # 0 until the scheduler is set up, as before a fatal error at the start
        ):
            return int(value)
    return None
