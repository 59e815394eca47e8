# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of dnf4 and dnf5: it keeps the clock and the updater's pipes, while workers do what may hang.

One worker looks at what is installed, then judges, decides and announces, which it goes on with after the updater has
its answer. What comes in is judged by another worker, once the updater has told where the files are.
"""

from __future__ import annotations

import os
import sys

from go_health_hook.announce import publish, record
from go_health_hook.deadline import Clock, Deadline, ceiling_of
from go_health_hook.errors import EXIT_USAGE, BadInput, HookError
from go_health_hook.gates import _dnf_after as afterwards
from go_health_hook.gates._dnf_judge import LONGER, MOST_SECONDS, REMEDY, Answer, Survey, Task, more_seconds, undecided
from go_health_hook.gates._dnf_transaction import asks_for_all
from go_health_hook.records import Record
from go_health_hook.run.worker import LOOK, Died, Gone, Worker, bounded, stay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.gates import Call
    from go_health_hook.gates._dnf_transaction import Transaction
    from go_health_hook.subject import Subject
    from go_health_hook.verdict import Examination

__all__ = ["BUDGET", "REMEDY", "answer"]

MOMENTS = ("before", "after", "prepare", "resolved")
BUDGET = 5.0
BOOT_BUDGET = 60.0  # as gates/boot.py
LOOK_SECONDS = 2.0  # for a look at a few files, and for a worker to remove what it has laid out
GRACE = 0.2  # the worker answers for its own time-outs; one that has not done so by then is stuck
ANNOUNCE = {"motd": True, "journal": True, "metrics-directory": ""}  # where the configuration cannot be used
LATE = {
    "reading": "the incoming Go is not judged: time ran out while it was read out of its packages",
    "searching": "the incoming Go is not judged: time ran out while the other packages were searched for parts of it",
    "libraries": "Go is not judged: time ran out while the packages of this transaction were searched for a library",
}


def answer(gate: str, call: Call, transaction: Callable[[int], Transaction]) -> Answer:
    """Return the answer to `gate GATE MOMENT PID`, PID being the updater's own. Raises BadInput, Gone.

    prepare: an update is about to be downloaded for a reboot. A broken installed Go stops it before the download.
    resolved: where the transaction is empty although all updates were asked for, nothing is held back any more.
    """
    words = call.arguments
    if len(words) != 2 or words[0] not in MOMENTS or not words[1].isdecimal():
        raise BadInput(f"gate {gate} takes: {'|'.join(MOMENTS)} PID", hint=f"it is called by {gate} itself")
    if words[0] == "after":
        return _after(gate, call)
    if words[0] in ("prepare", "resolved"):
        return _prepare(gate, call, int(words[1]), transaction, judges=words[0] == "prepare")
    updater = int(words[1])
    afterwards.remember(updater, "", afterwards.UNFINISHED)
    try:
        settings = _settings(gate, call)
        if settings is None:
            return Answer(EXIT_USAGE)
        if settings.get("dnf", "transactions") == "off":
            afterwards.forget()
            _release(gate, settings)
            return Answer()
        return _before(gate, settings, updater, transaction)
    except Gone:
        # A person gave up, or the updater died: nothing is installed.
        afterwards.forget()
        raise


def _settings(gate: str, call: Call) -> Config | None:
    """Return the configuration, or None where it cannot be used: nothing is judged then, which is said and recorded.

    To go on with defaults would overrule what the admin tried to say, a `transactions = off` among it.
    """
    try:
        return call.settings()
    except BadInput as error:
        afterwards.forget()
        result = undecided(gate, error.line())
        result.said = [f"{error.line()}. Until then no transaction is judged"]
        _finish(result, ANNOUNCE)
        return None


def _before(gate: str, settings: Config, updater: int, transaction: Callable[[int], Transaction]) -> Answer:
    """Decide on a transaction before anything of it is installed. A fault of ours lets it go on, and is recorded."""
    try:
        return _judge(transaction(updater), settings, updater)
    except Gone:
        raise
    except Exception as error:
        # What was not judged is looked at afterwards.
        afterwards.remember(updater, "", afterwards.UNFINISHED)
        return _finish(undecided(gate, _fault(error)), settings.announce)


def _prepare(gate: str, call: Call, updater: int, transaction: Callable[[int], Transaction], *, judges: bool) -> Answer:
    """Judge the installed Go before a download. What comes in is judged when it is stored, and at the reboot.

    An empty transaction of who asks for all updates ends what the gate has held back; where it does not judge, that is
    all.
    """
    settings = _settings(gate, call)
    if settings is None or settings.get("dnf", "transactions") == "off":
        return Answer()
    try:
        asked = transaction(updater)
        if not asked.items and asks_for_all(updater):
            _release(gate, settings)
        return _judge(asked, settings, updater, prepare=True) if judges else Answer()
    except Gone:
        raise
    except Exception as error:
        return _finish(undecided(gate, _fault(error)), settings.announce)
    finally:
        afterwards.forget()  # nothing is installed now


def _fault(error: Exception) -> str:
    if isinstance(error, HookError):
        return error.line()
    lines = str(error).strip().splitlines() or [""]
    why = lines[-1] if isinstance(error, RuntimeError) else repr(error)  # a worker's has its traceback
    return f"a fault of the hook's own, please report it: {why}"


def _judge(transaction: Transaction, settings: Config, updater: int, prepare: bool = False) -> Answer:
    mode = settings.get("dnf", "transactions")
    if (mode == "automatic" and not transaction.automatic) or not transaction.items:
        afterwards.forget()
        return Answer()
    at_boot = transaction.offline is not None
    deadline = _deadline(settings, person=not transaction.automatic and not at_boot, at_boot=at_boot)
    clock = Clock()  # of the part that begins when Go is laid out
    surveyor, installed = _survey(transaction, settings, deadline, clock)
    try:
        asked = deadline.elapsed()
        names = transaction.go_names(installed)
        deadline.credit(deadline.elapsed() - asked)  # the updater took that time
        task = plan(transaction, installed, names, everything=mode == "all")
        if prepare and any(item.name in names for item in transaction.items):
            return Answer()
        if installed.goroot or any(item.name in names for item in transaction.coming):
            afterwards.remember(updater, installed.goroot, installed.looks)
        else:
            afterwards.forget()
        result = _carry_out(task, settings, deadline, surveyor, clock) if task else Answer()
    finally:
        surveyor.worker.leave()
    if result.message:
        afterwards.forget()
    elif result.look:
        # Looked at again whatever has changed: libraries are no telltales, and what was not judged may be anything.
        afterwards.remember(updater, installed.goroot, afterwards.UNFINISHED)
    return result


def plan(transaction: Transaction, installed: Survey, names: set[str], *, everything: bool) -> Task | None:
    """Return what is to be judged of a transaction, or None for nothing.

    `names` are those of Go's packages in it, `everything`: [dnf] transactions = all.
    """
    touching = [item for item in transaction.items if item.name in names]
    update = transaction.is_update(installed.older_installed)
    incoming = any(item.coming for item in touching) or bool(touching and update and transaction.automatic)
    if touching and not incoming and not update:
        return None  # a person removes Go
    running = update or (everything and not transaction.removes_us)
    return Task(transaction, installed, names, incoming, running) if incoming or running else None


def _deadline(settings: Config, person: bool, at_boot: bool = False) -> Deadline:
    """Return the deadline of a call; `person`: somebody waits for it at a terminal.

    `at_boot`: a boot applies an update, so nothing has been read from the disk yet; it has as long as the gate `boot`.
    """
    wall = ceiling_of(settings.get("budget", "ceiling"), person=person)
    budget = settings.budget("boot", BOOT_BUDGET) if at_boot else settings.budget(__name__, BUDGET)
    return Deadline(min(budget, MOST_SECONDS), ceiling=min(wall, MOST_SECONDS))


class _Watched(Record):
    """A worker as the gate sees it: what it is at, until when, and its last word."""

    worker: Worker
    deadline: Deadline
    pipes: Sequence[int] = ()
    clock: Clock | None = None
    stage: str = "reading"
    kind: str = "running"

    def last_word(self) -> dict[str, Any] | None:
        """Return the first message that tells of no stage, None where time ran out. Raises Gone, Died, RuntimeError.

        Whatever is returned or raised, a worker that has not given its last word is ended.
        """
        last = None
        try:
            last = self._listen()
        finally:
            if last is None:
                self.worker.close()
        if last is None and self.worker.finished:
            raise Died(f"a process of the hook {self.worker.end() or 'ended without an answer'}", hint=LOOK)
        return last

    def _listen(self) -> dict[str, Any] | None:
        heard = True
        while heard:
            heard = False
            for message in self.worker.messages(self.deadline.later(GRACE), self.pipes):
                if isinstance(message, tuple):
                    raise RuntimeError(message[1])
                if "stage" not in message:
                    return dict(message)
                self.stage, self.kind = message["stage"], message["kind"]
                if not message["same"]:
                    self.deadline = Deadline(message["budget"], ceiling=message["ceiling"], clock=self.clock)
                heard = True
                break
        return None


def _survey(transaction: Transaction, settings: Config, deadline: Deadline, clock: Clock) -> tuple[_Watched, Survey]:
    """Look at what is installed, in a worker; nothing is known where that hangs. Raises Gone, Died, RuntimeError.

    The worker then waits for the names of Go's packages in the transaction, to judge what is installed. One that has
    asked rpm is of no more use: it holds rpm's database open, which the transaction will write to.
    """

    def work(send: Callable[[object], None], receive: Callable[[], Any]) -> None:
        from go_health_hook.gates._dnf_judge import find_installed, survey

        toolchain = find_installed(settings)
        found = survey(toolchain, transaction.new_names, transaction.wants_owners)
        send(found)
        names = receive()
        if names is not None:
            task = Task(transaction, Survey(**found), set(names), incoming=False, running=True)
            task.last, task.found = not transaction.coming, toolchain
            _do(task, settings, deadline, clock, send)

    watched = _Watched(Worker(work, listens=True), deadline, transaction.watched, clock)
    found = watched.last_word()
    return watched, Survey(older_installed=bool(transaction.new_names)) if found is None else Survey(**found)


def _carry_out(task: Task, settings: Config, deadline: Deadline, surveyor: _Watched, clock: Clock) -> Answer:
    """Have a task judged and announced. Raises Gone, Died, RuntimeError."""
    transaction = task.transaction
    asked_rpm = transaction.new_names or (transaction.wants_owners and task.survey.goroot)
    watched = None
    if not task.incoming and not asked_rpm and surveyor.worker.tell(sorted(task.names)):
        watched = surveyor
    lists = {item.full: iter(item.places()) for item in transaction.coming}
    missing = [*lists] if task.incoming else []
    while True:
        found = {full: next(lists[full], None) for full in missing}
        task.last = all(places is None for places in found.values()) if missing else not lists
        for full, places in found.items():
            task.places.setdefault(full, []).extend(places or [])
        if watched is None:
            worker = Worker(lambda send: _do(task, settings, deadline, clock, send))
            watched = _Watched(worker, deadline, transaction.watched, clock)
        result = _result(watched, task, settings)
        if isinstance(result, Answer):
            return result
        missing = result
        watched = None


def _do(task: Task, settings: Config, deadline: Deadline, clock: Clock, send: Callable[[object], None]) -> None:
    """In a worker: judge and announce; or send the full names of packages whose files are in no place so far."""
    from go_health_hook.gates import _dnf_judge
    from go_health_hook.gates._dnf_transaction import NotFound

    def stage(name: str, kind: str, until: Deadline) -> None:
        # The worker and the gate go by one clock: the one who waits keeps it.
        same = until is deadline
        send({"stage": name, "kind": kind, "same": same, "budget": until.budget, "ceiling": until.ceiling})

    try:
        _tell(_dnf_judge.judge(task, settings, deadline, clock, stage), settings.announce, send)
    except NotFound as error:
        send({"missing": error.names})
    finally:
        _tidy(task)


def _result(watched: _Watched, task: Task, settings: Config) -> Answer | list[str]:
    """Return the answer of a worker, announced, or the full names of packages whose files are still missing."""
    try:
        last = watched.last_word()
    except BaseException:  # a person gave up, or the worker was killed: nobody else removes what it has laid out
        bounded(lambda: _tidy(task), Deadline(LOOK_SECONDS), None, dead=None)
        raise
    if last is None:
        bounded(lambda: _tidy(task), Deadline(LOOK_SECONDS), None, dead=None)
        return _late(watched, task, settings)
    if "missing" in last:
        watched.worker.leave()
        return [str(name) for name in last["missing"]]
    return _hear_out(watched.worker, Answer(**last), settings.announce, tidies=task.incoming)


def _tidy(task: Task) -> None:
    if task.incoming:
        from go_health_hook.go import unpack

        unpack.forget(task.token)


def _late(watched: _Watched, task: Task, settings: Config) -> Answer:
    """Return the answer for a worker that had to be ended."""
    gate = task.transaction.gate
    if watched.stage != "judging":
        seconds = more_seconds(watched.deadline.budget)
        line = f"{LATE[watched.stage]}: try again when the machine is less busy, or {LONGER.format(seconds=seconds)}"
        return _finish(undecided(gate, line, watched.kind), settings.announce)
    from go_health_hook.examine import late
    from go_health_hook.gates import _dnf_judge
    from go_health_hook.subject import Subject

    examination = late(Subject(watched.kind), settings, watched.deadline)
    unread = _dnf_judge.UNREAD
    overridden = bounded(_dnf_judge.in_force, Deadline(LOOK_SECONDS), unread, dead=unread)
    return _finish(_dnf_judge.decide(gate, examination, settings, overridden), settings.announce)


# --- announcements


def _tell(result: Answer, announce: dict[str, Any], send: Callable[[object], None]) -> None:
    """In a worker: send the answer, then announce it; that may outlast the gate."""
    entry = result.entry
    stay(publish.OUTLIVE)
    send(result.to_message())
    if entry is not None and os.geteuid() == 0:
        places = publish.Places("/", announce["metrics-directory"])
        publish.carry_out(lambda state: record.take(state, entry), entry, announce, places, send)


def _hear_out(worker: Worker, result: Answer, announce: dict[str, Any], tidies: bool = False) -> Answer:
    """In the gate: say what is to be said, tell the journal, leave the worker behind; `tidies`: once it has tidied."""
    _say(result.said)
    if result.entry is not None and os.geteuid() == 0:
        places = publish.Places("/", announce["metrics-directory"])
        messages = ({"bug": m[1]} if isinstance(m, tuple) else m for m in worker.messages(Deadline(publish.WAIT)))
        troubles, done = publish.listen(messages, result.entry, announce, places)
        publish.complain(troubles if done else troubles + publish.unfinished(worker.finished, result.entry))
    if tidies:
        for _ in worker.messages(Deadline(LOOK_SECONDS)):
            pass
    worker.leave()
    return result


def _finish(result: Answer, announce: dict[str, Any]) -> Answer:
    """Say and announce an answer that no worker has announced."""
    _say(result.said)
    if result.entry is not None:
        publish.publish_entry(result.entry, announce)
    return result


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"go-health-hook: {line}", file=sys.stderr, flush=True)


def _release(gate: str, settings: Config) -> None:
    """End what the gate held back before it was switched off, or what is offered no more."""

    def holds() -> bool:
        try:
            return gate in record.read()["blocks"]
        except HookError:
            return False

    if bounded(holds, Deadline(LOOK_SECONDS), False, dead=False):
        publish.release(gate, settings.announce)


# --- after the transaction


def _after(gate: str, call: Call) -> Answer:
    """Look at the live toolchain again where the transaction has changed it; a Go that is broken now is announced."""
    before = afterwards.remembered()
    if before is None:
        return Answer()
    afterwards.forget()
    clock = Clock()

    def work(send: Callable[[object], None]) -> None:
        if afterwards.looks(before[0]) == before[1]:
            send(Answer().to_message())
            return
        try:
            settings = call.settings()
        except BadInput as error:
            send(undecided(gate, error.line()).to_message())
            return
        if settings.get("dnf", "transactions") == "off":
            send(Answer().to_message())
            return
        until = _deadline(settings, person=os.isatty(2))
        until = Deadline(until.budget, ceiling=until.ceiling, clock=clock)
        send({"stage": "judging", "kind": "running", "same": False, "budget": until.budget, "ceiling": until.ceiling})
        from go_health_hook.examine import examine_here

        _tell(_found(gate, settings, lambda subject: examine_here(subject, settings, until)), settings.announce, send)

    watched = _Watched(Worker(work), Deadline(LOOK_SECONDS), clock=clock)
    try:
        last = watched.last_word()
        if last is not None and not last["entry"]:
            watched.worker.leave()
            return Answer(**last)
        settings = call.settings()
    except Exception as error:
        watched.worker.leave()
        return _finish(undecided(gate, _fault(error)), ANNOUNCE)
    if last is not None:
        return _hear_out(watched.worker, Answer(**last), settings.announce)
    if watched.stage != "judging":
        return _finish(undecided(gate, "Go could not be looked at after this transaction"), settings.announce)
    from go_health_hook.examine import late

    until = watched.deadline
    return _finish(_found(gate, settings, lambda subject: late(subject, settings, until)), settings.announce)


def _found(gate: str, settings: Config, look: Callable[[Subject], Examination]) -> Answer:
    from go_health_hook.gates._dnf_judge import found_afterwards
    from go_health_hook.subject import Subject

    return found_afterwards(gate, look(Subject()), settings)
