# SPDX-License-Identifier: GPL-2.0-or-later
"""What is concluded of a running Go process, from its build information and the limit file that it keeps open."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cases import make

from go_health_hook.cpu import _limit_file
from go_health_hook.cpu._images import Found
from go_health_hook.cpu._limit_file import LimitFile, kept_open
from go_health_hook.cpu._processes import GoProcess, _predict
from go_health_hook.go.buildinfo import BuildInfo
from go_health_hook.linux.cgroup_chain import Chain, Level, View
from go_health_hook.linux.mountinfo import parse_mounts

MOUNTS = {
    2: b"30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    1: b"30 22 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
}


def chain_of(quota_us: int | None, version: int = 2) -> Chain:
    view = View(version, "/a", tuple(parse_mounts(MOUNTS[version])[0]))
    return Chain("v2" if version == 2 else "v1", "/a", (Level("/a", "/sys/fs/cgroup/a", quota_us, 100_000),), view=view)


def process(
    version: str,
    limit_file: LimitFile,
    *,
    read: int | None = None,
    env: dict[str, str] | None = None,
    quota_us: int | None = 300_000,
    hierarchy: int = 2,
) -> GoProcess:
    """A process on eight CPUs, in a cgroup with a quota of three, or with the one given."""
    found = Found(BuildInfo(version, "x", "x", {}), "", read)
    chain = chain_of(quota_us, hierarchy)
    prediction = _predict(found, env or {}, 8, chain, limit_file)
    return GoProcess(17, "user", "x", found, limit_file, prediction, chain, 8)


NOT_READ, OWN, NONE = LimitFile(_limit_file.UNKNOWN), LimitFile(_limit_file.OWN, "/a", 3.0), LimitFile(_limit_file.NONE)


@pytest.mark.parametrize("version", ["unknown", "", "(devel)", "v1.2.3"])
def test_predict_unknown_version_gives_nothing(version: str) -> None:
    one = process(version, OWN)
    assert (one.gomaxprocs, one.source, one.aligned, one.certain) == (None, "unknown", None, False)
    assert one.why == "its Go version is not known, and so what its runtime does"


@pytest.mark.parametrize(("value", "taken"), [("5", 5), ("+5", None), ("0", None), ("max", None)])
def test_predict_unknown_version_takes_what_every_go_takes(value: str, taken: int | None) -> None:
    one = process("unknown", OWN, env={"GOMAXPROCS": value})
    assert (one.gomaxprocs, one.source) == (taken, "environment" if taken else "unknown")


def test_memory_of_an_unknown_version_counts() -> None:
    one = process("unknown", OWN, read=8)
    assert (one.gomaxprocs, one.source, one.aligned, one.certain) == (8, "memory", False, True)


@pytest.mark.parametrize(
    ("limit_file", "taken", "why"),
    [
        (OWN, 3, "the quota of its own cgroup /a, 3 CPUs"),
        (NONE, 8, "it had no limit file when it started, and one that comes later is not read"),
        (LimitFile(_limit_file.OTHER, "/b", 5.5), 6, "it has moved, and still follows the quota of /b, 5.5 CPUs"),
        (LimitFile(_limit_file.OTHER, "/b", 0.5), 2, "it has moved, and still follows the quota of /b, 0.5 CPUs"),
        (LimitFile(_limit_file.OTHER, "/b"), 8, "it has moved, and still follows /b, which sets no quota"),
        (LimitFile(_limit_file.GONE), 8, "it follows the limit of a cgroup that has been removed"),
    ],
)
def test_limit_file_decides_what_a_stripped_program_has(limit_file: LimitFile, taken: int, why: str) -> None:
    one = process("go1.27.3", limit_file)
    assert (one.gomaxprocs, one.source, one.why, one.certain) == (taken, "predicted", why, True)


@pytest.mark.parametrize("limit_file", [OWN, NONE, LimitFile(_limit_file.OTHER, "/b", 5.5)])
def test_limit_file_says_nothing_of_go_that_reads_none(limit_file: LimitFile) -> None:
    one = process("go1.24.11", limit_file)
    assert (one.gomaxprocs, one.certain) == (8, False)
    assert process("go1.27.3", limit_file, env={"GOMAXPROCS": "4"}).source == "environment"


@pytest.mark.parametrize(
    ("hierarchy", "condition"),
    [
        (2, "if it was started here with a cpu.max, since one that comes later is not read"),
        (1, "if it was started here"),
    ],
)
def test_condition_is_said_where_descriptors_cannot_be_read(hierarchy: int, condition: str) -> None:
    one = process("go1.27.3", NOT_READ, hierarchy=hierarchy)
    assert (one.gomaxprocs, one.certain) == (3, False)
    assert one.why.endswith("; " + condition)


def opened(root: Path, links: dict[int, str], leaf: str = "a", files: dict[str, str] | None = None) -> LimitFile:
    """The limit file of a process with those descriptors, in the cgroup `leaf` of a folder of cgroups."""
    contents: dict[str, bytes | str] = {f"cg/{name}": data for name, data in (files or {}).items()}
    make(root, contents)
    folder = root / "proc/17/fd"
    folder.mkdir(parents=True)
    for number, target in links.items():
        (folder / str(number)).symlink_to(target.replace("ROOT", str(root)))
    return kept_open(17, Level(f"/{leaf}", f"{root}/cg/{leaf}", None, 100_000), str(root / "proc"))


GROUPS = {"a/cpu.max": "max 100000\n", "b/cpu.max": "250000 100000\n"}


def test_kept_open_own_cgroup(tmp_path: Path) -> None:
    assert opened(tmp_path, {0: "/dev/null", 3: "ROOT/cg/a/cpu.max"}, files=GROUPS).kind == _limit_file.OWN


def test_kept_open_other_cgroup_with_its_quota(tmp_path: Path) -> None:
    found = opened(tmp_path, {3: "ROOT/cg/b/cpu.max"}, files=GROUPS)
    assert (found.kind, found.cgroup, found.cpus) == (_limit_file.OTHER, f"{tmp_path}/cg/b", 2.5)


def test_kept_open_v1_quota_and_period(tmp_path: Path) -> None:
    files = {"a/cpu.cfs_quota_us": "-1\n", "b/cpu.cfs_quota_us": "50000\n", "b/cpu.cfs_period_us": "100000\n"}
    links = {3: "ROOT/cg/b/cpu.cfs_quota_us", 4: "ROOT/cg/b/cpu.cfs_period_us"}
    assert opened(tmp_path, links, files=files).cpus == 0.5


def test_kept_open_none_and_gone(tmp_path: Path) -> None:
    assert opened(tmp_path / "1", {0: "/dev/null"}, files=GROUPS).kind == _limit_file.NONE
    assert opened(tmp_path / "2", {3: "ROOT/cg/b/cpu.max (deleted)"}, files=GROUPS).kind == _limit_file.GONE
    assert opened(tmp_path / "3", {3: "ROOT/cg/c/cpu.max"}, files=GROUPS).kind == _limit_file.GONE
    assert kept_open(18, None, str(tmp_path / "1/proc")).kind == _limit_file.UNKNOWN
    many = dict.fromkeys(range(300), "/dev/null")
    assert opened(tmp_path / "4", many, files=GROUPS).kind == _limit_file.UNKNOWN


def test_kept_open_nonsense_is_not_known(tmp_path: Path) -> None:
    files = {**GROUPS, "b/cpu.max": "many\n"}
    assert opened(tmp_path, {3: "ROOT/cg/b/cpu.max"}, files=files).kind == _limit_file.UNKNOWN
