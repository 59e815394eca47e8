# SPDX-License-Identifier: GPL-2.0-or-later
"""Slow is not hung: a healthy Go on a slow machine is never held back, a Go that hangs is, and in time."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.leftovers import DEAD, left_behind
from tests.testbed import slow
from tests.testbed.quota import cpu_quota
from tests.toolchains.trees import Hook, copy, real, replace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root
GRACE = 0.25  # seconds over the budget in which a hang is cut
MISBEHAVING = {
    "hangs": 3,
    "ignores SIGTERM": 3,
    "answers late": 3,
    "eats memory": 3,
    "forks and leaves": 1,
    "prints 1 GB": 1,
    "prints non-UTF-8": 1,
    "crashes by signal": 1,
    "error beside its version": 1,
}


def judged(hook: Hook, group: Path, goroot: Path, *options: str) -> dict[str, Any]:
    """The report of a run in the group."""
    command: list[str | Path] = [hook.program, "--json", "--goroot", goroot, *options]
    done = subprocess.run(slow.inside(group, command), stdout=subprocess.PIPE, timeout=DEAD, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def assert_not_held_back(report: dict[str, Any]) -> None:
    """Allowed; at the ceiling, or where a single wait took longer than was left of the budget, not judged."""
    late = [result for result in report["results"] if result["status"] == "timeout"]
    assert report["verdict"] == "allow", report
    assert report["exit_status"] == 0, report
    assert all(result["ground"] == "not-judged" for result in late), late
    assert not late or report["credited_s"] > report["budget_s"], report


@pytest.mark.parametrize("cpus", [0.05, 0.02])
def test_healthy_go_under_a_small_quota_is_not_held_back(hook: Hook, cpus: float) -> None:
    with cpu_quota(cpus) as group:
        report = judged(hook, group, real("1.27.3"), "--budget", "3")
    assert_not_held_back(report)
    assert report["credited_s"] > report["elapsed_s"] / 2


def test_healthy_go_beside_busy_loops_is_not_held_back(hook: Hook) -> None:
    with cpu_quota(1.0) as group, slow.busy_loops(20, group):
        report = judged(hook, group, real("1.27.3"), "--budget", "2")
    assert_not_held_back(report)


@pytest.mark.parametrize(
    "limit",
    [
        {"bytes_per_second": 10_000_000},
        {"bytes_per_second": 5_000_000},
        {"reads_per_second": 100},
        {"reads_per_second": 50},
    ],
    ids=lambda limit: "-".join(f"{value}_{name}" for name, value in limit.items()),
)
def test_healthy_go_on_a_cold_slow_disk_is_not_held_back(hook: Hook, limit: dict[str, int]) -> None:
    with slow.cold_disk("1.27.3") as goroot, slow.throttled(goroot, **limit) as group:
        report = judged(hook, group, goroot, "--budget", "2")
        assert slow.bytes_read(group, goroot) > 10_000_000
    assert_not_held_back(report)


def test_cold_run_reads_little(hook: Hook) -> None:
    """The machine's own toolchain has an index that lasts, and reads 6 MB less."""
    with slow.cold_disk("1.27.3") as goroot, slow.throttled(goroot, bytes_per_second=1 << 40) as group:
        report = judged(hook, group, goroot)
        assert slow.bytes_read(group, goroot) < 64_000_000
    assert report["verdict"] == "allow"
    version = next(result for result in report["results"] if result["check"] == "version")
    assert "link, built with" in version["evidence"]


def test_cold_tool_of_another_release_is_seen_without_running_it(hook: Hook) -> None:
    with slow.cold_disk("1.27.3", other_link="1.25.5") as goroot:
        status, report = hook.judge(goroot)
    assert status == 1
    assert "link was built with go1.25.5" in report["reason"]


def test_starved_run_ends_at_the_ceiling_and_is_not_judged(hook: Hook, tmp_path: Path) -> None:
    settings = tmp_path / "settings.conf"
    settings.write_text("[budget]\nceiling = 4\n")
    with slow.cold_disk("1.27.3") as goroot, slow.throttled(goroot, reads_per_second=30) as group:
        report = judged(hook, group, goroot, "--budget", "2", "--config", str(settings))
    assert report["verdict"] == "allow"
    assert report["elapsed_s"] < 4 + GRACE
    late = [result for result in report["results"] if result["status"] == "timeout"]
    assert {result["ground"] for result in late} == {"not-judged"}
    assert all("[budget] ceiling" in result["remedy"] for result in late)
    settings.write_text("[budget]\nceiling = 4\nstarved = block\n")
    with slow.cold_disk("1.27.3") as goroot, slow.throttled(goroot, reads_per_second=30) as group:
        report = judged(hook, group, goroot, "--budget", "2", "--config", str(settings))
    assert report["verdict"] == "block"


@pytest.mark.parametrize("budget", [0.2, 1, 3, 5])
@pytest.mark.parametrize("mode", MISBEHAVING)
def test_misbehaving_go_is_cut_in_time_blocked_and_leaves_nothing(
    hook: Hook, workshop: Path, badgo: Path, mode: str, budget: float
) -> None:
    """What the machine kept it waiting comes on top, since other tests run at the same time."""
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text(mode)
    status, report = hook.judge(goroot, "--budget", str(budget))
    assert report["elapsed_s"] - report["credited_s"] <= budget + GRACE, report
    # A machine that kept it waiting for a fair share of the budget explains the silence: then it is not judged.
    late = [r for r in report["results"] if r["status"] == "timeout"]
    waited = bool(late) and {r["ground"] for r in late} == {"not-judged"} and report["credited_s"] > budget / 4
    starved = status == 0 and (waited or "no time is left for a control" in report["reason"])
    # Below a second a busy machine leaves no time for a second look, and what is not proven is not judged.
    assert starved or status == MISBEHAVING[mode] or (budget < 1 and status in (0, 1, 3)), report
    assert starved or budget < 1 or report["verdict"] == "block"
    assert all(r["remedy"] for r in report["results"] if r["status"] in ("fail", "timeout"))
    assert "\x1b" not in str(report)
    assert left_behind(str(workshop)) == []


@pytest.mark.parametrize("mode", ["hangs", "ignores SIGTERM", "answers late", "forks and leaves"])
def test_hanging_go_beside_busy_loops_is_blocked(hook: Hook, workshop: Path, badgo: Path, mode: str) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text(mode)
    with cpu_quota(1.0) as group, slow.busy_loops(20, group):
        report = judged(hook, group, goroot, "--budget", "3")
    assert report["exit_status"] == MISBEHAVING[mode], report
