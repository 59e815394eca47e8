# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording of trace as facts for programs, as a report and as a chart."""

from __future__ import annotations

import sys

from go_health_hook.cpu import _chart, _limits
from go_health_hook.cpu._recording import Recording
from go_health_hook.go import maxprocs
from go_health_hook.linux.cgroup_chain import figure
from go_health_hook.linux.cgroup_files import format_cpus
from go_health_hook.report.style import Style
from go_health_hook.text import clean, duration, fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.cpu._schedtrace import Sample

LABEL = 13


def live_line(recording: Recording) -> str:
    at, moment = recording.moments[-1] if recording.moments else (0.0, None)
    used = recording.cpus()[-1][1] if len(recording.moments) > 1 else 0.0
    samples = recording.trace.samples
    procs = f"GOMAXPROCS {samples[-1].gomaxprocs}, {samples[-1].queued} queued, " if samples else ""
    held = recording.throttled()
    share = f", throttled {held[-1][1]:.0f}%" if held and recording.chain.tightest else ""
    threads = moment.threads if moment else 0
    return f"  {at:6.1f} s  {procs}{used:.1f} CPUs used, {threads} threads{share}"


def facts_of(recording: Recording) -> dict[str, Any]:
    chain = recording.chain
    first, last = (recording.stats[0][1], recording.stats[-1][1]) if recording.stats else (None, None)

    def since(field: str) -> int:
        return max(0, (getattr(last, field) or 0) - (getattr(first, field) or 0))

    seen = frozenset().union(*(moment.cpus for _, moment in recording.moments)) if recording.moments else frozenset()
    programs = [_program(pid, samples, recording) for pid, samples in recording.programs()]
    return {
        "schema": 1,
        "command": [clean(word) for word in recording.command],
        "exit_status": recording.status,
        "seconds": round(recording.seconds, 3),
        "cpu_seconds": round(recording.cpu_s, 3),
        "cpus_mean": round(recording.cpu_s / recording.seconds, 3) if recording.seconds else 0.0,
        "cpus_seen": sorted(seen),
        "affinity_cpus": recording.affinity,
        "allowance_cpus": _limits.allowance(chain, recording.affinity),
        "limiting_level": clean(chain.tightest.path) if chain.tightest else None,
        "expected_gomaxprocs": maxprocs.expected(recording.affinity, chain),
        "throttling": None
        if chain.tightest is None or first is None
        else {name: since(name) for name in ("periods", "throttled", "throttled_us")},
        "programs": programs,
        "scheduler": recording.perf,
        "scheduler_why": recording.perf_why or None,
        "series": {
            "cpus": [[round(at, 3), round(v, 2)] for at, v in recording.cpus()],
            "throttled_percent": [[round(at, 3), round(v, 1)] for at, v in recording.throttled()],
        },
    }


def _program(pid: int | None, samples: list[Sample], recording: Recording) -> dict[str, Any]:
    changes: list[dict[str, Any]] = []
    for sample in samples:
        if not changes or changes[-1]["value"] != sample.gomaxprocs:
            changes.append({"at": round(sample.at, 3), "value": sample.gomaxprocs})
    name, start = recording.processes.get(pid or 0, ("", recording.began + samples[0].at))
    count = len(samples)
    return {
        "pid": pid,
        "name": name,
        "started_s": round(start - recording.began, 3),
        "samples": count,
        "gomaxprocs": changes if pid is not None else sorted({s.gomaxprocs for s in samples}),
        "idle_mean": round(sum(s.idle for s in samples) / count, 2),
        "queued_mean": round(sum(s.queued for s in samples) / count, 2),
        "queued_most": max(s.queued for s in samples),
        "threads_most": max(s.threads for s in samples),
    }


def report(facts: dict[str, Any], recording: Recording, style: Style) -> str:
    lines = [""]
    ended = f"status {facts['exit_status']}" if facts["exit_status"] >= 0 else f"signal {-facts['exit_status']}"
    head = f"{' '.join(facts['command'])}: {duration(facts['seconds'])}, {ended}"
    lines.append(style.paint(fit(head, style.width), "1"))
    allowed, used = facts["allowance_cpus"], facts["cpus_mean"]
    where = f"; seen on {format_cpus(facts['cpus_seen'])}" if facts["cpus_seen"] else ""
    lines.append(_row("CPUs", f"{used:.1f} used on average of {figure(allowed)} allowed{where}", style))
    lines += _limit_rows(facts, style)
    spoken = [p for p in facts["programs"] if p["pid"] is not None]
    for program in spoken[:4]:
        lines += _program_rows(program, facts["expected_gomaxprocs"], style)
    short = [p for p in facts["programs"] if p["pid"] is None]
    if short:
        values = ", ".join(map(str, short[0]["gomaxprocs"]))
        lines.append(
            _row("short-lived", f"{short[0]['samples']} more lines, of programs with GOMAXPROCS {values}", style)
        )
    if not facts["programs"]:
        lines.append(_row("GOMAXPROCS", "no Go program spoke: CMD starts none, or changes GODEBUG", style))
    if facts["scheduler"]:
        s = facts["scheduler"]
        said = f"{s['switches']} switches, {s['preempted']} of them forced, {s['migrations']} to another CPU (perf)"
        lines.append(_row("scheduler", said, style))
    else:
        lines.append(_row("scheduler", facts["scheduler_why"] or "not asked", style))
    return "\n".join([*lines, *_panels(facts, recording, style)])


def _row(label: str, text: str, style: Style) -> str:
    return f"  {label:<{LABEL}}{style.wrap(text, LABEL + 2)}"


def _limit_rows(facts: dict[str, Any], style: Style) -> list[str]:
    t = facts["throttling"]
    if t is None:
        return [_row("limit", "no quota", style)]
    where = facts["limiting_level"].rsplit("/", 1)[-1] or "/"
    share = t["throttled"] / t["periods"] if t["periods"] else 0.0
    said = f"throttled in {t['throttled']} of {t['periods']} periods ({100 * share:.0f}%), "
    said += f"{t['throttled_us'] / 1e6:.1f} s in all, by {where}"
    row = _row("limit", said, style)
    return [style.paint(row, "1;31" if share > 0.5 else "33") if share > 0.1 else row]


def _program_rows(program: dict[str, Any], fits: int, style: Style) -> list[str]:
    values = program["gomaxprocs"]
    said = str(values[0]["value"]) + "".join(f", {c['value']} from {c['at']:.1f} s" for c in values[1:6])
    wrong = values[-1]["value"] != fits
    verdict = f" where {fits} fits" if wrong else ", which fits"
    who = f"{program['name'] or 'CMD'} ({program['pid']})"
    row = _row("GOMAXPROCS", f"{said}{verdict}: {who}", style)
    more = (
        f"{program['idle_mean']:g} idle Ps, {program['queued_mean']:g} goroutines queued on average, "
        f"{program['queued_most']} at most, {program['threads_most']} threads"
    )
    return [style.paint(row, "1;31") if wrong else row, _row("", more, style)]


def _series(recording: Recording) -> tuple[list[Sample], str]:
    """The samples of the busiest program, and its name."""
    programs = recording.programs()
    if not programs:
        return [], ""
    pid, samples = programs[0]
    return samples, recording.processes.get(pid or 0, ("", 0.0))[0]


def _panels(facts: dict[str, Any], recording: Recording, style: Style) -> list[str]:
    seconds, count = recording.seconds, style.width - LABEL - 22
    samples, _ = _series(recording)
    used = recording.cpus()
    if len(used) < 3:
        return []
    most = max(v for _, v in used)
    allowed = facts["allowance_cpus"]
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")

    def line(label: str, points: list[tuple[float, float]], top: float, said: str, colour: str) -> str:
        drawn = _chart.spark(_chart.resample(points, seconds, count), top, unicode)
        return f"  {label:<{LABEL}}{style.paint(f'{drawn:<{count}}', colour)} {said}"

    lines = ["", line("CPUs used", used, max(most, allowed), f"most {most:.1f} of {figure(allowed)}", "34")]
    if samples:
        procs = [(s.at, float(s.gomaxprocs)) for s in samples]
        top = max(v for _, v in procs)
        lines.append(line("GOMAXPROCS", procs, top, f"last {samples[-1].gomaxprocs}", "31"))
        idle = [(s.at, float(s.idle)) for s in samples]
        lines.append(line("idle Ps", idle, top, f"most {max(s.idle for s in samples)}", "32"))
        queue = max(s.queued for s in samples)
        lines.append(line("run queue", [(s.at, float(s.queued)) for s in samples], float(queue), f"most {queue}", "35"))
    if facts["throttling"]:
        held = recording.throttled()
        lines.append(line("throttled", held, 100.0, "% of periods", "33"))
    end = f"{seconds:.3g} s"
    lines.append(f"  {'':<{LABEL}}0{end:>{count - 1}}")
    return lines


def svg(facts: dict[str, Any], recording: Recording) -> str:
    samples, name = _series(recording)
    cpus = _chart.Panel("CPUs", "")
    cpus.areas.append(("CPUs used", "used", recording.cpus()))
    if samples:
        cpus.lines.append(("GOMAXPROCS", "procs", [(s.at, float(s.gomaxprocs)) for s in samples], True))
    cpus.level = (f"allowed: {figure(facts['allowance_cpus'])}", facts["allowance_cpus"])
    panels = [cpus]
    if samples:
        queue = _chart.Panel(f"Scheduler of {name or 'the program'}", "")
        queue.lines.append(("goroutines queued", "queue", [(s.at, float(s.queued)) for s in samples], False))
        queue.lines.append(("idle Ps", "idle", [(s.at, float(s.idle)) for s in samples], False))
        panels.append(queue)
    if facts["throttling"]:
        held = _chart.Panel("Throttled periods", "%")
        held.areas.append(("share of periods", "throttled", recording.throttled()))
        panels.append(held)
    subtitle = (
        f"{facts['seconds']:.1f} s, {facts['cpus_mean']:.2f} CPUs on average, {figure(facts['allowance_cpus'])} allowed"
    )
    if facts["limiting_level"]:
        subtitle += f" by {facts['limiting_level']}"
    return _chart.svg(fit(" ".join(facts["command"]), 90), fit(subtitle, 120), panels, recording.seconds)
