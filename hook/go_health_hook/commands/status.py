# SPDX-License-Identifier: GPL-2.0-or-later
"""Show which gates are wired in, since when updates are held back and why, and what is overridden."""

from __future__ import annotations

import os
import time

from go_health_hook import VERSION, gates, override
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, EXIT_TIMEOUT, BadInput
from go_health_hook.gates import _image_status, _trace
from go_health_hook.records import Record
from go_health_hook.report.style import Style, print_json
from go_health_hook.text import clean, span, when
from go_health_hook.wiring import NOT_HERE, NOT_WIRED, WIRED, Wiring

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from go_health_hook.config import Config

EXIT_HELD_BACK = 1
EXIT_NOT_WIRED = 3
SECONDS = 10.0  # for all questions to systemd
PROCESS_SECONDS = 30.0  # for a look at every process
WORDS = {
    record.OVERRIDE: "overridden",
    record.WARNED: "warned about",
    record.FOUND: "found broken",
    record.AFTER: "found broken",
}
LABEL = 13


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--refresh is what the timer runs."""
    parser.add_argument(
        "--refresh", action="store_true", help="also bring the message at login and the metrics up to date (root)"
    )
    parser.epilog = (
        "Exit status: 0 all is well, 1 updates are held back or Go is broken, 2 usage or configuration error, 3 an "
        "update might pass unjudged: a gate is not wired in, or could not judge, or the record is damaged."
    )


def run(args: argparse.Namespace, settings: Config) -> int:
    """Print the status; return 0, 1 or 3 (see the module's epilog). Raises BadInput for --refresh without root."""
    if args.refresh:
        _may_write(args.root)
    root = os.path.realpath(args.root)
    wiring = Wiring(gates.every(), settings, Deadline(args.budget or SECONDS), root)
    directory = root.rstrip("/") + record.DIRECTORY
    damage = ""
    troubles = _refresh(wiring, settings, directory, root) if args.refresh else []
    try:
        state = record.read(directory)
    except record.StateError as error:
        state, damage = record.empty(), error.line()
    report = gather(wiring, state, time.time(), damage)
    try:
        found = override.in_force(root.rstrip("/") + override.FILE)
        report["override"] = found.to_dict() if found else None
        report["override_line"] = found.line() if found else ""
    except BadInput as error:
        report["override"], report["override_line"] = None, error.line()
    if args.json:
        print_json(report)
    else:
        print(text(report))
    if troubles:
        raise record.StateError("; ".join(troubles))
    status: int = report["exit_status"]
    return status


def _may_write(root: str) -> None:
    """Raise BadInput where nothing may be written: links of another root could lead anywhere."""
    if root != "/":
        raise BadInput("status --refresh writes, and below another root nothing is written", hint="leave --root out")
    if os.geteuid() != 0:
        raise BadInput("status --refresh writes what only root may", hint="sudo go-health-hook status --refresh")


def gather(wiring: Wiring, state: dict[str, Any], now: float, damage: str = "") -> dict[str, Any]:
    """Everything that is shown, as the JSON has it (schema 1); `damage` is why the state could not be read."""
    # What an updater that is not here has refused is refused by nobody.
    here = {gate.name for gate in wiring.gates if gate.state != NOT_HERE}
    blocks = {name: block for name, block in state["blocks"].items() if name in here or not wiring.lets_go(name)}
    since = min((block["since"] for block in blocks.values()), default=None)
    unjudged = _unjudged(wiring, state)
    unguarded = any(gate.state == NOT_WIRED for gate in wiring.gates) or bool(unjudged) or bool(damage)
    bad = since is not None or state["broken"] is not None
    return {
        "schema": 1,
        "version": VERSION,
        "exit_status": EXIT_HELD_BACK if bad else EXIT_NOT_WIRED if unguarded else EXIT_ALLOW,
        "held_back": None if since is None else {"since": since, "seconds": round(max(0.0, now - since))},
        "broken": state["broken"],
        "gates": [gate.to_dict() for gate in wiring.gates],
        "could_not_judge": [entry["gate"] for entry in unjudged],
        "not_judged": unjudged,
        "state_error": damage,
        "unread_settings": wiring.unread,
        "image": wiring.details,
        "timers": wiring.timers,
        "verdicts": sorted(state["gates"].values(), key=lambda run: -run["time"]),
        "blocks": sorted(blocks.values(), key=lambda block: block["since"]),
        "history": state["history"][::-1],
    }


def _unjudged(wiring: Wiring, state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is kept of the gates that are called here and could not judge, so that the update went on.

    A run that was ended from outside is not recorded before the gate's next run, and shown all the same.
    """
    found = []
    for name in [gate.name for gate in wiring.gates if gate.state == WIRED]:
        began = None if wiring.view.base else _trace.lost(name)
        if name in state["unjudged"]:
            found.append(state["unjudged"][name])
        elif began is not None:
            found.append({"gate": name, "since": began, "count": 1, "reason": gates.lost_words(began)})
    return found


class Detail(Record):
    """How much is shown of each kind: `lines` of a row that is no remedy, and how many rows."""

    lines: int
    blocks: int
    unread: int
    timers: int
    verdicts: int


DETAILS = (Detail(2, 2, 6, 3, 4), Detail(1, 2, 2, 3, 4), Detail(1, 2, 1, 1, 1), Detail(1, 1, 1, 1, 0))
SCREEN = 24


def text(report: dict[str, Any]) -> str:
    """The report for a person, on one screen: with all that there is room for; the rest stands in the JSON."""
    style = Style()
    for detail in DETAILS:
        lines = "\n".join(_lines(report, style, detail)).split("\n")
        if len(lines) <= SCREEN:
            break
    return "\n".join(lines)


def _lines(report: dict[str, Any], style: Style, detail: Detail) -> list[str]:
    def row(label: str, value: str, colour: str = "", most: int = detail.lines) -> str:
        # What a remedy names stays whole: the id of an image has 128 digits.
        shown = style.wrap(clean(value, 2000), LABEL + 2, most, whole=not label)
        line = f"  {clean(label, LABEL - 1):<{LABEL}}{shown}"
        return style.paint(line, colour) if colour else line

    def remedy(value: str) -> list[str]:
        return [row("", f"-> {value}", most=2)] if value else []

    bad = report["held_back"] or report["broken"]
    lines = [style.paint(style.wrap(_headline(report), 2, 2), "1;31" if bad else "1")]
    for block in report["blocks"][: detail.blocks]:
        times = "once" if block["count"] == 1 else f"{block['count']} times"
        lines.append(row(_column(block["gate"]), f"{times} since {when(block['since'])}: {block['reason']}", "31"))
        lines += remedy(block["remedy"])
    if len(report["blocks"]) > detail.blocks:
        lines.append(
            row("and", ", ".join(record.label(block["gate"]) for block in report["blocks"][detail.blocks :]), "31")
        )
    if report["broken"] and not report["blocks"]:
        broken = report["broken"]
        lines.append(row(_column(broken["gate"]), f"since {when(broken['since'])}: {broken['reason']}", "31"))
        lines += remedy(broken["remedy"])
    for entry in report["not_judged"][: detail.blocks]:
        reason = f"{record.label(entry['gate'])}, since {when(entry['since'])}: {entry['reason']}"
        lines.append(row("not judged", reason, "33"))
    if report["override_line"]:
        lines.append(row("override", report["override_line"], "33"))
    lines.append("Gates")
    for gate in report["gates"]:
        if gate["state"] == NOT_HERE:
            continue
        bad = gate["state"] == NOT_WIRED
        lines.append(row(_column(gate["gate"]), f"{gate['state']}: {gate['how']}", "31" if bad else "32"))
        lines += remedy(gate["remedy"] if bad else "")
    away = [record.label(gate["gate"]) for gate in report["gates"] if gate["state"] == NOT_HERE]
    if away:
        lines.append(row("not here", ", ".join(away)))
    for setting in report["unread_settings"][: detail.unread]:
        lines.append(row("not read", f"{setting['key']} in {setting['place']}: {setting['why']}", "33"))
    if report["image"]:
        lines += [row("images", line, most=2) for line in _image_status.rows(report["image"])]
    if report["timers"]:
        lines.append("Timers")
        lines += [row("", _timer(timer)) for timer in report["timers"][: detail.timers]]
    # What holds updates back is said above already.
    held = {block["gate"] for block in report["blocks"]}
    verdicts = [run for run in report["verdicts"] if run["gate"] not in held]
    if verdicts and detail.verdicts:
        lines.append("Last verdicts")
        lines += [row(_column(run["gate"]), _verdict(run), most=1) for run in verdicts[: detail.verdicts]]
    if not report["verdicts"]:
        lines.append(row("no verdicts", "yet: they come with the next update; try go-health-hook --dry-run"))
    if report["state_error"]:
        lines.append(row("record", report["state_error"], "33", most=2))
    return lines


def _column(gate: str) -> str:
    """Return what people call a gate, as short as the first column needs it."""
    return record.label(gate).split()[0]


def _verdict(run: dict[str, Any]) -> str:
    at, status = when(run["time"]), run["exit_status"]
    if status == EXIT_ALLOW:
        return f"{at} allowed: {run['reason']} ({run['go_version'] or 'no Go'})"
    if status == EXIT_INTERNAL:
        return f"{at} not decided: {run['reason']}"
    late = ", out of time" if status == EXIT_TIMEOUT else ""
    words = "blocked" if run["event"] == record.VERDICT else WORDS.get(run["event"], "failed")
    if words == "found broken" and not run.get("broken", True):
        words = "failed"
    return f"{at} {words}{late}: {run['reason']}"


def _headline(report: dict[str, Any]) -> str:
    head = f"go-health-hook {report['version']}"
    held = report["held_back"]
    if held:
        return f"{head}: updates held back for {span(held['seconds'])}, since {when(held['since'])}"
    if report["broken"]:
        return f"{head}: Go is broken since {when(report['broken']['since'])}"
    if any(gate["state"] == NOT_WIRED for gate in report["gates"]):
        return f"{head}: nothing is held back, but a gate is not wired in"
    foreign = _image_status.foreign_lock(report["image"])
    if foreign:
        return f"{head}: nothing is held back, but somebody else has locked {foreign}"
    if report["could_not_judge"]:
        return f"{head}: nothing is held back, but a gate could not judge: {', '.join(report['could_not_judge'])}"
    if report["state_error"]:
        return f"{head}: whether updates are held back is not known"
    if all(gate["state"] == NOT_HERE for gate in report["gates"]):
        return f"{head}: no updater that it has a gate for is installed here"
    return f"{head}: all is well, nothing is held back"


def _timer(timer: dict[str, Any]) -> str:
    state = "active" if timer["active"] else f"not active ({timer['enabled'] or 'not enabled'})"
    if timer["last_trigger"] is None:
        return f"{timer['timer']}: {state}, has not run yet"
    # What came of it is not kept over a reboot; when it was, is.
    result = "still running" if timer["running"] else timer["result"] or "has not run since this boot"
    failed = f" {timer['exit_status']}" if timer["exit_status"] else ""
    return f"{timer['timer']}: {state}, {result}{failed} ({when(timer['last_trigger'])})"


def _refresh(wiring: Wiring, settings: Config, directory: str, root: str) -> list[str]:
    """Keep what only this command knows, end blocks that nobody else would, write message and metrics.

    Returns a line for each that could not be written.
    """
    wired = {gate.name: gate.state != NOT_WIRED for gate in wiring.gates if gate.state != NOT_HERE}
    known = {"wired": wired, "misaligned": _misaligned() if root == "/" else None}
    announce = settings.announce
    ended: list[dict[str, Any]] = []
    states: list[dict[str, Any]] = []
    troubles: list[str] = []

    def change(state: dict[str, Any]) -> None:
        state.update(known)
        for name in [name for name in state["blocks"] if wiring.lets_go(name)]:
            ended.extend(record.release(state, name, time.time()))
        states.append(state)

    def tell() -> None:
        troubles.extend(publish.refresh(states[0], ended, announce, root=root))

    try:
        record.update(change, directory, tell)
    except record.StateError as error:
        troubles.append(error.line())
        if not states:
            change(publish.readable(directory))
            tell()
    return troubles


def _misaligned() -> int | None:
    """How many running Go processes do not fit their CPU limit; None where not all could be looked at.

    The CPU tools are a package of their own, which may not be installed.
    """
    try:
        import psutil  # noqa: F401

        from go_health_hook.cpu._survey import survey
    except ImportError:
        return None
    seen = survey(lambda process: process.aligned, Deadline(PROCESS_SECONDS))
    return None if seen.missed else seen.found.count(False)
