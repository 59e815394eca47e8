# SPDX-License-Identifier: GPL-2.0-or-later
"""The package database of another root, read by a process without privileges: librpm and SQLite parse what its author
wrote.

The database's files are pinned in a view of this machine's own system, in a directory that the process may write to:
SQLite keeps an index of its own next to a database in WAL mode.
"""

from __future__ import annotations

import os
import sys

from go_health_hook.linux.rpmdb import DATABASES, FILES, Ownership, owner_of
from go_health_hook.run import scratch
from go_health_hook.run.pin import pin
from go_health_hook.run.process import run
from go_health_hook.run.sandbox import Sandbox, Unsandboxed
from go_health_hook.text import clean, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.deadline import Deadline

HOOK = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INSIDE = "/tmp/writable"
MAX_OUTPUT = 64 << 20
# What the checks want to know of a package.
TAGS = (
    *("name", "nevra", "epoch", "version", "release", "sourcerpm", "arch", "filedigestalgo"),
    *("filenames", "filesizes", "filemodes", "filemtimes", "filedigests", "fileflags", "filestates"),
)
CODE = (
    "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, sys.argv[1]); "
    "from go_health_hook.linux.rpmdb_apart import answer; answer(*sys.argv[2:])"
)


def ownership(root: str, goroot: str, deadline: Deadline) -> Ownership:
    """Who owns the files of `goroot` (a path of `root`). Raises nothing: what fails becomes the reason."""
    folder = ""
    try:
        pins = next(filter(None, (pin(root, [f"{d}/{name}" for name in FILES]) for d in DATABASES)), [])
        if not pins:
            return Ownership("there is no rpm database")
        folder = scratch.scratch_directory()
        binds = [(source, f"{INSIDE}/{os.path.basename(path)}") for source, path in pins]
        sandbox = Sandbox(binds=[(HOOK, HOOK), *binds], writable=folder)
        argv = [os.path.realpath(sys.executable), "-I", "-c", CODE, HOOK, goroot, INSIDE]
        done = run(argv, deadline, sandbox=sandbox, max_output=MAX_OUTPUT)
    except Unsandboxed as error:
        return Ownership(f"the rpm database is not read: {error.message}")
    except OSError as error:
        return Ownership(f"the rpm database is not read: {error.strerror}")
    finally:
        if folder:
            scratch.remove_scratch(folder)
    if not done.ok:
        return Ownership(f"the rpm database cannot be read: {first_line(done.stderr) or done.why()}")
    try:
        return _parse(done.stdout)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Ownership("the rpm database cannot be read: the answer makes no sense")


def _parse(answer: bytes) -> Ownership:
    """What `answer` has printed, checked: a hostile database may have taken that process over."""
    import json

    said = json.loads(answer)
    given = Ownership(clean(str(said["reason"])))
    for header in said["headers"]:
        _check(header)
        given.headers.append(header)
        given.packages.append(owner_of(header))
    go = said["go"]
    given.go = given.packages[go] if isinstance(go, int) and 0 <= go < len(given.packages) else None
    return given


def _check(header: dict[str, Any]) -> None:
    """Raise TypeError or KeyError for a header of another shape than rpm's."""
    texts = ("name", "nevra", "version", "release", "arch")
    sound = all(isinstance(header[key], str) for key in texts) and isinstance(header["sourcerpm"], (str, type(None)))
    sound = sound and isinstance(header["epoch"], (int, type(None)))
    sound = sound and isinstance(header["filedigestalgo"], (int, type(None)))
    for key in ("filesizes", "filemodes", "filemtimes", "fileflags", "filestates"):
        sound = sound and all(type(value) is int for value in header[key] or [])
    for key in ("filenames", "filedigests"):
        sound = sound and all(isinstance(value, str) for value in header[key] or [])
    if not sound:
        raise TypeError("not a header")


def answer(goroot: str, database: str) -> None:
    """In the process without privileges: print what librpm says of the owners of `goroot`, as JSON."""
    import json

    from go_health_hook.linux import rpmdb

    given = rpmdb.ask(database, goroot)
    headers = [{tag: _plain(header[tag]) for tag in TAGS} for header in given.headers]
    go = given.packages.index(given.go) if given.go else None
    sys.stdout.write(json.dumps({"reason": given.reason, "headers": headers, "go": go}))


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
