# SPDX-License-Identifier: GPL-2.0-or-later
"""What eight Go releases took for GOMAXPROCS in 76 placements, and the machines that these placements were."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tests.unit.cases import make

TRUTH = json.loads((Path(__file__).parent / "data/maxprocs-truth.json").read_text())
ROWS = TRUTH["rows"]
INITIAL, OTHER = "cgroup:[4026531835]", "cgroup:[4026532345]"

BASE = (
    "29 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
    "21 29 0:20 / /proc rw - proc proc rw\n"
    "22 29 0:21 / /sys rw - sysfs sysfs rw\n"
)
UNIFIED = "30 22 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
LEGACY = (
    "30 22 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
    "32 30 0:28 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


def build(root: Path, row: dict, inside: bool) -> Path:
    """Make the row's /proc and cgroupfs: as root of the machine sees the process, or as the process itself does.

    The measurement recorded the groups and their limits as seen from outside, and how the process was put into its
    placement; what that leaves of them inside follows from the command.
    """
    placement, wrapper = row["placement"], row.get("wrapper", "") if inside else ""
    entries, levels, mounts, namespace = row["cgroup"], row["levels"], BASE + UNIFIED.format(root="/"), INITIAL
    top = "/sys/fs/cgroup"
    if row["hierarchy"] == "v1":
        mounts, top = BASE + LEGACY.format(root="/"), "/sys/fs/cgroup/cpu,cpuacct"
    leaf = levels[0][0]
    if "alive_but_unmounted" in placement:
        mounts, levels = BASE + UNIFIED.format(root="/"), []
    elif placement.startswith(("ProtectControlGroups=private", "b3_ProtectControlGroups=")):
        mounts, namespace = mounts.replace(" / /sys/fs", " /../.. /sys/fs"), OTHER
        mounts += "90 30 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
        if "strict" in placement:
            # With a read-only file system, systemd binds the files that the unit may write over themselves.
            for number, name in ((91, "cpu.pressure"), (92, "memory.pressure")):
                mounts += f"{number} 90 0:26 /{name} /sys/fs/cgroup/{name} rw - cgroup2 cgroup2 rw\n"
    elif wrapper == "unshare -C":
        entries, mounts, namespace = "0::/", mounts.replace(" / /sys/fs", " /../.. /sys/fs"), OTHER
    elif wrapper.startswith("unshare -C"):
        entries, levels, namespace = entries.replace(leaf, "/"), [["/", *levels[0][1:]]], OTHER
    elif "mount --bind /sys/fs/cgroup$d" in wrapper:
        mounts, levels = BASE + UNIFIED.format(root=leaf), [["/", *levels[0][1:]]]
    elif "user.slice /run/cg3" in wrapper:
        mounts += "95 29 0:26 /user.slice /run/cg3 rw - cgroup2 cgroup2 rw\n"
    elif wrapper.startswith("unshare -m sh -c umount"):
        mounts = BASE
    elif placement.startswith("chroot_without_proc") and inside:
        return root
    elif wrapper.startswith("chroot"):
        mounts = UNIFIED.format(root="/")  # of the file systems outside, mountinfo does not speak

    make(root, {"proc/self/cgroup": entries + "\n", "proc/self/mountinfo": mounts})
    (root / "proc/self/ns").mkdir()
    (root / "proc/self/ns/cgroup").symlink_to(namespace)
    for path, limit, cpus in levels:
        files: dict[str, bytes | str] = {}
        is_top = path == "/" and namespace == INITIAL and "bind" not in wrapper
        if row["hierarchy"] == "v1":
            quota, period = limit.split()
            files = {"cpu.cfs_quota_us": quota + "\n", "cpu.cfs_period_us": period + "\n"}
            files.update({"cgroup.sane_behavior": "0\n"} if is_top else {})
        else:
            files = {"cgroup.controllers": "cpu\n" if limit or is_top else "\n"}
            files.update({} if is_top else {"cgroup.events": "populated 1\n"})
            files.update({"cpu.max": limit + "\n"} if limit else {})
        files.update({"cpuset.cpus.effective": cpus + "\n"} if cpus else {})
        make(root, {f"{top}{path}/{name}": data for name, data in files.items()})
    return root


def fitting(row: dict) -> int:
    """The GOMAXPROCS that fits what the machine let the process use."""
    return min(row["affinity"], max(2, math.ceil(row["usable"])))


# How the programs of the measurement were built: the go line that counts, and what else sets the gate.
SELF = "the toolchain's own version"
BUILDS: dict[str, tuple[str | None, str]] = {
    "mod1.20": ("1.20", ""),
    "mod1.21": ("1.21", ""),
    "mod1.24": ("1.24", ""),
    "mod1.24.11": ("1.24.11", ""),
    "mod1.25": ("1.25", ""),
    "mod1.25.0": ("1.25.0", ""),
    "modself": (SELF, ""),
    "nomod": (None, ""),
    "modmissing": ("", ""),
    "gopathmode": ("", ""),
    "mod1.21+toolchain": ("1.21", ""),
    "mod1.21+main.go": ("1.21", ""),
    "mod1.21+directive": ("1.21", "containermaxprocs=1"),
    "mod1.21+godebugline": ("1.21", "panicnil=1,containermaxprocs=1"),
    "mod1.21+godebugdefault1.25": ("1.21", "default=go1.25"),
    "modself+directive0": (SELF, "containermaxprocs=0"),
    "modself+godebugdefault1.24": (SELF, "default=go1.24"),
    "gorun_mod1.21": ("1.21", ""),
    "gorun_file_in_mod1.21": ("1.21", ""),
    "gorun_nomod": (None, ""),
    "install_tool_mod1.21": ("1.21", ""),
    "dep_tool_of_modself": (SELF, ""),
    "testbin_mod1.21": ("1.21", ""),
    "testbin_modself": (SELF, ""),
    "work_self_mod1.21": (SELF, ""),
}


def taken(row: dict) -> dict[str, int]:
    return row["taken_by"] if "taken_by" in row else dict(zip(TRUTH["columns"], row["taken"]))
