# SPDX-License-Identifier: GPL-2.0-or-later
"""The state that `status` reads: each gate's last verdict, and what is held back, broken or not judged since when."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

from go_health_hook import files
from go_health_hook.errors import EXIT_INTERNAL, HookError
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from go_health_hook.verdict import Examination

DIRECTORY = "/var/lib/go-health-hook"
NAME = "state.json"
# The names of the gates that hold something back; there while one does. dnf reads it at every command, so it is in
# memory: a disk may not answer. After a boot it is there again with the next announcement.
HELD = "/run/go-health-hook/held"
MAX_BYTES = 1 << 20
MAX_GATES = 16
MAX_HISTORY = 50
LOCK_SECONDS = 2.0

# What became of the verdict: it was followed, or the update went ahead whatever it was. FOUND: there was no update to
# hold back, since a person asked. AFTER: the look at what a transaction has left. LOST: a run was ended from outside.
VERDICT = "verdict"
OVERRIDE = "override"
WARNED = "warned"
FOUND = "found"
AFTER = "after"
LOST = "lost"


class StateError(HookError):
    """The state cannot be read or written; never a reason to hold an update back."""


# What people call a gate where its name in commands and records is an updater's that may not be here.
LABELS = {"rpm-ostree": "automatic updates"}


def label(gate: str) -> str:
    """Return what people call a gate."""
    return LABELS.get(gate, gate)


def empty() -> dict[str, Any]:
    """A state in which nothing has happened yet."""
    return {"schema": 1, "gates": {}, "blocks": {}, "history": [], "broken": None, "unjudged": {}}


def entry(examination: Examination, gate: str, event: str, now: float) -> dict[str, Any]:
    """What is kept of one run, bounded: verdict, reason, remedy, whose toolchain, each check's status and seconds."""
    blocking = [f for f in examination.findings if f.blocks]
    toolchain, cpu = examination.toolchain or {}, examination.cpu or {}
    return {
        "gate": clean(gate, 40),
        "event": event,
        "time": round(now, 3),
        "verdict": examination.verdict.word,
        "exit_status": examination.verdict.exit_status,
        "reason": clean(examination.verdict.reason, 600),
        "remedy": clean(blocking[0].remedy, 600) if blocking else "",
        "checks": [f.check for f in blocking],
        "broken": examination.broken,
        "not_judged": [f.check for f in examination.not_judged],
        "judged_later": False,
        "subject": examination.subject.kind,
        "root": clean(examination.subject.root),
        "go_version": toolchain.get("version") or "",
        "elapsed_s": round(examination.elapsed_s, 4),
        "budget_s": examination.budget_s,
        "expected_gomaxprocs": cpu.get("expected_gomaxprocs"),
        "actual_gomaxprocs": cpu.get("actual_gomaxprocs"),
        "results": [
            {"check": f.check, "status": f.status.value, "severity": f.severity, "elapsed_s": round(f.elapsed_s, 4)}
            for f in examination.findings
        ],
    }


def holds_back(run: dict[str, Any]) -> bool:
    """Whether a run held an update back: its verdict was followed."""
    return bool(run["verdict"] == "block" and run["event"] == VERDICT)


def take(state: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Add one run to the state; return the blocks that it ended.

    A gate's own next verdict that lets updates go ends its block, an override too. A running toolchain that is found
    sound, by any gate or person, ends every block that was about it. A broken one that was only FOUND starts none.
    """
    gate, now = new["gate"], new["time"]
    gates, blocks = state["gates"], state["blocks"]
    gates[gate] = new
    for name in sorted(gates, key=lambda n: gates[n]["time"])[:-MAX_GATES]:
        del gates[name]
        blocks.pop(name, None)
        state["unjudged"].pop(name, None)
    _take_unjudged(state["unjudged"], new)
    if new["event"] == LOST:
        return []  # what it has held back before, it may hold back still
    sound = new["subject"] == "running" and new["exit_status"] == 0 and not new["not_judged"]
    if new["subject"] == "running" and new["broken"]:
        since = state["broken"]["since"] if state["broken"] else now
        state["broken"] = {"since": since, **{key: new[key] for key in ("gate", "reason", "remedy", "go_version")}}
    elif sound:
        state["broken"] = None
    over = []
    if holds_back(new):
        block = blocks.setdefault(gate, {"gate": gate, "since": now, "count": 0})
        block["count"] += 1
        block["last"] = now
        block.update({key: new[key] for key in ("reason", "remedy", "checks", "subject", "go_version")})
        return []
    if gate in blocks:
        over.append(gate)
    if sound:
        over += [name for name, block in blocks.items() if block["subject"] == "running" and name not in over]
    return [_end(state, name, now, gate) for name in over]


def _take_unjudged(unjudged: dict[str, Any], new: dict[str, Any]) -> None:
    """Keep since when a gate cannot judge, and why, until it has judged an update again.

    The look AFTER a transaction is none: that the update was not judged stays so. It is one where that was all that
    was missing (`judged_later`), and Go is sound now.
    """
    gate = new["gate"]
    if new["exit_status"] == EXIT_INTERNAL or new["not_judged"]:
        entry = unjudged.setdefault(gate, {"gate": gate, "since": new["time"], "count": 0})
        entry["count"] += 1
        entry["reason"] = new["reason"]
        entry["judged_later"] = new["judged_later"]
    elif new["event"] != AFTER or (new["exit_status"] == 0 and unjudged.get(gate, {}).get("judged_later")):
        unjudged.pop(gate, None)


def release(state: dict[str, Any], gate: str, now: float) -> list[dict[str, Any]]:
    """End a gate's block, because what it held back or could not judge is gone; return what was ended."""
    state["unjudged"].pop(gate, None)
    return [_end(state, gate, now, gate)] if gate in state["blocks"] else []


def _end(state: dict[str, Any], gate: str, now: float, by: str) -> dict[str, Any]:
    ended: dict[str, Any] = {**state["blocks"].pop(gate), "until": now, "ended_by": by}
    state["history"] = [*state["history"], ended][-MAX_HISTORY:]
    return ended


def held_since(state: dict[str, Any]) -> float | None:
    """When the oldest block that still stands began (seconds since 1970), or None."""
    return min((block["since"] for block in state["blocks"].values()), default=None)


def read(directory: str = "") -> dict[str, Any]:
    """The state; an empty one where there is none yet. Raises StateError when it cannot be read or makes no sense."""
    path = f"{directory or DIRECTORY}/{NAME}"
    try:
        # Below a root that others write, it may be anything: a pipe is not waited for, and a link not followed.
        state = json.loads(files.read(path, MAX_BYTES, follow=False))
    except FileNotFoundError:
        return empty()
    except OSError as error:
        raise StateError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        state = None
    if not _sound(state):
        raise StateError(f"{path}: is damaged", hint="the next verdict starts a new one")
    return {**empty(), **state}


# What is kept of a check in a run, of a run, and of a block, by type; readers rely on it.
_RESULT = {"check": str, "status": str, "elapsed_s": float}
_RUN = {
    **dict.fromkeys(("gate", "event", "verdict", "reason", "remedy", "subject", "go_version"), str),
    **dict.fromkeys(("time", "elapsed_s"), float),
    "exit_status": int,
}
_BROKEN = {**dict.fromkeys(("gate", "reason", "remedy", "go_version"), str), "since": float}
_UNJUDGED = {**dict.fromkeys(("gate", "reason"), str), "since": float, "count": int}
_BLOCK = {**dict.fromkeys(("gate", "reason", "remedy", "subject"), str), "since": float, "count": int}
FAR = 1e11  # seconds since 1970: what no calendar shows any more


def _sound(state: Any) -> bool:
    """Whether what was read has the shape that we write."""
    try:
        return (
            state["schema"] == 1
            and all(_is(run, _RUN) and all(_is(r, _RESULT) for r in run["results"]) for run in state["gates"].values())
            and all(
                run[kind] is None or _fits(run[kind], float)
                for run in state["gates"].values()
                for kind in ("expected_gomaxprocs", "actual_gomaxprocs")
            )
            and all(_is(block, _BLOCK) for block in state["blocks"].values())
            and (state.get("broken") is None or _is(state["broken"], _BROKEN))
            and all(_is(entry, _UNJUDGED) for entry in state.get("unjudged", {}).values())
            and isinstance(state["history"], list)
            and isinstance(state.get("wired", {}), dict)
            and (state.get("misaligned") is None or _fits(state["misaligned"], int))
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _is(entry: dict[str, Any], shape: dict[str, type]) -> bool:
    return all(_fits(entry[key], kind) for key, kind in shape.items())


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and -FAR < value < FAR
    return isinstance(value, kind)


def update(
    change: Callable[[dict[str, Any]], object], directory: str = "", then: Callable[[], object] | None = None
) -> None:
    """Read the state, change it and write it back, one writer at a time. Raises StateError.

    `then` is called before the next writer has its turn, whether the state could be written or not: what is made from
    one state does not overwrite what is made from a later one.

    A damaged state is replaced by a new one; the old file is kept next to it. A lock that is held for longer than
    LOCK_SECONDS is ignored: a lost count is better than a verdict that is never recorded.
    """
    directory = directory or DIRECTORY
    try:
        files.make_directory(directory)
        with _lock(directory):
            try:
                state = read(directory)
            except StateError:
                with contextlib.suppress(OSError):
                    os.replace(f"{directory}/{NAME}", f"{directory}/{NAME}.damaged")
                state = empty()
            change(state)
            try:
                files.replace(f"{directory}/{NAME}", json.dumps(state, separators=(",", ":")) + "\n")
            finally:
                if then:
                    then()
    except OSError as error:
        raise StateError(f"{error.filename or directory}: {error.strerror}") from None


def mark(state: dict[str, Any], path: str) -> None:
    """Write to `path` which gates hold something back, or remove it where none does. Raises OSError."""
    if state["blocks"]:
        files.make_directory(os.path.dirname(path))
        files.replace(path, f"{' '.join(sorted(state['blocks']))}\n")
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


@contextlib.contextmanager
def _lock(directory: str) -> Iterator[None]:
    # Root's alone: whoever can open a file can lock it.
    fd = os.open(f"{directory}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        limit = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    break
                time.sleep(0.005)
        yield
    finally:
        os.close(fd)
