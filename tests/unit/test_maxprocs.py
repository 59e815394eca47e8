# SPDX-License-Identifier: GPL-2.0-or-later
"""What fits the limit and what Go takes: the measured answers of eight releases, and every machine of cgroups/."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cases import CASES, Case, read
from tests.unit.measured import BUILDS, ROWS, SELF, build, fitting, taken

from go_health_hook.go import maxprocs
from go_health_hook.go.versions import Version, parse_version
from go_health_hook.linux import mountinfo
from go_health_hook.linux.cgroup_chain import Chain, Level, View
from go_health_hook.linux.cgroup_files import parse_cpu_max


@pytest.mark.parametrize("row", ROWS, ids=[r["placement"] for r in ROWS])
def test_every_measured_row(row: dict, tmp_path: Path) -> None:
    outside = read(build(tmp_path / "outside", row, inside=False))
    assert outside.problems == ()
    assert maxprocs.expected(row["affinity"], outside) == fitting(row)
    if row["usable"] < row["affinity"]:
        assert outside.quota_cpus == row["usable"]

    # From inside, either the same is known or it is said that it is not.
    inside = read(build(tmp_path / "inside", row, inside=True))
    assert maxprocs.expected(row["affinity"], inside) == fitting(row) or inside.problems

    env = row.get("env", {})
    for column, value in taken(row).items():
        number, build_name = column.split(" ", 1)
        line, directives = BUILDS[build_name]
        gate = maxprocs.gate(number if line == SELF else line, directives=directives, environment=env.get("GODEBUG"))
        version = parse_version(number)
        got = maxprocs.predict(version, row["affinity"], inside, environment_value=env.get("GOMAXPROCS"), gate=gate)
        assert got.value == value, f"{column}: {got}"
        wanted = maxprocs.environment_count(env.get("GOMAXPROCS"), version)
        assert got.source == ("predicted" if wanted is None else "environment")
    # The go command itself: always of its own version's go line.
    for number, value in row.get("go_command", {}).items():
        gate = maxprocs.gate(number, environment=env.get("GODEBUG"))
        version = parse_version(number)
        got = maxprocs.predict(version, row["affinity"], inside, environment_value=env.get("GOMAXPROCS"), gate=gate)
        assert got.value == value, f"go command {number}: {got}"


def leaf_rule(row: dict, inside: Chain) -> int:
    """What uber-go/automaxprocs sets: the leaf's quota rounded down, at least 1; where it finds none, what Go takes."""
    cpus = inside.leaf.cpus if inside.leaf else None
    return row["affinity"] if cpus is None else max(1, math.floor(cpus))


def test_how_often_each_rule_fits_what_the_kernel_allows(summary: list[str], tmp_path: Path) -> None:
    rows = [r for r in ROWS if "taken" in r and not maxprocs.environment_count(r.get("env", {}).get("GOMAXPROCS"), NEW)]
    values_by_rule = {
        "this model, every level": [
            maxprocs.expected(r["affinity"], read(build(tmp_path / str(i), r, False))) for i, r in enumerate(rows)
        ],
        "Go 1.27 alone": [taken(r)["1.27.3 modself"] for r in rows],
        "Go 1.27, go line 1.21": [taken(r)["1.27.3 mod1.21"] for r in rows],
        "Go 1.25.5 alone": [taken(r)["1.25.5 modself"] for r in rows],
        "Go 1.24 alone": [taken(r)["1.24.11 modself"] for r in rows],
        "automaxprocs' leaf rule": [
            leaf_rule(r, read(build(tmp_path / f"inside{i}", r, True))) for i, r in enumerate(rows)
        ],
    }
    # Rounding a quota up, as Go does, and down, as the library does, are both right.
    right = {
        name: sum(max(1, math.floor(r["usable"])) <= value <= fitting(r) for r, value in zip(rows, values))
        for name, values in values_by_rule.items()
    }
    summary.append(f"GOMAXPROCS that fits what the kernel allows, of {len(rows)} measured placements:")
    summary.extend(f"  {count:3d}  {name}" for name, count in right.items())
    assert right["this model, every level"] == len(rows)
    assert all(count < len(rows) for name, count in right.items() if name != "this model, every level")
    assert right["Go 1.27 alone"] > right["Go 1.25.5 alone"] > right["Go 1.24 alone"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_case(case: Case, tmp_path: Path) -> None:
    chain, wanted = case.read(tmp_path), case.expected
    cpus = wanted["affinity"]
    assert maxprocs.expected(cpus, chain) == wanted["expected"]
    got = {number: maxprocs.predict(parse_version(f"go{number}"), cpus, chain).value for number in wanted["go"]}
    assert got == wanted["go"]


OLD, MIDDLE, NEW = parse_version("go1.24.11"), parse_version("go1.25.5"), parse_version("go1.27.3")


@pytest.mark.parametrize(
    "value, before, since",
    [
        (None, None, None),
        ("3", 3, 3),
        ("007", 7, 7),
        ("64", 64, 64),
        ("+3", None, 3),
        *[
            (v, None, None)
            for v in ["", "0", "-1", "-", "+", "2.5", "max", " 3", "3 ", "3\n", "0x3", "1_0", "٣", "1e2"]
        ],
        ("2147483647", 2147483647, 2147483647),
        ("2147483648", None, None),
        ("9" * 200, None, None),
    ],
)
def test_gomaxprocs_in_the_environment(value: str | None, before: int | None, since: int | None) -> None:
    assert maxprocs.environment_count(value, OLD) == before
    assert maxprocs.environment_count(value, MIDDLE) == before
    assert maxprocs.environment_count(value, parse_version("go1.26.0")) == since
    assert maxprocs.environment_count(value, NEW) == since


@pytest.mark.parametrize(
    "line, directives, recorded",
    [
        ("1.24", "", "containermaxprocs=0,updatemaxprocs=0"),
        ("1.24.11", "", "containermaxprocs=0,updatemaxprocs=0"),
        ("1", "", ""),
        ("1.21rc2", "", ""),  # the build sees no version it knows there, and takes today's defaults
        ("1.25", "", ""),
        ("1.25rc1", "", ""),
        ("2.0", "", ""),
        (None, "", ""),
        ("", "", "containermaxprocs=0,updatemaxprocs=0"),
        ("1.21", "containermaxprocs=1", "containermaxprocs=1,updatemaxprocs=0"),
        ("1.21", "default=go1.25", ""),
        ("1.25", "default=go1.24", "containermaxprocs=0,updatemaxprocs=0"),
        ("1.25", "default=1.24,updatemaxprocs=1", "containermaxprocs=0,updatemaxprocs=1"),
        ("1.24", "default=nonsense", "containermaxprocs=0,updatemaxprocs=0"),
        ("1.24", "default=go1.25,default=go1.23", "containermaxprocs=0,updatemaxprocs=0"),
        ("1.25", "panicnil=1,madvdontneed", ""),
    ],
)
def test_what_a_build_records(line: str | None, directives: str, recorded: str) -> None:
    assert maxprocs.default_godebug(line, directives) == recorded


@pytest.mark.parametrize(
    "recorded, environment, reads, follows",
    [
        ("", None, True, True),
        ("containermaxprocs=0,updatemaxprocs=0", None, False, False),
        ("containermaxprocs=0,updatemaxprocs=0", "containermaxprocs=1", True, False),
        ("", "containermaxprocs=0", False, True),
        ("", "updatemaxprocs=0", True, False),
        ("", "containermaxprocs=0,containermaxprocs=1", True, True),
        ("", "containermaxprocs=off", True, True),
        ("", "containermaxprocs=", True, True),
        ("", " containermaxprocs=0", True, True),
        ("", "containermaxprocs=-1,updatemaxprocs=-1", False, True),
        ("panicnil=1,containermaxprocs=0", "schedtrace=1", False, True),
    ],
)
def test_what_the_runtime_makes_of_its_settings(
    recorded: str, environment: str | None, reads: bool, follows: bool
) -> None:
    assert maxprocs.reads_quota(recorded, environment) is reads
    assert maxprocs.follows_changes(recorded, environment) is follows


def test_a_sign_counts_since_go_126() -> None:
    assert maxprocs.reads_quota("", "containermaxprocs=+0", MIDDLE)
    assert not maxprocs.reads_quota("", "containermaxprocs=+0", NEW)
    assert not maxprocs.reads_quota("", "containermaxprocs=-", MIDDLE)  # the old atoi's zero
    assert maxprocs.reads_quota("", "containermaxprocs=-", NEW)


def chain_of(*limits: str | None) -> Chain:
    """A chain of v2 groups, leaf first, each with its cpu.max or none."""
    names = [f"g{i}" for i in range(len(limits))]
    levels = []
    for depth in range(len(limits), 0, -1):
        limit = limits[len(limits) - depth]
        quota, period = parse_cpu_max(limit.encode() + b"\n") if limit else (None, None)
        levels.append(Level("/" + "/".join(names[:depth]), "", quota, period))
    path = levels[0].path
    view = View(2, path, (mountinfo.Mount(2, "/", "/sys/fs/cgroup", ("rw",)),))
    return Chain("v2", path, (*levels, Level("/", "")), view=view)


def test_what_decided_and_what_is_followed() -> None:
    def rule(version: Version = NEW, chain: Chain | None = None, **settings: Any) -> tuple[str, bool, bool]:
        chain = chain or chain_of("250000 100000")
        p = maxprocs.predict(version, 8, chain, **settings)
        assert p.why.isprintable()
        return p.rule, p.follows_affinity, p.follows_quota

    assert rule() == (maxprocs.QUOTA, True, True)
    assert rule(updates=False) == (maxprocs.QUOTA, False, False)
    assert rule(environment_value="3") == (maxprocs.ENVIRONMENT, False, False)
    assert rule(environment_value="many") == (maxprocs.QUOTA, True, True)
    assert rule(OLD) == (maxprocs.OLD_RUNTIME, False, False)
    assert rule(gate=False) == (maxprocs.GATE_OFF, True, False)
    assert rule(chain=chain_of("max 100000", "200000 100000")) == (maxprocs.NO_QUOTA, True, True)
    # A group that has no cpu.max yet: it will never notice that it gets one.
    assert rule(chain=chain_of(None, "200000 100000")) == (maxprocs.NO_QUOTA, True, False)
    assert rule(chain=chain_of("900000 100000")) == (maxprocs.AFFINITY, True, True)
    assert rule(chain=Chain("none", "")) == (maxprocs.UNREACHABLE, True, False)


def test_the_floor_is_the_callers_to_choose() -> None:
    chain = chain_of("30000 100000")
    assert maxprocs.expected(8, chain) == 2
    assert maxprocs.expected(8, chain, floor=1) == 1
    assert maxprocs.expected(8, chain, floor=16) == 8


LIMITS = st.one_of(
    st.none(), st.just("max 100000"), st.builds("{} {}".format, st.integers(1000, 2**44), st.integers(1000, 10**6))
)


@given(st.lists(LIMITS, min_size=1, max_size=6), st.integers(1, 1024))
def test_no_level_is_overlooked(limits: list[str | None], affinity: int) -> None:
    chain = chain_of(*limits)
    fits = maxprocs.expected(affinity, chain)
    each = [maxprocs.expected(affinity, chain_of(limit)) for limit in limits]
    assert fits == min(each)
    assert 1 <= fits <= affinity
    # Go, at the leaf, takes what this rule gives for a chain of the leaf alone: never less than fits all of it.
    assert maxprocs.predict(NEW, affinity, chain).value == each[0] >= fits
    assert maxprocs.predict(OLD, affinity, chain).value == affinity
