# SPDX-License-Identifier: GPL-2.0-or-later
"""Show the CPU limit the kernel enforces, level by level: who set it, whether it bites, what Go makes of it."""

from __future__ import annotations

import os

from go_health_hook.cpu import _limits, _question
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, BadInput
from go_health_hook.go import maxprocs
from go_health_hook.go.versions import parse_version
from go_health_hook.linux import cgroup, systemd
from go_health_hook.linux.cgroup_chain import in_words
from go_health_hook.linux.cgroup_files import parse_cpus
from go_health_hook.linux.kernel_files import Malformed
from go_health_hook.records import Record
from go_health_hook.report.style import Style, print_json
from go_health_hook.text import clean, duration, fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.go.maxprocs import Prediction
    from go_health_hook.linux.cgroup_chain import Chain, Level

PLAIN = True  # of the configuration only [toolchain] goroot matters here, and reading all of it costs its time
BUDGET = 5.0
NEWEST = "go1.27"  # whose rules are taken where no toolchain is installed


class Place(Record):
    """Whose limit is shown: the caller's own cgroup, a process's or a unit's."""

    chain: Chain
    affinity: int
    pid: int | None = None
    unit: str = ""

    @property
    def own(self) -> bool:
        """Whether it is the caller's own cgroup."""
        return self.pid is None and not self.unit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--pid or --unit, to look elsewhere than at the caller's own cgroup."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--pid", metavar="PID", help="the limit on this process")
    where.add_argument("--unit", metavar="UNIT", help="the limit on a unit, a slice, a user or a cgroup's path")


def quick(words: list[str]) -> int | None:
    """The usual ways to ask, without the command line's own machinery, whose loading takes as long as the answer."""
    said: dict[str, Any] = {"json": False, "pid": None, "unit": None}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--json":
            said["json"] = True
        elif word in ("--pid", "--unit") and rest and said["pid"] is said["unit"] is None:
            said[word[2:]] = rest.pop(0)
        else:
            return None
    from types import SimpleNamespace

    args: Any = SimpleNamespace(**said, budget=None, goroot="", config=None)
    return run(args, None)


def run(args: argparse.Namespace, _settings: Config | None) -> int:
    """Print the chain of limits and what Go takes there; 0 whether that fits or not, since nothing is decided."""
    deadline = Deadline(args.budget or BUDGET)
    pid = None if args.pid is None else _limits.process_id(args.pid)
    here = pid is None and args.unit is None
    worker = _question.begin(args.goroot, args.config, pid, here, deadline)
    try:
        place = _place(pid, args.unit, deadline)
        facts = _facts(place, deadline)
        said, env = _question.answer(worker, deadline)
    finally:
        worker.close()
    _predict(place, said)
    set_there = _by_environment(place, os.environ if place.own else env, said["version"])
    taken = said["gomaxprocs"] if set_there is None else set_there.value
    facts.update(
        toolchain_gomaxprocs=said["gomaxprocs"],
        toolchain=said,
        environment_gomaxprocs=set_there.value if set_there else None,
        environment_why=set_there.why if set_there else None,
        aligned=None if taken is None else taken == facts["expected_gomaxprocs"],
        advice=_advice(place, facts["expected_gomaxprocs"], taken, set_there is not None),
    )
    if args.json:
        print_json(facts)
    else:
        print(_report(facts, place, Style()))
    return EXIT_ALLOW


def _place(pid: int | None, unit: str | None, deadline: Deadline) -> Place:
    if pid is not None:
        try:
            return Place(cgroup.read_chain(pid), cgroup.affinity(pid), pid=pid)
        except ProcessLookupError:
            raise BadInput(f"--pid {pid}: the process has ended", hint="go-health-hook ps lists those of Go") from None
    if unit is not None:
        return _unit_place(unit, deadline)
    return Place(cgroup.read_chain(), cgroup.affinity())


def _unit_place(name: str, deadline: Deadline) -> Place:
    path = systemd.control_group(name, deadline) if name.endswith(systemd.SUFFIXES) else ""
    try:
        chain = cgroup.read_group(path or systemd.group_of(name)[0])
    except Malformed as error:
        raise BadInput(f"--unit {clean(name)}: {error}", hint="name a unit, or a path as in /proc/PID/cgroup") from None
    if not chain.leaf:
        raise BadInput(
            f"--unit {clean(name)}: there is no cgroup {clean(chain.path)}", hint="is it running? see systemd-cgls"
        )
    machine = os.cpu_count() or 1
    return Place(chain, min(machine, len(parse_cpus(chain.cpuset))) if chain.cpuset else machine, unit=name)


def _predict(place: Place, said: dict[str, Any]) -> None:
    """Fill in the GOMAXPROCS that the toolchain would take there, where it did not say so itself."""
    if not said["version"]:
        return
    predicted = maxprocs.predict(parse_version(said["version"]), place.affinity, place.chain)
    said["why"] = predicted.why
    if said["gomaxprocs"] is None:
        said.update(gomaxprocs=predicted.value, source="predicted")


def _by_environment(place: Place, env: Mapping[str, str], version: str | None) -> Prediction | None:
    """What GOMAXPROCS or GODEBUG in the environment there make of it, which the toolchain was asked without.

    None where they are not set or change nothing, and for a unit, whose environment is each program's own.
    """
    value, godebug = env.get("GOMAXPROCS"), env.get("GODEBUG")
    if value is None and not godebug:
        return None
    runtime = parse_version(version or NEWEST)
    gate = maxprocs.reads_quota("", godebug, runtime)
    found = maxprocs.predict(runtime, place.affinity, place.chain, environment_value=value, gate=gate)
    return found if found.rule in (maxprocs.ENVIRONMENT, maxprocs.GATE_OFF) else None


def _facts(place: Place, deadline: Deadline) -> dict[str, Any]:
    chain = place.chain
    wanted = maxprocs.expected(place.affinity, chain)
    tightest = chain.tightest
    limited = [
        (level.path, systemd.QUOTA if level.cpus else systemd.CPUS) for level in chain.levels if _limits_cpu(level)
    ]
    # What systemd does not answer must not take the time of the toolchain's answer.
    owners = systemd.who_set(limited, deadline.within(0.8 * deadline.remaining()))
    return {
        "schema": 1,
        "pid": place.pid if place.pid is not None else (os.getpid() if place.own else None),
        "hierarchy": chain.hierarchy,
        "path": clean(chain.path),
        "levels": [_level(level, owners.get(level.path)) for level in chain.levels],
        "complete": chain.complete,
        "problems": [str(problem) for problem in chain.problems],
        "allowance_cpus": _limits.allowance(chain, place.affinity),
        "limiting_level": clean(tightest.path) if tightest else None,
        "affinity_cpus": place.affinity,
        "expected_gomaxprocs": wanted,
    }


def _limits_cpu(level: Level) -> bool:
    if level.cpus is not None:
        return True
    return level.cpuset is not None and len(parse_cpus(level.cpuset)) < (os.cpu_count() or 1)


def _level(level: Level, unit: systemd.Unit | None) -> dict[str, Any]:
    stat, pressure = _limits.stat_of(level), _limits.pressure_of(level)
    name = unit.name if unit else systemd.unit_of(level.path)[0]
    return {
        "path": clean(level.path),
        "quota_us": level.quota_us,
        "period_us": level.period_us,
        "cpus": level.cpus,
        "cpuset": level.cpuset,
        "unit": clean(name) or None,
        "set_by": (clean(unit.set_by) or None) if unit else None,
        "throttling": None
        if stat is None or stat.periods is None
        else {"periods": stat.periods, "throttled": stat.throttled, "throttled_us": stat.throttled_us},
        "pressure": None
        if pressure is None
        else {"avg10": pressure.avg10, "avg60": pressure.avg60, "avg300": pressure.avg300},
    }


def _advice(place: Place, wanted: int, taken: int | None, by_environment: bool) -> list[str]:
    chain = place.chain
    lines = []
    if not chain.certain:
        lines.append("not all levels could be read, so there may be a limit that is not shown: run it as root")
    if taken is None or taken == wanted:
        return lines
    if by_environment:
        return [*lines, "unset what the environment says of it, or run CMD with go-health-hook exec --force -- CMD"]
    if taken < wanted:
        return [*lines, "Go takes less than it may: look for GOMAXPROCS in go.env or a wrapper"]
    lines += _limits.remedies(chain)
    stat = _limits.stat_of(chain.tightest)
    if stat is not None and stat.periods is not None and not stat.throttled:
        lines.append("the limit has not held anything back so far: there is no hurry")
    return lines


def _report(facts: dict[str, Any], place: Place, style: Style) -> str:
    whose = f"process {place.pid}" if place.pid is not None else clean(place.unit) or "this shell's processes"
    hierarchy = _limits.HIERARCHIES.get(facts["hierarchy"], "unknown")
    lines = [style.paint(style.wrap(f"{whose}: {facts['path']} ({hierarchy})", 2), "1")]
    room = style.width - 42
    lines.append(style.paint(f"  {'CGROUP':<{room}}{'QUOTA':>10}  {'CPUS':<8}{'THROTTLED':>18}", "2"))
    for level in facts["levels"]:
        lines += _level_lines(level, level["path"] == facts["limiting_level"], style, room)
    if not facts["complete"]:
        lines.append("  levels above these cannot be seen from here")
    lines += [f"  {style.paint('unknown', '33')}  {style.wrap(problem, 11)}" for problem in facts["problems"]]
    lines += ["", *_summary(facts, style)]
    lines += [style.wrap(f"-> {line}", 5).join(("  ", "")) for line in facts["advice"]]
    return "\n".join(lines)


def _level_lines(level: dict[str, Any], tightest: bool, style: Style, room: int) -> list[str]:
    name = level["path"].rsplit("/", 1)[-1] or "/"
    quota = "-" if level["cpus"] is None else in_words(level["cpus"])
    stat = level["throttling"]
    throttled = ""
    if stat and stat["periods"] and level["cpus"] is not None:
        share = 100 * (stat["throttled"] or 0) / stat["periods"]
        throttled = f"{share:.0f}%, {duration((stat['throttled_us'] or 0) / 1e6)}"
    mark = ">" if tightest else " "
    cpus = fit(level["cpuset"] or "-", 8)
    row = f"{mark} {fit(name, room - 1):<{room}}{quota:>10}  {cpus:<8}{throttled:>18}"
    lines = [style.paint(row.rstrip(), "1;33") if tightest else row.rstrip()]
    if level["set_by"]:
        lines.append(style.paint(f"    set by {fit(level['set_by'], style.width - 11)}", "33" if tightest else "2"))
    elif tightest and level["unit"]:
        lines.append(style.paint("    systemd does not say who set it", "2"))
    return lines


def _summary(facts: dict[str, Any], style: Style) -> list[str]:
    tightest = facts["limiting_level"]
    affinity = facts["affinity_cpus"]
    allowed = in_words(facts["allowance_cpus"])
    if tightest and facts["allowance_cpus"] < affinity:
        allowed += f", by {tightest.rsplit('/', 1)[-1]}; it may run on {affinity}"
    else:
        allowed += ", those it may run on" + ("; no quota is tighter" if tightest else "; no quota")
    lines = [f"  {'allowance':<12}{style.wrap(allowed, 14)}"]
    level = next(
        (lv for lv in facts["levels"] if lv["path"] == tightest), facts["levels"][0] if facts["levels"] else None
    )
    if level and level["pressure"]:
        p = level["pressure"]
        waited = f"{p['avg10']:g}% of the last 10 s, {p['avg300']:g}% of the last 5 min some task waited for a CPU"
        lines.append(f"  {'pressure':<12}{style.wrap(waited, 14)}")
    wanted, taken, toolchain = facts["expected_gomaxprocs"], facts["toolchain_gomaxprocs"], facts["toolchain"]
    lines.append(f"  {'GOMAXPROCS':<12}{wanted} fits")
    name = toolchain["version"] or "Go"
    if taken is None:
        lines.append(f"  {'':<12}{style.wrap('no answer of a toolchain: ' + toolchain['why'], 14)}")
    elif taken == wanted:
        how = "takes just that" if toolchain["source"] == "schedtrace" else "would take just that (predicted)"
        lines.append(f"  {'':<12}{style.paint(f'{name} {how}', '32')}")
    else:
        how = "takes" if toolchain["source"] == "schedtrace" else "would take (predicted)"
        lines.append(f"  {'':<12}{style.paint(f'{name} {how} {taken}', '1;31')}")
        lines.append(f"  {'':<12}{style.wrap(toolchain['why'], 14)}")
    if toolchain["not_asked"]:
        lines.append(f"  {'':<12}{style.wrap(toolchain['not_asked'], 14)}")
    by_environment = facts["environment_gomaxprocs"]
    if by_environment is not None:
        said = style.wrap(f"a program there takes {by_environment}: {facts['environment_why']}", 14)
        lines.append(f"  {'':<12}{style.paint(said, '32' if by_environment == wanted else '1;31')}")
    return lines
