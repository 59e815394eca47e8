# SPDX-License-Identifier: GPL-2.0-or-later
"""GOMAXPROCS: what fits the kernel's limit, and what a Go program of a given version takes by its runtime's rule."""

from __future__ import annotations

import math

from go_health_hook.go.versions import parse_version
from go_health_hook.linux.cgroup_chain import in_words
from go_health_hook.linux.cgroup_files import below
from go_health_hook.linux.mountinfo import PATH_MAX, split_path
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.go.versions import Version
    from go_health_hook.linux.cgroup import Chain, Level, View
    from go_health_hook.linux.mountinfo import Mount

FLOOR = 2  # Go takes no fewer for a quota's sake: runtime/cgroup_linux.go, adjustCgroupGOMAXPROCS

# Prediction.rule: what decided.
ENVIRONMENT = "environment"  # GOMAXPROCS was set
OLD_RUNTIME = "old runtime"  # before 1.25: quotas are never read
GATE_OFF = "gate off"  # containermaxprocs=0, by an old go line or by GODEBUG
UNREACHABLE = "unreachable"  # it cannot find or open its cgroup's limit, and silently takes that for none
NO_QUOTA = "no quota"  # its own cgroup sets none
QUOTA = "quota"  # its own cgroup's
AFFINITY = "affinity"  # its own cgroup sets a quota, and it may run on no more CPUs than that


class Prediction(Record):
    """What a Go program takes for GOMAXPROCS when it starts.

    value            the number
    why              in words
    rule             which of this module's constants decided
    follows_affinity whether it notices, within about a second, that it may run on other CPUs
    follows_quota    whether it notices that the quota of its own cgroup changes
    """

    value: int
    why: str
    rule: str
    follows_affinity: bool = False
    follows_quota: bool = False

    @property
    def source(self) -> str:
        """ "environment" or "predicted", as in the report of ps."""
        return "environment" if self.rule == ENVIRONMENT else "predicted"


def expected(affinity: int, chain: Chain, *, floor: int = FLOOR) -> int:
    """The GOMAXPROCS that fits the limit: Go's own rule, applied to every level of the chain instead of the leaf alone.

    `affinity` is the number of CPUs the process may run on. Where the chain has problems, the answer knows only of the
    levels that could be read.
    """
    cpus = chain.quota_cpus
    return affinity if cpus is None else min(affinity, max(floor, math.ceil(cpus)))


def predict(
    version: Version,
    affinity: int,
    chain: Chain,
    *,
    environment_value: str | None = None,
    gate: bool = True,
    updates: bool = True,
) -> Prediction:
    """What a Go program really takes.

    version            of the runtime built into it
    affinity           the CPUs it may run on when it starts
    environment_value  GOMAXPROCS in its environment, None where it is not set
    gate, updates      its GODEBUG settings containermaxprocs and updatemaxprocs; see reads_quota and follows_changes

    Source: runtime/proc.go (schedinit), runtime/cgroup_linux.go, internal/runtime/cgroup of Go 1.25.0 to
    1.27.3, and 2,646 answers of eight releases in 109 placements.
    """
    wanted = environment_count(environment_value, version)
    if wanted is not None:
        return Prediction(wanted, f"GOMAXPROCS={wanted} in its environment", ENVIRONMENT)
    if not version.knows_cgroups:
        return Prediction(
            affinity, f"Go {version.language or version} reads no CPU quota, 1.25 and later do", OLD_RUNTIME
        )
    if not gate:
        why = "containermaxprocs=0, by a go line before 1.25 or by GODEBUG: it reads no CPU quota"
        return Prediction(affinity, why, GATE_OFF, updates)
    level = _level_it_reads(version, chain)
    if level is None or (level.cpus is None and any(p.place == clean(level.directory) for p in chain.problems)):
        why = "its runtime cannot get at its cgroup's quota, and takes that for no limit"
        return Prediction(affinity, why, UNREACHABLE, updates)
    # The limit file is opened once; a cgroup that has none yet is not looked at again.
    follows_quota = updates and level.period_us is not None
    if level.cpus is None:
        why = f"its own cgroup {clean(level.path)} sets no quota, and Go looks no higher"
        return Prediction(affinity, why, NO_QUOTA, updates, follows_quota)
    quota = max(FLOOR, math.ceil(level.cpus))
    if quota < affinity:
        why = f"the quota of its own cgroup {clean(level.path)}, {in_words(level.cpus)}"
        return Prediction(quota, why, QUOTA, updates, follows_quota)
    why = f"it may run on {in_words(affinity)}, and its own cgroup's quota is no less"
    return Prediction(affinity, why, AFFINITY, updates, follows_quota)


def environment_count(value: str | None, version: Version) -> int | None:
    """The number a runtime takes from GOMAXPROCS in the environment, or None where it ignores what stands there.

    A positive whole number that fits 32 bits, however many CPUs there are; "+3" counts from Go 1.26, which parses it
    with internal/strconv instead of the runtime's own atoi.
    """
    count = None if value is None else _int32(value, version.at_least(1, 26))
    return count if count is not None and count > 0 else None


def default_godebug(go_line: str | None, directives: str = "") -> str:
    """What a build by Go 1.25 or later records of the two settings, in the form of DefaultGODEBUG.

    go_line     of the main module, or of go.work; "" for a module without one and for GOPATH mode; None for files
                outside any module, which count as the toolchain's own version
    directives  the module's godebug lines and the main package's //go:debug lines, in that order, as "key=value,…"

    Source: cmd/go/internal/load/godebug.go (defaultGODEBUG), internal/godebugs/table.go (both changed in 25, old "0").
    """
    line = "1.20" if go_line == "" else go_line
    settings: dict[str, str] = {}
    for setting in directives.split(","):
        key, equals, value = setting.strip().partition("=")
        if equals:
            settings[key] = value
    try:
        line = parse_version(settings.get("default", "")).name
    except ValueError:
        pass  # none is set, or nothing that the build takes for one
    recorded = {} if line is None else _old_settings(line[2:] if line.startswith("go") else line)
    recorded.update(settings)
    return ",".join(f"{key}={recorded[key]}" for key in ("containermaxprocs", "updatemaxprocs") if key in recorded)


def reads_quota(recorded: str, environment: str | None = None, version: Version | None = None) -> bool:
    """Whether a program built by Go 1.25 or later looks at its cgroup's quota: the setting containermaxprocs.

    recorded     DefaultGODEBUG of its build information, or what default_godebug says
    environment  GODEBUG in its environment, which overrides it
    version      of its runtime, where known

    Source: runtime/runtime1.go (parsedebugvars: on by default, what stands last counts).
    """
    return _setting("containermaxprocs", recorded, environment, version)


def follows_changes(recorded: str, environment: str | None = None, version: Version | None = None) -> bool:
    """Whether it follows changes while it runs: the setting updatemaxprocs. Arguments as for reads_quota."""
    return _setting("updatemaxprocs", recorded, environment, version)


def gate(go_line: str | None, *, directives: str = "", environment: str | None = None) -> bool:
    """Whether a program of that module, built by Go 1.25 or later, looks at its cgroup's quota.

    Arguments as for default_godebug and reads_quota. It is the main module's go line that counts, not the toolchain's
    version; the go command itself is always built with its own version's.
    """
    return reads_quota(default_godebug(go_line, directives), environment)


def _old_settings(line: str) -> dict[str, str]:
    """The settings that a go line before 1.25 switches back. Only "1.N" and "1.N.P" count; "1.21rc2" gets today's."""
    parts = line.split(".")
    if len(parts) < 2 or parts[0] != "1" or not parts[1].isdecimal() or not parts[1].isascii() or int(parts[1]) >= 25:
        return {}
    return {"containermaxprocs": "0", "updatemaxprocs": "0"}


def _setting(name: str, recorded: str, environment: str | None, version: Version | None) -> bool:
    plus = version is None or version.at_least(1, 26)
    on = 1
    for field in f"{recorded},{environment or ''}".split(","):
        key, equals, value = field.partition("=")
        count = _int32(value, plus) if equals and key == name else None
        if count is not None:
            on = count
    # containermaxprocs is asked whether it is above zero, updatemaxprocs whether it is zero.
    return on > 0 if name == "containermaxprocs" else on != 0


def _int32(text: str, plus: bool) -> int | None:
    """What the runtime makes of a number: strconv.ParseInt(text, 10, 32) from 1.26, its own atoi32 before."""
    digits = text
    if text[:1] == "-" or (plus and text[:1] == "+"):
        digits = text[1:]
    if not digits and text and not plus:
        return 0  # atoi takes a lone minus for zero
    if not digits or len(digits) > 100 or digits.strip("0123456789"):
        return None
    count = -int(digits) if text[0] == "-" else int(digits)
    return count if -(1 << 31) <= count < 1 << 31 else None


def _level_it_reads(version: Version, chain: Chain) -> Level | None:
    """The level whose quota the runtime gets at, by what it makes of /proc/self/cgroup and /proc/self/mountinfo."""
    view = chain.view
    if not view.readable or view.version == 0:
        return None
    path = _path_by_first_mount(view) if version.at_least(1, 26) else _path_by_last_mount(view)
    return next((level for level in chain.levels if level.path == path), None)


def _path_by_first_mount(view: View) -> str | None:
    """The cgroup whose limit Go from 1.26 opens: internal/runtime/cgroup/cgroup.go, parseCPUMount.

    The first mount, of the version that governs the CPU, whose root is on the way to the process's cgroup.
    """
    parts = split_path(view.path)
    for mount in view.mounts:
        if mount.has(view.version, "cpu") and not mount.removed:
            rest = below(parts, split_path(mount.root))
            if rest is not None and not _from_outside(view, mount):
                too_long = len(mount.point) + sum(len(part) + 1 for part in rest) > PATH_MAX
                return None if mount.covered or too_long else view.path
    return None


def _path_by_last_mount(view: View) -> str | None:
    """The cgroup whose limit Go 1.25 opens: internal/runtime/cgroup/cgroup_linux.go there, parseCPUMount.

    It puts the process's path behind the mount point of the last cgroup2, or of the v1 that has the CPU. The cgroup at
    the root of that mount does not count.
    """
    chosen = None
    for mount in view.mounts:
        if mount.has(1, "cpu"):
            chosen = mount
            break
        if mount.version == 2:
            chosen = mount
    if chosen is None or chosen.version != view.version or chosen.covered or chosen.removed:
        return None
    parts, root = split_path(view.path), split_path(chosen.root)
    if view.foreign:
        return view.path if below(parts, root) is not None and not _from_outside(view, chosen) else None
    if parts[:1] == [".."]:
        return None
    return "/" + "/".join(root + parts)


def _from_outside(view: View, mount: Mount) -> bool:
    """Whether a process of another cgroup namespace than ours has that mount from outside its own.

    Its namespace's root is not told to us, but a cgroup file system mounted inside shows it as its root; where the root
    of all is seen, the mount is older than the namespace, and from inside it reads "/../..", which leads nowhere.
    """
    return view.foreign and mount.root == "/"
