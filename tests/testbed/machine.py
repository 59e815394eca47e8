# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine made of a root and a throw-away layer over it: namespaces of its own, entered in milliseconds, no network.

    with Machine(root) as machine:
        machine.run("dnf5 -y upgrade")

Everything in it hangs on one process, which ends when its standard input does: so nothing outlives the test, however
the test ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tests.testbed import cache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
REPOSITORIES = "/srv/repositories"  # where every machine finds those of the cache, also the ones made after it

# First arguments: an empty folder to mount on, the lower layers, the folder for the changes (empty: in memory); then
# pairs of a host folder and where it is seen. Prints its process number as the host counts it, at last "ready".
HOLD = r"""
set -eu
top=$1 lower=$2 changes=$3
shift 3
read -r pid rest </proc/self/stat
echo "$pid"
echo testbed >/proc/sys/kernel/hostname
ip link set lo up
if [ -z "$changes" ]; then
    mount -t tmpfs -o mode=0755 testbed "$top"
    changes=$top
    mkdir "$top/root"
    root=$top/root
else
    root=$top
fi
mkdir -p "$changes/upper" "$changes/work"
mount -t overlay -o "lowerdir=$lower,upperdir=$changes/upper,workdir=$changes/work" testbed "$root"
while [ $# -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
done
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=0755 run run
mkdir -p -m 1777 run/lock
mkdir -p .host
pivot_root . .host
# Orphans come to the first process: bash takes them away while it reads, where other shells would end.
exec bash -c 'umount -l /.host && rmdir /.host && echo ready && read -r end; :'
"""


class Root(NamedTuple):
    """A file system to start from: its layers, the topmost first."""

    name: str
    layers: tuple[Path, ...]

    def key(self) -> str:
        return "\n".join(layer.parent.name for layer in self.layers)


class Failed(AssertionError):
    """A command in a machine ended as it should not have; the message carries what it wrote."""

    def __init__(self, command: str, what: str, stdout: str, stderr: str) -> None:
        super().__init__(f"{command}\n{what}\n{stdout}{stderr}")


class Machine:
    """One machine. `binds` are more host folders to be seen inside, read-only: {"/inside": host}."""

    def __init__(self, root: Root, binds: Mapping[str, Path] | None = None, changes: Path | None = None) -> None:
        self.root = root
        self.binds = dict(binds or {})
        self.changes = changes  # where what is written is kept; in memory if nothing is said
        self.pid = 0  # the first process inside, as the host counts it
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Machine:
        top = cache.home() / "testbed" / ".machine"
        repositories = cache.home() / "testbed" / "repositories"
        for folder in (top, repositories):
            folder.mkdir(parents=True, exist_ok=True)
        lower = ":".join(str(layer) for layer in self.root.layers)
        binds = {REPOSITORIES: repositories, **self.binds}
        arguments = [top, lower, self.changes or "", *(a for inside, host in binds.items() for a in (host, inside))]
        namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        self.holder = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", HOLD, "sh", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert self.holder.stdout
            self.pid = int(self.holder.stdout.readline() or 0)
            ready = self.holder.stdout.readline()
        except BaseException:
            self.close()
            raise
        if ready != "ready\n":
            said = self.close()
            raise Failed("a machine from " + self.root.name, "did not start", "", said)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> str:
        """Ends every process in the machine and with them its mounts; what the first process had to say."""
        try:
            said = self.holder.communicate()[1]
        except BaseException:
            self.holder.kill()
            self.holder.wait()
            raise
        for process in self.started:
            with process:  # waits, which is short now, and closes what it was read from
                pass
        return said

    def start(
        self,
        command: str | Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        cgroup: Path | None = None,
    ) -> subprocess.Popen[str]:
        """A command going on inside; a text is for the shell. `env` adds to a clean environment.

        `cgroup` is the folder of the control group that it starts in, ours if none is named.
        """
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        if cwd != "/":
            words = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', cwd, *words]
        join = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(cgroup)] if cgroup else []
        enter = [*join, "nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--ipc", "--uts"]
        process = subprocess.Popen(
            [*enter, "--", *words],
            env={**ENVIRONMENT, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(
        self,
        command: str | Sequence[str],
        timeout: float = 300,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        cwd: str = "/",
        stdin: str | None = None,
        cgroup: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """What the command left. Past `timeout` seconds every process of the machine is killed.

        Raises Failed where that happens and, unless `check` is off, when the command's status is not 0.
        """
        said = command if isinstance(command, str) else shlex.join(command)
        source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        process = self.start(command, env, cwd, source, cgroup=cgroup)
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise Failed(said, f"was not done in {timeout} s", *process.communicate()) from None
        except BaseException:
            self.kill_all()
            process.communicate()
            raise
        if check and process.returncode:
            raise Failed(said, f"ended with status {process.returncode}", stdout, stderr)
        return subprocess.CompletedProcess(said, process.returncode, stdout, stderr)

    def kill_all(self) -> None:
        """Kills what runs inside, but for the first process, and waits until it is gone."""
        with contextlib.ExitStack() as opened:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    process = os.pidfd_open(pid)
                    opened.callback(os.close, process)
                    os.kill(pid, signal.SIGKILL)
                    select.select([process], [], [])

    def processes(self) -> dict[int, str]:
        """The commands that run inside, but for the first process, by process number as the host counts it."""
        mine = os.stat(f"/proc/{self.pid}/ns/pid").st_ino
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.pid:
                continue
            with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
                ended = (entry / "stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
                if os.stat(entry / "ns/pid").st_ino == mine and not ended:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    found[int(entry.name)] = b" ".join(words).decode(errors="backslashreplace").strip()
        return found

    def path(self, inside: str) -> Path:
        """Where the host finds a file of the machine. Links on the way are followed as inside, the last part is not."""
        left = list(reversed(PurePosixPath(inside).parts[1:]))
        base = Path(f"/proc/{self.pid}/root")
        here = base
        while left:
            part = left.pop()
            if part == "..":
                here = here if here == base else here.parent
            elif left and (here / part).is_symlink():
                target = PurePosixPath(os.readlink(here / part))
                here = base if target.is_absolute() else here
                left += [p for p in reversed(target.parts) if p != "/"]
            else:
                here /= part
        return here

    def read(self, inside: str) -> str:
        return self.path(inside).read_text(encoding="utf-8", errors="backslashreplace")

    def write(self, inside: str, text: str, mode: int = 0o644) -> Path:
        """Writes a file, its folders with it; where the host finds it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path
