# SPDX-License-Identifier: GPL-2.0-or-later
"""ps as installed, over real Go programs in every form in which Go comes into a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.toolchains import waiting
from tests.toolchains.deadfs import dead_mount
from tests.toolchains.running import listed, started, taken
from tests.toolchains.trees import TOP, real

from go_health_hook.cpu._survey import survey
from go_health_hook.deadline import Deadline
from go_health_hook.go import buildinfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.toolchains.groups import Groups
    from tests.toolchains.trees import Hook

    from go_health_hook.cpu._processes import GoProcess


@pytest.mark.parametrize("name", waiting.WAYS)
def test_build_information_is_what_go_itself_reads(name: str) -> None:
    program = waiting.program(name)
    go = real("1.27.3") / "bin/go"
    said = subprocess.run([go, "version", "-m", program], capture_output=True, text=True, check=True).stdout
    info = buildinfo.read(str(program))
    assert f"{program}: {info.version}\n" in said
    assert f"\tpath\t{info.path}\n" in said
    assert (f"\tbuild\tDefaultGODEBUG={info.godebug}\n" in said) is bool(info.godebug)
    assert ("containermaxprocs=0" in info.godebug) is ("old go line" in name)


@pytest.mark.parametrize("name", waiting.WAYS)
def test_ps_reads_what_a_program_has(hook: Hook, name: str) -> None:
    with started(waiting.program(name)) as process:
        value = taken(process)
        row = listed(hook, process.pid)
    stripped = "stripped" in name
    assert (row["gomaxprocs"], row["source"]) == (value, "predicted" if stripped else "memory")
    assert row["go_version"] == f"go{waiting.WAYS[name].version}"
    assert row["old_go_line"] is ("old go line" in name)
    assert row["aligned"]


def test_ps_sees_a_value_set_from_outside_and_says_so(hook: Hook) -> None:
    more = str(len(os.sched_getaffinity(0)) + 5)
    env = {"PATH": os.environ["PATH"], "GOMAXPROCS": more}
    for name, source in (("1.27, pie", "memory"), ("1.27, stripped", "environment")):
        with started(waiting.program(name), env=env) as process:
            assert taken(process) == int(more)
            row = listed(hook, process.pid)
            text = hook("ps").stdout
        assert (row["gomaxprocs"], row["source"], row["aligned"]) == (int(more), source, False)
        assert f"GOMAXPROCS={more} in its environment" in row["why"]
        assert all(len(line) <= 80 for line in text.splitlines())
        assert text.splitlines()[1].startswith("!")


@pytest.mark.parametrize("name", ["1.27, stripped", "1.27, old go line, stripped"])
def test_ps_does_not_claim_what_it_cannot_see(hook: Hook, name: str) -> None:
    """CPUs taken from a stripped program after it started: some follow that, some do not, and none can be asked."""
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("one CPU: none can be taken away")
    with started(waiting.program(name)) as process:
        assert taken(process) == len(cpus)
        os.sched_setaffinity(process.pid, {min(cpus)})
        row = listed(hook, process.pid)
        text = hook("ps").stdout
    assert (row["gomaxprocs"], row["source"], row["expected_gomaxprocs"]) == (1, "predicted", 1)
    follows = "old" not in name
    assert ("if nothing has changed since it started: it follows no change" in row["why"]) is not follows
    assert row["certain"] is follows  # the limit file that it keeps open, or has not, tells
    assert "all fit" not in text or follows
    assert follows or "should, if nothing changed since they started" in text or "does not fit" in text
    assert f"{process.pid} " in text and " ~1 " in text


def test_ps_sees_a_deleted_program(hook: Hook, tmp_path: Path) -> None:
    program = tmp_path / "gone"
    shutil.copy(waiting.program("1.27"), program)
    with started(program) as process:
        value = taken(process)
        program.unlink()
        assert listed(hook, process.pid)["gomaxprocs"] == value


def test_ps_survives_zombies_and_what_vanishes(hook: Hook) -> None:
    churn = "import os\nfor _ in range(3000):\n    pid = os.fork()\n    if not pid: os._exit(0)\n    os.waitpid(pid, 0)"
    zombie = subprocess.Popen(["/bin/true"])
    busy = subprocess.Popen([sys.executable, "-c", churn])
    try:
        while busy.poll() is None:
            done = hook("ps", "--json")
            assert done.returncode == 0, done.stderr
            assert zombie.pid not in [p["pid"] for p in json.loads(done.stdout)["processes"]]
    finally:
        busy.wait()
        zombie.wait()


@pytest.mark.root
def test_a_process_that_holds_ps_up_is_left_out(tmp_path: Path) -> None:
    """Its executable on a file system that never answers, and the next one's files as real as any."""
    (tmp_path / "dead").mkdir()
    with started(waiting.program("1.27")) as process, dead_mount(tmp_path / "dead") as asked:
        assert taken(process) > 0
        (tmp_path / "proc/1").mkdir(parents=True)
        (tmp_path / "proc/1/exe").symlink_to(tmp_path / "dead/program")
        (tmp_path / f"proc/{process.pid}").symlink_to(f"/proc/{process.pid}")
        (tmp_path / "proc/self").symlink_to("/proc/self")
        seen = survey(lambda one: one.pid, Deadline(60.0), str(tmp_path / "proc"))
        assert asked.is_set()
    assert (seen.found, seen.missed) == ([process.pid], [1])


def test_a_process_that_costs_too_much_memory_is_left_out(tmp_path: Path) -> None:
    """One whose answer needs more memory than there is, between two that need little."""
    with started(waiting.program("1.27")) as first, started(waiting.program("1.27")) as last:
        assert taken(first) == taken(last)

        def shown(one: GoProcess) -> tuple[int, int]:
            return one.pid, len(bytes(1 << 30)) if one.pid == first.pid else 0

        seen = survey(shown, Deadline(60.0))
    assert (last.pid, 0) in seen.found
    assert first.pid not in dict(seen.found)
    assert seen.missed == [first.pid]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.root
def test_ps_shows_root_all_and_others_their_own(hook: Hook, open_folder: Path) -> None:
    shared = shutil.copy(waiting.program("1.27"), open_folder / "waiting")
    shutil.copytree(TOP / "hook", open_folder / "hook")
    with started(shared, user=65534) as theirs, started(shared) as roots:
        assert taken(theirs) == taken(roots)
        assert listed(hook, theirs.pid)["user"] == "nobody"
        assert listed(hook, roots.pid)["user"] == "root"
        seen = subprocess.run(
            ["/usr/bin/python3", "-m", "go_health_hook", "ps", "--json"],
            env={"PYTHONPATH": str(open_folder / "hook"), "PYTHONDONTWRITEBYTECODE": "1"},
            user=65534,
            capture_output=True,
            text=True,
        )
    assert seen.returncode == 0, seen.stderr
    facts = json.loads(seen.stdout)
    pids = [p["pid"] for p in facts["processes"]]
    assert theirs.pid in pids and roots.pid not in pids  # other tests may run Go as nobody at the same time
    assert facts["refused"]


USES_LIBRARY = """
import ctypes, sys
print(ctypes.CDLL(sys.argv[1]).Procs(), flush=True)
sys.stdin.read()
"""


def test_ps_sees_go_in_a_shared_library(hook: Hook) -> None:
    program = [sys.executable, "-I", "-c", USES_LIBRARY, str(waiting.shared_library())]
    with started(program[0], *program[1:]) as process:
        assert process.stdout
        value = int(process.stdout.readline())
        row = listed(hook, process.pid)
        text = hook("ps").stdout
    assert (row["gomaxprocs"], row["source"], row["go_in"]) == (value, "memory", "libwaiting.so")
    assert row["go_version"] == "go1.27.3"
    assert " [lib" in text


def test_ps_sees_packed_go(hook: Hook, tmp_path: Path) -> None:
    if shutil.which("gcc") is None or os.uname().machine != "x86_64":
        pytest.skip("the stand-in for a packer needs gcc and x86-64")
    with started(waiting.packed(tmp_path)) as process:
        value = taken(process)
        row = listed(hook, process.pid)
    assert (row["gomaxprocs"], row["source"], row["go_in"]) == (value, "predicted", "packed")
    assert row["go_version"] == "go1.27.3"


def test_ps_sees_go_below_an_emulator(hook: Hook) -> None:
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None or os.uname().machine == "aarch64":
        pytest.skip("qemu-user for a foreign machine is not installed")
    with started(qemu, str(waiting.foreign())) as process:
        value = taken(process)
        row = listed(hook, process.pid)
    assert (row["gomaxprocs"], row["source"], row["go_in"]) == (value, "memory", "waiting")


def test_ps_predicts_nothing_for_an_unknown_version(hook: Hook) -> None:
    """Stripped too, such a program cannot be told; what every Go takes from the environment can."""
    program = waiting.without_version()
    with started(program) as process:
        value = taken(process)
        row = listed(hook, process.pid)
    assert (row["go_version"], row["gomaxprocs"], row["source"]) == ("unknown", value, "memory")


@pytest.mark.root
def test_ps_says_which_limit_a_stripped_program_follows(hook: Hook, groups: Groups) -> None:
    """Moved under another quota, it follows the first; without a limit file at its start, it follows none."""
    for name, percent in (("first", 50), ("second", 150)):
        groups.make(name)
        groups.limit(name, percent)
    program = str(waiting.program("1.27, stripped"))
    process = groups.start("first", program, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    here = listed(hook, process.pid)
    (groups.directory("second") / "cgroup.procs").write_text(str(process.pid))
    moved = listed(hook, process.pid)
    process.communicate("")
    assert "quota of its own cgroup" in here["why"] or "its own cgroup's quota is no less" in here["why"]
    assert "it has moved, and still follows the quota of " in moved["why"]
    assert moved["why"].split("; ")[-1].endswith("/first, 0.5 CPUs")
    assert (here["certain"], moved["certain"]) == (True, True)


@pytest.mark.root
def test_ps_finds_the_processes_behind_those_that_hold_it_up(tmp_path: Path) -> None:
    """A user's ten programs on a file system that never answers come last after two of them, and are all named."""
    (tmp_path / "dead").mkdir()
    with started(waiting.program("1.27")) as process, dead_mount(tmp_path / "dead"):
        proc = tmp_path / "proc"
        for pid in range(1, 11):
            (proc / str(pid)).mkdir(parents=True)
            (proc / f"{pid}/exe").symlink_to(tmp_path / "dead/program")
            (proc / f"{pid}/status").write_text("Uid:\t65534\t65534\t65534\t65534\n")
        (proc / str(process.pid)).symlink_to(f"/proc/{process.pid}")
        (proc / "self").symlink_to("/proc/self")
        seen = survey(lambda one: one.pid, Deadline(8.0), str(proc))
    assert seen.found == [process.pid]
    assert sorted(seen.missed) == list(range(1, 11))
    assert seen.missed_by(str(proc)) == {"nobody": 10}
