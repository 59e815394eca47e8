# SPDX-License-Identifier: GPL-2.0-or-later
"""The limit file that a Go runtime keeps open: which cgroup it really follows, whatever cgroup it is in now.

Go from 1.25 opens cpu.max (v2) or cpu.cfs_quota_us (v1) of its own cgroup once, before any of the program runs. The
file stays open exactly when there was one (runtime/cgroup_linux.go, defaultGOMAXPROCSInit).
"""

from __future__ import annotations

import os

from go_health_hook import files
from go_health_hook.linux.cgroup_files import parse_cpu_max, parse_period_v1, parse_quota_v1
from go_health_hook.linux.kernel_files import Malformed
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.linux.cgroup_chain import Level

UNKNOWN = "unknown"  # its descriptors may not be read, or are too many
NONE = "none"  # it found no limit file when it started
OWN = "own"  # that of the cgroup it is in now
OTHER = "other"  # that of another cgroup: it has moved since
GONE = "gone"  # that of a cgroup that has been removed

NAMES = ("cpu.max", "cpu.cfs_quota_us")
PERIOD = "cpu.cfs_period_us"
_DESCRIPTORS_MAX = 256  # the lowest; the runtime opens its limit file before the program opens anything


class LimitFile(Record):
    """`kind` is one of the words above; `cgroup` the path as the kernel shows it; `cpus` its quota now, or None."""

    kind: str
    cgroup: str = ""
    cpus: float | None = None


def kept_open(pid: int, leaf: Level | None, proc: str = "/proc") -> LimitFile:
    """The limit file that the process keeps open. `leaf` is the cgroup it is in now, where that is seen."""
    folder = f"{proc}/{pid}/fd"
    try:
        numbers = sorted(int(name) for name in os.listdir(folder) if name.isdecimal())
    except OSError:
        return LimitFile(UNKNOWN)
    links = {}
    for number in numbers[:_DESCRIPTORS_MAX]:
        try:
            links[number] = os.readlink(f"{folder}/{number}")
        except OSError:
            continue
    for number, link in links.items():
        path, _, removed = link.partition(" (deleted)")
        directory, _, name = path.rpartition("/")
        if name in NAMES:
            return _followed(folder, number, directory, leaf, name, links) if not removed else LimitFile(GONE)
    return LimitFile(UNKNOWN if len(numbers) > _DESCRIPTORS_MAX else NONE)


def _followed(
    folder: str, number: int, directory: str, leaf: Level | None, name: str, links: dict[int, str]
) -> LimitFile:
    # A link of another mount namespace reads as in there, so files are compared and not their names.
    try:
        info = os.stat(f"{folder}/{number}")
        own = os.stat(f"{leaf.directory}/{name}") if leaf else None
    except OSError:
        own = None
        info = None
    if own and info and (own.st_dev, own.st_ino) == (info.st_dev, info.st_ino):
        return LimitFile(OWN, leaf.path if leaf else "", leaf.cpus if leaf else None)
    try:
        if name == NAMES[0]:
            quota, period = parse_cpu_max(files.read(f"{folder}/{number}"))
        else:
            other = next(n for n, link in links.items() if link == f"{directory}/{PERIOD}")
            quota = parse_quota_v1(files.read(f"{folder}/{number}"))
            period = parse_period_v1(files.read(f"{folder}/{other}"))
    except OSError:
        return LimitFile(GONE)  # ENODEV: the cgroup has been removed
    except (Malformed, StopIteration):
        return LimitFile(UNKNOWN)
    return LimitFile(OTHER, clean(directory), None if quota is None else quota / period)
