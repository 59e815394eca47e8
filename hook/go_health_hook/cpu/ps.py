# SPDX-License-Identifier: GPL-2.0-or-later
"""List the running Go processes, the GOMAXPROCS of each beside the one that fits its CPU limit, the worst first."""

from __future__ import annotations

import os

from go_health_hook.cpu import _limits
from go_health_hook.cpu._processes import PREDICTED, survey
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, HookError
from go_health_hook.linux import cgroup, units
from go_health_hook.report.style import Style
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.cpu._processes import GoProcess, Survey
    from go_health_hook.cpu._throttling import Stat

PLAIN = True
BUDGET = 30.0
MANY = 400  # more processes than that are not all shown to a person; --json has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--wrong alone, beside what every command takes."""
    parser.add_argument("--wrong", action="store_true", help="only those whose GOMAXPROCS does not fit")


def run(args: argparse.Namespace, _settings: Config | None) -> int:
    """Print the table; 0 whatever it shows, since nothing is decided."""
    try:
        import psutil  # noqa: F401
    except ImportError:
        raise HookError("ps needs the Python module psutil", hint="dnf install python3-psutil") from None
    deadline = Deadline(args.budget or BUDGET)
    stats: dict[str, Stat | None] = {}
    seen = survey(lambda process: _shown(process, stats), deadline)
    found = [pair for pair in seen.found if not (args.wrong and pair[0]["aligned"])]
    owners = _owners({path for row, path in found if path and not row["aligned"]}, deadline)
    rows = [_with_owner(row, owners.get(path)) for row, path in found]
    rows.sort(key=_badness)
    if args.json:
        import json

        print(json.dumps({"schema": 1, "processes": rows, "missed": seen.missed, "refused": seen.refused}, indent=2))
    else:
        print(_report(rows, seen, Style(), args.verbose))
    return EXIT_ALLOW


def _shown(process: GoProcess, stats: dict[str, Stat | None]) -> tuple[dict[str, Any], str]:
    """Its row, and the path of the level that limits it, as the kernel writes it."""
    chain, build = process.chain, process.build
    tightest = chain.tightest
    share = None
    if tightest is not None:
        if tightest.directory not in stats:
            stats[tightest.directory] = _limits.stat_of(tightest)
        share = _limits.throttled_share(stats[tightest.directory])
    why = process.why
    if not process.aligned and tightest is None:
        why = f"it may run on {cgroup.in_words(process.affinity)}; {why}"
    row = {
        "pid": process.pid,
        "user": process.user,
        "command": process.command,
        "unit": _unit(chain.path),
        "go_version": build.version,
        "gomaxprocs": process.gomaxprocs,
        "source": process.source,
        "expected_gomaxprocs": process.expected,
        "aligned": process.aligned,
        "why": clean(why, 600),
        "main": build.path,
        "default_godebug": build.godebug,
        "old_go_line": "containermaxprocs=0" in build.godebug.split(","),
        "cgroup": clean(chain.path),
        "limiting_level": clean(tightest.path) if tightest else None,
        "limiting_cpus": tightest.cpus if tightest else None,
        "set_by": None,
        "throttled_share": share,
        "affinity_cpus": process.affinity,
    }
    return row, tightest.path if tightest else ""


def _owners(levels: set[str], deadline: Deadline) -> dict[str, units.Unit]:
    return units.who_set([(path, units.QUOTA) for path in sorted(levels)], deadline.within(5.0))


def _with_owner(row: dict[str, Any], owner: units.Unit | None) -> dict[str, Any]:
    """The row with who set the limit that it does not fit."""
    if row["limiting_level"] is None or row["aligned"]:
        return row
    row["set_by"] = (clean(owner.set_by) or None) if owner else None
    by = f", set by {row['set_by']}" if row["set_by"] else ""
    why = f"{cgroup.in_words(row['limiting_cpus'])} at {row['limiting_level']}{by}; {row['why']}"
    return {**row, "why": clean(why, 600)}


def _badness(row: dict[str, Any]) -> tuple[float, ...]:
    """More than fits first, by how much and how often it is throttled; then less than fits; then what is well."""
    over = row["gomaxprocs"] / row["expected_gomaxprocs"]
    rank = 0 if over > 1 else 2 if over == 1 else 1
    return (rank, -(row["throttled_share"] or 0.0) if rank == 0 else 0.0, -over, row["pid"])


def _unit(path: str) -> str | None:
    """The nearest unit at or above a cgroup."""
    while path not in ("", "/"):
        name = units.unit_of(path)[0]
        if name:
            return clean(name)
        path = path.rsplit("/", 1)[0]
    return None


def _report(rows: list[dict[str, Any]], seen: Survey, style: Style, verbose: bool) -> str:
    lines = []
    if rows:
        room = style.width - 56
        heads = f"  {'PID':>7} {'USER':<9} {'COMMAND':<{room}} {'GO':<9}{'HAS':>5}{'FITS':>6}{'THROTTLED':>12}"
        lines.append(style.paint(heads, "2"))
    for row in rows[:MANY]:
        lines += _lines(row, style, verbose)
    if len(rows) > MANY:
        lines.append(f"  … and {len(rows) - MANY} more, with the better ones last: --json shows all")
    wrong = [row for row in rows if not row["aligned"]]
    lines.append(style.paint(_verdict(rows, len(wrong)), "1"))
    if any(row["source"] == PREDICTED for row in rows):
        lines.append(style.wrap("~ predicted from its version, environment, CPUs and cgroup as they are now", 2))
    if any(row["gomaxprocs"] > row["expected_gomaxprocs"] for row in rows):
        lines.append("-> start them with go-health-hook exec -- CMD; go-health-hook cpu --pid PID")
    if seen.refused and os.geteuid() != 0:
        lines.append(f"{seen.refused} not looked at for want of permission: root sees all")
    if seen.missed:
        text = f"{seen.missed} not looked at: they did not answer, or time ran out (go-health-hook --budget 120 ps)"
        lines.append(style.paint(style.wrap(text, 2), "33"))
    return "\n".join(lines)


def _verdict(rows: list[dict[str, Any]], wrong: int) -> str:
    if not rows:
        return "no Go process is running here"
    total = f"{len(rows)} Go process{'' if len(rows) == 1 else 'es'}"
    if wrong:
        return f"{total}, {wrong} of them with a GOMAXPROCS that does not fit"
    guessed = sum(row["source"] == PREDICTED for row in rows)
    if guessed:
        return f"{total}, {len(rows) - guessed} fit and {guessed} should, if nothing changed since they started"
    return f"{total}, all fit" if len(rows) > 1 else f"{total}, which fits"


def _lines(row: dict[str, Any], style: Style, verbose: bool) -> list[str]:
    room = style.width - 56
    over, under = row["gomaxprocs"] > row["expected_gomaxprocs"], row["gomaxprocs"] < row["expected_gomaxprocs"]
    count = str(row["gomaxprocs"]) if row["gomaxprocs"] < 10_000 else ">9999"
    has = f"{'~' if row['source'] == PREDICTED else ''}{count}"
    share = "-" if row["throttled_share"] is None else f"{100 * row['throttled_share']:.0f}%"
    program, _, rest = row["command"].partition(" ")
    command = _limits.fit(f"{program.rsplit('/', 1)[-1]} {rest}".strip(), room)
    version = _limits.fit(row["go_version"][2:] if row["go_version"].startswith("go") else row["go_version"], 9)
    text = f"{row['pid']:>7} {_limits.fit(row['user'], 9):<9} {command:<{room}} {version:<9}{has:>5}"
    text += f"{row['expected_gomaxprocs']:>6}{share:>12}"
    mark, colour = ("!", "1;31") if over else ("<", "33") if under else (" ", "")
    lines = [style.paint(f"{mark} {text}", colour) if colour else f"{mark} {text}"]
    if not row["aligned"] or verbose:
        unit = f"{row['unit']}: " if row["unit"] else ""
        lines.append(" " * 10 + style.wrap(unit + row["why"], 10))
    return lines
