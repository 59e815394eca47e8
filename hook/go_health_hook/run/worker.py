# SPDX-License-Identifier: GPL-2.0-or-later
"""A forked child for what may block for ever, so that the process which asked can always leave in time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time

from go_health_hook.deadline import Deadline
from go_health_hook.errors import HookError
from go_health_hook.run import log
from go_health_hook.run.progress import tend
from go_health_hook.run.result import signal_name
from go_health_hook.run.scratch import sweep_scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

# How long one that was killed may take to go before it is left behind (seconds), and one that ends by itself.
REAP_SECONDS = 0.01
END_SECONDS = 0.2
SWEEP_SECONDS = 10
MOST_TOLD = 20  # processes that had not answered
FEW = 1024  # descriptors that are closed by number where /proc does not list them


LOOK = "look for a want of memory or a crash: journalctl -k, coredumpctl"


class Gone(Exception):
    """Whoever asked has left, as an updater on Ctrl-C: nobody waits for an answer."""


class Died(HookError):
    """A worker ended without an answer before its time: a fault of ours or of the machine, no proof of anything."""


def has_own_proc() -> bool:
    """Whether /proc is there and is that of this PID namespace: in another one its numbers name other processes."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The direct children of every thread of `pid`, as far as /proc tells."""
    found: list[int] = []
    if not has_own_proc():
        return found
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as listing:
                found += [int(word) for word in listing.read().split()]
    return found


def kill_tree(pid: int) -> None:
    """Kill `pid` and everything below it that can still be found."""
    below = children(pid)
    for child in below:
        kill_tree(child)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _tell_unanswered(worker: int) -> None:
    """Put into the journal what a worker that is to be ended waits for."""
    below = [worker]
    for pid in below:
        below += children(pid)
        if len(below) > MOST_TOLD:
            break
    for pid in below[1:]:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).replace(b"\0", b" ").decode("utf-8", "replace").strip()
            log.unanswered(f"had not answered when time ran out: {words}")
    if len(below) == 1:
        log.unanswered("had not answered when time ran out: a process of the hook that waits for no program")


def unless_stuck(work: Callable[[], Any], seconds: float, otherwise: Any) -> Any:
    """In a worker: return what `work` returns, or `otherwise` where it has not done so after `seconds`.

    It runs in a thread, which is left behind if a disk does not answer: a worker may be, its caller may not. Raises
    what `work` raises.
    """
    ended: list[Any] = []

    def attempt() -> None:
        try:
            ended.append((work(), None))
        except BaseException as error:
            ended.append((None, error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        return otherwise
    value, error = ended[0]
    if error is not None:
        raise error
    return value


def _let_go_of(keep: set[int]) -> None:
    """Close what was inherited, so that a worker left behind holds no pipe open on which somebody waits for its end."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:
        null = os.memfd_create("null")  # without /dev; little is written there
    for fd in range(3):
        os.dup2(null, fd)
    for fd in _descriptors():
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def _descriptors() -> Iterable[int]:
    """Return this process's descriptors, and without /proc all that there could be among the first ones."""
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return range(FEW)


def _heard(fd: int) -> Any:
    """Return the message that came through a pipe, or None where there was none."""
    import marshal

    data = os.read(fd, select.PIPE_BUF)
    os.close(fd)
    return marshal.loads(data) if data else None


_stays = False


def _die_with_parent(watched: int) -> None:
    """In a worker: wait until the parent is gone, however it went, then end with everything that was started."""
    os.read(watched, 1)
    if not _stays:
        kill_tree(os.getpid())


def stay(seconds: int) -> None:
    """In a worker: go on after the caller has left, for at most that long from now (see Worker.leave)."""
    global _stays
    _stays = True
    for number in ASKED_TO_END:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    log.release()


ASKED_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Worker:
    """A forked child that does what may block for ever, so that this process can always leave in time.

    A thread stuck in stat on a dead mount, or a child in uninterruptible sleep, keeps its process from ending; the
    worker is left behind in such a case and the caller is not. `work(send)` runs in the child; what it sends comes out
    of `messages()`, marshalled, so plain values only. One that `listens` is given a second function, which returns the
    one message of `tell`, or None where the caller has none or is gone.

    With `outlive` (seconds) it may go on after its caller has left, for at most that long. It then holds nothing of
    the caller's: an updater that waits for the end of its hook's streams, or has locked a file, is not kept waiting.
    Being asked to end does not end it sooner: once an updater that was refused has left, systemd sends SIGTERM to all
    that remains of its service. A worker may also come to that later, by `stay`; its caller then calls `leave`.
    """

    def __init__(self, work: Callable[..., None], outlive: int = 0, *, listens: bool = False) -> None:
        self.finished = False
        self.late = False
        self.outlive = outlive
        self._status: int | None = None
        self._buffer = b""
        self._fd, write = os.pipe2(os.O_CLOEXEC)
        watched, self._life = os.pipe2(os.O_CLOEXEC)
        heard, self._told = os.pipe2(os.O_CLOEXEC) if listens else (-1, -1)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._fd)
            os.close(self._life)
            self._hang_up()
            self._child(work, write, watched, heard, outlive)
        os.close(write)
        os.close(watched)
        if heard >= 0:
            os.close(heard)

    @staticmethod
    def _child(work: Callable[..., None], write: int, watched: int, heard: int, outlive: int) -> None:
        import marshal

        status = 1
        lock = threading.Lock()

        def send(message: object) -> None:
            data = marshal.dumps(message)  # type: ignore[arg-type]
            with lock:
                view = memoryview(len(data).to_bytes(4, "big") + data)
                while view:
                    view = view[os.write(write, view) :]

        try:
            for number in ASKED_TO_END:
                signal.signal(number, signal.SIG_IGN if outlive else signal.SIG_DFL)
            os.setsid()
            if outlive:
                _let_go_of(keep={write})
                stay(outlive)
            else:
                _let_go_of(keep={write, watched, heard, *log.kept()})
                threading.Thread(target=_die_with_parent, args=(watched,), daemon=True).start()
            work(send, *((lambda: _heard(heard),) if heard >= 0 else ()))
            status = 0
        except BaseException as error:  # a worker reports its own bug, since nobody above it can
            with contextlib.suppress(OSError):
                import traceback

                trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
                send(("bug", trace))
        finally:
            os._exit(status)

    def messages(self, deadline: Deadline, watched: Sequence[int] = ()) -> Iterator[Any]:
        """Yield what the worker sends until it ends (`finished` is then true) or the deadline comes.

        Raises Gone when the other end of a pipe in `watched` is closed.
        """
        import marshal

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        for fd in watched:
            poll.register(fd, 0)  # POLLHUP and POLLERR come all the same
        while True:
            while len(self._buffer) >= 4 and len(self._buffer) >= 4 + int.from_bytes(self._buffer[:4], "big"):
                size = int.from_bytes(self._buffer[:4], "big")
                message = marshal.loads(self._buffer[4 : 4 + size])
                self._buffer = self._buffer[4 + size :]
                yield message
            pause = tend(deadline)
            left = deadline.remaining()
            if left <= 0:
                self.late = True
                return
            ready = [fd for fd, _ in poll.poll(min(left, pause) * 1000 + 1)]
            if set(ready) & {*watched}:
                self.late = True
                raise Gone
            if ready:
                chunk = os.read(self._fd, 65536)
                if not chunk:
                    self.finished = True
                    return
                self._buffer += chunk

    def tell(self, message: object) -> bool:
        """Give one that listens its message; return False where it is too long for a pipe to take at once."""
        import marshal

        data = marshal.dumps(message)  # type: ignore[arg-type]
        if self._told < 0 or len(data) > select.PIPE_BUF:
            return False
        with contextlib.suppress(OSError):  # it has died, which its messages will tell
            os.write(self._told, data)
        self._hang_up()
        return True

    def _hang_up(self) -> None:
        if self._told >= 0:
            os.close(self._told)
            self._told = -1

    def leave(self) -> None:
        """Let a worker that stays go on by itself."""
        self.outlive = self.outlive or 1
        self.close()

    def close(self) -> None:
        """End the worker and all below it; one that cannot be ended, or may outlive us, is left behind."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if self.late and not self.finished and not self.outlive:
            _tell_unanswered(self.pid)  # before it sees its caller gone, and ends what it waits for by itself
        os.close(self._life)
        self._hang_up()
        if not self.finished:
            if self.outlive:
                return
            kill_tree(self.pid)
            if self.late:
                # By another worker that nobody waits for: a place may be on a disk that does not answer.
                Worker(lambda send: sweep_scratch(), outlive=SWEEP_SECONDS).close()
        limit = time.monotonic() + (END_SECONDS if self.finished else REAP_SECONDS)
        while time.monotonic() < limit:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return
            if pid:
                self._status = status
                return
            time.sleep(0.0005)

    def end(self) -> str:
        """Return how a worker that has `finished` ended, in words, after `close`; empty where it ended as it should."""
        if self._status is None:
            return "ended in an unknown way"
        if os.WIFSIGNALED(self._status):
            return f"was killed by {signal_name(os.WTERMSIG(self._status))}"
        code = os.WEXITSTATUS(self._status)
        return f"ended with status {code}" if code else ""


def bounded(work: Callable[[], Any], deadline: Deadline, otherwise: Any, *, dead: Any = Died) -> Any:
    """Return what `work` returns (plain values), done in a worker so that nothing in it can hold the caller up.

    `otherwise` is returned where time runs out, `dead` where the worker was killed or crashed; by default that raises
    Died. Raises RuntimeError for an exception of `work`.
    """
    worker = Worker(lambda send: send(("value", work())))
    try:
        for kind, value in worker.messages(deadline):
            if kind == "bug":
                raise RuntimeError(value)
            return value
    finally:
        worker.close()
    if not worker.finished:
        return otherwise
    if dead is not Died:
        return dead
    raise Died(f"a process of the hook {worker.end() or 'ended without an answer'}", hint=LOOK)
