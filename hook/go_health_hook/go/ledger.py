# SPDX-License-Identifier: GPL-2.0-or-later
"""What was judged healthy, and how its files looked then: a gate need not judge the same files twice.

The ledger is one file of root's with one entry. An entry holds on this boot, with this kernel, this hook and these
settings, for a week. Every file and directory that it names must look the same to lstat(2). On any doubt it does not
hold, and everything is judged.

The file has a line of JSON, a line for each path, and how they all look: device, inode, size, mode, owner, group and
both times of each, as 64-bit numbers in hexadecimal. An updater waits while thousands of files are looked at: they are
looked at and compared all at once.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import struct
import time
from itertools import chain
from operator import attrgetter

from go_health_hook import VERSION, files
from go_health_hook.go.cache import SYSTEM
from go_health_hook.records import Record
from go_health_hook.text import when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.go.toolchain import Toolchain

FILE = f"{SYSTEM}/healthy"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
MACHINE_ID = "/etc/machine-id"
MAX_BYTES = 16 << 20
MAX_PATHS = 60_000
WEEK = 7 * 86400.0
# A change so short after another may leave the same time on a file (racy timestamps, as git knows them): seconds.
SETTLED = 2.0
END = "end"
WAY, ONE, TO = "way", "one", "to"
# Names of systems and architectures that the go command leaves out by the end of a source's name, a_windows_arm64.go,
# without a look into it (go/build, goodOSArchFile; internal/syslist).
SYSTEMS = frozenset(
    (
        *("aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "nacl", "netbsd"),
        *("openbsd", "plan9", "solaris", "wasip1", "windows", "zos"),
    )
)
ARCHITECTURES = frozenset(
    (
        *("386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64"),
        *("mips64le", "mips64p32", "mips64p32le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x"),
        *("sparc", "sparc64", "wasm"),
    )
)
# Below GOROOT, with all that is in it.
WHOLE = ("bin", "pkg/tool", "pkg/include")
SINGLE = ("", "VERSION", "go.env", "pkg", "lib", "src")
# What is compared of a way, and of all else.
IDENTITY = attrgetter("st_dev", "st_ino", "st_mode", "st_uid", "st_gid")
WHOLE_LOOK = attrgetter("st_dev", "st_ino", "st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_ctime_ns")


class Entry(Record):
    """What was judged. `judged` is seconds since the epoch, `findings` those that the files alone decide, by check."""

    judged: float
    findings: dict[str, dict[str, Any]]
    packages: list[str]

    @property
    def line(self) -> str:
        """When it was judged, for people."""
        return f"as judged {when(self.judged)}, nothing has changed since"


def recall(toolchain: Toolchain, config: Config) -> Entry | None:
    """Return the entry that holds for a toolchain, or None. Raises nothing."""
    try:
        text = _own_text()
        head, _, rest = text.partition("\n")
        known = json.loads(head)
        *lines, looks, end, last = rest.split("\n")
        if end != f"{END} {len(lines)}" or last or known["mark"] != _mark(toolchain, config):
            return None
        if not 0 <= _since_boot() - known["since_boot"] < WEEK:
            return None
        if _looks((kind, f"/{path}") for kind, _, path in (line.partition(" /") for line in lines)) != looks:
            return None
        return Entry(float(known["judged"]), dict(known["findings"]), [str(name) for name in known["packages"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, OverflowError, RecursionError):
        return None


def enter(
    toolchain: Toolchain,
    config: Config,
    findings: Mapping[str, dict[str, Any]],
    packages: Iterable[str],
    closure: Iterable[str],
    began: float,
) -> None:
    """Enter a toolchain that was judged healthy in a run that began then (seconds since the epoch). Raises nothing.

    `closure` are the import paths of the key modules, of the runtime, and of all that they import.
    """
    try:
        paths = list(_with_targets(_paths(toolchain, config, closure)))
        looks = _looks(paths, (began - SETTLED) * 1e9)
        head = {
            "mark": _mark(toolchain, config),
            "judged": time.time(),
            "since_boot": _since_boot(),
            "findings": dict(findings),
            "packages": list(packages),
        }
        lines = [f"{kind} {path}" for kind, path in paths]
        _write("\n".join([json.dumps(head), *lines, looks, f"{END} {len(lines)}", ""]))
    except (OSError, ValueError, struct.error, RecursionError):
        drop()


def drop() -> None:
    """Forget what was judged: the next run judges everything. Raises nothing."""
    with contextlib.suppress(OSError):
        os.unlink(FILE)


def _mark(toolchain: Toolchain, config: Config) -> list[Any]:
    """Return what an entry is bound to besides the files."""
    own = os.stat(os.path.dirname(os.path.abspath(__file__)))
    system = os.uname()
    return [
        *(files.read(BOOT_ID).decode().strip(), _machine_id()),
        *(system.sysname, system.release, system.version, system.machine, system.nodename),
        *(VERSION, own.st_dev, own.st_ino, own.st_mtime_ns),
        *(toolchain.goroot, toolchain.via, toolchain.tools),
        *(config.get("toolchain", "modules"), config.get("checks", "stdlib"), config.get("checks", "packages")),
    ]


def _machine_id() -> str:
    """Return what tells this system from copies of its disk; empty where it has no such name yet."""
    try:
        return files.read(MACHINE_ID).decode().strip()
    except OSError:
        return ""


def _since_boot() -> float:
    """Return the seconds since the boot, with those asleep: no clock that anybody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _with_targets(paths: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the paths, and links a second time for what they lead to. Raises ValueError where they cannot be kept."""
    for count, (kind, path) in enumerate(paths):
        if "\n" in path or count > MAX_PATHS:
            raise ValueError(path)
        yield kind, path
        if kind == ONE and os.path.islink(path):
            yield TO, path


def _paths(toolchain: Toolchain, config: Config, closure: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the kind and the path of all that decides. A "way" leads to it: its times change with its neighbours."""
    goroot = toolchain.goroot
    for place in (goroot, os.path.realpath(f"{goroot}/bin/go"), os.path.realpath(f"{goroot}/src"), toolchain.tools):
        parts = place.split("/")
        yield from ((WAY, "/".join(parts[:count]) or "/") for count in range(1, len(parts)))
    for name in SINGLE:
        path = f"{goroot}/{name}".rstrip("/")
        if os.path.lexists(path):
            yield ONE, path
    for name in WHOLE:
        for top, directories, names in os.walk(os.path.realpath(f"{goroot}/{name}")):
            yield ONE, top
            yield from ((ONE, f"{top}/{other}") for other in (*names, *directories))
    source = os.path.realpath(f"{goroot}/src")
    wanted = {f"{source}/{path}" for path in closure}
    # gofmt parses all sources of these, whatever system they are for.
    whole = {f"{source}/{path}" for path in config.get("toolchain", "modules")}
    own = toolchain.tools.rpartition("_")[2]
    for top, directories, names in os.walk(source):
        directories[:] = [name for name in directories if name != "testdata"]
        yield ONE, top
        if top in wanted:
            wanted.discard(top)
            for name in names:
                if not name.endswith("_test.go") and (top in whole or not _of_another_system(name, own)):
                    yield ONE, f"{top}/{name}"
    if wanted:
        raise ValueError(min(wanted))  # not where it is looked for


def _of_another_system(name: str, own: str) -> bool:
    """Return whether the go command leaves a source out by its name alone, on this system's architecture `own`."""
    words = name.partition(".")[0].split("_")[1:]
    if own in ARCHITECTURES and words[-1:] == [own]:
        words.pop()
    return bool(words) and (words[-1] in SYSTEMS or (words[-1] in ARCHITECTURES and own in ARCHITECTURES))


def _looks(paths: Iterable[tuple[str, str]], newest: float = math.inf) -> str:
    """Return how paths look now. A "way" leads to what decides: its times change with its neighbours, and stay out.

    Raises ValueError where one has changed after `newest` (nanoseconds since the epoch), and OSError.
    """
    of_kind: dict[str, list[str]] = {WAY: [], ONE: [], TO: []}
    for kind, path in paths:
        of_kind[kind].append(path)
    looks = [*map(IDENTITY, map(os.lstat, of_kind[WAY]))]
    whole = [*map(WHOLE_LOOK, (*map(os.lstat, of_kind[ONE]), *map(os.stat, of_kind[TO])))]
    if whole and max(changed for *_, changed in whole) > newest:
        raise ValueError("changed a moment ago")
    numbers = [*chain.from_iterable(looks), *chain.from_iterable(whole)]
    return struct.pack(f"{len(numbers)}q", *numbers).hex()


def _own_text() -> str:
    """Return the ledger's text. Raises OSError; PermissionError where others than root could have written it."""
    for path, kind in ((SYSTEM, stat.S_ISDIR), (FILE, stat.S_ISREG)):
        info = os.lstat(path)
        if not kind(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o077:
            raise PermissionError(path)
    return files.read(FILE, MAX_BYTES, follow=False).decode("utf-8", "surrogateescape")


def _write(text: str) -> None:
    """Put the ledger in place. It need not outlive a crash: after a boot it does not hold."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(SYSTEM, 0o700)
    new = f"{FILE}.{os.urandom(4).hex()}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        os.replace(new, FILE)
    except BaseException:
        os.unlink(new)
        raise
