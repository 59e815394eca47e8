# SPDX-License-Identifier: GPL-2.0-or-later
"""Tell everybody about a run: journal, record, message at login, metrics. Never raises, never holds a gate up."""

from __future__ import annotations

import os
import sys
import threading
import time

from go_health_hook.announce import journal, metrics, motd, record
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_INTERNAL, EXIT_TIMEOUT, HookError
from go_health_hook.run.worker import Worker
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from go_health_hook.verdict import Examination

    # Kind of event, message, priority, further fields.
    Entry = tuple[str, str, int, list[tuple[str, str]]]

# What a gate waits for its announcements at most. A slow disk's are finished by a worker that the gate leaves behind.
WAIT = 0.04
OUTLIVE = 10  # seconds
# How long the journal, and a first message, wait for the record to say since when updates are held back.
STATE_SECONDS = 0.02


class Places:
    """Where announcements go, all below one root: tests give a root of their own."""

    def __init__(self, root: str = "/", metrics_directory: str = "") -> None:
        base = root.rstrip("/")
        self.state = base + record.DIRECTORY
        self.motd = base + motd.PATH
        # Where systemd does not run there is no journal to miss (sd_booted(3)).
        self.journal = base + journal.SOCKET if os.path.isdir(f"{base}/run/systemd/system") else ""
        self.metrics = base + metrics_directory if metrics_directory else ""
        self.metrics_link = f"{self.state}/metrics"


def publish(
    examination: Examination, gate: str, *, event: str = record.VERDICT, root: str = "/", wait: float = 0.0
) -> None:
    """Announce one run of a gate as the [announce] settings say; one line on stderr for what could not be written.

    `event` is record.VERDICT; or OVERRIDE or WARNED when the update went ahead although the verdict is block; or FOUND
    when there was none that could have been held back. Only root's runs are announced. Costs WAIT seconds at most,
    whatever disk or journal does; a gate that is a unit of its own gives a longer `wait`, since systemd kills what such
    a unit leaves behind.
    """
    new = record.entry(examination, gate, event, time.time())
    _announce(lambda state: record.take(state, new), new, examination.announce, root, wait)


def release(gate: str, announce: Mapping[str, Any], *, root: str = "/") -> None:
    """Say that a gate holds nothing back any more, because what it held back is gone (a discarded deployment)."""
    now = time.time()
    _announce(lambda state: record.release(state, gate, now), None, announce, root)


def note(kind: str, message: str, fields: Mapping[str, str] | None = None, *, root: str = "/") -> None:
    """Put one event into the journal alone; `kind` is one of journal.MESSAGE_IDS ("override-set", "locked" …)."""
    extra = [(name, clean(value, 600)) for name, value in (fields or {}).items()]
    entry = (kind, clean(message, 800), journal.NOTICE, extra)
    _bounded({"journal": lambda: _log([entry], Places(root).journal)})


def refresh(
    state: dict[str, Any], ended: Sequence[dict[str, Any]], announce: Mapping[str, Any], *, root: str = "/"
) -> list[str]:
    """Bring the message at login and the metrics up to date with the state; return a line for each that could not be.

    `ended` are blocks whose end the journal is still to hear of. For a command that a person or a timer runs: waits as
    long as it takes.
    """
    places, now = Places(root, announce["metrics-directory"]), time.time()
    jobs: dict[str, Callable[[], None]] = {"motd": lambda: motd.write(state, now, places.motd, announce["motd"])}
    jobs["metrics"] = (
        (lambda: metrics.write(state, now, places.metrics, places.metrics_link))
        if places.metrics
        else lambda: metrics.remove(places.metrics_link)
    )
    if announce["journal"]:
        jobs["journal"] = lambda: _log([_of_release(block) for block in ended], places.journal)
    return [line for name, job in jobs.items() for line in [_attempt(name, job)] if line]


class _State:
    """The state after one change of it, as far as it is known yet; waited for by those who tell of it."""

    def __init__(self, change: Callable[[dict[str, Any]], list[dict[str, Any]]], directory: str) -> None:
        self.change = change
        self.directory = directory
        self.settled = threading.Event()
        self.state: dict[str, Any] = {}
        self.ended: list[dict[str, Any]] = []  # blocks that the change has ended
        self._glanced: list[dict[str, Any]] = []

    def settle(self, state: dict[str, Any]) -> None:
        """Change the state that was read, and let everybody know it."""
        self.ended = self.change(state)
        self.state = state
        self.settled.set()

    def record(self, then: Callable[[], object]) -> None:
        """Change it on the disk (see record.update); where that cannot be, go on from what can be read. Raises it."""
        try:
            record.update(self.settle, self.directory, then)
        finally:
            if not self.settled.is_set():
                self.settle(readable(self.directory))

    def glance(self) -> None:
        """Read it without its lock, for `soon`."""
        state = readable(self.directory)
        self.change(state)
        self._glanced.append(state)

    def soon(self) -> dict[str, Any]:
        """The state within STATE_SECONDS: as a glance showed it while somebody else writes; else of this run alone."""
        if self.settled.wait(STATE_SECONDS):
            return self.state
        if self._glanced:
            return self._glanced[0]
        state = record.empty()
        self.change(state)
        return state

    def final(self) -> dict[str, Any]:
        """The state, however long it takes: what is not sure replaces and removes nothing."""
        self.settled.wait()
        return self.state


def _announce(
    change: Callable[[dict[str, Any]], list[dict[str, Any]]],
    new: dict[str, Any] | None,
    announce: Mapping[str, Any],
    root: str,
    wait: float = 0.0,
) -> None:
    """Change the record and tell the rest what the state is now, of a new run first; all of it in a worker."""
    places = Places(root, announce["metrics-directory"])
    known = _State(change, places.state)
    written = [threading.Event()]

    def message() -> None:
        try:
            soon = known.soon()
            if announce["motd"] and not known.settled.is_set():
                motd.begin(soon, time.time(), places.motd)
            motd.write(known.final(), time.time(), places.motd, announce["motd"])
        finally:
            written[0].set()

    def measured() -> None:
        try:
            metrics.write(known.final(), time.time(), places.metrics, places.metrics_link)
        finally:
            written[1].set()

    def logged() -> None:
        if new:
            _log([_of_run(new, known.soon())], places.journal)
        if not new or not record.holds_back(new):
            known.final()
            _log([_of_release(block) for block in known.ended], places.journal)

    jobs: dict[str, Callable[[], None]] = {"motd": message}
    if places.metrics:
        written.append(threading.Event())
        jobs["metrics"] = measured
    if announce["journal"]:
        jobs["journal"] = logged
    jobs["record"] = lambda: known.record(lambda: [each.wait() for each in written])
    _bounded(jobs, wait, known.glance)


def readable(directory: str) -> dict[str, Any]:
    """The state, or an empty one where it cannot be read."""
    try:
        return record.read(directory)
    except HookError:
        return record.empty()


def _log(entries: list[Entry], path: str) -> None:
    if not path:
        return
    for kind, message, priority, fields in entries:
        journal.send(kind, message, priority, fields, path)


def _of_run(new: dict[str, Any], state: dict[str, Any]) -> Entry:
    """The journal's entry of one run."""
    gate, block = new["gate"], new["verdict"] == "block"
    held = max(0.0, new["time"] - state["blocks"][gate]["since"]) if gate in state["blocks"] else 0.0
    if new["exit_status"] == EXIT_INTERNAL:
        kind, head, priority = "fault", "Nothing decided, the update goes on", journal.ERR
    elif not block:
        kind, head, priority = "allowed", "Updates allowed", journal.INFO
    elif new["event"] == record.FOUND:
        late = new["exit_status"] == EXIT_TIMEOUT
        kind, head, priority = "broken", "Go could not be judged" if late else "Go found broken", journal.WARNING
    elif new["event"] != record.VERDICT:
        kind, priority = new["event"], journal.NOTICE
        head = "Let through by an override" if kind == record.OVERRIDE else "Only warned about, as configured"
    else:
        kind = "timeout" if new["exit_status"] == EXIT_TIMEOUT else "blocked"
        head, priority = "Updates held back", motd.level(held)
        if held >= motd.DAY:
            head += f" for {motd.span(held)}"
    fields = [
        ("GO_HEALTH_VERDICT", new["verdict"]),
        ("GO_HEALTH_GATE", gate),
        *[("GO_HEALTH_CHECK", check) for check in new["checks"]],
        ("GO_HEALTH_SUBJECT", f"{new['subject']} {new['root']}"),
        ("GO_HEALTH_REASON", new["reason"]),
        ("GO_HEALTH_REMEDY", new["remedy"] or "run go-health-hook to see what each check says"),
        ("GO_HEALTH_HELD_SECONDS", f"{held:.0f}"),
        ("GO_VERSION", new["go_version"]),
        ("EXIT_STATUS", str(new["exit_status"])),
        ("ELAPSED", f"{new['elapsed_s']:.3f}"),
    ]
    return kind, f"{head} ({gate}): {new['reason']}", priority, fields


def _of_release(block: dict[str, Any]) -> Entry:
    held = max(0.0, block["until"] - block["since"])
    message = f"Updates are no longer held back by {block['gate']}: it was {motd.span(held)}, {block['count']} refused"
    fields = [
        ("GO_HEALTH_GATE", block["gate"]),
        ("GO_HEALTH_REASON", block["reason"]),
        ("GO_HEALTH_HELD_SECONDS", f"{held:.0f}"),
    ]
    return "released", message, journal.NOTICE, fields


def _bounded(jobs: dict[str, Callable[[], None]], wait: float = 0.0, beside: Callable[[], None] | None = None) -> None:
    """Carry out the jobs, each in a thread of a worker's; say in one line which failed or have not ended in time.

    What is done `beside` them is for them alone: nobody waits for its end.
    """
    if os.geteuid() != 0:
        return
    try:
        troubles = _carry_out(jobs, wait, beside)
    except Exception as error:
        troubles = [f"a fault of its own, please report it: {error!r}"]
    if troubles:
        sys.stderr.write(f"go-health-hook: not announced everywhere: {'; '.join(troubles)}\n")


def _carry_out(jobs: dict[str, Callable[[], None]], wait: float, beside: Callable[[], None] | None) -> list[str]:
    def work(send: Callable[[object], None]) -> None:
        lock = threading.Lock()

        def one(name: str, job: Callable[[], None]) -> None:
            line = _attempt(name, job)
            with lock:
                try:
                    send((name, line))
                except OSError:
                    pass  # the gate has left already

        if beside:
            threading.Thread(target=beside, daemon=True).start()
        threads = [threading.Thread(target=one, args=item, daemon=True) for item in jobs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    pending = {*jobs}
    troubles = []
    worker = Worker(work, outlive=OUTLIVE)
    try:
        for name, said in worker.messages(Deadline(wait or WAIT)):
            if name == "bug":
                troubles.append(f"a fault of its own, please report it: {clean(said, 2000)}")
            else:
                pending.discard(name)
                troubles += [said] if said else []
    finally:
        worker.close()
    if pending:
        how = "given up" if worker.finished else "still being written"
        seconds = OUTLIVE if worker.finished else wait or WAIT
        troubles.append(f"{', '.join(sorted(pending))}: {how} after {seconds:g} s")
    return troubles


def _attempt(name: str, job: Callable[[], None]) -> str:
    """Do it; one line where that failed."""
    try:
        job()
    except HookError as error:
        return f"{name}: {error.line()}"
    except OSError as error:
        return f"{name}: {clean(str(error.filename or ''))}: {error.strerror}"
    except Exception as error:
        return f"{name}: a fault of its own, please report it: {error!r}"
    return ""
