# SPDX-License-Identifier: GPL-2.0-or-later
"""Measure on this machine what a CPU quota, a GOMAXPROCS that does not fit it, and `go run` cost a Go program.

A parallel prime sieve and bursts of short tasks, as a built program and through `go run`, without a quota and under
some. Quotas are set by systemd on a transient scope, or where there is no systemd, by root on a cgroup of its own.
"""

from __future__ import annotations

import math
import sys

from go_health_hook import config
from go_health_hook.cpu import _limits
from go_health_hook.cpu._measuring import BUILT, COLD, WARM, Bench, Cell
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, BadInput, HookError
from go_health_hook.go import maxprocs
from go_health_hook.go import toolchain as toolchains
from go_health_hook.linux import cgroup
from go_health_hook.linux.cgroup_chain import in_words
from go_health_hook.report.style import Style, print_json
from go_health_hook.subject import Subject
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.go.toolchain import Toolchain

PLAIN = True
BUDGET = 900.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which quotas, and how much."""
    parser.add_argument(
        "--quota", metavar="PERCENT", type=int, action="append", help="measure under this quota (may be repeated)"
    )
    parser.add_argument("--quick", action="store_true", help="leave out go run with an empty cache, the slowest part")


def run(args: argparse.Namespace, _settings: Config | None) -> int:
    """Measure, print the table; 0 when all could be measured."""
    deadline = Deadline(args.budget or BUDGET)
    toolchain = _toolchain(args)
    affinity = cgroup.affinity()
    here = cgroup.read_chain()
    allowed = _limits.allowance(here, affinity)
    quotas = _quotas(args.quota, affinity, allowed)
    with Bench(toolchain, deadline) as bench:
        why = bench.no_quotas()
        if why:
            quotas = [None]
        cells = list(_cells(quotas, affinity, allowed, args.quick))
        rows = bench.measure(cells, _progress(len(cells), args.json))
    facts = {
        "schema": 1,
        "toolchain": {"goroot": clean(toolchain.goroot), "version": bench.version},
        "affinity_cpus": affinity,
        "allowance_cpus": allowed,
        "limiting_level": clean(here.tightest.path) if here.tightest and allowed < affinity else None,
        "quotas_by": bench.means or None,
        "no_quotas": why or None,
        "rows": rows,
        "findings": _findings(rows),
    }
    if args.json:
        print_json(facts)
    else:
        print(_report(facts, Style()))
    return EXIT_INTERNAL if any(row["error"] for row in rows) else EXIT_ALLOW


def _toolchain(args: argparse.Namespace) -> Toolchain:
    found = toolchains.find(Subject(), args.goroot or config.goroot(config.severities, args.config))
    if found is None:
        raise HookError("no Go toolchain is installed", hint="dnf install golang, or name one with --goroot")
    if not found.runnable:
        raise HookError(found.problem or found.untrusted or found.broken(found.go), hint="see go-health-hook --dry-run")
    return found


def _quotas(asked: list[int] | None, affinity: int, allowed: float) -> list[int | None]:
    for quota in asked or ():
        if not 5 <= quota <= 100 * affinity:
            raise BadInput(f"--quota {quota}: is not from 5 to {100 * affinity}", hint="100 is one CPU")
    usual = [q for q in (200, 100, 50) if q < 100 * allowed][:2]
    return [None, *(asked or usual)]


def _cells(quotas: list[int | None], affinity: int, allowed: float, quick: bool) -> Iterator[Cell]:
    """What is measured, without a quota first; what fits is no more than is `allowed` here without one of ours."""
    for quota in quotas:
        cpus = allowed if quota is None else min(allowed, quota / 100)
        fits = min(affinity, max(maxprocs.FLOOR, math.ceil(cpus)))
        yield Cell(quota, BUILT, None, "default")
        if quota is not None or fits < affinity:
            yield Cell(quota, BUILT, fits, "expected")
            yield Cell(
                quota, BUILT, affinity if affinity > fits else 4 * fits, "CPUs" if affinity > fits else "4 x fits"
            )
        yield Cell(quota, WARM, None, "default")
        if not quick:
            yield Cell(quota, COLD, None, "default")


def _ratio(over: int, under: int) -> str:
    """A ratio in words, for figures that vary by a quarter from run to run."""
    ratio = over / max(1, under)
    return f"x {ratio:.2f}" if not 0.8 <= ratio <= 1.25 else f"about the same (x {ratio:.2f})"


def _progress(count: int, quiet: bool) -> Callable[[int, str], None]:
    """What shows how far it is, on a terminal."""

    def show(done: int, what: str) -> None:
        if what and not quiet and sys.stderr.isatty():
            print(f"{done}/{count} {what}", file=sys.stderr)

    return show


def _find(rows: list[dict[str, Any]], quota: int | None, how: str, label: str) -> dict[str, Any] | None:
    return next(
        (r for r in rows if not r["error"] and (r["quota_percent"], r["how"], r["label"]) == (quota, how, label)), None
    )


def _findings(rows: list[dict[str, Any]]) -> list[str]:
    """What explains the ratios."""
    lines = []
    plain, warm, cold = (_find(rows, None, how, "default") for how in (BUILT, WARM, COLD))
    if plain and warm:
        extra = warm["wall_s"] - plain["wall_s"]
        text = f"go run adds {extra:.2f} s once it has compiled"
        if cold:
            text += f", {cold['wall_s'] - plain['wall_s']:.1f} s with an empty cache"
        lines.append(text + ": the go command's and the compiler's own time")
    for quota in sorted({r["quota_percent"] for r in rows if r["quota_percent"]}, reverse=True):
        fits = _find(rows, quota, BUILT, "expected")
        over = _find(rows, quota, BUILT, "CPUs") or _find(rows, quota, BUILT, "4 x fits")
        if fits and over:
            lines.append(
                f"under {quota}%, GOMAXPROCS {over['gomaxprocs']} instead of {fits['gomaxprocs']}: the sieve "
                f"{_ratio(over['sieve_us'], fits['sieve_us'])}, p99 of short tasks "
                f"{_ratio(over['p99_us'], fits['p99_us'])}"
            )
        default = _find(rows, quota, BUILT, "default")
        if default and fits:
            right = "takes what fits by itself" if default["gomaxprocs"] == fits["gomaxprocs"] else (
                f"takes {default['gomaxprocs']} by itself, {fits['gomaxprocs']} fits"
            )  # fmt: skip
            lines.append(f"under {quota}% set on its own cgroup, this Go {right}")
    return lines


def _report(facts: dict[str, Any], style: Style) -> str:
    cpus = facts["affinity_cpus"]
    head = f"{facts['toolchain']['version']}, {cpus} CPU{'' if cpus == 1 else 's'}"
    head += f", quotas by {facts['quotas_by']}" if facts["quotas_by"] else ", no quotas"
    lines = [style.paint(head, "1")]
    titles = (
        f"  {'QUOTA':<7}{'HOW':<14}{'GOMAXPROCS':<15}{'WALL':>8}{'CPU':>8}{'HELD':>6}{'P50':>8}{'P99':>8}{'RATIO':>6}"
    )
    lines.append(style.paint(titles, "2"))
    last = object()
    for row in facts["rows"]:
        base = _find(facts["rows"], row["quota_percent"], BUILT, "expected") or _find(
            facts["rows"], row["quota_percent"], BUILT, "default"
        )
        lines.append(
            _row(row, base, style, row["quota_percent"] != last, "here" if facts["limiting_level"] else "none")
        )
        last = row["quota_percent"]
    lines.append("  HELD: share of periods throttled. RATIO: wall time over that of the built")
    lines.append("  program with what fits under the same quota. Medians of 3, cold ones of 1.")
    if facts["limiting_level"]:
        here = f"here: without a quota of its own, under that of {facts['limiting_level']} all the same, "
        lines.append("  " + style.wrap(f"{here}{in_words(facts['allowance_cpus'])}", 2))
    lines += [style.wrap(f"-> {text}", 3) for text in facts["findings"]]
    if facts["no_quotas"]:
        lines.append(style.paint(style.wrap(f"no quotas were measured: {facts['no_quotas']}", 2), "33"))
    return "\n".join(lines)


def _row(row: dict[str, Any], base: dict[str, Any] | None, style: Style, first: bool, without: str) -> str:
    quota = (without if row["quota_percent"] is None else f"{row['quota_percent']}%") if first else ""
    text = f"  {quota:<7}{row['how']:<14}"
    if row["error"]:
        return style.paint(text + style.wrap(clean(row["error"]), 23), "31")
    procs = f"{row.get('gomaxprocs', '-')} ({row['label']})"
    held = "-" if not row.get("periods") else f"{100 * row['throttled'] / row['periods']:.0f}%"
    ratio = row["wall_s"] / base["wall_s"] if base else 1.0
    text += f"{procs:<15}{row['wall_s']:>6.2f} s{row['cpu_s']:>6.2f} s{held:>6}"
    text += f"{_ms(row.get('p50_us')):>8}{_ms(row.get('p99_us')):>8}{ratio:>6.1f}"
    return style.paint(text, "33") if ratio > 1.5 or row["label"] in ("CPUs", "4 x fits") else text


def _ms(us: int | None) -> str:
    return "-" if us is None else f"{us / 1000:.1f} ms" if us < 99_950 else f"{us / 1000:.0f} ms"
