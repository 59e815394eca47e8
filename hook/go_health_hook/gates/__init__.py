# SPDX-License-Identifier: GPL-2.0-or-later
"""One file an updater; what several share has a name with a leading underscore.

A gate is a module with
    answer(call) -> int     what the updater is told, in its own language; the exit status
    wired(view) -> Wired    whether this machine's updater calls it (see wiring.View)
and, where it has them,
    BUDGET      seconds for a run by default; its key in [budget] is the file's name
    UNTRACED    words of the command line whose run gives no verdict, so that nobody misses one that was ended
    UNITS       units of systemd's that `wired` looks at
    TIMERS      timers of the updater's that `status` shows
    REMEDY      its updater's words for a finding's remedy, by the finding's `remedy_key`
    UNREAD      settings that people give its updater and no program reads (see wiring.UNREAD)
    details(view) facts that `status` shows besides, or None (see gates/_image_status.py)
    holds(view) whether its last block stands although no updater calls it
"""

from __future__ import annotations

import importlib
import os

from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from go_health_hook.config import Config


class Call(Record):
    """How a gate was called: its arguments, and the options of the command line that apply to gates."""

    arguments: list[str] = []
    dry_run: bool = False
    budget: float | None = None
    config: str | None = None

    def only(self, gate: str, words: Sequence[str]) -> None:
        """Raise BadInput for an argument that is none of the words that a gate takes."""
        from go_health_hook.errors import BadInput
        from go_health_hook.text import clean

        for word in self.arguments:
            if word not in words:
                raise BadInput(f"gate {gate} does not take {clean(word)!r}", hint=f"it takes: {', '.join(words)}")

    def seconds(self, settings: Config, module: str, default: float) -> float:
        """Return the budget of the command line, else of the settings, for a gate's module with that BUDGET."""
        return self.budget if self.budget is not None else settings.budget(module, default)

    def settings(self) -> Config:
        """Return the configuration. Raises BadInput."""
        from go_health_hook.run import settings

        return settings.load(self.config)


def names() -> list[str]:
    """Return the gates' names as the command line has them: one file of this folder each."""
    try:
        files = os.listdir(os.path.dirname(__file__))
    except OSError:
        return []
    return sorted({name.split(".")[0].replace("_", "-") for name in files if name.endswith(".py") and name[0] != "_"})


def load(name: str) -> ModuleType:
    """Return a gate's module."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def every() -> dict[str, ModuleType]:
    """Return all gates by name, for status."""
    return {name: load(name) for name in names()}


def answer(name: str, call: Call) -> int:
    """Ask one gate; return its exit status. Raises HookError.

    A run before this one that was ended from outside is announced first.
    """
    from go_health_hook.errors import EXIT_INTERRUPTED
    from go_health_hook.gates import _trace
    from go_health_hook.run.worker import Gone

    gate = load(name)
    began = _trace.lost(name, remove=True)
    if began is not None:
        _announce_lost(name, call, began)
    untraced: Sequence[str] = getattr(gate, "UNTRACED", ())
    trace = "" if any(word in untraced for word in call.arguments) else _trace.begin(name)
    try:
        status: int = gate.answer(call)
    except Gone:
        status = EXIT_INTERRUPTED
    finally:
        _trace.end(trace)
    return status


def lost_words(began: float) -> str:
    """Return what is said of a run that began then (seconds since 1970) and was ended from outside."""
    from go_health_hook.text import when

    return f"the run of {when(began)} was ended before it had answered, by a timeout, SIGKILL or for want of memory"


def _announce_lost(name: str, call: Call, began: float) -> None:
    import time

    from go_health_hook.announce import publish, record
    from go_health_hook.deadline import Deadline
    from go_health_hook.errors import EXIT_INTERNAL, HookError
    from go_health_hook.subject import Subject
    from go_health_hook.verdict import Examination, Verdict

    examination = Examination(Subject(), Deadline(0), Verdict(EXIT_INTERNAL, lost_words(began)))
    try:
        examination.announce = call.settings().announce
    except HookError:
        pass  # said by the gate itself
    publish.publish_entry(record.entry(examination, name, record.LOST, time.time()), examination.announce)


def main(argv: Sequence[str]) -> int:
    """Answer an updater that called `gate NAME ARGUMENT …`; return the exit status.

    There is nothing to parse here: an updater waits, and argparse is half of the start.
    """
    from go_health_hook import start
    from go_health_hook.errors import BadInput
    from go_health_hook.text import clean

    def run() -> int:
        if "SYSTEMD_LOG_LEVEL" in os.environ:
            from go_health_hook.run import log

            if log.wanted():
                log.enable()
        if argv[:1] and argv[0] in names():
            return answer(argv[0], Call(list(argv[1:])))
        raise BadInput(f"no gate {clean(' '.join(argv[:1]))!r}", hint=f"it is one of: {', '.join(names())}")

    return start.run(run)
