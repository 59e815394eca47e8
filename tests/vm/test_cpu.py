# SPDX-License-Identifier: GPL-2.0-or-later
"""cpu, ps, exec, trace and tune on a whole machine: login sessions, slices and services under real CPU limits."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tests.testbed import cache, disks, programs, rpms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.vm import VM, Answer

pytestmark = pytest.mark.root

HOOK = "/usr/bin/go-health-hook"
SLICE = "/user.slice/user-1000.slice"
# Name: the release that built it, its go line, whether it is stripped.
PROGRAMS = {
    "p1.21": ("1.21.13", "", False),
    "p1.24": ("1.24.11", "", False),
    "p1.25": ("1.25.5", "", False),
    "p1.25-old": ("1.25.5", "1.21", False),
    "p1.27": ("1.27.3", "", False),
    "p1.27-old": ("1.27.3", "1.21", False),
    "p1.27-nomod": ("1.27.3", None, False),
    "p1.27-stripped": ("1.27.3", "", True),
}
READS_QUOTA = {"p1.25", "p1.27", "p1.27-nomod", "p1.27-stripped"}


@pytest.fixture(scope="module")
def machine(plain_vm: VM) -> VM:
    """The machine with the hook's packages, the programs, and Go 1.27 on everyone's search path."""
    ours = rpms.own_rpms()
    done = plain_vm.install_rpms([ours[f"go-health-hook{part}"] for part in ("", "-tools", "-tuning")])
    assert done.status == 0, done.stderr
    for name, how in PROGRAMS.items():
        plain_vm.put_file(f"/usr/local/bin/{name}", programs.procs(*how))
    plain_vm.ok("ln -s /opt/go/1.27.3/bin/go /usr/local/bin/go")
    return plain_vm


@pytest.fixture
def quota(machine: VM) -> Iterator[None]:
    """CPUQuota=200% on the slice of user 1000."""
    machine.ok("systemctl set-property --runtime user-1000.slice CPUQuota=200%")
    yield
    machine.ok("systemctl revert user-1000.slice")


def facts(answer: Answer | str) -> dict[str, Any]:
    text = answer if isinstance(answer, str) else answer.stdout
    return json.loads(text[text.index("{") :])


def ps(machine: VM) -> dict[str, dict[str, Any]]:
    """The rows of root's ps by the program's name."""
    rows = facts(machine.ok(f"{HOOK} ps --json"))["processes"]
    return {row["command"].split()[0].rsplit("/", 1)[-1]: row for row in rows}


def narrow(text: str) -> bool:
    return all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.usefixtures("quota")
def test_a_program_in_a_session_runs_with_what_fits(machine: VM) -> None:
    """8 without and 2 with exec, for a program whose runtime looks at its own cgroup only; older ones likewise."""
    script = "for p in p1.27 p1.25-old p1.21; do $p; go-health-hook exec -- $p; done"
    said = machine.login("dev", script).stdout.splitlines()
    assert said == ["GOMAXPROCS=8 NumCPU=8", "GOMAXPROCS=2 NumCPU=8"] * 3
    explained = machine.login("dev", "go-health-hook exec --explain -- p1.27").stderr
    assert f"GOMAXPROCS=2: 2 CPUs, by {SLICE}; p1.27 (go1.27.3) would take 8" in explained
    respected = machine.login(
        "dev", "GOMAXPROCS=5 go-health-hook exec -- p1.27; GOMAXPROCS=5 go-health-hook exec --force p1.27"
    )
    assert respected.stdout == "GOMAXPROCS=5 NumCPU=8\nGOMAXPROCS=2 NumCPU=8\n"


@pytest.mark.usefixtures("quota")
def test_ps_names_the_misfit_its_slice_and_its_dropin(machine: VM) -> None:
    dropin = machine.ok("systemctl show -p DropInPaths --value user-1000.slice").split()[-1]
    jobs = [
        machine.start_login("dev", script, stdin=None) for script in ("p1.27 ask", "go-health-hook exec -- p1.25 ask")
    ]
    try:
        assert [job.line() for job in jobs] == ["GOMAXPROCS=8 NumCPU=8", "GOMAXPROCS=2 NumCPU=8"]
        rows = ps(machine)
        text = machine.ok(f"{HOOK} ps")
        own = facts(machine.login("dev", "go-health-hook ps --json"))["processes"]
    finally:
        for job in jobs:
            job.kill()
    wrong, right = rows["p1.27"], rows["p1.25"]
    assert (wrong["gomaxprocs"], wrong["expected_gomaxprocs"], wrong["source"]) == (8, 2, "memory")
    assert (wrong["aligned"], wrong["limiting_level"], wrong["set_by"]) == (False, SLICE, dropin)
    assert wrong["user"] == "dev"
    assert wrong["unit"].startswith("session-")
    assert SLICE in wrong["why"]
    assert (right["gomaxprocs"], right["aligned"]) == (2, True)
    assert {row["pid"] for row in own} >= {wrong["pid"], right["pid"]}
    assert narrow(text)
    lines = text.splitlines()
    assert lines[1].startswith("!")
    assert "p1.27" in lines[1]
    assert dropin.rsplit("/", 1)[-1] in text


@pytest.mark.usefixtures("quota")
def test_cpu_shows_the_chain_and_who_set_it(machine: VM) -> None:
    said = facts(machine.login("dev", "go-health-hook cpu --json"))
    assert (said["allowance_cpus"], said["affinity_cpus"]) == (2.0, 8)
    assert (said["expected_gomaxprocs"], said["toolchain_gomaxprocs"]) == (2, 8)
    assert (said["limiting_level"], said["hierarchy"], said["complete"]) == (SLICE, "v2", True)
    units = [level["unit"] for level in said["levels"]]
    assert units[0].startswith("session-")
    assert units[1:] == ["user-1000.slice", "user.slice", None]
    assert said["levels"][1]["cpus"] == 2.0
    assert said["levels"][1]["set_by"].endswith(".conf")
    text = machine.login("dev", "go-health-hook cpu").stdout
    assert narrow(text)
    assert any(line.startswith("> user-1000.slice") for line in text.splitlines())
    assert "takes 8" in text
    assert "go-health-hook exec" in text
    for words in ("--unit user-1000.slice", "--unit dev", "--unit 1000"):
        assert facts(machine.ok(f"{HOOK} cpu --json {words}"))["limiting_level"] == SLICE


@pytest.mark.usefixtures("quota")
def test_the_check_in_that_session_says_so(machine: VM) -> None:
    said = facts(machine.login("dev", "go-health-hook --dry-run --json --budget 120"))
    finding = next(f for f in said["results"] if f["check"] == "gomaxprocs")
    assert (finding["status"], said["cpu"]["limiting_level"]) == ("fail", SLICE)
    assert f"the runtime takes 8, {SLICE} allows 2" in finding["summary"]


# Options of a service (of the system's manager), the fitting value, what a runtime takes that reads its own quota, and
# what one takes that reads none.
PLACEMENTS = {
    "nothing": ("", 8, 8, 8),
    "quota": ("-p CPUQuota=250%", 3, 3, 8),
    "little quota": ("-p CPUQuota=50%", 2, 2, 8),
    "cpuset": ("-p AllowedCPUs=0-2", 3, 3, 3),
    "affinity": ("-p CPUAffinity=1,3", 2, 2, 2),
    "quota and cpuset": ("-p CPUQuota=300% -p AllowedCPUs=0-4", 3, 3, 5),
    "slice": ("--slice=tight.slice", 3, 8, 8),
    "slice tighter than the service": ("--slice=tight.slice -p CPUQuota=500%", 3, 5, 8),
    "service tighter than the slice": ("--slice=tight.slice -p CPUQuota=200%", 2, 2, 8),
    "weight": ("-p CPUWeight=10", 8, 8, 8),
    "private groups": ("-p ProtectControlGroups=yes -p CPUQuota=200%", 2, 2, 8),
    "cpuset of the slice": ("--slice=narrow.slice", 5, 5, 5),
}


class Placed(NamedTuple):
    """What each program took in a placement, and the row that ps had for it there."""

    taken: dict[str, int]
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def placed(machine: VM) -> dict[str, Placed]:
    """All programs in all placements at once: what they say themselves, and one run of ps over them all."""
    machine.ok("systemctl set-property --runtime tight.slice CPUQuota=300%")
    machine.ok("systemctl set-property --runtime narrow.slice AllowedCPUs=0-4")
    names = " ".join(PROGRAMS)
    script = f"for p in {names}; do echo $p $($p); done; for p in {names}; do $p sleep & done; wait"
    jobs, taken = {}, {}
    for i, (placement, (options, *_)) in enumerate(PLACEMENTS.items()):
        command = f"systemd-run --quiet --pipe --wait --collect --unit=placed-{i} {options} bash -c '{script}'"
        jobs[placement] = machine.start(command, stdin=None)
    try:
        for placement, job in jobs.items():
            lines = [job.line().split() for _ in range(2 * len(PROGRAMS))]
            said = dict(words[:2] for words in lines if not words[0].startswith("GOMAXPROCS"))
            taken[placement] = {name: int(value.partition("=")[2]) for name, value in said.items()}
        rows = facts(machine.ok(f"{HOOK} ps --json"))["processes"]
    finally:
        machine.run("systemctl stop 'placed-*.service'")
        for job in jobs.values():
            job.wait()
    found = {}
    for i, placement in enumerate(PLACEMENTS):
        there = [row for row in rows if row["unit"] == f"placed-{i}.service"]
        found[placement] = Placed(
            taken[placement], {row["command"].split()[0].rsplit("/", 1)[-1]: row for row in there}
        )
    return found


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_placement_is_what_it_is_taken_for(placed: dict[str, Placed], placement: str) -> None:
    """What each program really takes, what ps reads or predicts of it, and what fits, in one and the same service."""
    _, fits, reads, blind = PLACEMENTS[placement]
    taken, rows = placed[placement]
    # Go 1.25 takes the last cgroup file system it finds, so a private mount of them hides the quota from it.
    hidden = {"p1.25"} if placement == "private groups" else set()
    assert taken == {name: reads if name in READS_QUOTA - hidden else blind for name in PROGRAMS}
    assert {name: row["gomaxprocs"] for name, row in rows.items()} == taken
    assert {row["expected_gomaxprocs"] for row in rows.values()} == {fits}
    assert all(rows[name]["aligned"] is (taken[name] == fits) for name in PROGRAMS)
    assert rows["p1.27-stripped"]["source"] == "predicted"
    assert all(rows[name]["source"] == "memory" for name in PROGRAMS if not name.endswith("stripped"))


def test_a_program_follows_its_own_quota_and_ps_sees_it(machine: VM) -> None:
    job = machine.start(
        "systemd-run --quiet --pipe --wait --collect --unit=moving -p CPUQuota=200% p1.27 ask", stdin=None
    )
    try:
        assert job.line() == "GOMAXPROCS=2 NumCPU=8"
        machine.ok("systemctl set-property --runtime moving.service CPUQuota=400%")
        said = ""
        while said != "GOMAXPROCS=4 NumCPU=8":  # the runtime looks once a second
            job.write(b"\n")
            said = job.line()
            assert said in ("GOMAXPROCS=2 NumCPU=8", "GOMAXPROCS=4 NumCPU=8")
        row = ps(machine)["p1.27"]
        assert (row["gomaxprocs"], row["aligned"]) == (4, True)
    finally:
        job.kill()
        machine.run("systemctl stop moving.service")


def test_what_no_runtime_notices_is_seen_by_ps(machine: VM) -> None:
    """A first quota where no cpu.max was, and one of the slice, set after the start.

    A program that reads its own shows that the time is over in which they would have noticed.
    """
    units = {"control": "p1.27", "first": "p1.27", "blind": "p1.27-stripped", "below": "p1.27"}
    machine.ok("systemctl set-property --runtime late.slice CPUWeight=100")
    jobs = {}
    for name, program in units.items():
        # In a slice of which no unit has a quota, weight or the like, none has a cpu.max.
        options = {"control": "-p CPUQuota=400%", "below": "--slice=late.slice"}.get(name, "--slice=bare.slice")
        command = f"systemd-run --quiet --pipe --wait --collect --unit=late-{name} {options} {program} ask"
        jobs[name] = machine.start(command, stdin=None)
    try:
        for name, job in jobs.items():
            assert job.line() == f"GOMAXPROCS={4 if name == 'control' else 8} NumCPU=8"
        for unit in ("late.slice", "late-first.service", "late-blind.service"):
            machine.ok(f"systemctl set-property --runtime {unit} CPUQuota=200%")
        for cpus in (3, 2):
            machine.ok(f"systemctl set-property --runtime late-control.service CPUQuota={cpus}00%")
            said = ""
            while said != f"GOMAXPROCS={cpus} NumCPU=8":
                jobs["control"].write(b"\n")
                said = jobs["control"].line()
        for name in ("first", "blind", "below"):
            jobs[name].write(b"\n")
            assert jobs[name].line() == "GOMAXPROCS=8 NumCPU=8"
        rows = {row["unit"]: row for row in facts(machine.ok(f"{HOOK} ps --json"))["processes"]}
        text = machine.ok(f"{HOOK} ps")
    finally:
        machine.run("systemctl stop 'late-*.service'")
        for job in jobs.values():
            job.wait()
    found = {name: rows[f"late-{name}.service"] for name in units}
    assert [found[name]["gomaxprocs"] for name in ("control", "first", "below")] == [2, 8, 8]
    assert [found[name]["aligned"] for name in ("control", "first", "below")] == [True, False, False]
    assert {row["expected_gomaxprocs"] for row in found.values()} == {2}
    # The stripped one keeps no limit file open, by which it is known to have 8 as well.
    assert (found["blind"]["source"], found["blind"]["gomaxprocs"]) == ("predicted", 8)
    assert "it had no limit file when it started" in found["blind"]["why"]
    assert "~8" in text
    assert narrow(text)


@pytest.mark.usefixtures("quota")
def test_a_unit_of_the_users_manager_below_a_limited_slice(machine: VM) -> None:
    """Its own quota is what the runtime reads, the slice's is what the kernel enforces."""
    script = "p1.27; go-health-hook exec -- p1.27; go-health-hook exec --slice -- p1.27"
    for option in ("CPUQuota=500%", "CPUWeight=50"):
        said = machine.user_run("dev", script, "-p", option).stdout.splitlines()
        assert said == [f"GOMAXPROCS={n} NumCPU=8" for n in (5 if "Quota" in option else 8, 2, 2)]
    job = machine.start_user("dev", "exec p1.27 ask", "--unit=mine", "-p", "CPUQuota=500%", stdin=None)
    try:
        assert job.line() == "GOMAXPROCS=5 NumCPU=8"
        row = ps(machine)["p1.27"]
    finally:
        job.write(b"")
        machine.user_run("dev", "systemctl --user stop mine.service")
        job.wait()
    assert (row["unit"], row["gomaxprocs"], row["expected_gomaxprocs"]) == ("mine.service", 5, 2)
    assert (row["aligned"], row["limiting_level"]) == (False, SLICE)


# Ways into a cgroup namespace below a quota of 200 %, what the runtime takes there, and what exec can give it.
NAMESPACES = {
    "unshare --cgroup": (8, 8),
    "unshare --cgroup --mount sh -c 'mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"' sh": (2, 2),
}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_namespace_hides_from_inside_and_ps_sees_it_from_outside(machine: VM, namespace: str) -> None:
    bare, with_exec = NAMESPACES[namespace]
    inside = f"systemd-run --quiet --pipe --wait --collect -p CPUQuota=200% {namespace}"
    assert machine.ok(f"{inside} p1.27") == f"GOMAXPROCS={bare} NumCPU=8"
    assert machine.ok(f"{inside} {HOOK} exec -- p1.27") == f"GOMAXPROCS={with_exec} NumCPU=8"
    if bare == 8:
        assert "not all could be read" in machine.run(f"{inside} {HOOK} exec --explain -- p1.27").stderr
    job = machine.start(f"{inside} p1.27 ask", stdin=None)
    try:
        assert job.line() == f"GOMAXPROCS={bare} NumCPU=8"
        row = ps(machine)["p1.27"]
    finally:
        machine.run("systemctl stop 'run-*.service'")
        job.wait()
    assert (row["gomaxprocs"], row["expected_gomaxprocs"], row["aligned"]) == (bare, 2, bare == 2)


RUN = 'package main\n\nimport "runtime"\n\nfunc main() { println("took", runtime.GOMAXPROCS(0)) }\n'
TEST = """package main

import (
	"runtime"
	"testing"
)

func TestTaken(t *testing.T) { println("took", runtime.GOMAXPROCS(0)) }
"""
LINES = {"new": "1.27", "old": "1.24"}
GO = {"GOFLAGS": "-trimpath -buildvcs=false", "GOENV": "off", "GOTOOLCHAIN": "local", "GOPROXY": "off",
      "CGO_ENABLED": "0"}  # fmt: skip


@pytest.fixture(scope="module")
def modules(machine: VM) -> str:
    """Two modules, and what go run and go test make of them, compiled on this machine; the shell's line to use them."""

    def build(new: Path) -> None:
        for name, line in LINES.items():
            (new / name).mkdir()
            (new / name / "go.mod").write_text(f"module m\n\ngo {line}\n")
            (new / name / "main.go").write_text(RUN)
            (new / name / "main_test.go").write_text(TEST)
            env = {"PATH": "/usr/bin:/bin", "HOME": str(new), "GOCACHE": str(new / "cache"), **GO}
            for words in (["run", "."], ["test", "-vet=off", "."]):
                subprocess.run([disks.toolchain("1.27.3") / "bin/go", *words], cwd=new / name, env=env, check=True)

    made = cache.built("go-modules", [RUN, TEST, str(LINES), str(GO), "1.27.3"], build)
    machine.put_tree(made, "/srv/go")
    machine.ok("chmod -R a+rwX /srv/go")
    return " ".join(f"{key}='{value}'" for key, value in {**GO, "GOCACHE": "/srv/go/cache"}.items())


@pytest.mark.usefixtures("quota")
def test_go_run_and_go_test_by_the_module_s_go_line(machine: VM, modules: str) -> None:
    """In a session below a limited slice every program is wrong; under a quota of its own those of old modules are."""
    script = f"export {modules}\n"
    for name in LINES:
        script += f"cd /srv/go/{name}\n"
        for go in ("go", "go-build-wrapper"):
            script += f"{go} run . 2>&1\n{go} test -count=1 -vet=off -v . 2>&1 | grep ^took\n"
        script += "cd / && go-build-wrapper run -C /srv/go/old . 2>&1\n"
    session = machine.login("dev", script).stdout.split()[1::2]
    assert session == ["8", "8", "2", "2", "2"] * 2
    service = machine.ok(
        'systemd-run --quiet --pipe --wait --collect -p CPUQuota=200% --setenv=HOME=/root bash -c "$1"', script
    )
    assert service.split()[1::2] == ["2", "2", "2", "2", "2", "8", "8", "2", "2", "2"]


@pytest.mark.usefixtures("quota")
def test_a_users_own_unit_and_its_dropin_are_named(machine: VM) -> None:
    script = "go-health-hook cpu --json"
    said = facts(machine.user_run("dev", script, "--unit=mine", "-p", "CPUQuota=150%"))
    assert said["levels"][0]["unit"] == "mine.service"
    assert said["levels"][0]["set_by"].startswith("/run/user/1000/systemd/transient/mine.service")
    assert said["limiting_level"].endswith("/mine.service")
    assert said["expected_gomaxprocs"] == said["toolchain_gomaxprocs"] == 2


def test_exec_in_the_build_slice(machine: VM) -> None:
    machine.login("dev", "true")
    group = machine.login("dev", "go-health-hook exec --slice -- cat /proc/self/cgroup")
    assert "/user@1000.service/build.slice/" in group.stdout, group


@pytest.mark.usefixtures("quota")
def test_trace_of_a_program_in_a_session(machine: VM) -> None:
    said = facts(machine.login("dev", "go-health-hook trace --json -- p1.27 burn 8 60"))
    program = said["programs"][0]
    assert (program["name"], program["gomaxprocs"][0]["value"]) == ("p1.27", 8)
    assert (said["expected_gomaxprocs"], said["limiting_level"]) == (2, SLICE)
    assert said["throttling"]["throttled"] > 0
    text = machine.login("dev", "go-health-hook trace -- p1.27 burn 8 20").stdout
    assert narrow(text)
    assert "8 where 2 fits: p1.27" in text


def in_force(machine: VM, name: str, *words: str) -> dict[str, str]:
    command = " ".join(["go-health-hook", "tune", "--json", *words])
    text = machine.login("dev", command).stdout if "--user" in words else machine.ok(command)
    return next(row for row in facts(text)["settings"] if row["name"] == name)["in_force"]


def test_tune_is_in_force_and_taken_back(machine: VM) -> None:
    machine.ok("loginctl enable-linger dev && systemctl start user@1000")
    before = in_force(machine, "tasks", "--user")
    for name, key, value in (("open-files", "DefaultLimitNOFILE", "65536:524288"), ("build-slice", "CPUWeight", "20")):
        first = in_force(machine, name, "--user")
        assert machine.login("dev", f"go-health-hook tune --user --apply {name}").status == 0
        assert in_force(machine, name, "--user")[key] == value
        assert machine.login("dev", f"go-health-hook tune --user --revert {name}").status == 0
        assert in_force(machine, name, "--user") == first
    machine.ok(f"{HOOK} tune --apply tasks")
    machine.login("dev", "systemctl --user daemon-reload")
    assert in_force(machine, "tasks", "--user") != before
    machine.ok(f"{HOOK} tune --revert tasks")
    machine.login("dev", "systemctl --user daemon-reload")
    assert in_force(machine, "tasks", "--user") == before
    refused = machine.login("dev", "go-health-hook tune --apply tasks")
    assert refused.status != 0
    assert "run it as root, or with --user" in refused.stderr


def test_accounting_is_refused(machine: VM) -> None:
    """It does nothing since systemd 258, which this machine is past."""
    done = machine.run(f"{HOOK} tune --apply accounting")
    assert (done.status, "has no effect since 258" in done.stderr) == (2, True)


def test_nothing_is_tuned_by_installing(machine: VM) -> None:
    rows = facts(machine.ok(f"{HOOK} tune --json"))["settings"]
    assert [row["applied"] for row in rows] == [False] * 4
    assert machine.ok("find /etc/systemd /run/systemd /usr/lib/systemd -name '50-go-health-hook-*.conf'") == ""


def test_without_systemd_the_cgroup_alone(machine: VM, tmp_path: Path) -> None:
    hide = "unshare --mount sh -c 'mount -t tmpfs none /run/systemd; go-health-hook cpu --json --unit system.slice'"
    machine.ok("systemctl set-property --runtime system.slice CPUQuota=600%")
    try:
        said = facts(machine.ok(hide))
        named = facts(machine.ok("go-health-hook cpu --json --unit system.slice"))
    finally:
        machine.ok("systemctl revert system.slice")
    assert [level["set_by"] for level in said["levels"]] == [None, None]
    assert said["levels"][0]["unit"] == "system.slice"
    assert named["levels"][0]["set_by"].endswith(".conf")
