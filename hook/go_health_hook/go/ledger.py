# SPDX-License-Identifier: GPL-2.0-or-later
"""What was judged healthy, and how its files looked then: a gate need not judge the same files twice.

The ledger is one file of root's with one entry. An entry holds on this boot, with this kernel, this hook and these
settings, for a week. Every file and directory that it names must look the same to lstat(2). On any doubt it does not
hold, and everything is judged.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time

from go_health_hook import VERSION, files
from go_health_hook.go.cache import SYSTEM
from go_health_hook.records import Record

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
# Below GOROOT, with all that is in it.
WHOLE = ("bin", "pkg/tool", "pkg/include")
SINGLE = ("", "VERSION", "go.env", "pkg", "lib", "src")


class Entry(Record):
    """What was judged. `judged` is seconds since the epoch, `findings` those that the files alone decide, by check."""

    judged: float
    findings: dict[str, dict[str, Any]]
    packages: list[str]

    @property
    def line(self) -> str:
        """When it was judged, for people."""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.judged))
        return f"as judged {when}, nothing has changed since"


def recall(toolchain: Toolchain, config: Config) -> Entry | None:
    """Return the entry that holds for a toolchain, or None. Raises nothing."""
    try:
        text = _own_text()
        head, _, rest = text.partition("\n")
        known = json.loads(head)
        looks = rest.split("\n")
        if looks[-2:] != [f"{END} {len(looks) - 2}", ""] or known["mark"] != _mark(toolchain, config):
            return None
        if not 0 <= _since_boot() - known["since_boot"] < WEEK:
            return None
        for look in looks[:-2]:
            if look != _look(look.split(" ", 1)[0], look.partition(" /")[2]):
                return None
        return Entry(float(known["judged"]), dict(known["findings"]), [str(name) for name in known["packages"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
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
        looks = list(_looks(toolchain, closure, began))
        head = {
            "mark": _mark(toolchain, config),
            "judged": time.time(),
            "since_boot": _since_boot(),
            "findings": dict(findings),
            "packages": list(packages),
        }
        _write("\n".join([json.dumps(head), *looks, f"{END} {len(looks)}", ""]))
    except (OSError, ValueError, RecursionError):
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


def _looks(toolchain: Toolchain, closure: Iterable[str], began: float) -> Iterator[str]:
    """Yield a line on each path. Raises ValueError where one cannot be kept: it changed just now, or is unusual."""
    settled = (began - SETTLED) * 1e9
    for count, (kind, path) in enumerate(_paths(toolchain, closure)):
        kinds = ("link", "to") if kind == "one" and os.path.islink(path) else (kind,)
        for each in kinds:
            line = _look(each, path[1:])
            if "\n" in line or count > MAX_PATHS:
                raise ValueError(path)
            if kind != "way" and int(line.split(" ", 9)[8]) > settled:
                raise ValueError(path)
            yield line


def _paths(toolchain: Toolchain, closure: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the kind and the path of all that decides. A "way" leads to it: its times change with its neighbours."""
    goroot = toolchain.goroot
    for place in (goroot, os.path.realpath(f"{goroot}/bin/go"), os.path.realpath(f"{goroot}/src"), toolchain.tools):
        parts = place.split("/")
        yield from (("way", "/".join(parts[:count]) or "/") for count in range(1, len(parts)))
    for name in SINGLE:
        path = f"{goroot}/{name}".rstrip("/")
        if os.path.lexists(path):
            yield "one", path
    for name in WHOLE:
        for top, directories, names in os.walk(os.path.realpath(f"{goroot}/{name}")):
            yield "one", top
            yield from (("one", f"{top}/{other}") for other in (*names, *directories))
    source = os.path.realpath(f"{goroot}/src")
    wanted = {f"{source}/{path}" for path in closure}
    for top, directories, names in os.walk(source):
        directories[:] = [name for name in directories if name != "testdata"]
        yield "one", top
        if top in wanted:
            wanted.discard(top)
            yield from (("one", f"{top}/{name}") for name in names if not name.endswith("_test.go"))
    if wanted:
        raise ValueError(min(wanted))  # not where it is looked for


def _look(kind: str, path: str) -> str:
    """Return a line on how a path, without its first slash, looks now; of kind "to", what a link leads to."""
    info = os.stat(f"/{path}") if kind == "to" else os.lstat(f"/{path}")
    owner = f"{info.st_mode} {info.st_uid} {info.st_gid}"
    if kind == "way":
        return f"way {info.st_dev} {info.st_ino} {owner} /{path}"
    times = f"{info.st_mtime_ns} {info.st_ctime_ns}"
    return f"{kind} {info.st_dev} {info.st_ino} {info.st_size} {owner} {times} /{path}"


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
