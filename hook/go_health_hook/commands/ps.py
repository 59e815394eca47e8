# SPDX-License-Identifier: GPL-2.0-or-later
"""List the running Go processes, the GOMAXPROCS of each beside the one that fits its CPU limit, the worst first."""

from __future__ import annotations

import os

from go_health_hook.announce.style import Style
from go_health_hook.commands import _limits
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, HookError
from go_health_hook.go.processes import Processes
from go_health_hook.linux import units
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.go.processes import GoProcess
    from go_health_hook.linux.throttling import Stat

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
    processes = Processes()
    stats: dict[str, Stat | None] = {}
    found = [(process, _share(process, stats)) for process in processes.every(deadline)]
    found = [pair for pair in found if not (args.wrong and pair[0].aligned)]
    owners = _owners([p for p, _ in found if not p.aligned], deadline)
    found.sort(key=_badness)
    rows = [_row(process, share, owners) for process, share in found]
    if args.json:
        import json

        facts = {"schema": 1, "processes": rows, "missed": processes.missed, "refused": processes.refused}
        print(json.dumps(facts, indent=2))
    else:
        print(_report(rows, processes, Style(), args.verbose))
    return EXIT_ALLOW


def _share(process: GoProcess, stats: dict[str, Stat | None]) -> float | None:
    level = process.chain.tightest
    if level is None:
        return None
    if level.directory not in stats:
        stats[level.directory] = _limits.stat_of(level)
    return _limits.throttled_share(stats[level.directory])


def _owners(wrong: list[GoProcess], deadline: Deadline) -> dict[str, units.Unit]:
    levels = {p.chain.tightest.path for p in wrong if p.chain.tightest is not None}
    return units.who_set([(path, units.QUOTA) for path in sorted(levels)], deadline.within(5.0))


def _badness(pair: tuple[GoProcess, float | None]) -> tuple[float, ...]:
    """More than fits first, by how much and how often it is throttled; then less than fits; then what is well."""
    process, share = pair
    over = process.gomaxprocs / process.expected
    rank = 0 if over > 1 else 2 if over == 1 else 1
    return (rank, -(share or 0.0) if rank == 0 else 0.0, -over, process.pid)


def _row(process: GoProcess, share: float | None, owners: dict[str, units.Unit]) -> dict[str, Any]:
    chain, build = process.chain, process.build
    tightest = chain.tightest
    owner = owners.get(tightest.path) if tightest else None
    why = process.why
    if not process.aligned and tightest is not None:
        by = f", set by {owner.set_by}" if owner and owner.set_by else ""
        why = f"{tightest.cpus:g} CPUs at {tightest.path}{by}; {why}"
    elif not process.aligned:
        why = f"it may run on {process.affinity} CPUs; {why}"
    return {
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
        "set_by": (clean(owner.set_by) or None) if owner else None,
        "throttled_share": share,
        "affinity_cpus": process.affinity,
    }


def _unit(path: str) -> str | None:
    """The nearest unit at or above a cgroup."""
    while path not in ("", "/"):
        name = units.unit_of(path)[0]
        if name:
            return clean(name)
        path = path.rsplit("/", 1)[0]
    return None


def _report(rows: list[dict[str, Any]], processes: Processes, style: Style, verbose: bool) -> str:
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
    total = f"{len(rows)} Go process{'' if len(rows) == 1 else 'es'}"
    verdict = f"{len(wrong)} of them with a GOMAXPROCS that does not fit" if wrong else "all fit"
    lines.append(style.paint(f"{total}, {verdict}" if rows else "no Go process is running here", "1"))
    if any(row["source"] != "memory" for row in rows):
        lines.append(style.wrap("~ predicted from version, environment, affinity and cgroup", 2))
    if any(row["gomaxprocs"] > row["expected_gomaxprocs"] for row in rows):
        lines.append("-> start them with go-health-hook exec -- CMD; see go-health-hook cpu --pid PID")
    if processes.refused and os.geteuid() != 0:
        lines.append(f"{processes.refused} not looked at for want of permission: root sees all")
    if processes.missed:
        lines.append(style.paint(f"{processes.missed} not looked at: time ran out, see --budget", "33"))
    return "\n".join(lines)


def _lines(row: dict[str, Any], style: Style, verbose: bool) -> list[str]:
    room = style.width - 56
    over, under = row["gomaxprocs"] > row["expected_gomaxprocs"], row["gomaxprocs"] < row["expected_gomaxprocs"]
    has = f"{'' if row['source'] == 'memory' else '~'}{row['gomaxprocs']}"
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
