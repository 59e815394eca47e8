# SPDX-License-Identifier: GPL-2.0-or-later
"""Measure on this machine what a CPU quota, a GOMAXPROCS that does not fit it, and `go run` cost a Go program.

A parallel prime sieve and bursts of short tasks, as a built program and through `go run`, without a quota and under
some. Quotas are set by systemd on a transient scope, or where there is no systemd, by root on a cgroup of its own.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile

from go_health_hook import config
from go_health_hook.cpu import _limits
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, BadInput, HookError
from go_health_hook.go import maxprocs
from go_health_hook.go import toolchain as toolchains
from go_health_hook.go.versions import parse_version
from go_health_hook.linux import cgroup
from go_health_hook.report.style import Style
from go_health_hook.run import process
from go_health_hook.run.sandbox import NOBODY, host
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
CELL = 300.0  # seconds one measurement may take
PERIOD_US = 100_000
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sieve", "main.go")
BUILT, WARM, COLD = "built", "go run", "go run, cold"
REPEATS = {BUILT: 3, WARM: 3, COLD: 1}
# What runs in the sandbox: the clock around the command, and the CPU time of what it started (times, POSIX).
TIMED = 'cd "$1" || exit; shift; s=$(date +%s%N); "$@" || exit; e=$(date +%s%N); echo "took $((e - s))"; times'


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
    with _Bench(toolchain, deadline) as bench:
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
        print(json.dumps(facts, indent=2))
    else:
        print(_report(facts, Style()))
    return EXIT_INTERNAL if any(row["error"] for row in rows) else EXIT_ALLOW


def _toolchain(args: argparse.Namespace) -> Toolchain:
    def severities() -> dict[str, str]:
        from go_health_hook.examine import severities

        return severities()

    found = toolchains.find(Subject(), args.goroot or config.goroot(severities, args.config))
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


class Cell:
    """One thing to measure: a quota (percent, or None), how the program is run, and its GOMAXPROCS (or None)."""

    __slots__ = ("gomaxprocs", "how", "label", "quota")

    def __init__(self, quota: int | None, how: str, gomaxprocs: int | None, label: str) -> None:
        self.quota = quota
        self.how = how
        self.gomaxprocs = gomaxprocs
        self.label = label


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


class _Bench:
    """A folder with the program, its caches, and the means to set quotas."""

    def __init__(self, toolchain: Toolchain, deadline: Deadline) -> None:
        self.toolchain = toolchain
        self.deadline = deadline
        self.version = parse_version((toolchain.read("VERSION") or "").split("\n", 1)[0]).name
        self.folder = ""
        self.means = ""
        self.group = ""

    def __enter__(self) -> _Bench:
        self.folder = tempfile.mkdtemp(prefix="go-health-hook-bench-", dir="/var/tmp")
        for name in ("src", "warm", "cold"):
            os.mkdir(f"{self.folder}/{name}")
        shutil.copy(SOURCE, f"{self.folder}/src/main.go")
        line = parse_version(self.version).language or "1.21"
        with open(f"{self.folder}/src/go.mod", "w", encoding="ascii") as file:
            file.write(f"module sieve\n\ngo {line}\n")
        if os.geteuid() == 0:
            # The folder itself stays root's, so that nobody else of that name can put anything in the others' place.
            os.chmod(self.folder, 0o755)  # noqa: S103
            for path in ("src/main.go", "src/go.mod", "src", "warm", "cold"):
                os.chown(f"{self.folder}/{path}", NOBODY, NOBODY, follow_symlinks=False)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.group:
            try:
                os.rmdir(self.group)
            except OSError:
                pass

    def no_quotas(self) -> str:
        """Find a way to set quotas; why there is none, or an empty string."""
        chain = cgroup.read_chain()
        if os.path.isdir("/run/systemd/system") and os.path.exists("/usr/bin/systemd-run"):
            done = process.run([*self._scope(100), "/bin/true"], self.deadline.within(20.0), env=_limits.bus())
            if done.ok:
                self.means = "a systemd scope"
                return ""
            if os.geteuid() != 0:
                return f"systemd-run {done.why()}"
        if os.geteuid() != 0:
            return "no systemd to set a quota, and only root can make a cgroup"
        top = chain.levels[-1] if chain.levels else None
        if top is None:
            return "no cgroup with the CPU controller can be seen here"
        group = f"{top.directory.rstrip('/')}/go-health-hook-bench-{os.getpid()}"
        try:
            os.mkdir(group)
            self.group = group
            quota = "cpu.max" if chain.version == 2 else "cpu.cfs_quota_us"
            if not os.path.exists(f"{group}/{quota}"):
                return "the CPU controller is not handed down to new cgroups here"
        except OSError as error:
            return f"no cgroup can be made below {top.directory}: {error.strerror}"
        self.means = "a cgroup of its own"
        return ""

    def _scope(self, quota: int) -> list[str]:
        user = [] if os.geteuid() == 0 else ["--user"]
        return ["/usr/bin/systemd-run", *user, "--scope", "--quiet", "--collect", "-p", f"CPUQuota={quota}%", "--"]

    def _placed(self, quota: int | None, argv: list[str]) -> list[str]:
        """The command that runs another under a quota."""
        if quota is None:
            return argv
        if not self.group:
            return [*self._scope(quota), *argv]
        if os.path.exists(f"{self.group}/cpu.max"):
            _put(f"{self.group}/cpu.max", f"{quota * PERIOD_US // 100} {PERIOD_US}")
        else:
            _put(f"{self.group}/cpu.cfs_quota_us", str(quota * PERIOD_US // 100))
        return ["/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.group, *argv]

    def measure(self, cells: list[Cell], progress: Callable[[int, str], None]) -> list[dict[str, Any]]:
        """A row for each cell; one that fails carries its error."""
        rows: list[dict[str, Any]] = []
        progress(0, "building, with an empty cache")
        self._run(None, "build", None)
        for i, cell in enumerate(cells):
            quota = "no quota" if cell.quota is None else f"quota {cell.quota}%"
            progress(i, f"{cell.how}, {quota}, GOMAXPROCS {cell.gomaxprocs or 'default'}")
            runs = [self._run(cell.quota, cell.how, cell.gomaxprocs) for _ in range(REPEATS[cell.how])]
            errors = [run["error"] for run in runs if run["error"]]
            row = {"quota_percent": cell.quota, "how": cell.how, "label": cell.label, "error": None}
            row.update({"error": errors[0]} if errors else _medians(runs))
            rows.append(row)
        progress(len(cells), "")
        return rows

    def _run(self, quota: int | None, how: str, gomaxprocs: int | None) -> dict[str, Any]:
        wanted = {"goroot": self.toolchain.goroot, "folder": self.folder, "how": how, "gomaxprocs": gomaxprocs}
        code = f"import sys; sys.path.insert(0, {os.path.dirname(process.__file__).rpartition('/')[0]!r}); "
        code += "sys.dont_write_bytecode = True; from go_health_hook.cpu.bench import cell; cell(sys.argv[1])"
        argv = [sys.executable, "-I", "-c", code, json.dumps(wanted)]
        done = process.run(self._placed(quota, argv), self.deadline.within(CELL), env=_limits.bus())
        if not done.ok:
            return {"error": done.why()}
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure the middle one; the more so as the slowest burst and the slowest run need not go together."""
    keys = [key for key in runs[0] if key != "error" and all(key in run for run in runs)]
    return {key: sorted(run[key] for run in runs)[len(runs) // 2] for key in keys}


def _ratio(over: int, under: int) -> str:
    """A ratio in words, for figures that vary by a quarter from run to run."""
    ratio = over / max(1, under)
    return f"x {ratio:.2f}" if not 0.8 <= ratio <= 1.25 else f"about the same (x {ratio:.2f})"


def _put(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def cell(wanted: str) -> None:
    """What the process in the place to measure does: measure once, and print what was found as JSON."""
    print(json.dumps(_measure(json.loads(wanted))))


def _measure(wanted: dict[str, Any]) -> dict[str, Any]:
    """In the place to measure: run the program once, and say what it took."""
    deadline = Deadline(CELL)
    toolchain = toolchains.find(Subject(), wanted["goroot"])
    if toolchain is None or not toolchain.runnable:
        return {"error": "the toolchain is gone"}
    folder, how = wanted["folder"], wanted["how"]
    inside = "/tmp/writable" if host().bwrap else folder
    env = {"GOCACHE": f"{inside}/{'cold' if how == COLD else 'warm'}", "HOME": "/nonexistent"}
    if how == COLD:
        shutil.rmtree(f"{folder}/cold")
        os.mkdir(f"{folder}/cold")
        if os.geteuid() == 0:
            os.chown(f"{folder}/cold", NOBODY, NOBODY)
    if wanted["gomaxprocs"]:
        env["GOMAXPROCS"] = str(wanted["gomaxprocs"])
    command = [f"{inside}/src/sieve"] if how == BUILT else [toolchain.go, "run", "."]
    if how == "build":
        command = [toolchain.go, "build", "-o", f"{inside}/src/sieve", "."]
    chain = cgroup.read_chain()
    before = _limits.stat_of(chain.tightest)
    running = toolchain.start(
        ["/bin/sh", "-c", TIMED, "sh", f"{inside}/src", *command],
        deadline,
        env=env,
        sandbox=toolchain.sandbox(folder),
    )
    done = running.wait()
    after = _limits.stat_of(chain.tightest)
    if not done.ok:
        return {"error": done.why()}
    said = dict(field.partition("=")[::2] for field in done.out.split() if "=" in field)
    lines = done.out.splitlines()
    took = next((line.split()[1] for line in lines if line.startswith("took ")), "0")
    row: dict[str, Any] = {"error": None, "wall_s": int(took) / 1e9, "cpu_s": _times(lines[-1])}
    if before and after and after.periods is not None:
        row["periods"] = after.periods - (before.periods or 0)
        row["throttled"] = (after.throttled or 0) - (before.throttled or 0)
    for key in ("sieve_us", "p50_us", "p99_us", "gomaxprocs"):
        if key in said:
            row[key] = int(said[key])
    return row


def _times(line: str) -> float:
    """The user and system time of children, seconds: the second line of times, "0m1.230s 0m0.040s"."""
    total = 0.0
    for word in line.split():
        minutes, _, seconds = word.rstrip("s").partition("m")
        total += 60 * float(minutes) + float(seconds)
    return total


def _progress(count: int, quiet: bool) -> Callable[[int, str], None]:
    """What shows how far it is, on a terminal: rich's bar, or lines where rich is not installed."""
    if quiet or not sys.stderr.isatty():
        return lambda done, what: None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        return lambda done, what: print(f"{done}/{count} {what}", file=sys.stderr)
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=count)
    bar.start()

    def show(done: int, what: str) -> None:
        bar.update(task, completed=done, description=what)
        if done >= count:
            bar.stop()

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
        lines.append("  " + style.wrap(f"{here}{cgroup.in_words(facts['allowance_cpus'])}", 2))
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
