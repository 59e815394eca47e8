# SPDX-License-Identifier: GPL-2.0-or-later
"""The one runner of programs: bounded in time and output, sandboxed, unprivileged, killed with all that it started.

Nothing else in the package starts a process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import threading
import time

from go_health_hook.deadline import Deadline
from go_health_hook.run.progress import tend
from go_health_hook.run.result import MAX_OUTPUT, Result
from go_health_hook.run.sandbox import (
    TEMPORARY,
    Sandbox,
    Unsandboxed,
    host,
    lower_limits,
    no_ids,
    root_owned_program,
)
from go_health_hook.run.scratch import remove_scratch, scratch_directory
from go_health_hook.run.view import drop_ids, view
from go_health_hook.run.worker import children
from go_health_hook.text import clean, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# How long a killed process may take to go before it is left behind: one in uninterruptible sleep never goes.
REAP_SECONDS = 0.05
CLEAN_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


_lock = threading.Lock()
_live: dict[int, subprocess.Popen[bytes]] = {}


class Running:
    """A started program. The thread that started it must also wait for it: its death takes the program with it.

    Its standard input is empty; with `until` it is held open instead, until that is true of what the program has said.
    """

    def __init__(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        *,
        env: dict[str, str] | None = None,
        sandbox: Sandbox | None = None,
        until: Callable[[bytes], bool] | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> None:
        self.argv = list(argv)
        self.deadline = deadline
        self.env = {**CLEAN_ENVIRONMENT, **(env or {})}
        self.sandbox = sandbox
        self.until = until
        self.max_output = max_output
        self.result = Result(argv)
        self.started = time.monotonic()
        self._start()

    def _start(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = ""
        self._asked: list[str] = []
        self._status_read = self._status_write = -1
        self._stdin = -1
        h = host()
        command = list(self.argv)
        options: dict[str, Any] = {}
        env = dict(self.env)
        limits: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.sandbox is not None:
            limits = lower_limits()
            self.result.sandbox = h.describe()
            if h.bwrap:
                self._asked = list(h.knows)
                self._status_read, self._status_write = os.pipe2(os.O_CLOEXEC)
                command = view(self.sandbox, command, self._status_write)
                options["pass_fds"] = (self._status_write,)
            else:
                if self.sandbox.needs_view:
                    raise Unsandboxed("cannot run a program of another root here", hint="install bubblewrap")
                _become_subreaper()
                self._scratch = scratch_directory()
                env = {
                    k: v.replace("/tmp/", self._scratch + "/", 1) if k in TEMPORARY and v.startswith("/tmp/") else v
                    for k, v in env.items()
                }
                if h.setpriv:
                    drop = drop_ids() if h.as_root else [h.setpriv, "--no-new-privs"]
                    command = [*drop, "--pdeathsig=KILL", *command]
                elif h.as_root:
                    options.update(user=h.uid, group=h.gid, extra_groups=[])
        if self.deadline.expired:
            self.result.timed_out = True
            self._close_status()
            return
        stdin = subprocess.DEVNULL
        if self.until:
            stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
            if self.sandbox is not None and h.as_root:
                # Some programs open it by name, as /dev/stdin: it must then be theirs.
                os.fchown(stdin, h.uid, h.gid)
        try:
            with _lock, limits:
                self._process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=env,
                    cwd="/",
                    close_fds=True,
                    start_new_session=True,
                    **options,
                )
                _live[self._process.pid] = self._process
        except (OSError, subprocess.SubprocessError) as error:
            if "user" in options and getattr(error, "errno", 0) in (errno.EPERM, errno.EINVAL):
                self._finish()
                raise no_ids(str(error)) from None
            self.result.error = f"could not be started: {clean(getattr(error, 'strerror', '') or str(error))}"
            h.struck = True
        finally:
            if stdin >= 0:
                os.close(stdin)
        if self._status_write >= 0:
            os.close(self._status_write)
            self._status_write = -1

    def wait(self) -> Result:
        """Return how it ended; never later than the deadline and REAP_SECONDS. Raises Unsandboxed."""
        process = self._process
        if process is None:
            self._finish()
            return self.result
        try:
            self._converse(process)
        finally:
            self._end(process)
        if self._setup_failed():
            return self._without_view()
        self._finish()
        said = first_line(self.result.stderr)
        # What setpriv says of its own work; that it could not execute the program is about the program.
        if self.result.status and said.startswith("setpriv: ") and "failed to execute" not in said:
            raise no_ids(said)
        return self.result

    def _converse(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout and process.stderr
        streams = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        out, err = process.stdout.fileno(), process.stderr.fileno()
        poll = select.poll()
        for fd in streams:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        # The end of the program counts, not the end of its pipes: a child that it left behind may hold those open.
        exited = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                exited = os.pidfd_open(process.pid)
                poll.register(exited, select.POLLIN)
        pending = set(streams)
        done = False
        try:
            while not done and (pending or (exited >= 0 and process.returncode is None)):
                pause = tend(self.deadline)
                left = self.deadline.remaining()
                if left <= 0:
                    self.result.timed_out = True
                    break
                events = poll.poll(min(left, pause if exited >= 0 else 0.02) * 1000 + 1)
                if exited < 0 and process.poll() is not None:
                    done = True
                for fd, _ in events:
                    if fd == exited:
                        done = True
                done = self._drain([fd for fd in pending if done or fd in dict(events)], streams, pending, poll) or done
                if self._stdin >= 0 and self.until and self.until(bytes(streams[err]) + bytes(streams[out])):
                    self._close_stdin()
        finally:
            if exited >= 0:
                os.close(exited)
            self.result.stdout, self.result.stderr = bytes(streams[out]), bytes(streams[err])

    def stop(self) -> None:
        """Kill it, from any thread; `wait` in its own thread returns soon afterwards."""
        process = self._process
        with _lock:
            if process is not None and process.pid in _live:
                _kill_group(process.pid)

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _drain(self, ready: list[int], streams: dict[int, bytearray], pending: set[int], poll: select.poll) -> bool:
        """Read what has come; True when the program has written more than it may."""
        for fd in ready:
            while True:
                try:
                    chunk = os.read(fd, 65536)
                except BlockingIOError:
                    break
                except OSError:
                    chunk = b""
                if not chunk:
                    pending.discard(fd)
                    poll.unregister(fd)
                    break
                streams[fd] += chunk
                if len(streams[fd]) > self.max_output:
                    del streams[fd][self.max_output :]
                    self.result.overflow = True
                    return True
        return False

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Reap it, or kill it with its group and what escaped from the group; take its status."""
        cut = self.result.timed_out or self.result.overflow
        if not cut:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(self.deadline.remaining(), 3600.0) + 0.001)
        if process.returncode is None:
            if not cut:
                self.result.timed_out = True
                cut = True
            _kill_group(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REAP_SECONDS)
        elif self.sandbox is None or self._scratch:
            _kill_group(process.pid)
        with _lock:
            _live.pop(process.pid, None)
        if self._scratch:
            _kill_strays()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        code = process.returncode
        if not cut and code is not None:
            if code < 0:
                self.result.signal = -code
                host().struck = True
            elif self.sandbox is not None and code > 128:
                self.result.signal = code - 128  # bubblewrap and shells report a signal so
                host().struck = True
            else:
                self.result.status = code

    def _close_status(self) -> bytes:
        said = b""
        if self._status_read >= 0:
            os.set_blocking(self._status_read, False)
            with contextlib.suppress(OSError):
                said = os.read(self._status_read, 4096)
            os.close(self._status_read)
            self._status_read = -1
        if self._status_write >= 0:
            os.close(self._status_write)
            self._status_write = -1
        return said

    def _setup_failed(self) -> bool:
        """Whether bubblewrap ended before the program began: it reports an exit code only once its view stands."""
        used = self._status_read >= 0
        said = self._close_status()
        if not used or self.result.timed_out or self.result.overflow:
            return False
        if self.result.ok or b"exit-code" in said:
            host().viewed = True
            return False
        if self.result.stderr.startswith(b"bwrap: execvp "):
            # The view stands; it is the program that cannot be executed. Shells call that 127 (execve(2), sh(1)).
            self.result.status = 127
            return False
        return True

    def _without_view(self) -> Result:
        """Run it again with what this machine's bubblewrap can do: an old one, or none."""
        h = host()
        said = first_line(self.result.stderr)
        with _lock:
            # Others that run side by side may have met the same and changed it already.
            unknown = next((i for i, option in enumerate(self._asked) if f"nknown option {option}" in said), -1)
            if unknown >= 0:
                h.knows = h.knows[:unknown]  # nor what is younger
            elif self.sandbox is not None and self.sandbox.needs_view:
                raise Unsandboxed(f"cannot show a program another root here: {said}", hint="see bwrap(1)")
            elif h.viewed:
                # It works here: what fails now is not to run a toolchain with less around it than the last one.
                raise Unsandboxed(f"cannot make a view for a program any more: {said}", hint="see bwrap(1)")
            else:
                h.bwrap = ""
        self._close_stdin()
        self.result = Result(self.argv)
        self._start()
        return self.wait()

    def _finish(self) -> None:
        self._close_stdin()
        self.result.elapsed_s = time.monotonic() - self.started
        if self._scratch:
            remove_scratch(self._scratch)
            self._scratch = ""


def run_host(name: str, arguments: Sequence[str], deadline: Deadline) -> Result:
    """Run a program that manages this machine, as `ostree`: root's own, as the caller, unsandboxed, bounded.

    Raises nothing; where it is not installed the Result's `error` says so.
    """
    program = root_owned_program(name)
    if not program:
        result = Result([name, *arguments])
        result.error = "is not installed"
        return result
    return run([program, *arguments], deadline)


def has_host(name: str) -> bool:
    """Whether a program that `run_host` would run is installed."""
    return bool(root_owned_program(name))


def start(argv: Sequence[str], deadline: Deadline, **options: Any) -> Running:
    """Start `argv` (options: see Running) and return at once; `.wait()` gives the Result."""
    return Running(argv, deadline, **options)


def run(argv: Sequence[str], deadline: Deadline, **options: Any) -> Result:
    """Run `argv` to its end or the deadline's (options: see Running); the Result says it all. Raises Unsandboxed."""
    return Running(argv, deadline, **options).wait()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _kill_strays() -> None:
    """Kill what a program without a view of its own left behind: its orphans have become our children."""
    for _ in range(50):  # each round kills a generation; a program that forks faster than that meets its process limit
        with _lock:
            strays = [pid for pid in children(os.getpid()) if pid not in _live]
            for pid in strays:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        if not strays:
            return
        for pid in strays:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.001)


def _prctl(option: int, value: int) -> None:
    """Call prctl(2); where ctypes is not to be had the process does without."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def _become_subreaper() -> None:
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
