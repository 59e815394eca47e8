# SPDX-License-Identifier: GPL-2.0-or-later
"""The formats of cgroup files: proc_pid_cgroup(5), and the kernel's cgroup-v2.rst and sched-bwc.rst."""

from __future__ import annotations

import os

from go_health_hook.linux.kernel_files import TOO_LONG, Malformed, number, one_line
from go_health_hook.linux.mountinfo import PATH_MAX, join_path, split_path
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_CPUS_MAX = 1 << 16


class Entry(Record):
    """A line of /proc/PID/cgroup. `hierarchy` is 0 for cgroup v2; `path` is relative to the reader's namespace."""

    hierarchy: int
    controllers: tuple[str, ...]
    path: str


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


def _positive(text: str) -> int:
    value = number(text)
    if value == 0:
        raise Malformed("zero microseconds, which the kernel does not accept")
    return value


def parse_weight(data: bytes | None) -> int | None:
    try:
        return None if data is None else number(one_line(data))
    except Malformed:
        return None
