# SPDX-License-Identifier: GPL-2.0-or-later
"""Another root whose every program is hostile: nothing of it ever runs with an id or a capability of root's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.leftovers import DEAD
from tests.toolchains.trees import Hook, copy, replace

pytestmark = pytest.mark.root

PROGRAMS = ("setpriv", "unshare", "sh", "bash", "chmod", "true", "env", "bwrap", "ld-linux-x86-64.so.2")
CALLS = "execve,execveat,setuid,setresuid,setreuid,chroot,pivot_root,clone,clone3,fork,vfork,capset"


@pytest.fixture
def hostile(badgo: Path) -> Iterator[Path]:
    """A root made by an enemy: its go, shell, setpriv and dynamic loader are one program that says who it is."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        root = Path(folder) / "root"
        (root / "usr/bin").mkdir(parents=True)
        for name in ("lib", "lib64"):
            (root / "usr" / name).mkdir()
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to({"sbin": "usr/bin", "lib": "usr/lib"}.get(name, f"usr/{name}"))
        for name in ("proc", "sys", "dev", "tmp", "etc", "run", "var"):
            (root / name).mkdir()
        for name in PROGRAMS:
            shutil.copy(badgo, root / "usr/bin" / name)
            shutil.copy(badgo, root / "usr/lib64" / name)
        (root / "usr/mode").write_text("says where it is")
        yield root


def golang(root: Path, badgo: Path, mode: str) -> Path:
    goroot = copy("1.27.3", root / "usr/lib")
    goroot = goroot.rename(goroot.parent / "golang")
    for name in ("bin/go", "bin/gofmt", *(f"pkg/tool/linux_amd64/{t}" for t in ("compile", "link", "asm"))):
        replace(goroot / name, badgo.read_bytes())
    (goroot / "mode").write_text(mode)
    return goroot


class Traced:
    """What one process of the trace was when it executed something."""

    def __init__(self, inside: bool = False, root: bool = True) -> None:
        self.inside = inside
        self.root = root


def executions(log: str) -> list[tuple[str, bool, bool]]:
    """(program, whether below the judged root, whether with root's ids) of every execution in a strace log."""
    known: dict[str, Traced] = {}
    pending: dict[str, str] = {}
    found = []
    for line in log.splitlines():
        pid, _, said = line.partition(" ")
        said = said.strip()
        if said.endswith("<unfinished ...>"):
            pending[pid] = said.removesuffix("<unfinished ...>")
            if not said.startswith("execve"):
                continue
            said = pending[pid] + ") = 0"
        elif said.startswith("<... "):
            said = pending.pop(pid, "") + said.partition("resumed>")[2]
            if said.startswith("execve"):
                continue
        me = known.setdefault(pid, Traced())
        child = re.match(r"(clone3?|v?fork)\(.*\) = (\d+)", said)
        if child:
            known.setdefault(child[2], Traced(me.inside, me.root))
        elif re.match(r'chroot\("/subject', said) and said.endswith("= 0"):
            me.inside = True
        elif re.match(r"set(res|re)?uid\(65534", said) and said.endswith("= 0"):
            me.root = False
        elif said.startswith("execve"):
            found.append((said.partition('"')[2].partition('"')[0], me.inside, me.root))
    return found


@pytest.mark.parametrize("mode", ["says where it is", "prints non-UTF-8", "error beside its version"])
def test_nothing_of_another_root_runs_as_root(
    hook: Hook, hostile: Path, badgo: Path, mode: str, tmp_path: Path
) -> None:
    golang(hostile, badgo, mode)
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: packaging/dev/host-packages testbed installs it")
    log = tmp_path / "strace"
    command: list[str | Path] = ["strace", "-f", "-qq", "-s", "300", "-e", f"trace={CALLS}", "-o", log]
    subprocess.run([*command, hook.program, "--root", hostile, "--json"], capture_output=True, timeout=DEAD)
    seen = executions(log.read_text())
    below = [(program, root) for program, inside, root in seen if inside]
    assert any(program == "/usr/lib/golang/bin/go" for program, _ in below), seen
    assert [program for program, root in below if root] == []
    # What runs with root's ids is this machine's: no path of the judged root is executed from outside it.
    assert [program for program, _, root in seen if root and str(hostile) in program] == []


def evidence(hook: Hook, hostile: Path) -> str:
    import json

    done = hook("--root", hostile, "--json")
    results = json.loads(done.stdout)["results"]
    return str(next(r for r in results if r["check"] == "version")["evidence"]["go version"])


def test_its_programs_have_no_privilege(hook: Hook, hostile: Path, badgo: Path) -> None:
    golang(hostile, badgo, "says where it is")
    for name in PROGRAMS:
        (hostile / "usr/bin" / name).unlink()  # without a shell the commands run one by one
    said = evidence(hook, hostile)
    assert "Uid: 65534 65534 65534 65534 Gid: 65534 65534 65534 65534 Groups: " in said
    assert "CapEff: 0000000000000000 NoNewPrivs: 1" in said
    assert "shadow=no write=no net=lo" in said


def test_no_way_out_of_the_view_succeeds(hook: Hook, hostile: Path, badgo: Path) -> None:
    golang(hostile, badgo, "tries to get out")
    for name in PROGRAMS:
        (hostile / "usr/bin" / name).unlink()
    said = evidence(hook, hostile)
    tried = re.match(r"tried=(\d+) succeeded=(.*);", said)
    assert tried and int(tried[1]) >= 40, said
    assert tried[2] == ""
    assert not list(Path("/sys/fs/cgroup").glob("**/made"))


def test_a_root_without_programs_of_its_own_is_judged(hook: Hook, hostile: Path) -> None:
    for name in PROGRAMS:
        (hostile / "usr/bin" / name).unlink()
    copy("1.27.3", hostile / "usr/lib").rename(hostile / "usr/lib/golang")
    done = hook("--root", hostile, "--json")
    assert '"verdict": "allow"' in done.stdout and '"exit_status": 0' in done.stdout, done.stdout


def test_a_version_file_that_leads_to_a_secret_is_not_shown(hook: Hook, hostile: Path) -> None:
    goroot = copy("1.27.3", hostile / "usr/lib").rename(hostile / "usr/lib/golang")
    (hostile / "etc/shadow").write_text("root:$y$secret:1::::::\n")
    (hostile / "etc/shadow").chmod(0o600)
    (goroot / "VERSION").unlink()
    (goroot / "VERSION").symlink_to("/etc/shadow")
    done = hook("--root", hostile, "--json", "-v")
    assert "secret" not in done.stdout


@pytest.mark.parametrize("leads", ["outside", "to a file of its own"])
def test_package_database_is_parsed_without_privileges(hook: Hook, hostile: Path, leads: str) -> None:
    import json

    for name in PROGRAMS:
        (hostile / "usr/bin" / name).unlink()
    copy("1.27.3", hostile / "usr/lib").rename(hostile / "usr/lib/golang")
    outside = hostile.parent / "outside"
    place = outside if leads == "outside" else hostile / "usr/lib/sysimage/rpm"
    place.mkdir(parents=True)
    (place / "rpmdb.sqlite").write_bytes(b"SQLite format 3\0" + bytes(4096))
    if leads == "outside":
        (hostile / "usr/lib/sysimage").mkdir()
        (hostile / "usr/lib/sysimage/rpm").symlink_to(f"../../../..{outside}")
    done = hook("--root", hostile, "--json")
    found = {r["check"]: r for r in json.loads(done.stdout)["results"]}
    assert found["packages"]["status"] == "skip", found["packages"]
    if leads == "outside":
        assert "there is no rpm database" in found["packages"]["summary"]
    # SQLite writes its index next to a database, and root's would follow links out of this root.
    assert [path.name for path in place.iterdir()] == ["rpmdb.sqlite"]


HARNESS = """
import sys
sys.path.insert(0, sys.argv[1])
from go_health_hook.deadline import Deadline
from go_health_hook.run.process import run
from go_health_hook.run.sandbox import Sandbox
print(run(["/usr/bin/id", "-u"], Deadline(60), sandbox=Sandbox(binds=[(sys.argv[2], sys.argv[3])])).out)
"""


@pytest.mark.parametrize("place", ["/usr/lib64", "/usr/bin", "/usr/lib"])
def test_incoming_tree_in_a_systems_place_runs_nothing_as_root(tmp_path: Path, badgo: Path, place: str) -> None:
    """A package may have its go command in /usr/lib64/bin, so that its tree covers the dynamic loader."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: packaging/dev/host-packages testbed installs it")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (*PROGRAMS, "id"):
        shutil.copy(badgo, tree / name)
    log = tmp_path / "strace"
    hook = Path(__file__).parents[2] / "hook"
    command = [
        "strace",
        "-f",
        "-qq",
        "-s",
        "300",
        "-e",
        f"trace={CALLS}",
        "-o",
        str(log),
        sys.executable,
        "-c",
        HARNESS,
    ]
    subprocess.run([*command, str(hook), str(tree), place], capture_output=True, timeout=DEAD)
    seen = executions(log.read_text())
    below = [(program, root) for program, inside, root in seen if inside]
    assert ("/usr/bin/id", False) in below, seen
    assert [program for program, root in below if root] == []
