# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPU limit the kernel enforces on a process: the chain of its cgroups, v1, v2 and hybrid, level by level.

Rules from cgroups(7), proc_pid_cgroup(5), proc_pid_mountinfo(5) and the kernel's cgroup-v2.rst, sched-bwc.rst.
"""

from __future__ import annotations

import errno
import os

from go_health_hook.linux.kernel_files import (
    DIRECTORY,
    TOO_LONG,
    Malformed,
    Record,
    number,
    one_line,
    read_file,
    read_in,
)
from go_health_hook.linux.mountinfo import PATH_MAX, SIZE_MAX, Mount, join_path, parse_mounts, split_path
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")

# The kinds of a chain's problems; MALFORMED and TOO_LONG are for what the kernel never writes.
UNMOUNTED = "unmounted"  # no file system of the hierarchy that governs the CPU is mounted here
HIDDEN = "hidden"  # one is, but the process's group is not below what it shows
UNREADABLE = "unreadable"  # the kernel, or who set up this namespace, does not let us read it
DELETED = "deleted"  # the process's group has been removed

_CGROUP_MAX = 256 * 1024
_CPUS_MAX = 1 << 16
_INITIAL_NAMESPACE = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO, the same on every kernel
_DELETED = " (deleted)"
_LOOKS = 5


class Problem(Record):
    """Why a part of the chain is not known: `kind` is UNMOUNTED, HIDDEN … above, `place` a file or directory."""

    __slots__ = ("kind", "place", "text")

    def __init__(self, kind: str, place: str, text: str) -> None:
        self.kind = kind
        self.place = clean(place)
        self.text = clean(text)

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class Entry(Record):
    """A line of /proc/PID/cgroup. `hierarchy` is 0 for cgroup v2; `path` is relative to the reader's namespace."""

    __slots__ = ("controllers", "hierarchy", "path")

    def __init__(self, hierarchy: int, controllers: tuple[str, ...], path: str) -> None:
        self.hierarchy = hierarchy
        self.controllers = controllers
        self.path = path


class Level(Record):
    """One cgroup on the way from a process's own to the topmost that can be seen.

    path        the cgroup's path, as /proc/PID/cgroup writes it
    directory   where it is seen
    quota_us, period_us
                microseconds of CPU time in each period; the quota is None where this level sets none
    cpuset      the CPUs in effect, as "0-3,8", or None where the cpuset controller is not at work
    weight      cpu.weight (v2) or cpu.shares (v1), or None; a share under contention, never a limit
    """

    __slots__ = ("cpuset", "directory", "path", "period_us", "quota_us", "weight")

    def __init__(
        self,
        path: str,
        directory: str,
        quota_us: int | None = None,
        period_us: int | None = None,
        cpuset: str | None = None,
        weight: int | None = None,
    ) -> None:
        self.path = path
        self.directory = directory
        self.quota_us = quota_us
        self.period_us = period_us
        self.cpuset = cpuset
        self.weight = weight

    @property
    def cpus(self) -> float | None:
        """The quota in CPUs, or None."""
        if self.quota_us is None or not self.period_us:
            return None
        return self.quota_us / self.period_us


class View(Record):
    """What a process itself sees of its CPU cgroup, from which its runtime draws its own conclusions.

    version     1 or 2, 0 where there is no such cgroup
    path        as in Chain
    mounts      the cgroup file systems in its mount namespace, in the order of mountinfo
    foreign     whether its cgroup namespace is another than the reader's, as far as we may know: then `path` and the
                mounts' roots, which are given in the reader's terms, read differently from inside
    readable    whether both files could be read and made sense
    """

    __slots__ = ("foreign", "mounts", "path", "readable", "version")

    def __init__(
        self, version: int, path: str, mounts: tuple[Mount, ...], foreign: bool = False, readable: bool = True
    ) -> None:
        self.version = version
        self.path = path
        self.mounts = mounts
        self.foreign = foreign
        self.readable = readable


class Chain(Record):
    """The CPU limits on a process, level by level.

    hierarchy   what governs the CPU: "v2"; "v1"; "hybrid" (v1, with cgroup v2 mounted too); "none" (this kernel
                groups no processes for the CPU); "unknown" (/proc did not say)
    path        the process's cgroup in that hierarchy, relative to the reader's cgroup namespace
    levels      leaf first
    complete    whether the last level is the hierarchy's own root; in a container it is not, and what lies above cannot
                be seen from inside
    cpuset      the CPUs in effect in the process's cgroup, as "0-3,8", or None
    problems    what could not be read; where there are any, no quota does not mean no limit
    """

    __slots__ = ("complete", "cpuset", "hierarchy", "levels", "path", "problems", "view")

    def __init__(
        self,
        hierarchy: str,
        path: str,
        levels: Iterable[Level] = (),
        problems: Iterable[Problem] = (),
        complete: bool = True,
        cpuset: str | None = None,
        view: View | None = None,
    ) -> None:
        self.hierarchy = hierarchy
        self.path = path
        self.levels = tuple(levels)
        self.problems = tuple(problems)
        self.complete = complete
        self.cpuset = cpuset
        self.view = view if view is not None else View(0, path, ())

    @property
    def version(self) -> int:
        """Of the hierarchy that governs the CPU: 1 or 2, 0 where there is none."""
        return {"v1": 1, "hybrid": 1, "v2": 2}.get(self.hierarchy, 0)

    @property
    def certain(self) -> bool:
        """Whether all of it could be read, so that no quota means no limit."""
        return not self.problems

    @property
    def has_quotas(self) -> bool:
        """Whether this kernel can limit a group's CPU time; False only where levels have weights and no quota file."""
        return any(level.period_us is not None for level in self.levels) or all(
            level.weight is None for level in self.levels
        )

    @property
    def leaf(self) -> Level | None:
        """The process's own cgroup, or None where it cannot be seen."""
        return self.levels[0] if self.levels and self.levels[0].path == self.path else None

    @property
    def tightest(self) -> Level | None:
        """The level with the smallest quota, the nearest to the process of equals, or None where no level has one."""
        found = None
        for level in self.levels:
            if level.cpus is not None and (found is None or level.cpus < (found.cpus or 0)):
                found = level
        return found

    @property
    def quota_cpus(self) -> float | None:
        """The smallest quota of all levels in CPUs, or None where no level that can be read has one."""
        level = self.tightest
        return None if level is None else level.cpus


def read_chain(pid: int | str = "self", *, proc: str = "/proc", root: str = "/") -> Chain:
    """Read the limits on a process, ours unless `pid` says another.

    `proc` and `root` say where procfs and the directory tree are that its mount points belong to. Raises
    ProcessLookupError where there is no such process; whatever else goes wrong is one of the chain's problems.
    """
    chain, vanished = _read_once(pid, proc, root)
    for _ in range(_LOOKS):
        if not vanished:
            break
        # It moved on, or was the last in its group, while we were reading.
        seen = chain.path
        chain, vanished = _read_once(pid, proc, root)
        if chain.path == seen:
            break
    return chain


def read_group(path: str, *, proc: str = "/proc", root: str = "/") -> Chain:
    """Read the limits on a process that would be in the cgroup `path` ("/system.slice/x.service"), in our namespaces.

    Raises Malformed for what is no such path. Where there is no such group, that is one of the chain's problems.
    """
    path = join_path(split_path(path))
    data, problems = _read_entries("self", proc)
    if data is None:
        return _unknown(problems)
    moved = [Entry(e.hierarchy, e.controllers, path) for e in parse_entries(data)[0]]
    return _build("self", proc, root, moved, problems)[0]


def controllers_with(controller: str, *, proc: str = "/proc") -> tuple[str, ...]:
    """Return all controllers of this process's v1 hierarchy that has `controller`; empty where none has it."""
    entries = parse_entries(_read_entries("self", proc)[0] or b"")[0]
    return next((e.controllers for e in entries if e.hierarchy and controller in e.controllers), ())


def affinity(pid: int = 0) -> int:
    """How many CPUs a process (0: ours) may run on. Raises ProcessLookupError where there is no such process."""
    return len(os.sched_getaffinity(pid))


def parse_cpus(text: str) -> tuple[int, ...]:
    """Read the kernel's list of CPUs, "0-3,8". Raises Malformed."""
    cpus: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        low = number(first)
        high = number(last) if dash else low
        if not low <= high < _CPUS_MAX:
            raise Malformed(f"not a range of CPUs: {clean(part, 60)!r}")
        cpus.update(range(low, high + 1))
    return tuple(sorted(cpus))


def format_cpus(cpus: Iterable[int]) -> str:
    """Write CPUs as the kernel does: "0-3,8"."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def figure(cpus: float) -> str:
    """A number of CPUs for people, in five characters as long as it is below 100,000: "0.333", "2", "12.5"."""
    return f"{cpus:.0f}" if cpus >= 100 else f"{cpus:.3g}" if cpus >= 1 else f"{round(cpus, 3):g}"


def in_words(cpus: float) -> str:
    """As `figure`, with the unit: "1 CPU", "0.333 CPUs"."""
    return f"{figure(cpus)} CPU" + ("" if cpus == 1 else "s")


def parse_entry(line: bytes) -> Entry:
    """Read one line of /proc/PID/cgroup: "HIERARCHY:CONTROLLERS:PATH". Nothing in it is escaped. Raises Malformed."""
    fields = line.split(b":", 2)
    if len(fields) != 3 or not fields[0].isdigit() or len(fields[0]) > 9 or not fields[2].startswith(b"/"):
        raise Malformed(f"not a line of a cgroup file: {clean(line, 100)!r}")
    path = fields[2]
    if len(path) > PATH_MAX:
        raise Malformed(f"a cgroup's path of {len(path)} bytes", TOO_LONG)
    hierarchy = int(fields[0])
    controllers = tuple(os.fsdecode(c) for c in fields[1].split(b",") if c)
    if hierarchy == 0 and controllers:
        raise Malformed(f"controllers in a line of cgroup v2: {clean(line, 100)!r}")
    return Entry(hierarchy, controllers, join_path(split_path(os.fsdecode(path))))


def parse_entries(data: bytes) -> tuple[list[Entry], list[Malformed]]:
    """Read a whole /proc/PID/cgroup: the lines that make sense, and why the others do not."""
    entries: list[Entry] = []
    bad: list[Malformed] = []
    for line in data.split(b"\n"):
        if line:
            try:
                entries.append(parse_entry(line))
            except Malformed as e:
                bad.append(e)
    return entries, bad


def parse_cpu_max(data: bytes) -> tuple[int | None, int]:
    """Read cpu.max of v2, "QUOTA PERIOD" or "max PERIOD", both in microseconds. Raises Malformed.

    A quota alone can be written to the file; the kernel never shows it so.
    """
    fields = one_line(data).split(" ")
    if len(fields) != 2:
        raise Malformed(f"not a quota and a period: {clean(data, 60)!r}")
    quota = None if fields[0] == "max" else _positive(fields[0])
    return quota, _positive(fields[1])


def parse_quota_v1(data: bytes) -> int | None:
    """Read cpu.cfs_quota_us of v1, microseconds in each period; -1, which is None here, sets none. Raises Malformed."""
    text = one_line(data)
    if text.startswith("-"):
        _positive(text[1:])
        return None
    return _positive(text)


def parse_period_v1(data: bytes) -> int:
    """Read cpu.cfs_period_us of v1, microseconds. Raises Malformed."""
    return _positive(one_line(data))


def below(path: Sequence[str], top: Sequence[str]) -> list[str] | None:
    """The rest of the parts `path` below the parts `top`, or None where the one is not below the other.

    A path that leads out of the namespace ("/../x") is below what begins with the same steps and below nothing else:
    from "/" or "/../.." the names on the way to it are not known.
    """
    count = len(top)
    rest = list(path[count:])
    if list(path[:count]) != list(top) or (rest and rest[0] == ".."):
        return None
    return rest


class _Walk:
    """What was found on the way down from a mount point to a group.

    `limitless` has a problem for each level whose CPU controller is at work and that has no file for a quota.
    """

    __slots__ = ("levels", "limitless", "problems", "top", "vanished")

    def __init__(self) -> None:
        self.levels: list[Level] = []  # topmost first
        self.problems: list[Problem] = []
        self.limitless: list[tuple[Level, Problem]] = []
        self.top = False  # whether the first is the hierarchy's own root
        self.vanished = False


def _read_once(pid: int | str, proc: str, root: str) -> tuple[Chain, bool]:
    """Read a process's chain, and say whether its own group was gone by the time we came there."""
    data, problems = _read_entries(pid, proc)
    if data is None:
        return _unknown(problems), False
    entries, bad = parse_entries(data)
    problems += [Problem(e.kind, f"{proc}/{pid}/cgroup", str(e)) for e in bad]
    return _build(pid, proc, root, entries, problems)


def _read_entries(pid: int | str, proc: str) -> tuple[bytes | None, list[Problem]]:
    """The contents of /proc/PID/cgroup, or None and why not. Raises ProcessLookupError."""
    place = f"{proc}/{pid}/cgroup"
    try:
        return read_file(place, _CGROUP_MAX), []
    except FileNotFoundError:
        if not os.path.isdir(f"{proc}/self"):
            return None, [Problem(UNREADABLE, proc, "no procfs is mounted there")]
        if not os.path.isdir(f"{proc}/{pid}"):
            raise _no_process(pid) from None
        return b"", []  # a kernel without cgroups
    except ProcessLookupError:
        raise _no_process(pid) from None
    except Malformed as e:
        return None, [Problem(e.kind, place, str(e))]
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            return None, [Problem(TOO_LONG, place, "the kernel cannot show so long a path of a cgroup")]
        return None, [_unreadable(place, e)]


def _build(
    pid: int | str, proc: str, root: str, entries: Sequence[Entry], problems: list[Problem]
) -> tuple[Chain, bool]:
    mounts, more = _read_mounts(f"{proc}/self/mountinfo")
    version, path = _home(entries, "cpu")
    view = _read_view(pid, proc, version, path, mounts, not problems and not more)
    if version == 0:
        return (_unknown(problems) if problems else Chain("none", "", view=view)), False
    problems += more
    hierarchy = "v2" if version == 2 else "v1"
    if version == 1 and any(m.version == 2 for m in mounts):
        hierarchy = "hybrid"

    walk = _follow(version, "cpu", path, mounts, root)
    if not _has_no_bandwidth(walk, proc):
        walk.problems += [problem for _, problem in walk.limitless]
    if path != "/" or _namespace(proc, "self") != _INITIAL_NAMESPACE:
        problems += walk.problems
    elif not walk.levels:
        walk.top = True  # nothing limits the root of all groups, seen or not
    levels = walk.levels[::-1]
    cpuset = _fill_cpusets(version, entries, mounts, root, levels)
    return Chain(hierarchy, path, levels, problems, walk.top, cpuset, view), walk.vanished


def _has_no_bandwidth(walk: _Walk, proc: str) -> bool:
    """Whether the levels without a file for a quota are those of a kernel without CFS bandwidth control.

    Such a kernel limits no group: all levels have a weight and none has a quota, or the scheduler's setting for quotas
    is absent (kernel/sched/fair.c, CONFIG_CFS_BANDWIDTH). Some ARM boards have one (containers/podman#13379).
    """
    if any(level.period_us is not None for level in walk.levels):
        return False
    if all(level.weight is not None for level, _ in walk.limitless):
        return True
    kernel = f"{proc}/sys/kernel"
    return os.path.exists(f"{kernel}/ostype") and not os.path.lexists(f"{kernel}/sched_cfs_bandwidth_slice_us")


def _unknown(problems: list[Problem]) -> Chain:
    return Chain("unknown", "", (), problems, False, view=View(0, "", (), readable=False))


def _no_process(pid: int | str) -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid))


def _unreadable(place: str, e: OSError) -> Problem:
    return Problem(UNREADABLE, place, f"cannot be read: {e.strerror or e}")


def _home(entries: Sequence[Entry], controller: str) -> tuple[int, str]:
    """The version of the hierarchy that has a controller, and the process's path in it; (0, "") where there is none.

    A controller is in one hierarchy at a time: in a v1 hierarchy that names it, else in v2.
    """
    unified = None
    for entry in entries:
        if entry.hierarchy == 0:
            unified = entry
        elif controller in entry.controllers:
            return 1, entry.path
    return (2, unified.path) if unified is not None else (0, "")


_last_mounts: tuple[bytes, list[Mount], list[Malformed]] = (b"", [], [])


def _read_mounts(place: str) -> tuple[list[Mount], list[Problem]]:
    global _last_mounts
    problems = []
    try:
        data = read_file(place, SIZE_MAX)
    except Malformed as e:
        return [], [Problem(e.kind, place, str(e))]
    except OSError as e:
        return [], [_unreadable(place, e)]
    # Processes of one mount namespace share it, and whoever looks at many of them reads it for each.
    if _last_mounts[0] != data:
        _last_mounts = (data, *parse_mounts(data))
    mounts, bad = _last_mounts[1:]
    problems += [Problem(e.kind, place, str(e)) for e in bad]
    return mounts, problems


def _read_view(pid: int | str, proc: str, version: int, path: str, own_mounts: Sequence[Mount], readable: bool) -> View:
    if pid == "self":
        return View(version, path, tuple(own_mounts), False, readable)
    mounts, problems = _read_mounts(f"{proc}/{pid}/mountinfo")
    mine, theirs = _namespace(proc, "self"), _namespace(proc, pid)
    foreign = mine != theirs if mine and theirs else False
    return View(version, path, tuple(mounts), foreign, readable and not problems)


def _namespace(proc: str, pid: int | str) -> str:
    try:
        return os.readlink(f"{proc}/{pid}/ns/cgroup")
    except OSError:
        return ""


def _follow(version: int, controller: str, path: str, mounts: Sequence[Mount], root: str) -> _Walk:
    """Read every level of `path` that some mount shows."""
    result = _Walk()
    parts = split_path(path)
    candidates = [m for m in mounts if m.has(version, controller) and not m.removed]
    open_ones = [m for m in candidates if not m.covered]
    name = "cgroup2" if version == 2 else f"cgroup v1 with the {controller} controller"
    if not candidates:
        result.problems.append(Problem(UNMOUNTED, "/proc/self/mountinfo", f"no {name} is mounted"))
        return result
    if not open_ones:
        result.problems.append(Problem(HIDDEN, candidates[-1].point, f"the {name} there is mounted over"))
        return result
    # The mount with the shortest root shows the most levels; others only fill in what it does not let us see.
    usable = [m for m in open_ones if below(parts, split_path(m.root)) is not None]
    usable.sort(key=lambda m: len(split_path(m.root)))
    if not usable:
        shown = ", ".join(sorted({m.root for m in open_ones}))
        text = f"the process's cgroup {path} is not below what is mounted ({shown})"
        result.problems.append(Problem(HIDDEN, open_ones[-1].point, text))
        return result
    for mount in usable:
        walk = _walk_down(mount, controller, parts, root)
        known = {level.path for level in result.levels}
        result.levels += [level for level in walk.levels if level.path not in known]
        if mount is usable[0]:
            result.problems, result.top, result.vanished = walk.problems, walk.top, walk.vanished
            result.limitless = walk.limitless
        if not walk.problems and not walk.limitless:
            break
    result.levels.sort(key=lambda level: len(split_path(level.path)))
    return result


def _walk_down(mount: Mount, controller: str, parts: list[str], root: str) -> _Walk:
    walk = _Walk()
    shown = split_path(mount.root)
    rest = below(parts, shown) or []
    directory = (root.rstrip("/") + mount.point).rstrip("/") or "/"
    try:
        here = os.open(directory, DIRECTORY)
    except OSError as e:
        walk.problems.append(_unreadable(directory, e))
        return walk
    try:
        if root == "/":
            # The path must lead to the mount that mountinfo names. The tree of a test has no devices to compare.
            device = os.fstat(here).st_dev
            if (os.major(device), os.minor(device)) != mount.device:
                walk.problems.append(Problem(HIDDEN, directory, "something else than the cgroup file system is there"))
                return walk
        _read_level(walk, here, mount.version, controller, join_path(shown), directory, True)
        for i, part in enumerate(rest):
            try:
                inner = os.open(part, DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            except OSError as e:
                _not_entered(walk, e, f"{directory}/{part}", i == len(rest) - 1)
                break
            os.close(here)
            here = inner
            directory = f"{directory}/{part}"
            _read_level(walk, here, mount.version, controller, join_path(parts[: len(shown) + i + 1]), directory, False)
    finally:
        os.close(here)
    return walk


def _not_entered(walk: _Walk, e: OSError, directory: str, is_last: bool) -> None:
    if e.errno not in (errno.ENOENT, errno.ENODEV):
        walk.problems.append(_unreadable(directory, e))
        return
    walk.vanished = True
    # The kernel marks the path of a removed group so; one that exists may be called so too, hence we looked first.
    if is_last and directory.endswith(_DELETED):
        walk.problems.append(Problem(DELETED, directory[: -len(_DELETED)], "the process's cgroup has been removed"))
    else:
        walk.problems.append(Problem(HIDDEN, directory, "the process's cgroup is not where it should be"))


def _read_level(walk: _Walk, here: int, version: int, controller: str, path: str, directory: str, first: bool) -> None:
    """Read the files of the cgroup whose directory is open as `here`."""
    level = Level(path, directory)
    walk.levels.append(level)
    try:
        if controller == "cpu":
            if version == 2:
                _read_cpu_v2(walk, here, level, first)
            else:
                _read_cpu_v1(walk, here, level, first)
    except Malformed as e:
        walk.problems.append(Problem(e.kind, directory, str(e)))
    except OSError as e:
        if e.errno == errno.ENODEV:  # removed since we entered it
            walk.vanished = True
        walk.problems.append(_unreadable(directory, e))
    # The CPUs say nothing about the quota, so that they cannot be read is no problem of the chain.
    try:
        if version == 2:
            data = read_in(here, "cpuset.cpus.effective")
        elif controller == "cpuset":
            data = read_in(here, "cpuset.effective_cpus")
            data = read_in(here, "cpuset.cpus") if data is None else data
        else:
            data = None
        if data is not None:
            level.cpuset = format_cpus(parse_cpus(data.decode("ascii", "replace"))) or None
    except (Malformed, OSError):
        pass


def _read_cpu_v2(walk: _Walk, here: int, level: Level, first: bool) -> None:
    data = read_in(here, "cpu.max")
    if data is not None:
        level.quota_us, level.period_us = _parse("cpu.max", parse_cpu_max, data)
        level.weight = _weight(read_in(here, "cpu.weight"))
        return
    # A level without the file sets no quota, provided that it is a cgroup and its CPU controller is not at work. The
    # root of the hierarchy never has it, whatever controllers it lists; nor has it, and it alone, a cgroup.events.
    controllers = read_in(here, "cgroup.controllers")
    if controllers is None:
        walk.problems.append(Problem(UNREADABLE, level.directory, "has neither cpu.max nor cgroup.controllers"))
    elif first and read_in(here, "cgroup.events") is None:
        walk.top = True
    elif b"cpu" in controllers.split():
        level.weight = _weight(read_in(here, "cpu.weight"))
        text = "lists the cpu controller but has no cpu.max, so its quota is not known"
        walk.limitless.append((level, Problem(UNREADABLE, level.directory, text)))


def _read_cpu_v1(walk: _Walk, here: int, level: Level, first: bool) -> None:
    quota, period = read_in(here, "cpu.cfs_quota_us"), read_in(here, "cpu.cfs_period_us")
    if first and read_in(here, "cgroup.sane_behavior") is not None:  # only on the hierarchy's own root
        walk.top = True
    level.weight = _weight(read_in(here, "cpu.shares"))
    if quota is None and period is None:
        walk.limitless.append((level, Problem(UNREADABLE, level.directory, "has no cpu.cfs_quota_us")))
        return
    if quota is None or period is None:
        name = "cpu.cfs_quota_us" if quota is None else "cpu.cfs_period_us"
        walk.problems.append(Problem(UNREADABLE, level.directory, f"has no {name}"))
        return
    level.quota_us = _parse("cpu.cfs_quota_us", parse_quota_v1, quota)
    level.period_us = _parse("cpu.cfs_period_us", parse_period_v1, period)


def _fill_cpusets(
    version: int, entries: Sequence[Entry], mounts: Sequence[Mount], root: str, levels: Sequence[Level]
) -> str | None:
    """Give the levels their CPUs where these come from another hierarchy; return those of the process's own group.

    A group without the controller has its parent's.
    """
    home, path = _home(entries, "cpuset")
    if home == version == 2:
        return next((level.cpuset for level in levels if level.cpuset is not None), None)
    if home == 0:
        return None
    try:
        found = _follow(home, "cpuset", path, mounts, root).levels[::-1]
    except OSError:
        return None
    by_path = {level.path: level.cpuset for level in found}
    for level in levels:
        level.cpuset = by_path.get(level.path)
    return next((level.cpuset for level in found if level.cpuset is not None), None)


def _parse(name: str, parse: Callable[[bytes], _T], data: bytes) -> _T:
    try:
        return parse(data)
    except Malformed as e:
        raise Malformed(f"{name}: {e}", e.kind) from None


def _positive(text: str) -> int:
    value = number(text)
    if value == 0:
        raise Malformed("zero microseconds, which the kernel does not accept")
    return value


def _weight(data: bytes | None) -> int | None:
    try:
        return None if data is None else number(one_line(data))
    except Malformed:
        return None
