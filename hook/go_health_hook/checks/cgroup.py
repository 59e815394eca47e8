# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPU limit that the kernel enforces here can be read for certain: unreadable is not the same as unlimited."""

from __future__ import annotations

from go_health_hook.checks import Context, chain_of
from go_health_hook.linux import cgroup
from go_health_hook.linux.cgroup_chain import DELETED, HIDDEN, UNMOUNTED, UNREADABLE, Chain, Problem, in_words
from go_health_hook.text import clean
from go_health_hook.verdict import FAIL, NOT_JUDGED, PASS, Finding

SEVERITY = "regression"
ORDER = 40

# Ends the finding where nobody is interested in the limit.
SILENCE = "or set cgroup = advisory in [checks] of /etc/go-health-hook.conf"
REMEDIES = {
    HIDDEN: "show this service the whole hierarchy: drop ProtectControlGroups= or its private cgroup mount",
    UNREADABLE: "let it be read: drop InaccessiblePaths= on /sys/fs/cgroup or /proc, or run as root",
    DELETED: "run it again: the cgroup that it was started in has been removed meanwhile",
}


def check(context: Context) -> Finding:
    """Whether the chain of limits from the hook's own cgroup up could be read, and what is the tightest on it."""
    chain = chain_of(context)
    evidence: dict[str, object] = {"hierarchy": chain.hierarchy, "path": chain.path}
    for level in chain.levels:
        if level.cpus is not None:
            evidence[f"limit at {clean(level.path)}"] = in_words(level.cpus)
    tightest = chain.tightest
    if not chain.certain:
        first = chain.problems[0]
        evidence.update({f"problem {i}": str(problem) for i, problem in enumerate(chain.problems, 1)})
        return Finding(
            FAIL,
            f"the CPU limit cannot be read for certain: {first}",
            f"{_remedy(chain, first)}, {SILENCE}",
            evidence,
            ground=NOT_JUDGED,
            remedy_key=f"cgroup-{first.kind.replace(' ', '-')}",
        )
    if not chain.has_quotas:
        return Finding(PASS, f"this kernel has no CPU quotas ({chain.hierarchy}, {clean(chain.path)})", "", evidence)
    if tightest is None:
        return Finding(PASS, f"no CPU quota ({chain.hierarchy}, {clean(chain.path)})", "", evidence)
    limit = in_words(tightest.cpus or 0)
    return Finding(PASS, f"{limit}, set at {clean(tightest.path)} ({chain.hierarchy})", "", evidence)


def _remedy(chain: Chain, problem: Problem) -> str:
    """Return what shows the limit here. Of Go it says nothing."""
    if problem.kind == UNMOUNTED:
        # As in "ip netns exec", which mounts /sys again, and in containers.
        return f"mount the cgroups in this mount namespace: {_mount_command(chain)}"
    return REMEDIES.get(problem.kind, f"look at what {problem.place} says; report it if the kernel wrote it")


def _mount_command(chain: Chain) -> str:
    """Return the command that mounts the hierarchy that governs the CPU, a v1 one with all its controllers."""
    if chain.version == 2:
        return "mount -t cgroup2 none /sys/fs/cgroup"
    controllers = cgroup.controllers_with("cpu") or ("cpu",)
    return f"mount -t cgroup -o {','.join(controllers)} none /sys/fs/cgroup"
