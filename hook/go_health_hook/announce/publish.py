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
from go_health_hook.process import Worker
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from go_health_hook.verdict import Examination

    # Kind of event, message, priority, further fields.
    Entry = tuple[str, str, int, list[tuple[str, str]]]

# What a gate waits for its announcements at most. A slow disk's are finished by a worker that the gate leaves behind.
WAIT = 0.04
OUTLIVE = 10  # seconds
# How long the journal, the message and the metrics wait for the record to say since when updates are held back.
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


def publish(
    examination: Examination, gate: str, *, event: str = record.VERDICT, root: str = "/", wait: float = 0.0
) -> None:
    """Announce one run of a gate as the [announce] settings say; one line on stderr for what could not be written.

    `event` is record.VERDICT; or OVERRIDE or WARNED when the update went ahead although the verdict is block. Only
    root's runs are announced. Costs WAIT seconds at most, whatever disk or journal does; a gate that is a unit of
    its own gives a longer `wait`, since systemd kills what such a unit leaves behind.
    """
    new = record.entry(examination, gate, event, time.time())
    over: list[dict[str, Any]] = []

    def change(state: dict[str, Any]) -> None:
        over[:] = record.take(state, new)

    def entries(state: dict[str, Any]) -> list[Entry]:
        return [_of_run(new, state), *(_of_release(block) for block in over)]

    _announce(change, entries, examination.announce, root, wait)


def release(gate: str, announce: Mapping[str, Any], *, root: str = "/") -> None:
    """Say that a gate holds nothing back any more, because what it held back is gone (a discarded deployment)."""
    now = time.time()
    over: list[dict[str, Any]] = []

    def change(state: dict[str, Any]) -> None:
        over[:] = record.release(state, gate, now)

    _announce(change, lambda _: [_of_release(block) for block in over], announce, root)


def note(kind: str, message: str, fields: Mapping[str, str] | None = None, *, root: str = "/") -> None:
    """Put one event into the journal alone; `kind` is one of journal.MESSAGE_IDS ("override-set", "locked" …)."""
    extra = [(name, clean(value, 600)) for name, value in (fields or {}).items()]
    entry = (kind, clean(message, 800), journal.NOTICE, extra)
    _bounded({"journal": lambda: _log([entry], Places(root).journal)})


def refresh(state: dict[str, Any], announce: Mapping[str, Any], *, root: str = "/") -> list[str]:
    """Bring the message at login and the metrics up to date with the state; return a line for each that could not be.

    For a command that a person or a timer runs: waits as long as it takes.
    """
    jobs = _written(state, announce, Places(root, announce["metrics-directory"]), time.time())
    return [line for name, job in jobs.items() for line in [_attempt(name, job)] if line]


def _announce(
    change: Callable[[dict[str, Any]], None],
    entries: Callable[[dict[str, Any]], list[Entry]],
    announce: Mapping[str, Any],
    root: str,
    wait: float = 0.0,
) -> None:
    """Change the record, then tell the rest what the state is now; all of it in a worker."""
    places = Places(root, announce["metrics-directory"])
    shared: list[dict[str, Any]] = []
    known = threading.Event()

    def changed(state: dict[str, Any]) -> None:
        change(state)
        shared[:] = [state]
        known.set()

    def recorded() -> None:
        try:
            record.update(changed, places.state)
        finally:
            if not shared:
                changed(_readable(places.state))

    def told() -> dict[str, Callable[[], None]]:
        known.wait(STATE_SECONDS)
        if not shared:
            changed(record.empty())
        state = shared[0]
        jobs = _written(state, announce, places, time.time())
        if announce["journal"]:
            jobs["journal"] = lambda: _log(entries(state), places.journal)
        return jobs

    _bounded({"record": recorded}, told, wait)


def _written(
    state: dict[str, Any], announce: Mapping[str, Any], places: Places, now: float
) -> dict[str, Callable[[], None]]:
    jobs: dict[str, Callable[[], None]] = {
        "motd": lambda: motd.write(state, now, places.motd, announce["motd"]),
    }
    if places.metrics:
        jobs["metrics"] = lambda: metrics.write(state, now, places.metrics)
    return jobs


def _readable(directory: str) -> dict[str, Any]:
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


def _bounded(
    first: dict[str, Callable[[], None]],
    then: Callable[[], dict[str, Callable[[], None]]] | None = None,
    wait: float = 0.0,
) -> None:
    """Carry out the jobs, each in a thread of a worker's; say in one line which failed or have not ended in time."""
    if os.geteuid() != 0:
        return
    try:
        troubles = _carry_out(first, then, wait)
    except Exception as error:
        troubles = [f"a fault of its own, please report it: {error!r}"]
    if troubles:
        sys.stderr.write(f"go-health-hook: not announced everywhere: {'; '.join(troubles)}\n")


def _carry_out(
    first: dict[str, Callable[[], None]], then: Callable[[], dict[str, Callable[[], None]]] | None, wait: float
) -> list[str]:
    def work(send: Callable[[object], None]) -> None:
        lock = threading.Lock()

        def one(name: str, job: Callable[[], None]) -> None:
            line = _attempt(name, job)
            with lock:
                try:
                    send((name, line))
                except OSError:
                    pass  # the gate has left already

        def start(jobs: dict[str, Callable[[], None]]) -> list[threading.Thread]:
            threads = [threading.Thread(target=one, args=item, daemon=True) for item in jobs.items()]
            for thread in threads:
                thread.start()
            return threads

        threads = start(first)
        more = then() if then else {}
        try:
            send(("", list(more)))
        except OSError:
            pass
        threads += start(more)
        for thread in threads:
            thread.join()

    pending = {*first}
    troubles = []
    worker = Worker(work, outlive=OUTLIVE)
    try:
        for name, said in worker.messages(Deadline(wait or WAIT)):
            if not name:
                pending |= set(said)
            elif name == "bug":
                troubles.append(f"a fault of its own, please report it: {clean(said, 2000)}")
            else:
                pending.discard(name)
                troubles += [said] if said else []
    finally:
        worker.close()
    if pending and not worker.finished:
        troubles.append(f"{', '.join(sorted(pending))}: still being written after {wait or WAIT:g} s")
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
