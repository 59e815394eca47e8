# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook itself: a whole dry run against what it cannot do without, its memory, and its punctuality."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.bench.measure import cpu_seconds, peak_mib, quiet, row, seconds, side_by_side
from tests.testbed import slow
from tests.toolchains.trees import CACHE, MISBEHAVIOUR, TOP, build_badgo

VERSION = "1.27.3"
CHECKS = ["goroot", "version", "stdlib", "cgroup", "gomaxprocs"]
TOLERANCE = 0.25
UPGRADE = {"name": "a", "evr": "2-1", "full": "a-0:2-1.noarch", "action": "U", "coming": True, "path": "", "go": False}
# Where a gate writes: folders of this machine that a measurement leaves as they are.
PLACES = "/var/lib/go-health-hook /var/cache/go-health-hook /run/go-health-hook"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        subprocess.run(["make", "-s", "install", f"DESTDIR={root}"], cwd=TOP, check=True)
        subprocess.run(["/usr/bin/python3", "-m", "compileall", "-q", root / "usr/lib/go-health-hook"], check=True)
        _figures(str(root / "usr/bin/go-health-hook"), root)


def _figures(hook: str, folder: Path) -> None:
    goroot = CACHE / "go" / VERSION
    go = str(goroot / "bin/go")
    dry = [hook, "--dry-run", "--goroot", str(goroot)]
    python = ["/usr/bin/python3", "-I", "-c", "pass"]
    env = {"PATH": "/usr/bin:/bin", "GOROOT": str(goroot), "GOCACHE": str(CACHE / "go-build"), "HOME": str(folder)}
    env.update(GOTOOLCHAIN="local", GOENV="off", CGO_ENABLED="0", GOPATH=str(folder / "gopath"))
    print(quiet())
    a, b, ratio = side_by_side([dry], [python, [go, "version"], [go, "list", "-deps", "crypto/tls"]], env=env)
    row("dry run", a, "s")
    row("python3 -I -c pass; go version; go list -deps crypto/tls", b, "s")
    row("ratio", ratio, "", 1.5)
    row("CPU time of a dry run", cpu_seconds(dry, env=env), "s")
    _light(folder, python, goroot)
    _cold(hook)
    row("peak memory of the hook", peak_mib(dry), "MiB", 40)
    together, alone = [], []
    for _ in range(7):
        together.append(_elapsed(dry))
        alone.append(sum(_elapsed([hook, "--config", _only(check, folder), *dry[1:]]) for check in CHECKS))
    row("checks side by side / one after another", sorted(together)[3] / sorted(alone)[3], "", 1.0)
    goroot = _misbehaving(folder)
    for budget in (0.2, 1, 3, 5):
        argv = [hook, "--goroot", str(goroot), "--budget", str(budget)]
        late = {}
        for mode in MISBEHAVIOUR:
            (goroot / "mode").write_text(mode)
            late[mode] = seconds([argv]) - budget
        worst = max(late, key=lambda mode: late[mode])
        row(f"time over a budget of {budget} s, the worst: a go that {worst}", late[worst], "s", TOLERANCE)


def _light(folder: Path, python: list[str], goroot: Path) -> None:
    """A gate's run of a Go that it has judged healthy before, and one on a machine without Go."""
    if os.geteuid() != 0:
        print("  a light run and one without Go: not measured, since only root can put a Go in place")
        return
    gate = str(folder / "usr/libexec/go-health-hook/gate")
    source = folder / "healthy"
    subprocess.run(["cp", "-a", goroot, source], check=True)
    (folder / "request").write_text(json.dumps({"packages": [UPGRADE]}))
    # No file may have changed a moment ago.
    subprocess.run(["sleep", "3"], check=True)
    for what, put in (("light run", f"mount --bind {source} /usr/local/go"), ("no Go", "true")):
        script = f"mkdir -p /usr/local/go {PLACES} && for p in {PLACES}; do mount -t tmpfs -o mode=0755 x $p; done"
        script += f" && {put} && exec $0"
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            inside = ["nsenter", "--mount", f"--target={holder.pid}"]
            asked = [*inside, "sh", "-c", f"{gate} dnf4 before $$ <{folder}/request"]
            _await_exec(holder)
            floor = [[*inside, *python], [*inside, str(goroot / "bin/go"), "version"]][
                : 2 if what == "light run" else 1
            ]
            seconds([asked])  # a full one, which is remembered
            a, b, ratio = side_by_side([asked], floor)
            row(what, a, "s")
            row("python3 -I -c pass" + ("; go version" if what == "light run" else ""), b, "s")
            row("ratio", ratio, "", 2.5)
            assert holder.stdin
            holder.stdin.close()


def _await_exec(holder: subprocess.Popen[bytes]) -> None:
    """Wait until it has mounted all: cat gives back what it is given."""
    assert holder.stdin and holder.stdout
    holder.stdin.write(b"ready\n")
    holder.stdin.flush()
    holder.stdout.readline()


def _cold(hook: str) -> None:
    if os.geteuid() != 0:
        print("  what a cold run reads: not measured, since only root can make a disk")
        return
    with slow.cold_disk(VERSION) as goroot, slow.throttled(goroot, bytes_per_second=1 << 40) as group:
        seconds([slow.inside(group, [hook, "--dry-run", "--goroot", goroot])])
        row("read from a cold disk, without an index that lasts", slow.bytes_read(group, goroot) / 1e6, "MB", 64)


def _elapsed(command: list[str]) -> float:
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["elapsed_s"])


def _only(check: str, folder: Path) -> str:
    path = folder / f"{check}.conf"
    path.write_text("[checks]\n" + "".join(f"{c} = off\n" for c in CHECKS if c != check))
    return str(path)


def _misbehaving(folder: Path) -> Path:
    """A copy of the toolchain whose go misbehaves as the file `mode` in it says."""
    goroot = folder / "misbehaving"
    subprocess.run(["cp", "-a", CACHE / "go" / VERSION, goroot], check=True)
    shutil.copy(build_badgo(), goroot / "bin/go")
    return goroot
