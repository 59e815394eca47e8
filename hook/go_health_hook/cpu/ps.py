# SPDX-License-Identifier: GPL-2.0-or-later
"""List the running Go processes with the GOMAXPROCS that each has and the one that fits its CPU limit, worst first.

Go in a packed executable (UPX), in a shared library and below qemu-user is found in the process's memory and its mapped
files. An executable without Go's build information, as some obfuscators make it, is not recognized.
"""

from __future__ import annotations

import os

from go_health_hook.cpu import _limits
from go_health_hook.cpu._processes import PREDICTED
from go_health_hook.cpu._survey import survey
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, HookError
from go_health_hook.linux import systemd
from go_health_hook.linux.cgroup_chain import in_words
from go_health_hook.report.style import Style, print_json
from go_health_hook.text import clean, fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.cpu._processes import GoProcess
    from go_health_hook.cpu._survey import Survey
    from go_health_hook.cpu._throttling import Stat

PLAIN = True
BUDGET = 30.0
MANY = 400  # more processes than that are not all shown to a person; --json has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --wrong, the only option of its own."""
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
    found = [pair for pair in seen.found if not (args.wrong and pair[0]["aligned"] is not False)]
    owners = _owners({path for row, path in found if path and row["aligned"] is False}, deadline)
    rows = [_with_owner(row, owners.get(path)) for row, path in found]
    rows.sort(key=_badness)
    if args.json:
        facts = {"schema": 1, "processes": rows, "missed": len(seen.missed), "refused": seen.refused}
        print_json({**facts, "missed_by": seen.missed_by()})
    else:
        print(_report(rows, seen, Style(), args.verbose))
    return EXIT_ALLOW


def _shown(process: GoProcess, stats: dict[str, Stat | None]) -> tuple[dict[str, Any], str]:
    """Its row, and the path of the level that limits it, as the kernel writes it."""
    chain, build = process.chain, process.found.build
    tightest = chain.tightest
    share = None
    if tightest is not None:
        if tightest.directory not in stats:
            stats[tightest.directory] = _limits.stat_of(tightest)
        share = _limits.throttled_share(stats[tightest.directory])
    why = process.why
    if process.aligned is False and tightest is None:
        why = f"it may run on {in_words(process.affinity)}; {why}"
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
        "certain": process.certain,
        "go_in": clean(process.found.where) or None,
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


def _owners(levels: set[str], deadline: Deadline) -> dict[str, systemd.Unit]:
    return systemd.who_set([(path, systemd.QUOTA) for path in sorted(levels)], deadline.within(5.0))


def _with_owner(row: dict[str, Any], owner: systemd.Unit | None) -> dict[str, Any]:
    """The row with who set the limit that it does not fit."""
    if row["limiting_level"] is None or row["aligned"] is not False:
        return row
    row["set_by"] = (clean(owner.set_by) or None) if owner else None
    by = f", set by {row['set_by']}" if row["set_by"] else ""
    why = f"{in_words(row['limiting_cpus'])} at {row['limiting_level']}{by}; {row['why']}"
    return {**row, "why": clean(why, 600)}


def _badness(row: dict[str, Any]) -> tuple[float, ...]:
    """Return a key that sorts more than fits first, the most throttled of those before the others.

    Then come less than fits, what is not known, and what fits.
    """
    if row["gomaxprocs"] is None:
        return (2, 0.0, 0.0, row["pid"])
    over = row["gomaxprocs"] / row["expected_gomaxprocs"]
    rank = 0 if over > 1 else 3 if over == 1 else 1
    return (rank, -(row["throttled_share"] or 0.0) if rank == 0 else 0.0, -over, row["pid"])


def _unit(path: str) -> str | None:
    """The nearest unit at or above a cgroup."""
    while path not in ("", "/"):
        name = systemd.unit_of(path)[0]
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
    lines.append(style.paint(_verdict(rows, seen), "1"))
    if any(row["source"] == PREDICTED for row in rows):
        lines.append(style.wrap("~ predicted from its version, environment, CPUs and cgroup as they are now", 2))
    if any(_over(row) for row in rows):
        lines.append("-> start them with go-health-hook exec -- CMD; go-health-hook cpu --pid PID")
    if seen.refused:
        hint = "" if os.geteuid() == 0 else ": root sees all"
        lines.append(f"{seen.refused} not looked at for want of permission{hint}")
    if seen.missed:
        whose = ", ".join(f"{count} of {name}" for name, count in list(seen.missed_by().items())[:5])
        text = f"{len(seen.missed)} not looked at{f' ({whose})' if whose else ''}: they did not answer, or time ran out"
        lines.append(style.paint(style.wrap(f"{text} (go-health-hook --budget 120 ps)", 2), "33"))
    return "\n".join(lines)


def _over(row: dict[str, Any]) -> bool:
    return row["gomaxprocs"] is not None and row["gomaxprocs"] > row["expected_gomaxprocs"]


def _verdict(rows: list[dict[str, Any]], seen: Survey) -> str:
    if not rows:
        return "no Go process was found" if seen.missed or seen.refused else "no Go process is running here"
    total = f"{len(rows)} Go process{'' if len(rows) == 1 else 'es'}"
    wrong = sum(row["aligned"] is False for row in rows)
    if wrong:
        return f"{total}, {wrong} of them with a GOMAXPROCS that does not fit"
    unknown = sum(row["aligned"] is None for row in rows)
    guessed = sum(not row["certain"] for row in rows) - unknown
    if guessed or unknown:
        text = f"{total}, {len(rows) - guessed - unknown} fit"
        text += f", {unknown} cannot be told" if unknown else ""
        return text + (f" and {guessed} should, if nothing changed since they started" if guessed else "")
    return f"{total}, all fit" if len(rows) > 1 else f"{total}, which fits"


def _lines(row: dict[str, Any], style: Style, verbose: bool) -> list[str]:
    room = style.width - 56
    value = row["gomaxprocs"]
    over, under = _over(row), value is not None and value < row["expected_gomaxprocs"]
    count = "?" if value is None else str(value) if value < 10_000 else ">9999"
    has = f"{'~' if row['source'] == PREDICTED else ''}{count}"
    share = "-" if row["throttled_share"] is None else f"{100 * row['throttled_share']:.0f}%"
    program, _, rest = row["command"].partition(" ")
    inside = f"[{row['go_in']}] " if row["go_in"] else ""
    command = fit(f"{program.rsplit('/', 1)[-1]} {inside}{rest}".strip(), room)
    version = fit(row["go_version"][2:] if row["go_version"].startswith("go") else row["go_version"], 9)
    text = f"{row['pid']:>7} {fit(row['user'], 9):<9} {command:<{room}} {version:<9}{has:>5}"
    text += f"{row['expected_gomaxprocs']:>6}{share:>12}"
    mark, colour = ("!", "1;31") if over else ("<", "33") if under else ("?", "33") if value is None else (" ", "")
    lines = [style.paint(f"{mark} {text}", colour) if colour else f"{mark} {text}"]
    if row["aligned"] is not True or verbose:
        unit = f"{row['unit']}: " if row["unit"] else ""
        lines.append(" " * 10 + style.wrap(unit + row["why"], 10))
    return lines
