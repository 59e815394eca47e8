# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPU limit that the kernel enforces here can be read for certain: unreadable is not the same as unlimited."""

from __future__ import annotations

from go_health_hook.checks import Context, chain_of
from go_health_hook.linux import cgroup
from go_health_hook.text import clean
from go_health_hook.verdict import FAIL, NOT_JUDGED, PASS, Finding

SEVERITY = "regression"
ORDER = 40

REMEDIES = {
    cgroup.UNMOUNTED: "mount it: mount -t cgroup2 none /sys/fs/cgroup, or show this container its cgroups",
    cgroup.HIDDEN: "see the whole hierarchy: drop ProtectControlGroups= or the private cgroup mount of this service",
    cgroup.UNREADABLE: "let it be read: drop InaccessiblePaths= on /sys/fs/cgroup or /proc, or run as root",
    cgroup.DELETED: "run it again: the cgroup that it was started in has been removed meanwhile",
}


def check(context: Context) -> Finding:
    """Whether the chain of limits from the hook's own cgroup up could be read, and what is the tightest on it."""
    chain = chain_of(context)
    evidence: dict[str, object] = {"hierarchy": chain.hierarchy, "path": chain.path}
    for level in chain.levels:
        if level.cpus is not None:
            evidence[f"limit at {clean(level.path)}"] = cgroup.in_words(level.cpus)
    tightest = chain.tightest
    if not chain.certain:
        first = chain.problems[0]
        evidence.update({f"problem {i}": str(problem) for i, problem in enumerate(chain.problems, 1)})
        remedy = REMEDIES.get(first.kind, f"look at what {first.place} says; report it if the kernel wrote it")
        return Finding(FAIL, f"the CPU limit cannot be read for certain: {first}", remedy, evidence, ground=NOT_JUDGED)
    if tightest is None:
        return Finding(PASS, f"no CPU quota ({chain.hierarchy}, {clean(chain.path)})", "", evidence)
    limit = cgroup.in_words(tightest.cpus or 0)
    return Finding(PASS, f"{limit}, set at {clean(tightest.path)} ({chain.hierarchy})", "", evidence)
