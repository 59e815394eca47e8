# SPDX-License-Identifier: GPL-2.0-or-later
"""Running Go processes: which Go built them, the GOMAXPROCS they have, and the one that fits their CPU limit."""

from __future__ import annotations

import os
import resource
import struct

from go_health_hook.go import buildinfo, maxprocs
from go_health_hook.go.versions import parse_version
from go_health_hook.linux import cgroup
from go_health_hook.linux.kernel_files import Malformed, Record, read_file
from go_health_hook.run.worker import Worker
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from go_health_hook.deadline import Deadline
    from go_health_hook.go.buildinfo import BuildInfo
    from go_health_hook.go.maxprocs import Prediction
    from go_health_hook.linux.cgroup import Chain

SYMBOL = "runtime.gomaxprocs"
MEMORY, PREDICTED = "memory", "predicted"
_AT_ENTRY = 9  # getauxval(3)
_LARGEST = 1 << 20  # more Ps than any machine has: what was read is not the variable
_ENVIRONMENT_MAX = 4 << 20
_COMMAND_MAX = 4096  # bytes of a command line that are read; a process can make its own as long as it likes
PATIENCE = 3.0  # seconds for one process, of which most take a thousandth
_MEMORY = 512 << 20  # bytes that looking at them may take beside what Python itself has


class GoProcess(Record):
    """A running Go program.

    user         its real user's name, or number where it has none
    command      its command line, cleaned
    build        its executable's build information
    gomaxprocs   as it is, or as it is predicted to be; `source` says which: "memory", "environment", "predicted"
    expected     what fits its limit
    prediction   what its runtime takes by its rule when started where it is now
    chain        its limits; `affinity` the CPUs it may run on
    """

    __slots__ = (
        "affinity",
        "build",
        "chain",
        "command",
        "expected",
        "gomaxprocs",
        "pid",
        "prediction",
        "source",
        "user",
    )

    def __init__(
        self,
        pid: int,
        user: str,
        command: str,
        build: BuildInfo,
        gomaxprocs: int,
        source: str,
        expected: int,
        prediction: Prediction,
        chain: Chain,
        affinity: int,
    ) -> None:
        self.pid = pid
        self.user = user
        self.command = command
        self.build = build
        self.gomaxprocs = gomaxprocs
        self.source = source
        self.expected = expected
        self.prediction = prediction
        self.chain = chain
        self.affinity = affinity

    @property
    def aligned(self) -> bool:
        """Whether it has what fits; where its value is predicted, whether that fits."""
        return self.gomaxprocs == self.expected

    @property
    def why(self) -> str:
        """Why it has the GOMAXPROCS that it has, and where that is predicted, on what condition."""
        prediction = self.prediction
        if self.source == PREDICTED:
            if prediction.follows_quota:
                unless = (
                    "if it was started here, where there was a cpu.max already: one that comes later it never reads"
                )
            elif prediction.follows_affinity:
                unless = "if it was started here, and no quota has changed since: it follows none"
            else:
                unless = "if nothing has changed since it started: it follows no change"
            return f"{prediction.why}; {unless}"
        if self.source != MEMORY or self.gomaxprocs == prediction.value:
            return prediction.why
        return (
            f"it began where Go took {self.gomaxprocs}, or set that itself; "
            f"started here anew it would take {prediction.value}"
        )


class Survey:
    """What was made of the running Go processes.

    found    what `survey` was to make of each
    missed   how many processes could not be looked at: time ran out, or one of them held us up
    refused  of how many we may not see the executable
    """

    __slots__ = ("found", "missed", "refused")

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.missed = 0
        self.refused = 0


def survey(shown: Callable[[GoProcess], object], deadline: Deadline, proc: str = "/proc") -> Survey:
    """Take what `shown` makes of each Go process that can be looked into: of all as root, else of one's own.

    A child looks and sends it, so plain values only. A process's files and memory are its owner's, who may have put
    them on a file system that never answers, or made them cost more than there is: the child has bounded memory, and
    when it is held up, another goes on behind the process that did it.
    """
    done = Survey()
    pids = sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    while pids and not deadline.expired:
        worker = Worker(lambda send, pids=tuple(pids): _work(pids, shown, proc, send))  # type: ignore[misc]
        looked = refused = missed = 0
        try:
            while True:
                message = next(worker.messages(deadline.within(PATIENCE)), None)
                if message is None:
                    break
                if len(message) == 2:
                    raise RuntimeError(message[1])
                found, refused, missed = message
                done.found += found
                looked += 1
        finally:
            worker.close()
        done.refused += refused
        done.missed += missed
        if looked < len(pids) and not deadline.expired:
            looked += 1  # this one held us up, or ended the child
            done.missed += 1
        pids = pids[looked:]
    done.missed += len(pids)
    return done


def _work(pids: Iterable[int], shown: Callable[[GoProcess], object], proc: str, send: Callable[[object], None]) -> None:
    """In the child: a message for each process, whatever it is."""
    with open("/proc/self/statm", "rb") as file:
        own = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + _MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    processes = Processes(proc)
    for pid in pids:
        found: list[object] = []
        try:
            one = processes.one(pid)
            if one is not None:
                found.append(shown(one))
        except Exception:  # of whatever kind, it is one process's doing, and the others are still to be seen
            processes.missed += 1
        send((found, processes.refused, processes.missed))


def environment(pid: int, proc: str = "/proc") -> dict[str, str]:
    """GOMAXPROCS and GODEBUG as a process was started with them; neither where that may not be read."""
    found: dict[str, str] = {}
    try:
        data = read_file(f"{proc}/{pid}/environ", _ENVIRONMENT_MAX)
    except (OSError, Malformed):
        return found
    for pair in data.split(b"\0"):
        key, equals, value = pair.partition(b"=")
        if equals and key in (b"GOMAXPROCS", b"GODEBUG"):
            found.setdefault(key.decode(), os.fsdecode(value))  # the first of two counts, as in getenv(3)
    return found


class Processes:
    """Looks through /proc, remembering executables: of a thousand processes most are the same few programs.

    `missed` counts the processes that no sense could be made of; `refused` those whose executable we may not see.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self.proc = proc
        self.missed = 0
        self.refused = 0
        self._builds: dict[tuple[int, ...], BuildInfo | None] = {}
        self._symbols: dict[tuple[int, ...], tuple[int, int] | None] = {}
        self._users: dict[int, str] = {}

    def one(self, pid: int) -> GoProcess | None:
        """The Go process of that id, or None where it is none, has ended or is not ours to see."""
        try:
            info = os.stat(f"{self.proc}/{pid}/exe")
        except PermissionError:
            self.refused += 1
            return None
        except OSError:
            return None  # a kernel thread, a zombie, or gone
        key = (info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size)
        if key in self._builds and self._builds[key] is None:
            return None
        try:
            fd = os.open(f"{self.proc}/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return None
        try:
            return self._look(pid, fd, key)
        except (OSError, Malformed, ValueError, struct.error):
            return None  # it has ended while we looked
        finally:
            os.close(fd)

    def _look(self, pid: int, fd: int, key: tuple[int, ...]) -> GoProcess | None:
        if key not in self._builds:
            try:
                self._builds[key] = buildinfo.read_fd(fd)
            except (buildinfo.NotGo, OSError):
                self._builds[key] = None
        build = self._builds[key]
        if build is None:
            return None
        try:
            version = parse_version(build.version)
        except ValueError:
            version = parse_version("go1.13")
        chain, affinity = cgroup.read_chain(pid), cgroup.affinity(pid)
        env = environment(pid, self.proc)
        prediction = maxprocs.predict(
            version,
            affinity,
            chain,
            environment_value=env.get("GOMAXPROCS"),
            gate=maxprocs.reads_quota(build.godebug, env.get("GODEBUG"), version),
            updates=maxprocs.follows_changes(build.godebug, env.get("GODEBUG"), version),
        )
        value, source = prediction.value, prediction.source
        actual = self._in_memory(pid, fd, key)
        if actual is not None:
            value, source = actual, MEMORY
        user, command = self._who(pid)
        wanted = maxprocs.expected(affinity, chain)
        return GoProcess(pid, user, command, build, value, source, wanted, prediction, chain, affinity)

    def _in_memory(self, pid: int, fd: int, key: tuple[int, ...]) -> int | None:
        """The runtime's own variable in the running process, or None where there is no symbol or no permission."""
        if key not in self._symbols:
            self._symbols[key] = buildinfo.symbol(fd, SYMBOL)
        places = self._symbols[key]
        if places is None:
            return None
        address, entry = places
        size, order = buildinfo.word_size(fd)
        try:
            vector = read_file(f"{self.proc}/{pid}/auxv")
            form = order + ("QQ" if size == 8 else "II")
            pairs = dict(struct.iter_unpack(form, vector[: len(vector) // (2 * size) * 2 * size]))
            moved = pairs[_AT_ENTRY] - entry
            memory = os.open(f"{self.proc}/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, Malformed, KeyError):
            return None
        try:
            data = os.pread(memory, 4, address + moved)
        except (OSError, OverflowError):
            return None
        finally:
            os.close(memory)
        value: int = struct.unpack(order + "i", data)[0] if len(data) == 4 else 0
        return value if 0 < value < _LARGEST else None  # nought: its runtime has not begun

    def _who(self, pid: int) -> tuple[str, str]:
        import psutil

        try:
            process = psutil.Process(pid)
            with process.oneshot():
                uid = process.uids().real
                command = self._command(pid) or process.name()
        except (psutil.Error, OSError):
            return "", ""
        return self._name_of(uid), clean(command)

    def _command(self, pid: int) -> bytes:
        fd = os.open(f"{self.proc}/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _COMMAND_MAX).rstrip(b"\0").replace(b"\0", b" ")
        finally:
            os.close(fd)

    def _name_of(self, uid: int) -> str:
        if uid not in self._users:
            import pwd

            try:
                self._users[uid] = clean(pwd.getpwuid(uid).pw_name, 32)
            except KeyError:
                self._users[uid] = str(uid)
        return self._users[uid]
