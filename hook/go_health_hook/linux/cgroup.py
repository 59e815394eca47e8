# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPU limit the kernel enforces on a process: the chain of its cgroups, v1, v2 and hybrid, level by level.

Rules from cgroups(7), proc_pid_cgroup(5), proc_pid_mountinfo(5) and the kernel's cgroup-v2.rst, sched-bwc.rst.
"""

from __future__ import annotations

import errno
import os

from go_health_hook.linux.cgroup_chain import DELETED, HIDDEN, UNMOUNTED, UNREADABLE, Chain, Level, Problem, View
from go_health_hook.linux.cgroup_files import (
    Entry,
    below,
    format_cpus,
    parse_cpu_max,
    parse_cpus,
    parse_entries,
    parse_period_v1,
    parse_quota_v1,
    parse_weight,
)
from go_health_hook.linux.kernel_files import (
    DIRECTORY,
    TOO_LONG,
    Malformed,
    read_file,
    read_in,
)
from go_health_hook.linux.mountinfo import SIZE_MAX, Mount, join_path, parse_mounts, split_path
from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")

_CGROUP_MAX = 256 * 1024
_INITIAL_NAMESPACE = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO, the same on every kernel
_DELETED = " (deleted)"
_LOOKS = 5


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


class _Walk(Record):
    """What was found on the way down from a mount point to a group.

    `limitless` has a problem for each level whose CPU controller is at work and that has no file for a quota.
    """

    levels: list[Level] = []  # topmost first
    problems: list[Problem] = []
    limitless: list[tuple[Level, Problem]] = []
    top: bool = False  # whether the first is the hierarchy's own root
    vanished: bool = False


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
    return Chain(hierarchy, path, tuple(levels), tuple(problems), walk.top, cpuset, view), walk.vanished


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
    return Chain("unknown", "", (), tuple(problems), False, view=View(0, "", (), readable=False))


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
        level.weight = parse_weight(read_in(here, "cpu.weight"))
        return
    # A level without the file sets no quota, provided that it is a cgroup and its CPU controller is not at work. The
    # root of the hierarchy never has it, whatever controllers it lists; nor has it, and it alone, a cgroup.events.
    controllers = read_in(here, "cgroup.controllers")
    if controllers is None:
        walk.problems.append(Problem(UNREADABLE, level.directory, "has neither cpu.max nor cgroup.controllers"))
    elif first and read_in(here, "cgroup.events") is None:
        walk.top = True
    elif b"cpu" in controllers.split():
        level.weight = parse_weight(read_in(here, "cpu.weight"))
        text = "lists the cpu controller but has no cpu.max, so its quota is not known"
        walk.limitless.append((level, Problem(UNREADABLE, level.directory, text)))


def _read_cpu_v1(walk: _Walk, here: int, level: Level, first: bool) -> None:
    quota, period = read_in(here, "cpu.cfs_quota_us"), read_in(here, "cpu.cfs_period_us")
    if first and read_in(here, "cgroup.sane_behavior") is not None:  # only on the hierarchy's own root
        walk.top = True
    level.weight = parse_weight(read_in(here, "cpu.shares"))
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
