# SPDX-License-Identifier: GPL-2.0-or-later
"""What cpu, ps, exec and trace share: a chain of limits in words, its throttling, and what to do about a bad fit."""

from __future__ import annotations

import os

from go_health_hook.cpu import _throttling
from go_health_hook.errors import BadInput
from go_health_hook.linux.kernel_files import Malformed
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.cpu._throttling import Pressure, Stat
    from go_health_hook.linux.cgroup_chain import Chain, Level

HIERARCHIES = {"v2": "cgroup v2", "v1": "cgroup v1", "hybrid": "cgroup v1 with v2", "none": "no cgroups"}


def stat_of(level: Level | None) -> Stat | None:
    """Return the level's throttling so far, or None where it cannot be read."""
    try:
        return None if level is None else _throttling.read_stat(level.directory)
    except (OSError, Malformed):
        return None


def pressure_of(level: Level | None) -> Pressure | None:
    """Return the level's CPU pressure, or None where it cannot be read."""
    try:
        return None if level is None else _throttling.read_pressure(level.directory)
    except (OSError, Malformed):
        return None


def throttled_share(stat: Stat | None) -> float | None:
    """The share of its periods that ended with the quota used up, or None where it had none."""
    if stat is None or not stat.periods or stat.throttled is None:
        return None
    return stat.throttled / stat.periods


def allowance(chain: Chain, affinity: int) -> float:
    """The CPUs a process may use: the tightest quota of its chain, or the CPUs it may run on if they are fewer."""
    quota = chain.quota_cpus
    return float(affinity) if quota is None else min(quota, float(affinity))


def remedies(chain: Chain) -> list[str]:
    """What to do where Go takes more than fits, the best first."""
    lines = ["run Go programs there with go-health-hook exec -- CMD, go itself with go-build-wrapper"]
    leaf, tightest = chain.leaf, chain.tightest
    if tightest is not None and leaf is not None and leaf.path != tightest.path:
        unit = clean(leaf.path.rsplit("/", 1)[-1])
        if unit.endswith((".service", ".scope", ".slice")):
            quota = f"{round((tightest.cpus or 0) * 100)}%"
            lines.append(
                f"or set the quota on {unit} itself (CPUQuota={quota}): "
                "Go 1.25 and later look at the process's own cgroup only (golang/go#81180)"
            )
    return lines


def process_id(text: str) -> int:
    """A --pid argument. Raises BadInput where there is no such process."""
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) == 0:
        raise BadInput(f"--pid {clean(text)}: is not a process id", hint="it takes a number, as ps shows it")
    if not os.path.isdir(f"/proc/{int(text)}"):
        raise BadInput(f"--pid {text}: there is no such process", hint="go-health-hook ps lists those of Go")
    return int(text)


def bus() -> dict[str, str]:
    """Of our environment what a program needs to reach the caller's own systemd."""
    names = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME")
    return {name: os.environ[name] for name in names if name in os.environ}
