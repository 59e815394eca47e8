# SPDX-License-Identifier: GPL-2.0-or-later
"""cpu, ps, exec, trace and tune on a whole machine: login sessions, slices and services under real CPU limits."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tests.testbed import programs

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
def machine(plain_vm: VM, tmp_path_factory: pytest.TempPathFactory) -> VM:
    """The machine with the hook, the programs, and Go 1.27 on everyone's search path."""
    tree = tmp_path_factory.mktemp("tree")
    subprocess.run(["make", "-s", "install", f"DESTDIR={tree}"], check=True)
    plain_vm.install_tree(tree)
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
}


class Placed(NamedTuple):
    """What each program took in a placement, and the row that ps had for it there."""

    taken: dict[str, int]
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def placed(machine: VM) -> dict[str, Placed]:
    """All programs in all placements at once: what they say themselves, and one run of ps over them all."""
    machine.ok("systemctl set-property --runtime tight.slice CPUQuota=300%")
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


def test_without_a_bus_the_cgroup_alone(machine: VM, tmp_path: Path) -> None:
    hide = "unshare --mount sh -c 'mount -t tmpfs none /run/dbus; go-health-hook cpu --json --unit system.slice'"
    machine.ok("systemctl set-property --runtime system.slice CPUQuota=600%")
    try:
        said = facts(machine.ok(hide))
        named = facts(machine.ok("go-health-hook cpu --json --unit system.slice"))
    finally:
        machine.ok("systemctl revert system.slice")
    assert [level["set_by"] for level in said["levels"]] == [None, None]
    assert said["levels"][0]["unit"] == "system.slice"
    assert named["levels"][0]["set_by"].endswith(".conf")
