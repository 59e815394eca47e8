# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook answers and is gone, whatever hangs, and takes what it started with it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.leftovers import DEAD, left_behind
from tests.toolchains.deadfs import dead_mount
from tests.toolchains.trees import Hook, copy, real, replace


@pytest.mark.root
@pytest.mark.parametrize("option", ["--goroot", "--root"])
def test_a_dead_disk_does_not_hold_the_hook(hook: Hook, workshop: Path, option: str) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this kernel has no FUSE to make a dead mount of")
    place = workshop / "dead"
    place.mkdir()
    with dead_mount(place) as asked:
        done = hook("--json", option, place / "go", "--budget", "1")
        assert asked.is_set()
    report = json.loads(done.stdout)
    assert done.returncode == 3, report
    assert {r["status"] for r in report["results"]} == {"timeout"}


WAITS = '''"""A check of the test's own, which never answers."""
import threading

SEVERITY = "required"
ORDER = 99


def check(context):
    threading.Event().wait()
'''


def test_a_check_that_waits_for_ever_has_run_out_of_time(hook: Hook, tmp_path: Path) -> None:
    """Not stuck in the kernel, so that the worker can end by itself: no fault of the hook's, and no leave to update."""
    shutil.copytree(hook.program.parents[2], tmp_path / "installed", symlinks=True)
    (tmp_path / "installed/usr/lib/go-health-hook/go_health_hook/checks/waits.py").write_text(WAITS)
    status, report = Hook(tmp_path / "installed").judge(real("1.27.3"), "--budget", "5")
    assert status == 3, report
    assert report["reason"].endswith(": waits")


def test_a_pipe_in_a_files_place_is_no_file(hook: Hook, workshop: Path) -> None:
    goroot = copy("1.27.3", workshop)
    (goroot / "VERSION").unlink()
    os.mkfifo(goroot / "VERSION")
    status, report = hook.judge(goroot)
    # It is not waited for. Go itself does not read that file, so it is advice and no more.
    assert status == 0, report
    found = next(finding for finding in report["results"] if finding["check"] == "version")
    assert found["status"] == "warn"
    assert "VERSION" in found["summary"] and "not a regular file" in found["summary"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_hook_takes_its_programs_with_it(hook: Hook, workshop: Path, badgo: Path, number: int) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text("hangs and says so")
    os.mkfifo(goroot / "told")
    (goroot / "told").chmod(0o666)
    told = os.open(goroot / "told", os.O_RDONLY | os.O_NONBLOCK)
    running = subprocess.Popen([hook.program, "--goroot", goroot, "--budget", "3600"], stdout=subprocess.DEVNULL)
    assert select.select([told], [], [], DEAD)[0]
    os.close(told)
    running.send_signal(number)
    assert running.wait(DEAD) == -number
    assert left_behind(str(workshop)) == []


def test_the_caller_is_not_held_by_a_pipe(hook: Hook, workshop: Path, badgo: Path) -> None:
    """A go that leaves a child behind which holds every descriptor: the caller's pipe must still see its end."""
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text("forks and leaves")
    read, write = os.pipe()
    os.set_inheritable(write, True)
    argv = [str(hook.program), "--json", "--goroot", str(goroot), "--budget", "2"]
    running = subprocess.Popen(argv, stdout=write, close_fds=False)
    os.close(write)
    running.wait(DEAD)
    while os.read(read, 65536):
        assert select.select([read], [], [], DEAD)[0]
    os.close(read)
    assert left_behind(str(workshop)) == []
