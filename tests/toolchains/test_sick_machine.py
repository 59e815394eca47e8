# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine lacks is never called a broken Go. Each case was a veto, of the update that repairs it too."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.leftovers import DEAD
from tests.toolchains.trees import Hook, copy, real, replace

pytestmark = pytest.mark.root

DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(Path("/usr/bin/bwrap").read_bytes()[:20000]),
    "another architecture": lambda path: path.write_bytes(foreign()),
    "exits with 0": lambda path: shutil.copy("/bin/true", path),
    "fails": lambda path: shutil.copy("/bin/false", path),
    "no program": lambda path: path.write_bytes(os.urandom(4096)),
}


def foreign() -> bytes:
    """A program for another kind of machine: this one's, with another e_machine (elf.h)."""
    data = bytearray(Path("/bin/true").read_bytes())
    data[18:20] = (22).to_bytes(2, "little")  # EM_S390
    return bytes(data)


def judged(hook: Hook, goroot: Path, script: str = "", *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the report of a run after `script` has made the machine sick, in namespaces of its own."""
    command = f'{script}\nexec "$@"'
    argv: list[str | Path] = [hook.program, "--json", "--goroot", goroot, *options]
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", command, "sick", *argv], capture_output=True, text=True, timeout=DEAD
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def assert_nobody_is_blamed(status: int, report: dict[str, Any]) -> None:
    blaming = [r for r in report["results"] if r["ground"] in ("broken", "worse")]
    assert (report["verdict"], blaming) == ("allow", []), (status, report["results"])


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("helper", ["bwrap", "setpriv", "both"])
def test_damaged_helper_blames_nobody(hook: Hook, tmp_path: Path, helper: str, damage: str) -> None:
    damaged = tmp_path / "damaged"
    DAMAGES[damage](damaged)
    damaged.chmod(0o755)
    names = ["bwrap", "setpriv"] if helper == "both" else [helper]
    script = "\n".join(f"mount --bind {damaged} /usr/bin/{name}" for name in names)
    assert_nobody_is_blamed(*judged(hook, real("1.27.3"), script))


@pytest.mark.parametrize("helper", ["bwrap", "setpriv"])
def test_hanging_helper_blames_nobody(hook: Hook, tmp_path: Path, helper: str) -> None:
    hanging = tmp_path / "hanging"
    hanging.write_text("#!/bin/sh\n# Stands in for a helper on a disk that does not answer.\nexec sleep 1000\n")
    hanging.chmod(0o755)
    script = f"mount --bind {hanging} /usr/bin/{helper}"
    assert_nobody_is_blamed(*judged(hook, real("1.27.3"), script, "--budget", "3"))


LIMITS = {
    "address space": "ulimit -v 600000",
    "file size": "ulimit -f 8",
    "open files": "ulimit -n 24",
    "CPU time": "ulimit -t 1",
    "umask": "umask 0177",
    "stack": "ulimit -s 64",
    "null device": "rm -f /tmp/null-$$; touch /tmp/null-$$; mount --bind /tmp/null-$$ /dev/null; rm /tmp/null-$$",
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limit_of_the_callers_blames_nobody(hook: Hook, limit: str) -> None:
    assert_nobody_is_blamed(*judged(hook, real("1.27.3"), LIMITS[limit]))


def test_full_tmp_without_bubblewrap_blames_nobody(hook: Hook) -> None:
    script = "mount --bind /dev/null /usr/bin/bwrap; mount -t tmpfs -o size=4k tmpfs /tmp; head -c 1M /dev/zero >/tmp/x"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        # Where nobody can pass, and not in /tmp.
        os.chmod(folder, 0o755)
        subprocess.run(["cp", "-a", hook.program.parents[2], f"{folder}/installed"], check=True)
        os.chmod(f"{folder}/installed", 0o755)
        subprocess.run(["cp", "-al", real("1.27.3"), f"{folder}/go"], check=True)
        status, report = judged(Hook(Path(folder) / "installed"), Path(folder) / "go", script)
    assert_nobody_is_blamed(status, report)
    assert status == 0, report  # the caches lie elsewhere, so Go is even judged


@pytest.mark.parametrize("allowed", [8, 16, 24])
def test_machine_without_processes_blames_nobody(hook: Hook, allowed: int) -> None:
    group = next(
        (p for p in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if (p / "cgroup.procs").exists()), None
    )
    if group is None:
        pytest.skip("no cgroup file system with the pids controller can be written here")
    place = group / f"test-{os.getpid()}"
    try:
        place.mkdir()
        (place / "pids.max").write_text(str(allowed))
    except OSError as error:
        if place.is_dir():
            place.rmdir()
        pytest.skip(f"no cgroup with the pids controller can be made here: {error}")
    try:
        script = f"echo $$ > {place}/cgroup.procs || exit 9"
        argv = [hook.program, "--json", "--goroot", real("1.27.3")]
        command = ["bash", "-c", f'{script}\nexec "$@"', "sick", *map(str, argv)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEAD)
        if done.stdout:
            assert_nobody_is_blamed(done.returncode, json.loads(done.stdout))
        else:
            assert done.returncode in (0, 4), done.stderr  # not even our own worker could be started
    finally:
        for process in map(int, (place / "cgroup.procs").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                ended = os.pidfd_open(process)
                os.kill(process, 9)
                select.select([ended], [], [], DEAD)
                os.close(ended)
        place.rmdir()


def with_go(workshop: Path, script: str) -> Path:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", f"#!/bin/sh\n{script}\n".encode())
    return goroot


@pytest.mark.parametrize("name", ["KILL", "TERM", "HUP", "USR1"])
def test_signal_that_somebody_sent_blames_nobody(hook: Hook, workshop: Path, name: str) -> None:
    _, report = judged(hook, with_go(workshop, f"kill -{name} $$; sleep 1000"))
    found = {r["check"]: r for r in report["results"]}
    assert found["goroot"]["ground"] == "not-judged" and found["version"]["ground"] == "not-judged", report


def test_go_that_crashes_is_broken(hook: Hook, workshop: Path) -> None:
    status, report = judged(hook, with_go(workshop, "kill -SEGV $$"))
    assert (status, report["verdict"]) == (1, "block"), report
    assert "SIGSEGV" in json.dumps(report["results"])


@pytest.mark.parametrize("said", ["setpriv: setresuid failed", "bwrap: Creating new namespace failed", "begun-0"])
def test_words_of_a_helper_on_its_errors_do_not_help_a_broken_go(hook: Hook, workshop: Path, said: str) -> None:
    status, report = judged(hook, with_go(workshop, f"echo '{said}' >&2; exit 1"))
    assert (status, report["verdict"]) == (1, "block"), report


HOSTILE = {
    "a NUL in go env": r"printf '/a\0b\ngo1.27.3\n/c\n'",
    "5,000 digits": "printf 'SCHED 0ms: gomaxprocs=%05000d idle' 7 >&2; cat",
    "a forged mark": "for m in $(tr '\\0' ' ' </proc/$PPID/cmdline | grep -oE '[0-9a-f]{32}' | sort -u); do "
    "printf '\\n%s x\\n\\n%s 99999\\n\\n%s \\n' $m $m $m; printf '\\n%s y\\n' $m >&2; done",
    "control characters": r"printf '\033[2J\033]0;owned\007\nx\ny\n'",
    "undecodable": r"printf '\377\376\n\201\n\202\n'",
}


@pytest.mark.parametrize("answer", HOSTILE)
@pytest.mark.parametrize("program", ["bin/go", "bin/gofmt"])
def test_hostile_answer_is_the_toolchains_fault(hook: Hook, workshop: Path, program: str, answer: str) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / program, f"#!/bin/sh\n{HOSTILE[answer]}\n".encode())
    status, report = judged(hook, goroot)
    assert "a fault of the hook" not in json.dumps(report["results"]), report
    assert status in (0, 1, 3) and "\x1b" not in json.dumps(report, ensure_ascii=False)
    if program == "bin/go":
        assert status == 1, report
