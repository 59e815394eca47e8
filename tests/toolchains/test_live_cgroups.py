# SPDX-License-Identifier: GPL-2.0-or-later
"""Real cgroups of this machine, v1 or v2 as it has them: the kernel, the chain and what Go takes must agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.toolchains import eight_cpus

from go_health_hook.cpu import _throttling
from go_health_hook.go.maxprocs import expected, predict
from go_health_hook.go.versions import parse_version
from go_health_hook.linux import cgroup

if TYPE_CHECKING:
    from tests.toolchains.groups import Groups

pytestmark = pytest.mark.root
HOOK = Path(cgroup.__file__).parents[2]


class Gofmt:
    """A Go program that waits: `value` is the GOMAXPROCS it says it has."""

    def __init__(self, groups: Groups, name: str, wrapper: tuple[str, ...]) -> None:
        program = eight_cpus.toolchain("1.27.3") / "bin/gofmt"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        env = {"GODEBUG": "schedtrace=1", "PATH": os.environ["PATH"]}
        self.process = groups.start(name, *wrapper, program, env=env, **pipes)
        assert self.process.stderr
        line = next(s for s in self.process.stderr if s.startswith("SCHED ") and "gomaxprocs=" in s)
        self.value = int(line.split("gomaxprocs=")[1].split()[0])

    def close(self) -> None:
        self.process.communicate("")


SEEN_INSIDE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from go_health_hook.go.maxprocs import predict
from go_health_hook.go.versions import parse_version
from go_health_hook.linux.cgroup import read_chain
chain = read_chain()
predicted = {v: predict(parse_version(v), 8, chain).value for v in sys.argv[2:]}
print(json.dumps([chain.quota_cpus, [p.kind for p in chain.problems], predicted]))
"""
# Ways into other namespaces, as containers and sandboxes use them. "$1" is the controllers' mount point, "$2" the
# group's path, "$3" what v1 is mounted with; what the process then sees: everything, its own group, or nothing.
OWN_MOUNT = """
umount -l "$1"
if [ -n "$3" ]; then mount -t cgroup -o "$3" cgroup "$1"; else mount -t cgroup2 cgroup2 "$1"; fi"""
WRAPPERS = {
    "none": ("all", [], ""),
    "a namespace and a mount of its own": ("own", ["--cgroup", "--mount"], OWN_MOUNT),
    "a namespace alone": ("nothing", ["--cgroup"], ""),
    "its own group bound over the mount": (
        "own",
        ["--mount"],
        'mount --bind "$1$2" /mnt && umount -l "$1" && mount --bind /mnt "$1" && umount /mnt',
    ),
    "another group bound elsewhere": ("all", ["--mount"], 'mount --bind "$1$2/../other" /mnt'),
    "nothing mounted": ("nothing", ["--mount"], 'umount -l "$1"'),
    "mounted over": ("nothing", ["--mount"], 'mount -t tmpfs tmpfs "$1"'),
    "mounted over above": ("nothing", ["--mount"], 'mount -t tmpfs tmpfs "$(dirname "$1")"'),
}
# The limits in percent of the group below ours and of the leaf in it, and the leaf's name.
LIMITS = {
    "leaf": (None, 300, "leaf"),
    "parent": (300, None, "leaf"),
    "both": (500, 300, "leaf"),
    "odd name": (300, 250, "a\\x2db: c (deleted)"),
}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_kernel_the_chain_and_go_agree(groups: Groups, wrapper: str, limits: str) -> None:
    parent_limit, leaf_limit, leaf_name = LIMITS[limits]
    sees, unshared, script = WRAPPERS[wrapper]
    leaf = f"parent/{leaf_name}"
    groups.make("parent")
    groups.make("parent/other")
    groups.make(leaf)
    for name, percent in (("parent", parent_limit), (leaf, leaf_limit)):
        if percent is not None:
            groups.limit(name, percent)
    arguments = (str(groups.point), groups.path(leaf), groups.options if groups.version == 1 else "")
    shell = ("sh", "-ec", f'{script}\nshift 3\nexec "$@"', "sh", *arguments)
    command = ("unshare", *unshared, *shell) if unshared else ()

    quotas = [percent / 100 for percent in (leaf_limit, parent_limit, 800) if percent is not None]
    gofmt = Gofmt(groups, leaf, command)
    try:
        pid = gofmt.process.pid
        outside = cgroup.read_chain(pid)
        cpus = cgroup.affinity(pid)
        assert outside.path == groups.path(leaf)
        assert outside.certain
        assert outside.complete
        assert outside.leaf
        assert [level.cpus for level in outside.levels if level.cpus is not None] == quotas
        assert outside.quota_cpus == min(quotas)
        assert gofmt.value == predict(parse_version("go1.27.3"), cpus, outside).value
        assert expected(cpus, outside) == min(cpus, 3)
    finally:
        gofmt.close()

    versions = ["1.25.5", "1.27.3"]
    taken = {v: int(groups.run(leaf, *command, eight_cpus.program(v))[1]) for v in versions}
    assert {v: predict(parse_version(v), 8, outside).value for v in versions} == taken
    inside = json.loads(groups.run(leaf, *command, sys.executable, "-c", SEEN_INSIDE, str(HOOK), *versions)[0])
    assert inside[2] == taken
    if sees == "nothing":
        assert inside[1] in (["hidden"], ["unmounted"])
    else:
        assert inside[1] == []
        own = leaf_limit / 100 if leaf_limit is not None else None
        assert inside[0] == (min(quotas) if sees == "all" else own)


def test_moving_to_another_group_is_seen(groups: Groups) -> None:
    groups.make("first")
    groups.make("second")
    groups.limit("second", 150)
    process = groups.start("first", "sleep", "1000")
    try:
        assert cgroup.read_chain(process.pid).quota_cpus == 8.0
        (groups.directory("second") / "cgroup.procs").write_text(str(process.pid))
        chain = cgroup.read_chain(process.pid)
        assert (chain.path, chain.quota_cpus) == (groups.path("second"), 1.5)
        groups.limit("second", 250)
        assert cgroup.read_chain(process.pid).quota_cpus == 2.5
        assert cgroup.read_group(groups.path("second")).levels == cgroup.read_chain(process.pid).levels
    finally:
        process.kill()
        process.wait()
    with pytest.raises(ProcessLookupError):
        cgroup.read_chain(process.pid)
    with pytest.raises(ProcessLookupError):
        cgroup.affinity(process.pid)


def test_a_limit_above_the_leaf_is_the_one_that_bites(groups: Groups) -> None:
    groups.make("slice")
    groups.make("slice/unit")
    groups.limit("slice", 10)
    spin = "import time\nwhile time.process_time() < 0.1: pass"
    groups.run("slice/unit", sys.executable, "-I", "-c", spin)
    chain = cgroup.read_group(groups.path("slice/unit"))
    assert chain.tightest
    assert (chain.tightest.path, chain.quota_cpus) == (groups.path("slice"), 0.1)
    there = _throttling.read_stat(chain.tightest.directory)
    assert there
    assert there.throttled
    assert there.throttled_us
    leaf = _throttling.read_stat(chain.levels[0].directory)
    assert leaf
    assert not leaf.throttled


def test_a_process_that_runs_from_group_to_group(groups: Groups) -> None:
    """Groups that are made, entered, left and removed while we read: an answer each time, or the process is gone."""
    groups.make("start")
    groups.make("home")
    script = f"""
import os
for i in range(300):
    d = {str(groups.directory("home"))!r} + f"/{{i}}"
    os.mkdir(d)
    open(d + "/cgroup.procs", "w").write(str(os.getpid()))
    if i:
        os.rmdir({str(groups.directory("home"))!r} + f"/{{i - 1}}")
open({str(groups.directory("start"))!r} + "/cgroup.procs", "w").write(str(os.getpid()))
os.rmdir(d)
"""
    process = groups.start("start", sys.executable, "-I", "-c", script)
    paths = set()
    while process.poll() is None:
        try:
            chain = cgroup.read_chain(process.pid)
        except ProcessLookupError:
            break
        paths.add(chain.path)
        if not chain.problems and chain.version == groups.version and chain.path.startswith("/go-health-hook"):
            assert chain.quota_cpus == 8.0
            assert chain.leaf
    assert process.wait() == 0
    assert paths
