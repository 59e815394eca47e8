# SPDX-License-Identifier: GPL-2.0-or-later
"""Where bench measures: a folder, caches and quotas of its own, of which nothing is left however bench ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time

from go_health_hook.cpu import _limits
from go_health_hook.deadline import Deadline
from go_health_hook.go import toolchain as toolchains
from go_health_hook.go.versions import parse_version
from go_health_hook.linux import cgroup
from go_health_hook.records import Record
from go_health_hook.run import process
from go_health_hook.run.sandbox import host
from go_health_hook.run.worker import children, kill_tree
from go_health_hook.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from go_health_hook.go.toolchain import Toolchain

CELL = 300.0  # seconds one measurement may take
PERIOD_US = 100_000
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sieve", "main.go")
PACKAGES = os.path.abspath(__file__).rsplit("/", 3)[0]
BUILT, WARM, COLD = "built", "go run", "go run, cold"
REPEATS = {BUILT: 3, WARM: 3, COLD: 1}
# What runs in the sandbox: the clock around the command, and the CPU time of what it started (times, POSIX).
TIMED = 'cd "$1" || exit; shift; s=$(date +%s%N); "$@" || exit; e=$(date +%s%N); echo "took $((e - s))"; times'
FOLDERS, PREFIX = "/var/tmp", "go-health-hook-bench-"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GONE_SECONDS = 2.0  # how long what is killed may take to be gone


class Cell(Record):
    """One thing to measure: a quota (percent, or None), how the program is run, and its GOMAXPROCS (or None)."""

    quota: int | None
    how: str
    gomaxprocs: int | None
    label: str


class Bench:
    """A folder with the program, its caches, and the means to set quotas."""

    def __init__(self, toolchain: Toolchain, deadline: Deadline) -> None:
        self.toolchain = toolchain
        self.deadline = deadline
        self.version = parse_version((toolchain.read("VERSION") or "").split("\n", 1)[0]).name
        self.folder = ""
        self.means = ""
        self.group = ""
        self._lock = -1

    def __enter__(self) -> Bench:
        _sweep()
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and a shell's background have it
                signal.signal(number, self._ended)
        self.folder = tempfile.mkdtemp(prefix=PREFIX, dir=FOLDERS)
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for name in ("src", "warm", "cold"):
            os.mkdir(f"{self.folder}/{name}")
        shutil.copy(SOURCE, f"{self.folder}/src/main.go")
        line = parse_version(self.version).language or "1.21"
        with open(f"{self.folder}/src/go.mod", "w", encoding="ascii") as file:
            file.write(f"module sieve\n\ngo {line}\n")
        if os.geteuid() == 0:
            # The folder itself stays root's, so that nobody else of that name can put anything in the others' place.
            os.chmod(self.folder, 0o755)  # noqa: S103
            for path in ("src/main.go", "src/go.mod", "src", "warm", "cold"):
                os.chown(f"{self.folder}/{path}", host().uid, host().gid, follow_symlinks=False)
        return self

    def __exit__(self, *_: object) -> None:
        for number in ENDING:
            if signal.getsignal(number) == self._ended:
                signal.signal(number, signal.SIG_DFL)
        self._clean()

    def _ended(self, number: int, _: object) -> NoReturn:
        """End at once: a measurement would go on for minutes."""
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        limit = time.monotonic() + GONE_SECONDS
        while (below := children(os.getpid())) and time.monotonic() < limit:
            for pid in below:
                kill_tree(pid)
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.005)
        self._clean()
        print(f"go-health-hook: ended by {signal.Signals(number).name}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(128 + number)

    def _clean(self) -> None:
        limit = time.monotonic() + GONE_SECONDS
        while self.folder and os.path.exists(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)  # what is being killed may still write to it
            if time.monotonic() > limit:
                break
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        while self.group and os.path.exists(self.group):
            with contextlib.suppress(OSError):
                os.rmdir(self.group)
                break
            if time.monotonic() > limit:
                break
            time.sleep(0.005)

    def no_quotas(self) -> str:
        """Find a way to set quotas; why there is none, or an empty string."""
        chain = cgroup.read_chain()
        if os.path.isdir("/run/systemd/system") and os.path.exists("/usr/bin/systemd-run"):
            done = process.run([*self._scope(100), "/bin/true"], self.deadline.within(20.0), env=_limits.bus())
            if done.ok:
                self.means = "a systemd scope"
                return ""
            if os.geteuid() != 0:
                return f"systemd-run {done.why()}"
        if os.geteuid() != 0:
            return "no systemd to set a quota, and only root can make a cgroup"
        top = chain.levels[-1] if chain.levels else None
        if top is None:
            return "no cgroup with the CPU controller can be seen here"
        group = f"{top.directory.rstrip('/')}/{PREFIX}{os.getpid()}"
        try:
            _sweep_groups(top.directory)
            os.mkdir(group)
            self.group = group
            quota = "cpu.max" if chain.version == 2 else "cpu.cfs_quota_us"
            if not os.path.exists(f"{group}/{quota}"):
                return "the CPU controller is not handed down to new cgroups here"
        except OSError as error:
            return f"no cgroup can be made below {top.directory}: {error.strerror}"
        self.means = "a cgroup of its own"
        return ""

    def _scope(self, quota: int) -> list[str]:
        user = [] if os.geteuid() == 0 else ["--user"]
        return ["/usr/bin/systemd-run", *user, "--scope", "--quiet", "--collect", "-p", f"CPUQuota={quota}%", "--"]

    def _placed(self, quota: int | None, argv: list[str]) -> list[str]:
        """The command that runs another under a quota."""
        if quota is None:
            return argv
        if not self.group:
            return [*self._scope(quota), *argv]
        if os.path.exists(f"{self.group}/cpu.max"):
            _put(f"{self.group}/cpu.max", f"{quota * PERIOD_US // 100} {PERIOD_US}")
        else:
            _put(f"{self.group}/cpu.cfs_quota_us", str(quota * PERIOD_US // 100))
        return ["/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.group, *argv]

    def measure(self, cells: list[Cell], progress: Callable[[int, str], None]) -> list[dict[str, Any]]:
        """A row for each cell; one that fails carries its error."""
        rows: list[dict[str, Any]] = []
        progress(0, "building, with an empty cache")
        self._run(None, "build", None)
        for i, cell in enumerate(cells):
            quota = "no quota" if cell.quota is None else f"quota {cell.quota}%"
            progress(i, f"{cell.how}, {quota}, GOMAXPROCS {cell.gomaxprocs or 'default'}")
            runs = [self._run(cell.quota, cell.how, cell.gomaxprocs) for _ in range(REPEATS[cell.how])]
            errors = [run["error"] for run in runs if run["error"]]
            row = {"quota_percent": cell.quota, "how": cell.how, "label": cell.label, "error": None}
            row.update({"error": errors[0]} if errors else _medians(runs))
            rows.append(row)
        progress(len(cells), "")
        return rows

    def _run(self, quota: int | None, how: str, gomaxprocs: int | None) -> dict[str, Any]:
        wanted = {"goroot": self.toolchain.goroot, "folder": self.folder, "how": how, "gomaxprocs": gomaxprocs}
        code = f"import sys; sys.path.insert(0, {PACKAGES!r}); "
        code += "sys.dont_write_bytecode = True; from go_health_hook.cpu._measuring import cell; cell(sys.argv[1])"
        argv = [sys.executable, "-I", "-c", code, json.dumps(wanted)]
        done = process.run(self._placed(quota, argv), self.deadline.within(CELL), env=_limits.bus())
        if not done.ok:
            return {"error": done.why()}
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def _sweep() -> None:
    """Remove the folders that were left by a bench that was killed; one that runs has its folder locked."""
    for name in os.listdir(FOLDERS):
        if not name.startswith(PREFIX):
            continue
        with contextlib.suppress(OSError):
            fd = os.open(f"{FOLDERS}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_uid == os.geteuid():
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(f"{FOLDERS}/{name}", ignore_errors=True)
            finally:
                os.close(fd)


def _sweep_groups(directory: str) -> None:
    """Remove the empty cgroups of a bench that was killed."""
    for name in os.listdir(directory):
        pid = name[len(PREFIX) :]
        if name.startswith(PREFIX) and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            with contextlib.suppress(OSError):
                os.rmdir(f"{directory}/{name}")


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure the middle one; the more so as the slowest burst and the slowest run need not go together."""
    keys = [key for key in runs[0] if key != "error" and all(key in run for run in runs)]
    return {key: sorted(run[key] for run in runs)[len(runs) // 2] for key in keys}


def _put(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def cell(wanted: str) -> None:
    """What the process in the place to measure does: measure once, and print what was found as JSON."""
    print(json.dumps(_measure(json.loads(wanted))))


def _measure(wanted: dict[str, Any]) -> dict[str, Any]:
    """In the place to measure: run the program once, and say what it took."""
    deadline = Deadline(CELL)
    toolchain = toolchains.find(Subject(), wanted["goroot"])
    if toolchain is None or not toolchain.runnable:
        return {"error": "the toolchain is gone"}
    folder, how = wanted["folder"], wanted["how"]
    inside = "/tmp/writable" if host().bwrap else folder
    env = {"GOCACHE": f"{inside}/{'cold' if how == COLD else 'warm'}", "HOME": "/nonexistent"}
    if how == COLD:
        shutil.rmtree(f"{folder}/cold")
        os.mkdir(f"{folder}/cold")
        if os.geteuid() == 0:
            os.chown(f"{folder}/cold", host().uid, host().gid)
    if wanted["gomaxprocs"]:
        env["GOMAXPROCS"] = str(wanted["gomaxprocs"])
    command = [f"{inside}/src/sieve"] if how == BUILT else [toolchain.go, "run", "."]
    if how == "build":
        command = [toolchain.go, "build", "-o", f"{inside}/src/sieve", "."]
    chain = cgroup.read_chain()
    before = _limits.stat_of(chain.tightest)
    running = toolchain.start(
        ["/bin/sh", "-c", TIMED, "sh", f"{inside}/src", *command],
        deadline,
        env=env,
        sandbox=toolchain.sandbox(folder),
    )
    done = running.wait()
    after = _limits.stat_of(chain.tightest)
    if not done.ok:
        return {"error": done.why()}
    said = dict(field.partition("=")[::2] for field in done.out.split() if "=" in field)
    lines = done.out.splitlines()
    took = next((line.split()[1] for line in lines if line.startswith("took ")), "0")
    row: dict[str, Any] = {"error": None, "wall_s": int(took) / 1e9, "cpu_s": _times(lines[-1])}
    if before and after and after.periods is not None:
        row["periods"] = after.periods - (before.periods or 0)
        row["throttled"] = (after.throttled or 0) - (before.throttled or 0)
    for key in ("sieve_us", "p50_us", "p99_us", "gomaxprocs"):
        if key in said:
            row[key] = int(said[key])
    return row


def _times(line: str) -> float:
    """The user and system time of children, seconds: the second line of times, "0m1.230s 0m0.040s"."""
    total = 0.0
    for word in line.split():
        minutes, _, seconds = word.rstrip("s").partition("m")
        total += 60 * float(minutes) + float(seconds)
    return total
