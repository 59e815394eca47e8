# SPDX-License-Identifier: GPL-2.0-or-later
"""Tell everybody about a run: journal, record, message at login, metrics. Never raises, never holds a gate up.

What touches a disk is one sequence in a worker that may go on after the gate has left. The gate itself tells the
journal, which takes a datagram: a disk that never answers does not keep an entry from it.
"""

from __future__ import annotations

import os
import sys
import time

from go_health_hook.announce import journal, metrics, motd, record
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_INTERNAL, EXIT_TIMEOUT, HookError
from go_health_hook.linux import container
from go_health_hook.run.worker import Worker
from go_health_hook.text import clean, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from go_health_hook.verdict import Examination

    # Kind of event, message, priority, further fields.
    Entry = tuple[str, str, int, list[tuple[str, str]]]
    # A change of the state; it returns the blocks that it ended.
    Change = Callable[[dict[str, Any]], list[dict[str, Any]]]

# What a gate waits for its announcements at most. The worker that it leaves behind finishes them on a slow disk.
WAIT = 0.04
OUTLIVE = 10  # seconds


class Places:
    """Where announcements go, all below one root: tests give a root of their own."""

    def __init__(self, root: str = "/", metrics_directory: str = "") -> None:
        base = root.rstrip("/")
        self.state = base + record.DIRECTORY
        self.held = base + record.HELD
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
    or AFTER when no update could have been held back. Only root's runs are announced. Takes WAIT seconds at most, or
    `wait`. A gate that is a unit of its own gives a longer one, since systemd kills the rest of such a unit.
    """
    publish_entry(record.entry(examination, gate, event, time.time()), examination.announce, root=root, wait=wait)


def publish_entry(new: dict[str, Any], announce: Mapping[str, Any], *, root: str = "/", wait: float = 0.0) -> None:
    """Announce one run as `publish` does, given its record.entry."""
    if root == "/" and container.is_build():
        return  # the verdict on a machine that builds images is no machine's that is made of them
    _announce(lambda state: record.take(state, new), new, announce, root, wait)


def release(gate: str, announce: Mapping[str, Any], *, root: str = "/") -> None:
    """Say that a gate holds nothing back any more, because what it held back is gone (a discarded deployment)."""
    now = time.time()
    _announce(lambda state: record.release(state, gate, now), None, announce, root)


def note(kind: str, message: str, fields: Mapping[str, str] | None = None, *, root: str = "/") -> None:
    """Put one event into the journal alone; `kind` is one of journal.MESSAGE_IDS ("override-set", "locked" …)."""
    if os.geteuid() == 0:
        extra = [(name, clean(value, 600)) for name, value in (fields or {}).items()]
        complain(
            attempt("journal", lambda: _log([(kind, clean(message, 800), journal.NOTICE, extra)], Places(root).journal))
        )


def refresh(
    state: dict[str, Any], ended: Sequence[dict[str, Any]], announce: Mapping[str, Any], *, root: str = "/"
) -> list[str]:
    """Bring the message at login and the metrics up to date with the state; return a line for each that could not be.

    `ended` are blocks whose end the journal is still to hear of. For a command that a person or a timer runs: waits as
    long as it takes.
    """
    places = Places(root, announce["metrics-directory"])
    troubles = write_files(state, announce, places)
    if announce["journal"]:
        troubles += attempt("journal", lambda: _log([_of_release(block) for block in ended], places.journal))
    return troubles


def write_files(state: dict[str, Any], announce: Mapping[str, Any], places: Places) -> list[str]:
    """Write the message at login and the metrics of a state; return a line for each that could not be written."""
    now = time.time()
    troubles = attempt("record", lambda: record.mark(state, places.held))
    troubles += attempt("motd", lambda: motd.write(state, now, places.motd, announce["motd"]))
    if places.metrics:
        return troubles + attempt("metrics", lambda: metrics.write(state, now, places.metrics, places.metrics_link))
    return troubles + attempt("metrics", lambda: metrics.remove(places.metrics_link))


def carry_out(
    change: Change,
    new: dict[str, Any] | None,
    announce: Mapping[str, Any],
    places: Places,
    send: Callable[[object], None],
) -> None:
    """In a worker: write what is on disks, the record first.

    Sends {"held_s": seconds or None} when it is known since when updates are held back, and {"troubles": lines} at the
    end.
    """
    troubles: list[str] = []
    # Another writer may hold the record's lock: a look at it without the lock is soon enough for the journal.
    glanced = readable(places.state)
    change(glanced)
    _send(send, {"held_s": _held(glanced, new)})
    known: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []

    def settle(state: dict[str, Any]) -> None:
        known.append((state, change(state)))

    def tell() -> None:
        troubles.extend(write_files(known[-1][0], announce, places))

    failed = attempt("record", lambda: record.update(settle, places.state, tell))
    if failed and not known:
        settle(readable(places.state))
        tell()
    if announce["journal"]:
        ended = [_of_release(block) for block in known[-1][1]]
        troubles += attempt("journal", lambda: _log(ended, places.journal))
    _send(send, {"troubles": troubles + failed})


def _send(send: Callable[[object], None], message: dict[str, Any]) -> None:
    try:
        send(message)
    except OSError:
        pass  # the gate has left already


def _held(state: dict[str, Any], new: dict[str, Any] | None) -> float | None:
    if new is None or new["gate"] not in state["blocks"]:
        return None
    return max(0.0, float(new["time"] - state["blocks"][new["gate"]]["since"]))


def listen(
    messages: Iterable[dict[str, Any]], new: dict[str, Any] | None, announce: Mapping[str, Any], places: Places
) -> tuple[list[str], bool]:
    """In the gate: take what `carry_out` sends and tell the journal; return troubles, and whether all is done."""
    troubles: list[str] = []
    told = done = False
    for message in messages:
        if "bug" in message:
            troubles.append(f"a fault of its own, please report it: {clean(message['bug'], 2000)}")
        if "held_s" in message:
            troubles += _tell_journal(new, message["held_s"], announce, places)
            told = True
        if "troubles" in message:
            troubles += message["troubles"]
            done = True
            break
    if not told:
        troubles += _tell_journal(new, None, announce, places)
        if new and record.holds_back(new) and announce["motd"]:
            _begin_message(new, places)
    return troubles, done


def _begin_message(new: dict[str, Any], places: Places) -> None:
    """Have a first message at login written where the record's disk does not answer; one that is there stays."""

    def work(_: Callable[[object], None]) -> None:
        alone = record.empty()
        record.take(alone, new)
        motd.begin(alone, time.time(), places.motd)

    Worker(work, outlive=OUTLIVE).close()


def _tell_journal(
    new: dict[str, Any] | None, held: float | None, announce: Mapping[str, Any], places: Places
) -> list[str]:
    if not new or not announce["journal"]:
        return []
    return attempt("journal", lambda: _log([_of_run(new, held or 0.0)], places.journal))


def _announce(
    change: Change, new: dict[str, Any] | None, announce: Mapping[str, Any], root: str, wait: float = 0.0
) -> None:
    """Change the record and tell the rest what the state is now."""
    if os.geteuid() != 0:
        return
    places = Places(root, announce["metrics-directory"])
    try:
        worker = Worker(lambda send: carry_out(change, new, announce, places, send), outlive=OUTLIVE)
        try:
            messages = ({"bug": m[1]} if isinstance(m, tuple) else m for m in worker.messages(Deadline(wait or WAIT)))
            troubles, done = listen(messages, new, announce, places)
        finally:
            worker.close()
        if not done:
            troubles += unfinished(worker.finished, new, wait)
    except Exception as error:
        troubles = [f"a fault of its own, please report it: {error!r}"]
    complain(troubles)


def unfinished(given_up: bool, new: dict[str, Any] | None, wait: float = 0.0) -> list[str]:
    """Return what to say of announcements that have not ended in time; nothing where the update goes on."""
    if given_up:
        return [f"record, motd, metrics: given up after {OUTLIVE} s"]
    held_back = new is not None and record.holds_back(new)
    return [f"record, motd, metrics: still being written after {wait or WAIT:g} s"] if held_back or wait else []


def complain(troubles: Sequence[str]) -> None:
    """Say on stderr what could not be announced."""
    if troubles:
        sys.stderr.write(f"go-health-hook: not announced everywhere: {'; '.join(troubles)}\n")


def readable(directory: str) -> dict[str, Any]:
    """Return the state, or an empty one where it cannot be read."""
    try:
        return record.read(directory)
    except HookError:
        return record.empty()


def _log(entries: Iterable[Entry], path: str) -> None:
    if not path:
        return
    for kind, message, priority, fields in entries:
        journal.send(kind, message, priority, fields, path)


def _of_run(new: dict[str, Any], held: float) -> Entry:
    """Return the journal's entry of one run; `held` are the seconds for which its gate has held updates back."""
    gate, block = new["gate"], new["verdict"] == "block"
    if new["exit_status"] == EXIT_INTERNAL:
        kind, head, priority = "fault", "Nothing decided, the update goes on", journal.ERR
    elif not block and new["not_judged"]:
        kind, head, priority = "unjudged", "Not judged, the update goes on", journal.WARNING
    elif not block:
        kind, head, priority = "allowed", "Updates allowed", journal.INFO
    elif new["event"] in (record.FOUND, record.AFTER):
        late = new["exit_status"] == EXIT_TIMEOUT
        head = "Go could not be judged" if late else "Go found broken" if new["broken"] else "A check failed"
        kind, priority = "broken", journal.WARNING
        if new["event"] == record.AFTER:
            head, priority = f"{head} after a transaction", journal.ERR
    elif new["event"] != record.VERDICT:
        kind, priority = new["event"], journal.NOTICE
        head = "Let through by an override" if kind == record.OVERRIDE else "Only warned about, as configured"
    else:
        kind = "timeout" if new["exit_status"] == EXIT_TIMEOUT else "blocked"
        head, priority = "Updates held back", motd.level(held)
        if held >= motd.DAY:
            head += f" for {span(held)}"
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
    return kind, f"{head} ({record.label(gate)}): {new['reason']}", priority, fields


def _of_release(block: dict[str, Any]) -> Entry:
    held = max(0.0, block["until"] - block["since"])
    gate = record.label(block["gate"])
    message = f"Updates are no longer held back by {gate}: it was {span(held)}, {block['count']} refused"
    fields = [
        ("GO_HEALTH_GATE", block["gate"]),
        ("GO_HEALTH_REASON", block["reason"]),
        ("GO_HEALTH_HELD_SECONDS", f"{held:.0f}"),
    ]
    return "released", message, journal.NOTICE, fields


def attempt(name: str, job: Callable[[], None]) -> list[str]:
    """Do a job; return no line, or one on why it failed."""
    try:
        job()
    except HookError as error:
        return [f"{name}: {error.line()}"]
    except OSError as error:
        return [f"{name}: {clean(str(error.filename or ''))}: {error.strerror}"]
    except Exception as error:
        return [f"{name}: a fault of its own, please report it: {error!r}"]
    return []
