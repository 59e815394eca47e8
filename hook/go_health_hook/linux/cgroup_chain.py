# SPDX-License-Identifier: GPL-2.0-or-later
"""The records of a CPU limit: a cgroup, the chain of them up to the root, what is wrong with it, and CPUs in words."""

from __future__ import annotations

from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.linux.mountinfo import Mount

# The kinds of a chain's problems; MALFORMED and TOO_LONG are for what the kernel never writes.
UNMOUNTED = "unmounted"  # no file system of the hierarchy that governs the CPU is mounted here
HIDDEN = "hidden"  # one is, but the process's group is not below what it shows
UNREADABLE = "unreadable"  # the kernel, or who set up this namespace, does not let us read it
DELETED = "deleted"  # the process's group has been removed


class Problem(Record):
    """Why a part of the chain is not known: `kind` is UNMOUNTED, HIDDEN … above, `place` a file or directory."""

    kind: str
    place: str
    text: str

    def __post_init__(self) -> None:
        self.place, self.text = clean(self.place), clean(self.text)

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class Level(Record):
    """One cgroup on the way from a process's own to the topmost that can be seen.

    path        the cgroup's path, as /proc/PID/cgroup writes it
    directory   where it is seen
    quota_us, period_us
                microseconds of CPU time in each period; the quota is None where this level sets none
    cpuset      the CPUs in effect, as "0-3,8", or None where the cpuset controller is not at work
    weight      cpu.weight (v2) or cpu.shares (v1), or None; a share under contention, never a limit
    """

    path: str
    directory: str
    quota_us: int | None = None
    period_us: int | None = None
    cpuset: str | None = None
    weight: int | None = None

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

    version: int
    path: str
    mounts: tuple[Mount, ...]
    foreign: bool = False
    readable: bool = True


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

    hierarchy: str
    path: str
    levels: tuple[Level, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True
    cpuset: str | None = None
    view: View = View(0, "", ())

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


def figure(cpus: float) -> str:
    """A number of CPUs for people, in five characters as long as it is below 100,000: "0.333", "2", "12.5"."""
    return f"{cpus:.0f}" if cpus >= 100 else f"{cpus:.3g}" if cpus >= 1 else f"{round(cpus, 3):g}"


def in_words(cpus: float) -> str:
    """As `figure`, with the unit: "1 CPU", "0.333 CPUs"."""
    return f"{figure(cpus)} CPU" + ("" if cpus == 1 else "s")
