# SPDX-License-Identifier: GPL-2.0-or-later
"""The GOMAXPROCS that the toolchain's runtime takes here is the one that the kernel's limit allows."""

from __future__ import annotations

from go_health_hook.checks import Context, chain_of
from go_health_hook.checks._answers import answers, own_version
from go_health_hook.checks._remedies import excuse
from go_health_hook.go import maxprocs, probe
from go_health_hook.go.versions import Version
from go_health_hook.linux import cgroup
from go_health_hook.linux.cgroup_chain import Chain
from go_health_hook.linux.kernel_files import Malformed
from go_health_hook.linux.systemd import group_of
from go_health_hook.text import clean
from go_health_hook.verdict import FAIL, NOT_JUDGED, PASS, SKIP, TIMEOUT, WARN, Finding

SEVERITY = "regression"
ORDER = 50


def check(context: Context) -> Finding:
    """Whether the runtime's own choice in the hook's cgroup is the expected one, and in each of the placements."""
    chain = chain_of(context)
    affinity = cgroup.affinity()
    wanted = maxprocs.expected(affinity, chain)
    toolchain = context.toolchain
    if not toolchain.runnable:
        return Finding(SKIP, "go is not run: see goroot")
    answer = _told(context) or probe.gomaxprocs(toolchain, context.deadline)
    evidence: dict[str, object] = {"expected": wanted, "affinity": affinity, "quota": chain.quota_cpus or "none"}
    if answer.timed_out:
        return Finding(
            TIMEOUT, f"the runtime {answer.why}", "run it by hand: GODEBUG=schedtrace=1 gofmt </dev/null", evidence
        )
    if answer.value is None:
        summary = f"the runtime does not say its GOMAXPROCS: {answer.why}"
        excused = excuse(context, summary, answer.result, evidence)
        return excused or Finding(FAIL, summary, "see the finding on goroot", evidence)
    context.facts["actual"] = answer.value
    evidence["actual"] = answer.value
    if answer.value > wanted and _unseen(own_version(context), answer.value, affinity, chain):
        return Finding(
            WARN,
            f"the runtime did not see its CPU quota in the sandbox and took {answer.value}; {wanted} are allowed",
            "compare by hand: GODEBUG=schedtrace=1 gofmt </dev/null; set gomaxprocs = advisory in [checks] of "
            "/etc/go-health-hook.conf where the sandbox cannot show the cgroups",
            evidence,
            ground=NOT_JUDGED,
            remedy_key="gomaxprocs-unseen",
        )
    if answer.value > wanted:
        where = clean(chain.tightest.path) if chain.tightest else "the affinity mask"
        return Finding(
            FAIL,
            f"the runtime takes {answer.value}, {where} allows {wanted}",
            _remedy(own_version(context), chain, wanted),
            evidence,
        )
    if answer.value < wanted:
        return Finding(
            FAIL,
            f"the runtime takes {answer.value} although {wanted} are allowed",
            "look for GOMAXPROCS in go.env or a wrapper of gofmt; go-health-hook cpu shows the limits level by level",
            evidence,
        )
    placements = context.config.get("gomaxprocs", "placements")
    version = own_version(context) if placements else None
    advice = [line for name in placements for line in _placement(name, version, affinity)]
    for i, line in enumerate(advice, 1):
        evidence[f"placement {i}"] = line
    if advice:
        return Finding(WARN, advice[0], "run Go there with go-health-hook exec -- CMD", evidence)
    return Finding(PASS, f"the runtime takes {answer.value}, as expected here", "", evidence)


def _told(context: Context) -> probe.Answer | None:
    """Return what a program has told that ran with the others in their sandbox, or None where none has."""
    run = answers(context).gomaxprocs if context.known is not None else None
    answer = probe.heard(run) if run is not None else None
    return answer if answer is not None and answer.value is not None else None


def _unseen(version: Version | None, taken: int, affinity: int, chain: Chain) -> bool:
    """Whether the runtime should have read a quota by its own rule and took all CPUs instead.

    Its program then could not open the limit's file in the sandbox, which says nothing about programs outside it.
    """
    if version is None or taken != affinity:
        return False
    return maxprocs.predict(version, affinity, chain).rule == maxprocs.QUOTA


def _remedy(version: Version | None, chain: Chain, wanted: int) -> str:
    run = "run Go programs here with go-health-hook exec -- CMD"
    if version is not None and not version.knows_cgroups:
        return f"{run}, or install Go 1.25 or later, which reads quotas ({version} does not)"
    leaf, tightest = chain.leaf, chain.tightest
    if tightest is not None and (leaf is None or leaf.path != tightest.path):
        unit = clean(chain.path.rsplit("/", 1)[-1])
        return (
            f"{run}, or set the quota on {unit} itself (CPUQuota={wanted * 100}%): "
            "Go looks at the process's own cgroup only (golang/go#81180)"
        )
    return f"{run}, or take the quota off; a go line below 1.25 in a module's go.mod keeps its programs from reading it"


def _placement(name: str, version: Version | None, affinity: int) -> list[str]:
    """One line where a Go program placed there would take more than is allowed, or where that cannot be told."""
    path, below = group_of(name)
    try:
        chain = cgroup.read_group(path)
    except Malformed as error:
        return [f"placements: {clean(name)}: {error}"]
    if not chain.certain:
        return [f"what is allowed in {clean(name)} cannot be told: {chain.problems[0]}"]
    wanted = maxprocs.expected(affinity, chain)
    if version is None:
        return [f"what Go takes in {clean(name)} cannot be told: its version is not known"]
    # Programs of a slice run in groups below it, which have no quota of their own.
    taken = affinity if below else maxprocs.predict(version, affinity, chain).value
    return [f"in {clean(name)} Go takes {taken}, allowed are {wanted}"] if taken > wanted else []
