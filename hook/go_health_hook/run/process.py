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
from go_health_hook.run import kernel_calls, log
from go_health_hook.run.command import Command
from go_health_hook.run.progress import tend
from go_health_hook.run.result import MAX_OUTPUT, Result
from go_health_hook.run.sandbox import (
    Sandbox,
    Unsandboxed,
    host,
    lower_limits,
    no_ids,
    root_owned_program,
)
from go_health_hook.run.scratch import remove_scratch
from go_health_hook.run.worker import children
from go_health_hook.text import clean, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# How long a killed process may take to go before it is left behind: one in uninterruptible sleep never goes.
REAP_SECONDS = 0.05
# The part of the time that is left in which a program has to begin.
BEGIN = 0.7
# What a machine lacks where it cannot start another program now (fork(2), execve(2), pipe(2)).
WANT = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EIO)
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
        if sandbox is not None:
            self.result.repeat = lambda: run_wider(argv, deadline, env=env, sandbox=sandbox, max_output=max_output)
        self.started = time.monotonic()
        self._start()

    def _start(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stdin = -1
        h = host()
        self.result.sandbox = h.describe() if self.sandbox is not None else ""
        try:
            self._command = Command(self.argv, self.env, self.sandbox)
        except OSError as error:
            raise _cannot_start("", error) from None
        if self.deadline.expired:
            self.result.timed_out = True
            self._command.close_status()
            return
        stdin = subprocess.DEVNULL
        limits = lower_limits() if self.sandbox is not None else contextlib.nullcontext()
        if self._command.scratch:
            with contextlib.suppress(OSError):
                kernel_calls.become_subreaper()
        try:
            if self.until:
                stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
                if self.sandbox is not None and h.as_root:
                    # Some programs open it by name, as /dev/stdin: it must then be theirs.
                    with contextlib.suppress(OSError):
                        os.fchown(stdin, h.uid, h.gid)
            with _lock, limits:
                self._process = subprocess.Popen(
                    self._command.argv,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=self._command.env,
                    cwd="/",
                    close_fds=True,
                    start_new_session=True,
                    **self._command.options,
                )
                _live[self._process.pid] = self._process
            log.started(self._command.argv)
        except (OSError, subprocess.SubprocessError) as error:
            self._not_started(error)
        finally:
            if stdin >= 0:
                os.close(stdin)
            self._command.started()

    def _not_started(self, error: Exception) -> None:
        """Take note of why nothing was started. Raises Unsandboxed: what is started first is never the toolchain's."""
        why = clean(getattr(error, "strerror", "") or str(error))
        if self.sandbox is None:
            self.result.error = f"could not be started: {why}"
            return
        number = getattr(error, "errno", 0)
        helpers = self._command.helpers
        self._command.close_status()
        self._finish()
        if not helpers and number in (errno.EPERM, errno.EINVAL):
            raise no_ids(why) from None
        if number in WANT or not self._do_with_less(why):
            raise _cannot_start(helpers[0] if helpers else "", error) from None
        self._start()

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
        command = self._command
        said = command.close_status()
        begun = command.begun(self.result.stderr)
        if begun:
            self.result.stderr = self.result.stderr[len(command.mark) :]
            unmarked = self.sandbox is not None and not command.mark
            if unmarked and not self.result.ok and not self.result.timed_out:
                begun = b"exit-code" in said or self.result.stderr.startswith(b"bwrap: execvp ")
        self._finish()
        if begun:
            for helper in command.helpers:
                host().proven.add(helper)
            if unmarked and self.result.status == 1 and b"exit-code" not in said and said:
                # The view stands; it is the program that cannot be executed. Shells call that 127 (execve(2), sh(1)).
                self.result.status = 127
            return self.result
        return self._not_begun()

    def _not_begun(self) -> Result:
        """A helper failed, hung or did something else: run it again with fewer of them. Raises Unsandboxed."""
        names = " or ".join(self._command.helpers) or "the shell"
        if self.result.timed_out:
            raise Unsandboxed(
                f"{names} did not start a program within {self.result.elapsed_s:.1f} s",
                hint="try again when the machine is less busy",
            )
        why = first_line(self.result.stderr) or self.result.why()
        if not self._do_with_less(why):
            if host().as_root and self._command.helpers[-1:] == ["setpriv"]:
                raise no_ids(why)
            raise Unsandboxed(f"{names} cannot start a program here: {why}", hint=f"see {names}(1)")
        repeat, self.result = self.result.repeat, Result(self.argv)
        self.result.repeat = repeat
        self._start()
        return self.wait()

    def _do_with_less(self, why: str) -> bool:
        """Change what this machine is taken to offer, after a helper said `why`; False where nothing is left to try.

        A helper that has worked is not done without: what fails now may be a passing want, and a toolchain is not run
        with less around it than the last one.
        """
        h = host()
        helpers = self._command.helpers
        with _lock:
            # Others that run side by side may have met the same and changed it already.
            unknown = next((i for i, o in enumerate(self._command.asked) if f"nknown option {o}" in why), -1)
            if unknown >= 0:
                h.knows = h.knows[:unknown]  # nor what is younger
                return True
            if not helpers or (self.sandbox is not None and self.sandbox.needs_view):
                return False
            if "bwrap" in helpers and "bwrap" not in h.proven:
                h.bwrap = ""
                return True
            if helpers == ["setpriv"] and "setpriv" not in h.proven:
                h.setpriv = ""
                return True
        return False

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
        # Helpers that hang are given up while there is time to say so.
        mark = self._command.mark
        waiting = self.deadline.within(self.deadline.remaining() * BEGIN) if mark else None
        try:
            while not done and (pending or (exited >= 0 and process.returncode is None)):
                pause = tend(self.deadline)
                left = self.deadline.remaining()
                if waiting and self._command.begun(bytes(streams[err][:100])):
                    waiting = None
                if waiting is not None:
                    left = min(left, waiting.remaining())
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
        elif self.sandbox is None or self._command.scratch:
            _kill_group(process.pid)
        with _lock:
            _live.pop(process.pid, None)
        if self._command.scratch:
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
        log.ended(self.result, time.monotonic() - self.started)

    def _finish(self) -> None:
        self._close_stdin()
        self.result.elapsed_s = time.monotonic() - self.started
        if self._command.scratch:
            remove_scratch(self._command.scratch)
            self._command.scratch = ""


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


def run_wider(argv: Sequence[str], deadline: Deadline, *, sandbox: Sandbox, **options: Any) -> Result:
    """Run `argv` in a view of more of the machine, or in its own where such a view cannot be made. Raises Unsandboxed.

    A folder that bubblewrap cannot show, as one with a dead mount below it, says nothing about the program.
    """
    try:
        return run(argv, deadline, sandbox=sandbox.wider(), **options)
    except Unsandboxed:
        return run(argv, deadline, sandbox=sandbox, **options)


def attend(argv: Sequence[str], env: dict[str, str], through: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a person's own program in our process group; the streams in `through` are pipes, the others are ours.

    For run/attended.py, which looks after it. Raises OSError where it cannot be started.
    """
    pipes = dict.fromkeys(through, subprocess.PIPE)
    return subprocess.Popen(list(argv), env=env, close_fds=True, **pipes)  # type: ignore[call-overload,no-any-return]


def _cannot_start(helper: str, error: Exception) -> Unsandboxed:
    why = clean(getattr(error, "strerror", "") or str(error))
    what = f"{helper}: {why}" if helper else why
    return Unsandboxed(f"cannot start a program here: {what}", hint="see what this machine lacks, and judge Go again")


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
