# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook itself: a whole dry run against what it cannot do without, its memory, and its punctuality."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.bench.measure import cpu_seconds, peak_mib, quiet, row, seconds, side_by_side
from tests.testbed import slow
from tests.toolchains.trees import CACHE, MISBEHAVIOUR, TOP, build_badgo

VERSION = "1.27.3"
CHECKS = ["goroot", "version", "stdlib", "cgroup", "gomaxprocs"]
TOLERANCE = 0.25
ATTRIBUTES = {
    "name": "a",
    "evr": "2-1",
    "full_nevra": "a-0:2-1.noarch",
    "action": "U",
    "direction": "IN",
    "repo_id": "r",
}
# What dnf5 replies to the gate: what is in the transaction, that none of it is Go's, and that it has written its log.
REPLIES = [{"trans_packages": [{**ATTRIBUTES, "location": "a.rpm"}]}, *[{"trans_packages": []}] * 2, {}]
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
    _unconcerned()
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
    """A gate's run of a Go that it has judged healthy before, one that judges everything, and one without Go."""
    if os.geteuid() != 0:
        print("  a light run and one without Go: not measured, since only root can put a Go in place")
        return
    source = folder / "healthy"
    subprocess.run(["cp", "-a", goroot, source], check=True)
    # No file may have changed a moment ago.
    subprocess.run(["sleep", "3"], check=True)
    version = [str(goroot / "bin/go"), "version"]
    for what, place, floor in (("light run", source, [python, version]), ("no Go", None, [python])):
        with _machine(folder, place) as inside:
            asked = _asked(inside, folder)
            seconds([asked])  # a full one, which is remembered
            a, b, ratio = side_by_side([asked], [[*inside, *command] for command in floor])
            row(what, a, "s")
            row("python3 -I -c pass" + ("; go version" if len(floor) > 1 else ""), b, "s")
            row("ratio", ratio, "", 2.5)
            row(f"CPU time, {what}", cpu_seconds(asked), "s")
            if place:
                forgetful = [*inside, "sh", "-c", 'rm /var/cache/go-health-hook/healthy; exec "$0" "$@"', *asked]
                row("CPU time, full run of a gate", cpu_seconds(forgetful), "s")
    with slow.cold_disk(VERSION) as cold, slow.throttled(cold, bytes_per_second=1 << 40) as group:
        with _machine(folder, cold) as inside:
            seconds([_asked(inside, folder)])
            slow.forget(cold)
            seconds([slow.inside(group, _asked(inside, folder))])
        row("read from a cold disk, light run", slow.bytes_read(group, cold) / 1e6, "MB", 25)


def _asked(inside: list[str], folder: Path) -> list[str]:
    """The command by which dnf5 asks the gate about an ordinary upgrade."""
    replies = folder / "replies"
    replies.write_text("".join(json.dumps({"op": "reply", "status": "OK", "return": r}) + "\n" for r in REPLIES))
    return [*inside, "sh", "-c", f"exec {folder}/usr/libexec/go-health-hook/gate dnf5 before $$ <{replies}"]


@contextmanager
def _machine(folder: Path, goroot: Path | None) -> Iterator[list[str]]:
    """The beginning of a command that sees that GOROOT in /usr/local/go, or none, and a gate's own folders empty."""
    put = f"mount --bind {goroot} /usr/local/go" if goroot else "true"
    script = f"mkdir -p /usr/local/go {PLACES} && for p in {PLACES}; do mount -t tmpfs -o mode=0755 x $p; done"
    script += f" && {put} && exec cat"
    missing = [path for path in ("/usr/local/go", *PLACES.split()) if not os.path.isdir(path)]
    try:
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            _await_exec(holder)
            yield ["nsenter", "--mount", f"--target={holder.pid}"]
            assert holder.stdin
            holder.stdin.close()
    finally:
        for path in missing:
            with suppress(OSError):
                os.rmdir(path)


def _unconcerned() -> None:
    """What the action before a download costs a command that it does not concern, by each shell that may be sh."""
    actions = (TOP / "conf/etc/dnf/libdnf5-plugins/actions.d/go-health-hook.actions").read_text()
    line = next(line for line in actions.splitlines() if line.startswith("goal_resolved:"))
    words = [str(os.getpid()) if word == "${pid}" else word for word in shlex.split(line.split(":", 4)[4])]
    for shell in ("dash", "bash"):
        path = shutil.which(shell)
        if path:
            taken = min(seconds([[path, *words[1:]]]) for _ in range(50))
            row(f"the action on goal_resolved, {shell}, not concerned", taken * 1000, "ms", 2)


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
