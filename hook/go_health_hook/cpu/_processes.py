# SPDX-License-Identifier: GPL-2.0-or-later
"""Running Go processes: which Go built them, the GOMAXPROCS they have, and the one that fits their CPU limit."""

from __future__ import annotations

import math
import os

from go_health_hook import files
from go_health_hook.cpu import _limit_file
from go_health_hook.cpu._images import Images
from go_health_hook.go import maxprocs
from go_health_hook.go.versions import parse_version
from go_health_hook.linux import cgroup
from go_health_hook.linux.cgroup_chain import in_words
from go_health_hook.linux.kernel_files import Malformed, read_file
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.cpu._images import Found
    from go_health_hook.cpu._limit_file import LimitFile
    from go_health_hook.go.maxprocs import Prediction
    from go_health_hook.linux.cgroup_chain import Chain

MEMORY, PREDICTED, NOT_KNOWN = "memory", "predicted", "unknown"
_ENVIRONMENT_MAX = 4 << 20
_COMMAND_MAX = 4096  # bytes of a command line that are read; a process can make its own as long as it likes
# What a runtime that looks for a quota concludes: where its limit file says more than the cgroup it is in now.
_BY_LIMIT_FILE = (maxprocs.UNREACHABLE, maxprocs.NO_QUOTA, maxprocs.QUOTA, maxprocs.AFFINITY)


class GoProcess(Record):
    """A running Go program.

    user         its real user's name, or number where it has none
    command      its command line, cleaned
    found        where Go is in it, and the build information there
    limit_file   which cgroup's limit its runtime keeps open
    prediction   what its runtime takes by its rule and its limit file, or None where its version is not known
    chain        its limits; `affinity` the CPUs it may run on
    """

    pid: int
    user: str
    command: str
    found: Found
    limit_file: LimitFile
    prediction: Prediction | None
    chain: Chain
    affinity: int

    @property
    def expected(self) -> int:
        """The GOMAXPROCS that fits its limit."""
        return maxprocs.expected(self.affinity, self.chain)

    @property
    def gomaxprocs(self) -> int | None:
        """As it is, else as it is predicted to be, or None where neither can be told."""
        if self.found.gomaxprocs is not None:
            return self.found.gomaxprocs
        return self.prediction.value if self.prediction else None

    @property
    def source(self) -> str:
        """How `gomaxprocs` is known: "memory", "environment", "predicted" or "unknown"."""
        if self.found.gomaxprocs is not None:
            return MEMORY
        return self.prediction.source if self.prediction else NOT_KNOWN

    @property
    def aligned(self) -> bool | None:
        """Whether it has what fits; where its value is predicted, whether that fits. None where it is not known."""
        return None if self.gomaxprocs is None else self.gomaxprocs == self.expected

    @property
    def certain(self) -> bool:
        """Whether its value is read, or predicted from what its runtime is seen to follow."""
        followed = self.prediction is not None and self.prediction.rule in _BY_LIMIT_FILE
        return self.source not in (PREDICTED, NOT_KNOWN) or (followed and self.limit_file.kind != _limit_file.UNKNOWN)

    @property
    def why(self) -> str:
        """Why it has the GOMAXPROCS that it has, and where that is predicted, on what condition."""
        prediction = self.prediction
        if prediction is None:
            return "its Go version is not known, and so what its runtime does"
        if self.source == PREDICTED:
            return f"{prediction.why}{'' if self.certain else '; ' + self._condition(prediction)}"
        if self.source != MEMORY or self.gomaxprocs == prediction.value:
            return prediction.why
        return f"started under other limits or changed at run time; by its rule: {prediction.why}"

    def _condition(self, prediction: Prediction) -> str:
        if prediction.follows_quota:
            present = " with a cpu.max, since one that comes later is not read" if self.chain.version == 2 else ""
            return f"if it was started here{present}"
        if prediction.follows_affinity:
            return "if it was started here, and no quota has changed since: it follows none"
        return "if nothing has changed since it started: it follows no change"


def environment(pid: int, proc: str = "/proc") -> dict[str, str]:
    """GOMAXPROCS and GODEBUG as a process was started with them; neither where that may not be read."""
    values: dict[str, str] = {}
    try:
        data = read_file(f"{proc}/{pid}/environ", _ENVIRONMENT_MAX)
    except (OSError, Malformed):
        return values
    for pair in data.split(b"\0"):
        key, equals, value = pair.partition(b"=")
        if equals and key in (b"GOMAXPROCS", b"GODEBUG"):
            values.setdefault(key.decode(), os.fsdecode(value))  # the first of two counts, as in getenv(3)
    return values


class Processes:
    """Looks through /proc. `refused` counts the processes whose executable we may not see."""

    def __init__(self, proc: str = "/proc") -> None:
        self.proc = proc
        self.refused = 0
        self._images = Images(proc)
        self._users: dict[int, str] = {}

    def one(self, pid: int) -> GoProcess | None:
        """The Go process of that id, or None where it is none, has ended or is not ours to see."""
        try:
            found = self._images.find(pid)
            if found is None:
                return None
            chain, affinity = cgroup.read_chain(pid), cgroup.affinity(pid)
            limit_file = _limit_file.kept_open(pid, chain.leaf, self.proc)
            prediction = _predict(found, environment(pid, self.proc), affinity, chain, limit_file)
            return GoProcess(pid, *self._who(pid), found, limit_file, prediction, chain, affinity)
        except PermissionError:
            self.refused += 1
        except (OSError, Malformed):
            pass  # a kernel thread, a zombie, or one that has ended while we looked
        return None

    def _who(self, pid: int) -> tuple[str, str]:
        import psutil

        try:
            process = psutil.Process(pid)
            with process.oneshot():
                uid = process.uids().real
                said = files.head(f"{self.proc}/{pid}/cmdline", _COMMAND_MAX).rstrip(b"\0").replace(b"\0", b" ")
                command = said or process.name()
        except (psutil.Error, OSError):
            return "", ""
        return self.name_of(uid), clean(command)

    def name_of(self, uid: int) -> str:
        """A user's name, or number where it has none."""
        if uid not in self._users:
            import pwd

            try:
                self._users[uid] = clean(pwd.getpwuid(uid).pw_name, 32)
            except KeyError:
                self._users[uid] = str(uid)
        return self._users[uid]


def _predict(
    found: Found, env: dict[str, str], affinity: int, chain: Chain, limit_file: LimitFile
) -> Prediction | None:
    """What its runtime takes; None where its version is not known and so neither its rule."""
    value, godebug = env.get("GOMAXPROCS"), env.get("GODEBUG")
    try:
        version = parse_version(found.build.version)
    except ValueError:
        # The name of an obfuscated build. Only a value that every Go takes from the environment can be told.
        oldest = parse_version("go1.13")
        if maxprocs.environment_count(value, oldest) is None:
            return None
        version = oldest
    prediction = maxprocs.predict(
        version,
        affinity,
        chain,
        environment_value=value,
        gate=maxprocs.reads_quota(found.build.godebug, godebug, version),
        updates=maxprocs.follows_changes(found.build.godebug, godebug, version),
    )
    return _by_limit_file(prediction, affinity, limit_file)


def _by_limit_file(prediction: Prediction, affinity: int, limit_file: LimitFile) -> Prediction:
    """Correct a prediction for where the process is now by the limit file that its runtime follows."""
    if prediction.rule not in _BY_LIMIT_FILE or limit_file.kind in (_limit_file.UNKNOWN, _limit_file.OWN):
        return prediction
    if limit_file.kind == _limit_file.NONE:
        if prediction.rule == maxprocs.UNREACHABLE or not prediction.follows_quota:
            return prediction
        why = "it had no limit file when it started, and one that comes later is not read"
        return maxprocs.Prediction(affinity, why, maxprocs.NO_QUOTA, prediction.follows_affinity)
    if limit_file.kind == _limit_file.GONE:
        why = "it follows the limit of a cgroup that has been removed"
        return maxprocs.Prediction(affinity, why, maxprocs.UNREACHABLE, prediction.follows_affinity)
    follows = prediction.follows_affinity
    verb = "it has moved, and still follows" if follows else "it has moved, and was started under"
    if limit_file.cpus is None:
        why = f"{verb} {limit_file.cgroup}, which sets no quota"
        return maxprocs.Prediction(affinity, why, maxprocs.NO_QUOTA, follows, follows)
    value = min(affinity, max(maxprocs.FLOOR, math.ceil(limit_file.cpus)))
    why = f"{verb} the quota of {limit_file.cgroup}, {in_words(limit_file.cpus)}"
    return maxprocs.Prediction(value, why, maxprocs.QUOTA, follows, follows)
