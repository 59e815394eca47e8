# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook itself: a whole dry run against what it cannot do without, its memory, and its punctuality."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.bench.measure import peak_mib, quiet, row, seconds, side_by_side
from tests.toolchains.trees import CACHE, MISBEHAVIOUR, TOP, build_badgo

VERSION = "1.27.3"
CHECKS = ["goroot", "version", "stdlib", "cgroup", "gomaxprocs"]
TOLERANCE = 0.25


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
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
