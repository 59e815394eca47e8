# SPDX-License-Identifier: GPL-2.0-or-later
"""What a toolchain's program can see and do while it is judged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.leftovers import DEAD, left_behind
from tests.toolchains.trees import Hook, copy, real, replace

from go_health_hook.deadline import Deadline
from go_health_hook.run import process
from go_health_hook.run import sandbox as sandboxes


@pytest.fixture
def seen(hook: Hook, workshop: Path, badgo: Path) -> str:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text("says where it is")
    _, report = hook.judge(goroot)
    evidence = next(r["evidence"] for r in report["results"] if r["check"] == "version")
    return str(evidence["go version"])


def test_its_ids_are_nobodys_to_the_kernel(seen: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("a person's toolchain runs with the person's own ids: run as root")
    assert "Uid: 65534 65534 65534 65534 Gid: 65534 65534 65534 65534 Groups: " in seen
    assert "shadow=no" in seen


def test_it_has_no_privilege_and_gets_none(seen: str) -> None:
    assert "CapEff: 0000000000000000" in seen
    assert "NoNewPrivs: 1" in seen


def test_it_sees_no_network_and_writes_nowhere(seen: str) -> None:
    assert [word for word in seen.split() if word.startswith("net=")] == ["net=lo"]
    assert "write=no" in seen


def test_its_environment_is_ours(hook: Hook, seen: str) -> None:
    names = seen.partition("env=")[2].split(";")
    shells = {"OLDPWD", "PWD", "SHLVL", "_"}
    assert set(names[0].split(",")) - shells == {"CGO_ENABLED", "HOME", "LC_ALL", "PATH", "TMPDIR"}
    assert names[1:] == ["local", "off"]


REFUSES = """#!/bin/sh
# Stands in for bubblewrap where the kernel lets nobody make namespaces: a container without CAP_SYS_ADMIN.
echo "bwrap: Creating new namespace failed: Operation not permitted" >&2
exit 1
"""


@pytest.fixture(scope="session")
def reachable(hook: Hook) -> Iterator[Path]:
    """A real toolchain and the hook where nobody reaches them: the cache may lie where only root enters."""
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o755)
    subprocess.run(["cp", "-a", real("1.27.3"), place / "go"], check=True)
    subprocess.run(["cp", "-a", hook.program.parents[2], place / "installed"], check=True)
    (place / "installed").chmod(0o755)
    (place / "refuses").write_text(REFUSES)
    (place / "refuses").chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.mark.root
@pytest.mark.parametrize(
    ("missing", "stand_in"), [("bwrap", "/dev/null"), ("bwrap", "refuses"), ("setpriv", "/dev/null")]
)
def test_without_a_view_the_ids_are_dropped_and_the_report_says_so(
    reachable: Path, missing: str, stand_in: str
) -> None:
    program = reachable / "installed/usr/bin/go-health-hook"
    mount = f"mount --bind {reachable / stand_in} /usr/bin/{missing}"
    script = f"{mount} && exec {program} --goroot {reachable}/go --json"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=DEAD)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["sandbox"].startswith("no bubblewrap: as nobody")
    text = subprocess.run(["unshare", "-m", "sh", "-c", script.replace("--json", "")], capture_output=True, text=True)
    assert "no bubblewrap" in text.stdout
    assert left_behind(str(reachable)) == []


@pytest.mark.root
def test_without_a_view_a_goroot_below_tmp_is_where_it_is(reachable: Path) -> None:
    program = reachable / "installed/usr/bin/go-health-hook"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        subprocess.run(["cp", "-a", real("1.27.3"), f"{folder}/go"], check=True)
        script = f"mount --bind /dev/null /usr/bin/bwrap && exec {program} --goroot {folder}/go --json"
        done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=DEAD)
    report = json.loads(done.stdout)
    assert report["sandbox"].startswith("no bubblewrap")
    assert done.returncode == 0, report


@pytest.mark.root
def test_without_a_view_a_run_that_is_cut_off_leaves_no_directory(reachable: Path, badgo: Path) -> None:
    goroot = copy_of(reachable / "go", reachable / "hanging")
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text("hangs")
    before = set(Path("/tmp").glob("go-health-hook-*"))
    program = reachable / "installed/usr/bin/go-health-hook"
    script = f"mount --bind /dev/null /usr/bin/bwrap && exec {program} --goroot {goroot} --budget 1"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], stdout=subprocess.DEVNULL, timeout=DEAD)
    assert done.returncode == 3
    assert set(Path("/tmp").glob("go-health-hook-*")) <= before


def copy_of(tree: Path, to: Path) -> Path:
    subprocess.run(["cp", "-al", tree, to], check=True)
    return to


@pytest.mark.root
def test_what_cannot_be_shut_in_is_not_judged(reachable: Path) -> None:
    program = reachable / "installed/usr/bin/go-health-hook"
    drop = ["setpriv", "--bounding-set=-sys_admin,-setuid,-setgid,-setpcap", "--inh-caps=-all"]
    argv: list[str | Path] = [*drop, program, "--goroot", reachable / "go", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEAD)
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"]) == (4, "allow"), report
    assert report["reason"].startswith("not decided, could not be carried out: goroot, ")
    judged = {r["check"]: r for r in report["results"]}
    assert judged["version"]["status"] == "error"
    assert "as nobody" in judged["version"]["summary"] and "CAP_SETUID" in judged["version"]["remedy"]
    assert judged["cgroup"]["status"] == "pass"


@pytest.mark.root
def test_a_root_whose_sys_is_empty_and_read_only(tmp_path: Path) -> None:
    """An ostree deployment's: the cgroups are shown all the same."""
    root = tmp_path / "root"
    for name in ("usr", "proc", "dev", "sys", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    sandbox = sandboxes.Sandbox(str(root), [("/usr", "/usr")])
    result = process.run(["/usr/bin/ls", "/sys/fs/cgroup"], Deadline(60), sandbox=sandbox)
    assert result.ok, result.why()
