# SPDX-License-Identifier: GPL-2.0-or-later
"""Tell slow from hung: how long the machine kept the processes of a run waiting for a CPU or for a disk that delivers.

The outermost process looks at itself and all its descendants from outside, in /proc, and credits their waits to the
deadline. Sources: Documentation/scheduler/sched-stats.rst (schedstat), proc_pid_stat(5) and proc_pid_io(5). Pressure
stall information would say less, and EL has it switched off.
"""

from __future__ import annotations

import os
import threading
import time

from go_health_hook.deadline import DOUBT, IDLE, NEXT, RAN
from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.deadline import Clock, Deadline

TICK = 1.0 / os.sysconf("SC_CLK_TCK")
FIRST = 0.1  # a healthy run on a healthy machine is nearly over by then (seconds)
OFTEN, SELDOM = 0.05, 1.0  # between two looks
SHARE = 0.05  # what looking may take of the CPU that the processes are given
LAST = 0.25  # so long before the end, there is another look: workers end sooner than whoever waits for them
LATE = 0.1  # a look that comes so much later than it was to shows that this process, too, was kept waiting
# Waits of processes that began and ended between two looks are not seen. Where some process was ready to run at both,
# the waits that were seen stand for so many times as much.
UNSEEN = 8.0
# The user of programs where there is none of our own; other services share it.
NOBODY = 65534
MAX_PROCESSES = 500
# The "state" of the thread that looks. Its own waits count where it has work to do: CPU seconds in an interval.
LOOKING, WORK = "-", 0.01


class Thread(Record):
    """A thread at one moment: seconds it has run and has waited for a CPU, and its state's letter."""

    ran: float
    waited: float
    state: str


class Process(Record):
    """A process at one moment: its threads, its CPU seconds with those of ended children, and what it has read.

    `faults` are its major faults. `read` is what it has read, in bytes, where it is in state D; None where that may not
    be known.
    """

    threads: dict[int, Thread]
    cpu: float = 0.0
    faults: int = 0
    read: int | None = None

    def any_in(self, state: str) -> bool:
        """Whether a thread of it is in that state."""
        return any(thread.state == state for thread in self.threads.values())


Sample = dict[int, Process]


class Account:
    """The waits of a run, kept from sample to sample. Pure: it reads no file and no clock."""

    def __init__(self) -> None:
        self.credit = 0.0  # seconds kept waiting by the machine, so far
        self.ran = 0.0  # seconds in which a CPU was had
        self.idle = 0.0  # the longest time without a break in which every thread was seen asleep
        self.for_cpu = False  # whether the last interval was spent waiting for a CPU, mostly
        self.share = 1.0  # of a CPU that was had in the last interval
        self._before: Sample = {}
        self._since: dict[int, float] = {}  # threads that are in the queue without a break: for how long
        self._stalled: dict[int, float] = {}  # processes: seconds in state D since their last answered read
        self._quiet = 0.0  # seconds without a break, up to now
        self._unseen = 0.0  # seconds of which nothing is known, so far
        self._uncounted = 0.0  # seconds neither run nor credited, so far: no more than these can be credited

    @property
    def doubt(self) -> float:
        """Seconds of which nothing is known, or in which a disk is waited for that has not answered."""
        return self._unseen + max(self._stalled.values(), default=0.0)

    def add(self, now: Sample, seconds: float, late: float = 0.0) -> None:
        """Take the sample at the end of an interval of that many seconds; it was to be shorter by `late`."""
        before, self._before = self._before, now
        ran = min(seconds, _cpu(before, now))
        waiting, ready = self._for_a_cpu(before, now, seconds)
        if ready:
            waiting *= UNSEEN
        waiting = min(waiting, seconds - ran)
        self._uncounted += seconds - ran - waiting
        # A debugger, or a stranger who traces it, keeps a process waiting as the machine does.
        traced = any(p.any_in("t") and pid in before and before[pid].any_in("t") for pid, p in now.items())
        reading = min(seconds if traced else self._for_a_disk(before, now, seconds), self._uncounted)
        self._uncounted -= reading
        self.credit += waiting + reading
        self.ran += ran
        self.share = ran / seconds if seconds else 1.0
        self.for_cpu = waiting > seconds / 2
        unseen = seconds if not _is_any(now, "SDRTt") else late
        unseen = max(0.0, min(unseen, seconds - ran - waiting - reading))
        self._unseen += unseen
        busy = ran + waiting + reading > seconds / 4 or _is_any(now, "RD")
        self._quiet = 0.0 if busy else self._quiet + seconds - unseen
        self.idle = max(self.idle, self._quiet)

    def _for_a_cpu(self, before: Sample, now: Sample, seconds: float) -> tuple[float, bool]:
        """Return the seconds that threads waited in a queue for a CPU, and whether one was ready at both samples.

        The kernel adds a wait once it is over. One that goes on shows as a thread that is ready and has not run.
        """
        total = 0.0
        ready = False
        queued: dict[int, float] = {}
        for pid, process in now.items():
            old = before[pid].threads if pid in before else {}
            for tid, thread in process.threads.items():
                last = old.get(tid)
                if last is None:
                    total += min(thread.waited, seconds)
                    continue
                if thread.state == LOOKING and thread.ran - last.ran < WORK:
                    continue  # it only waits for the others
                done = max(0.0, thread.waited - last.waited)
                if thread.state == "R" and last.state == "R":
                    ready = True
                    if not done and thread.ran <= last.ran:
                        queued[tid] = self._since.get(tid, 0.0) + seconds
                        total += seconds
                        continue
                # What was counted while it went on is not counted again.
                total += min(max(0.0, done - self._since.get(tid, 0.0)), seconds)
        self._since = queued
        return total, ready

    def _for_a_disk(self, before: Sample, now: Sample, seconds: float) -> float:
        """Return the seconds in state D that ended with a read that was answered; the others may follow later.

        A disk that is busy answers one read after another: state D at one end of an interval stands for all of it.
        """
        total = 0.0
        for pid in before.keys() | now.keys():
            old, new = before.get(pid), now.get(pid)
            in_d = any(process.any_in("D") for process in (old, new) if process)
            stalled = self._stalled.pop(pid, 0.0) + (seconds if in_d else 0.0)
            if stalled and _answered(old, new):
                total += stalled
            elif stalled:
                self._stalled[pid] = stalled
        return total


def _answered(old: Process | None, new: Process | None) -> bool:
    """Whether a process in state D has got what it waited for: it left that state, has ended, or has read more."""
    if new is None or not new.any_in("D"):
        return True
    if old is None:
        return False
    more = old.read is not None and new.read is not None and new.read > old.read
    return more or new.faults > old.faults


def _is_any(now: Sample, states: str) -> bool:
    return any(thread.state in states for process in now.values() for thread in process.threads.values())


def _cpu(before: Sample, now: Sample) -> float:
    """Return the CPU seconds that the processes used between two samples.

    The threads' own figures are exact but end with them. The processes' are in clock ticks and keep those of threads
    and children that have ended.
    """
    exact = 0.0
    for pid, process in now.items():
        old = before[pid].threads if pid in before else {}
        for tid, thread in process.threads.items():
            if thread.state == LOOKING:
                continue  # to look costs CPU too, which is not the toolchain's
            exact += max(0.0, thread.ran - (old[tid].ran if tid in old else 0.0))
    ticks = sum(p.cpu for p in now.values()) - sum(p.cpu for p in before.values())
    return max(exact, ticks)


def sample(root: int) -> Sample:
    """Return what /proc says now of the process `root` and of all its descendants."""
    found: Sample = {}
    pids = [root]
    while pids and len(found) < MAX_PROCESSES:
        pid = pids.pop()
        if pid in found:
            continue
        try:
            names = os.listdir(f"/proc/{pid}/task")
            fields = _after_name(_read(f"/proc/{pid}/stat"))
            # Counted from the third field on: 12 majflt, 14 to 17 utime, stime, cutime, cstime.
            first = 13 if pid == os.getpid() else 11
            process = Process({}, sum(int(fields[i]) for i in range(first, 15)) * TICK, int(fields[9]))
        except (OSError, ValueError, IndexError):
            continue
        for name in names:
            place = f"/proc/{pid}/task/{name}/"
            try:
                pids += [int(word) for word in _read(f"{place}children").split()]
                state = _after_name(_read(f"{place}stat"))[0]
                if state == "T" and os.stat(place).st_uid == NOBODY:
                    state = "t"  # whoever has that uid may have stopped it, which is no fault of its own
                ran, waited = _read(f"{place}schedstat").split()[:2]
                process.threads[int(name)] = Thread(int(ran) / 1e9, int(waited) / 1e9, state)
            except (OSError, ValueError, IndexError):
                continue
        if process.any_in("D"):
            process.read = _bytes_read(pid)
        found[pid] = process
    asking = found[root].threads.get(root) if root in found else None
    if asking is not None and root == os.getpid():
        asking.state = LOOKING
    return found


def _after_name(stat: bytes) -> list[str]:
    """Return the fields of a stat file from the third on; the second, the name, may hold anything."""
    return stat.rpartition(b")")[2].decode("ascii", "replace").split()


def _bytes_read(pid: int) -> int | None:
    """Return the bytes that a process has read, from disks and by read(2), or None where this user may not know."""
    try:
        lines = dict(line.split(b": ") for line in _read(f"/proc/{pid}/io").splitlines())
        return int(lines[b"rchar"]) + int(lines[b"read_bytes"])
    except (OSError, ValueError, KeyError):
        return None


def _machine() -> tuple[int, int]:
    """Return the ticks in which CPUs were busy or stolen, and in which they were stolen, since boot (proc_stat(5))."""
    try:
        user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, _read("/proc/stat").split()[1:9])
    except (OSError, ValueError):
        return 0, 0
    return user + nice + system + irq + softirq + stolen, stolen


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


class Watch:
    """Looks at this process and its descendants now and then, and keeps a clock's figures."""

    def __init__(self, clock: Clock, started: float) -> None:
        self.clock = clock
        self.account = Account()
        self.last = started
        self.pause = FIRST
        self.lock = threading.Lock()
        self.machine = _machine()
        clock.cell[NEXT] = time.monotonic() + FIRST

    def look(self, left: float) -> float:
        """Look if it is time to, with `left` seconds until the end; return the seconds until the next look."""
        now = time.monotonic()
        since = now - self.last
        if since < self.pause and left > 0 and (left > LAST or since < LAST / 2):
            return self._promise(min(self.pause - since, max(left - LAST, LAST / 2)))
        cost = time.thread_time()
        known = self.account.credit
        late = now - self.clock.cell[NEXT]
        self.account.add(sample(os.getpid()), since, late if late > LATE else 0.0)
        self.last = now
        self.clock.credit(self.account.credit - known)
        # What the host of a virtual machine took counts as run on some kernels, and as nothing on others.
        busy, stolen = (new - old for new, old in zip(_machine(), self.machine))
        share = min(stolen / busy, 0.99) if busy > 0 else 0.0
        self.clock.cell[IDLE] = self.account.idle
        self.clock.cell[RAN] = self.account.ran * (1 - share)
        self.clock.cell[DOUBT] = self.account.doubt + self.account.ran * share / (1 - share)
        given = max(self.account.share, 0.01) if self.account.for_cpu else 1.0
        self.pause = min(SELDOM, max(OFTEN, (time.thread_time() - cost) / SHARE / given))
        return self._promise(min(self.pause, max(left - LAST, LAST / 2)))

    def _promise(self, pause: float) -> float:
        """Tell the others when the next look is to come."""
        self.clock.cell[NEXT] = time.monotonic() + pause
        return pause


def tend(deadline: Deadline) -> float:
    """Credit to a deadline what its run was kept waiting; return the seconds until this is to be called again.

    Whoever waits for a worker or a program calls it. It does nothing in a worker: the process above keeps the clock.
    """
    clock = deadline.clock
    if clock is None or clock.owner != os.getpid():
        return 3600.0
    if clock.watch is None:
        clock.watch = Watch(clock, deadline.started)
    if not clock.watch.lock.acquire(blocking=False):
        return OFTEN  # another thread looks
    try:
        pause: float = clock.watch.look(deadline.remaining())
    finally:
        clock.watch.lock.release()
    return pause
