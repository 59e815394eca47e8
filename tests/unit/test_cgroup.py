# SPDX-License-Identifier: GPL-2.0-or-later
"""The chain of CPU limits: every file of cgroups/ is a machine's /proc and cgroupfs, and says what is to be read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cases import CASES, Case, make, parse_case, read

from go_health_hook.cpu import _throttling
from go_health_hook.linux import cgroup, mountinfo
from go_health_hook.linux.cgroup_files import (
    Entry,
    format_cpus,
    parse_cpu_max,
    parse_cpus,
    parse_entry,
    parse_period_v1,
    parse_quota_v1,
)
from go_health_hook.linux.kernel_files import Malformed


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_case_is_read_as_its_kernel_meant_it(case: Case, tmp_path: Path) -> None:
    chain, wanted = case.read(tmp_path), case.expected
    assert (chain.hierarchy, chain.path, chain.complete) == (wanted["hierarchy"], wanted["path"], wanted["complete"])
    assert [[level.path, level.cpus] for level in chain.levels] == wanted["levels"]
    assert [p.kind for p in chain.problems] == wanted["problems"]
    assert chain.certain is not bool(wanted["problems"])
    tightest = chain.tightest
    assert (tightest.path if tightest else None) == wanted["tightest"]
    assert chain.quota_cpus == min((cpus for _, cpus in wanted["levels"] if cpus is not None), default=None)
    if "cpuset" in wanted:
        assert chain.cpuset == wanted["cpuset"]
    if "cpusets" in wanted:
        assert [level.cpuset for level in chain.levels] == wanted["cpusets"]
    if "weight" in wanted:
        assert chain.levels[0].weight == wanted["weight"]
    for level in chain.levels:
        assert os.path.isdir(level.directory)
        assert os.path.commonpath([level.directory, str(tmp_path)]) == str(tmp_path)
    for problem in chain.problems:
        assert str(problem).isprintable()
        assert problem.place
        assert problem.text


def test_a_case_for_each_kind_of_problem_and_hierarchy() -> None:
    kinds = {kind for case in CASES for kind in case.expected["problems"]}
    assert kinds == {"unmounted", "hidden", "unreadable", "malformed", "deleted"}
    assert {case.expected["hierarchy"] for case in CASES} == {"v1", "v2", "hybrid", "none", "unknown"}


def test_a_case_is_files_and_links_by_their_paths(tmp_path: Path) -> None:
    case = parse_case("x", '{"why": "x"}\n== a/b\n1\n\n== empty\n== a/raw (escaped)\n\\xff\\n\n== l -> a/b\n')
    assert case.expected == {"why": "x"}
    case.make(tmp_path)
    assert (tmp_path / "l").read_text() == "1\n\n"
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "a/raw").read_bytes() == b"\xff\n"
    with pytest.raises(ValueError, match="there twice"):
        parse_case("x", "{}\n== a\n== a -> b\n")


def test_a_process_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProcessLookupError):
        cgroup.read_chain(2**22 + 1)
    (tmp_path / "proc/self").mkdir(parents=True)
    with pytest.raises(ProcessLookupError):
        cgroup.read_chain(17, proc=f"{tmp_path}/proc", root=str(tmp_path))


def test_this_process() -> None:
    chain = cgroup.read_chain()
    same = cgroup.read_chain(os.getpid())
    assert (chain.path, chain.levels, chain.problems) == (same.path, same.levels, same.problems)
    assert chain.view == same.view
    assert cgroup.affinity() == cgroup.affinity(os.getpid()) == len(os.sched_getaffinity(0)) >= 1


MOUNTED = "22 1 0:21 / /sys rw - sysfs sysfs rw\n30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
TOP = {"sys/fs/cgroup/cgroup.controllers": "cpu\n", "proc/self/mountinfo": MOUNTED}


def test_what_is_too_long_is_not_taken_for_unlimited(tmp_path: Path) -> None:
    cases = {
        "path": {"proc/self/cgroup": "0::/" + 4096 * "p" + "\n"},
        "file": {"proc/self/cgroup": "".join(f"{i}:name=n{i}:/{4000 * 'x'}\n" for i in range(1, 70))},
        "limit": {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": 5000 * "1" + " 100000\n"},
        "mount": {
            "proc/self/cgroup": "0::/a\n",
            "proc/self/mountinfo": f"30 22 0:26 / /{5000 * 'm'} rw - cgroup2 cgroup2 rw\n",
        },
        "line": {
            "proc/self/cgroup": "0::/a\n",
            "proc/self/mountinfo": f"30 22 0:26 / /m rw {70000 * 'o'} - cgroup2 cgroup2 rw\n",
        },
    }
    for name, files in cases.items():
        make(tmp_path / name, {**TOP, **files})
        chain = read(tmp_path / name)
        assert chain.problems[0].kind == "too long", name
        assert len(str(chain.problems[0])) < 700
        assert chain.quota_cpus is None


def test_long_paths_and_lines_that_the_kernel_does_write(tmp_path: Path) -> None:
    path = "/".join(["n" * 200] * 20)
    # Longer than PATH_MAX once the mount point is in front of it, so no such name can be opened in one go.
    fd = os.open(tmp_path, os.O_RDONLY)
    for part in ["sys", "fs", "cgroup", *path.split("/")]:
        os.mkdir(part, dir_fd=fd)
        inner = os.open(part, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    file = os.open("cpu.max", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, b"300000 100000\n")
    os.close(file)
    os.close(fd)
    overlay = "28 1 0:99 / /var/lib/x rw - overlay overlay rw,lowerdir=" + ":".join(f"/l/{i}" for i in range(20000))
    make(tmp_path, {**TOP, "proc/self/mountinfo": overlay + "\n" + MOUNTED, "proc/self/cgroup": f"0::/{path}\n"})
    chain = read(tmp_path)
    assert chain.levels[0].cpus == 3.0
    assert len(chain.levels) == 21


def test_files_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        make(root, {**TOP, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "100000 100000\n"})
        make(root, {"sys/fs/cgroup/a/cpu.max": "300000 100000\n"})
        chains = []
        for closed in ("sys/fs/cgroup/a/b/cpu.max", "sys/fs/cgroup/a", "proc/self/cgroup"):
            mode = (root / closed).stat().st_mode
            (root / closed).chmod(0)
            uid = os.geteuid()
            if uid == 0:
                os.seteuid(65534)
            try:
                chains.append(read(root))
            finally:
                os.seteuid(uid)
                (root / closed).chmod(mode)
        # A group that may not be entered hides its own quota and its child's.
        assert [[p.kind for p in c.problems] for c in chains] == [["unreadable"], 2 * ["unreadable"], ["unreadable"]]
        assert [c.hierarchy for c in chains] == ["v2", "v2", "unknown"]
        assert chains[0].quota_cpus == 3.0
        assert [[level.path, level.cpus] for level in chains[1].levels] == [["/a", None], ["/", None]]


def test_a_fifo_neither_blocks_nor_counts(tmp_path: Path) -> None:
    make(tmp_path, {**TOP, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cgroup.controllers": "cpu\n"})
    os.mkfifo(tmp_path / "sys/fs/cgroup/a/cpu.max")
    assert [p.kind for p in read(tmp_path).problems] == ["unreadable"]


def test_a_group_by_its_path(tmp_path: Path) -> None:
    make(tmp_path, {**TOP, "proc/self/cgroup": "0::/elsewhere\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"})
    chain = cgroup.read_group("//a/", proc=f"{tmp_path}/proc", root=str(tmp_path))
    assert (chain.path, chain.quota_cpus, chain.certain) == ("/a", 3.0, True)
    assert chain.view.path == "/a"
    chain = cgroup.read_group("/b", proc=f"{tmp_path}/proc", root=str(tmp_path))
    assert [p.kind for p in chain.problems] == ["hidden"]
    with pytest.raises(Malformed):
        cgroup.read_group("/a/../b")


def test_names_are_cleaned_where_they_are_shown(tmp_path: Path) -> None:
    make(tmp_path, {**TOP, "proc/self/cgroup": b"0::/a\x1b[31m\xff\n"})
    chain = read(tmp_path)
    assert chain.path == "/a\x1b[31m\udcff"
    assert [p.kind for p in chain.problems] == ["hidden"]
    assert str(chain.problems[0]).isprintable()


@pytest.mark.parametrize(
    "text, cpus",
    [("", ()), ("0\n", (0,)), ("0-3,8", (0, 1, 2, 3, 8)), ("3,1-2\n", (1, 2, 3)), ("0-1,1-2", (0, 1, 2))],
)
def test_lists_of_cpus(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "0-99999999", "1,,2", "0 1", "0-7:2", "١", "1" * 30])
def test_what_is_no_list_of_cpus(text: str) -> None:
    with pytest.raises(Malformed):
        parse_cpus(text)


@given(st.frozensets(st.integers(0, 5000), max_size=200))
def test_lists_of_cpus_round_trip(cpus: frozenset[int]) -> None:
    text = format_cpus(cpus)
    assert parse_cpus(text) == tuple(sorted(cpus))
    assert format_cpus(parse_cpus(text)) == text


# Names as the kernel allows them: any bytes but a slash, a line's end and NUL; "." and ".." are none.
NAMES = st.binary(min_size=1, max_size=20).filter(lambda b: not set(b) & set(b"/\n\0") and b not in (b".", b".."))
PATHS = st.lists(NAMES, max_size=5).map(lambda names: b"/" + b"/".join(names))


@given(PATHS, st.integers(0, 20), st.lists(st.sampled_from(["cpu", "cpuacct", "name=x", "pids"]), unique=True))
def test_lines_of_the_cgroup_file_round_trip(path: bytes, hierarchy: int, controllers: list[str]) -> None:
    if hierarchy == 0:
        controllers = []
    entry = parse_entry(f"{hierarchy}:{','.join(controllers)}:".encode() + path)
    assert entry == Entry(hierarchy, tuple(controllers), os.fsdecode(path))


def escape(raw: bytes) -> bytes:
    """As the kernel's seq_path does: space, tab, newline and backslash."""
    return b"".join(b"\\%03o" % c if c in b" \t\n\\" else bytes((c,)) for c in raw)


@given(PATHS, PATHS, st.lists(st.sampled_from(["shared:1", "master:22", "unbindable"]), unique=True), st.booleans())
def test_lines_of_mountinfo_round_trip(root: bytes, point: bytes, optional: list[str], unified: bool) -> None:
    kind = b"cgroup2 cgroup2 rw" if unified else b"cgroup cgroup rw,cpu,cpuacct"
    head = b"36 35 0:26 %s %s rw,noatime " % (escape(root), escape(point))
    mounts, bad = mountinfo.parse_mounts(
        b" ".join([head.rstrip(), *(o.encode() for o in optional), b"-", kind]) + b"\n"
    )
    assert not bad
    options = ("rw",) if unified else ("rw", "cpu", "cpuacct")
    device = (0, 26)
    assert mounts == [mountinfo.Mount(1 + unified, os.fsdecode(root), os.fsdecode(point), options, device)]
    assert mounts[0].has(1 + unified, "cpu")
    assert not mounts[0].has(2 - unified, "cpu")


def test_a_mount_whose_root_was_removed() -> None:
    (mount,), bad = mountinfo.parse_mounts(b"91 29 0:26 /a/deleted//deleted /mnt rw - cgroup2 cgroup2 rw\n")
    assert (mount.root, mount.removed, bad) == ("/a/deleted", True, [])
    (mount,), bad = mountinfo.parse_mounts(b"91 29 0:26 /a/deleted /mnt rw - cgroup2 cgroup2 rw\n")
    assert (mount.root, mount.removed, bad) == ("/a/deleted", False, [])


@pytest.mark.parametrize(
    ("mounts", "covered"),
    [
        (["20 1 /sys", "30 20 /sys/fs/cgroup"], False),
        (["30 1 /sys/fs/cgroup", "31 30 /sys/fs/cgroup"], True),
        (["30 1 /sys/fs/cgroup", "31 30 /sys/fs/cgroup/below"], False),
        (["30 1 /sys/fs/cgroup", "31 1 /sys"], True),
        (["30 1 /sys/fs/cgroup", "31 1 /sys/fs/cg"], False),
        (["30 1 /sys/fs/cgroup", "31 1 /"], True),
        (["20 1 /sys", "30 20 /sys/fs/cgroup", "31 1 /sys/fs"], False),
        (["20 1 /sys", "30 20 /sys/fs/cgroup", "31 20 /sys/fs"], True),
        (["20 1 /sys", "30 20 /sys/fs/cgroup", "31 20 /sys"], True),
        (["2 2 /", "30 2 /sys/fs/cgroup"], False),
    ],
)
def test_what_lies_over_a_mount(mounts: list[str], covered: bool) -> None:
    lines = [f"{line.rpartition(' ')[0]} 0:{i} / {line.rpartition(' ')[2]} rw - cgroup2 cgroup2 rw" for i, line in
             enumerate(mounts)]  # fmt: skip
    found, bad = mountinfo.parse_mounts("\n".join(lines).encode())
    assert bad == []
    assert next(m.covered for line, m in zip(mounts, found) if line.startswith("30 ")) is covered


def test_the_number_of_mounts_does_not_count_twice() -> None:
    """As many as a namespace may hold, all of them cgroup's: to hold each against each would take hours."""
    lines = [b"%d 1 0:26 / /mnt/%d/x rw - cgroup2 cgroup2 rw" % (i, i) for i in range(2, 100_002)]
    mounts, bad = mountinfo.parse_mounts(b"\n".join(lines))
    assert (len(mounts), bad) == (100_000, [])
    assert not any(mount.covered for mount in mounts)


@given(st.binary().map(lambda raw: raw.replace(b"\0", b"")))
def test_escapes_round_trip(raw: bytes) -> None:
    assert mountinfo.unescape(escape(raw)) == raw


@pytest.mark.parametrize("field", [b"\\", b"\\1", b"\\12", b"\\128", b"\\400", b"\\777", b"a\\ b", b"\\x2d", b"/a\0b"])
def test_escapes_that_are_none(field: bytes) -> None:
    with pytest.raises(Malformed):
        mountinfo.unescape(field)


@given(st.binary(max_size=200) | st.sampled_from([b"max 100000\n", b"1 2\n"]))
def test_limit_files_are_read_or_malformed(data: bytes) -> None:
    for parse in (parse_cpu_max, parse_quota_v1, parse_period_v1, _throttling.parse_pressure):
        try:
            parse(data)
        except Malformed as e:
            assert str(e).isprintable()
    try:
        _throttling.parse_stat(data)
    except Malformed as e:
        assert str(e).isprintable()


@given(st.integers(1, 2**44), st.integers(1, 10**6))
def test_limits_round_trip(quota: int, period: int) -> None:
    assert parse_cpu_max(b"%d %d\n" % (quota, period)) == (quota, period)
    assert parse_cpu_max(b"max %d\n" % period) == (None, period)
    assert (parse_quota_v1(b"%d\n" % quota), parse_quota_v1(b"-1\n")) == (quota, None)
    assert parse_period_v1(b"%d\n" % period) == period


NOISE = st.binary(max_size=300)
LIKE_A_CGROUP_FILE = st.lists(
    st.tuples(st.sampled_from([b"0::", b"3:cpu:", b"1:name=systemd:", b"x:", b"0:cpu:"]), PATHS | NOISE).map(b"".join)
).map(b"\n".join)
LIKE_A_MOUNTINFO = st.lists(
    st.tuples(
        st.sampled_from([b"30 22 0:26 ", b"22 30 0:1 ", b"30 30 9:9 ", b""]),
        (PATHS | NOISE).map(escape),
        st.just(b" "),
        st.sampled_from([b"/sys/fs/cgroup", b"/sys", b"/", b"x", b"\\"]) | NOISE,
        st.sampled_from([b" rw - cgroup2 c rw", b" - cgroup c rw,cpu", b" rw - cgroup c rw,cpu", b" - tmpfs"]) | NOISE,
    ).map(b"".join)
).map(b"\n".join)


@given(LIKE_A_CGROUP_FILE | NOISE, LIKE_A_MOUNTINFO | NOISE, NOISE | st.just(b"200000 100000\n"))
def test_whatever_proc_says_a_chain_comes_of_it(entries: bytes, mounts: bytes, limit: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make(root, {"proc/self/cgroup": entries, "proc/self/mountinfo": mounts, "sys/fs/cgroup/cpu.max": limit})
        chain = read(root)
        assert all(str(p).isprintable() for p in chain.problems)
        if chain.hierarchy in {"v1", "v2", "hybrid"} and chain.leaf is None:
            assert chain.problems
        for level in chain.levels:
            assert Path(level.directory).resolve().is_relative_to(root.resolve())


def test_throttling_so_far(tmp_path: Path) -> None:
    v2 = b"usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\nnr_bursts 0\n"
    v1 = b"nr_periods 3\nnr_throttled 2\nthrottled_time 7654321\n"
    assert _throttling.parse_stat(v2) == _throttling.Stat(9, 3, 2, 1)
    assert _throttling.parse_stat(v1) == _throttling.Stat(None, 3, 2, 7654)
    assert _throttling.parse_stat(b"usage_usec 9\n") == _throttling.Stat(9, None, None, None)
    assert _throttling.read_stat(str(tmp_path)) is None
    assert _throttling.read_pressure(str(tmp_path)) is None
    pressure = b"some avg10=12.34 avg60=0.00 avg300=100.00 total=555\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    make(tmp_path, {"cpu.stat": v2, "cpu.pressure": pressure})
    assert _throttling.read_stat(str(tmp_path)) == _throttling.Stat(9, 3, 2, 1)
    assert _throttling.read_pressure(str(tmp_path)) == _throttling.Pressure(12.34, 0.0, 100.0, 555)
    for bad in [b"", b"full avg10=1", b"some avg10=x avg60=0.00 avg300=0.00 total=1\n", b"some total=1\n"]:
        with pytest.raises(Malformed):
            _throttling.parse_pressure(bad)
    with pytest.raises(Malformed):
        _throttling.parse_stat(b"nr_periods many\n")
    with pytest.raises(OSError, match="No such file"):
        _throttling.read_stat(str(tmp_path / "gone"))
