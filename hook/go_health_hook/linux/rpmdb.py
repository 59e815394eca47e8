# SPDX-License-Identifier: GPL-2.0-or-later
"""What the package database says of a toolchain: who owns GOROOT's files, of which release, and whether they changed.

Reads only, through rpm's bindings. Where there is no database, or it cannot be read, the answer carries the reason.
"""

from __future__ import annotations

import contextlib
import os
import stat

from go_health_hook import files
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from go_health_hook.deadline import Deadline
    from go_health_hook.subject import Subject

# Where a database may be (rpm's %_dbpath: Fedora 36 and later, then EL and earlier) and what it consists of.
DATABASES = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
FILES = ("rpmdb.sqlite", "Packages.db", "Packages")
# What one of each package that makes up a GOROOT has; rpm finds the owners of a path by an index.
KEY_PATHS = ("", "/bin/go", "/VERSION", "/go.env", "/pkg/tool", "/src/runtime", "/src/crypto/tls/tls.go", "/src/go.mod")
# Files below these have an owner that none of the above need have.
KEY_DIRECTORIES = ("/src/runtime/race", "/pkg", "/pkg/include", "/misc", "/doc", "/test")


class Owner(Record):
    """A package that owns files of a GOROOT."""

    name: str
    nevra: str
    evr: str
    version: str
    source: str  # the source package's file name

    @property
    def source_name(self) -> str:
        """The name of the source package."""
        return self.source.rsplit("-", 2)[0]


class Ownership(Record):
    """Who owns a GOROOT. `go` is the owner of bin/go; `reason` says why nothing is known, and then all else is empty.

    `headers` are rpm's own, of each package.
    """

    reason: str = ""
    packages: list[Owner] = []
    go: Owner | None = None
    headers: list[Any] = []

    @property
    def family(self) -> list[Owner]:
        """The packages built from the same source as the owner of bin/go, that one included."""
        go = self.go
        return [p for p in self.packages if go is not None and p.source_name == go.source_name]

    def mixed(self) -> str:
        """What says that the packages are of several releases, or an empty string."""
        if len({p.source for p in self.family}) < 2:
            return ""
        return "not of one release: " + ", ".join(sorted(p.nevra for p in self.family))


def owner_of(header: Any) -> Owner:
    """The owner that a package header describes."""
    epoch = header["epoch"]
    evr = (f"{epoch}:" if epoch else "") + f"{header['version']}-{header['release']}"
    return Owner(
        clean(header["name"]),
        clean(header["nevra"]),
        clean(evr),
        clean(header["version"]),
        clean(header["sourcerpm"] or ""),
    )


def database(root: str) -> str:
    """The directory, below `root`, of its package database, or an empty string."""
    base = root.rstrip("/")
    for directory in DATABASES:
        if any(os.path.exists(f"{base}{directory}/{name}") for name in FILES):
            return directory
    return ""


def state() -> list[tuple[int, int, int]]:
    """Return what changes with every rpm transaction: inode, size and time of the database's files."""
    return files.looks(f"{folder}/{name}" for folder in DATABASES for name in (*FILES, "rpmdb.sqlite-wal"))


def ownership(root: str, goroot: str) -> Ownership:
    """Who owns the files of `goroot` (a path of `root`). Raises nothing: what fails becomes the reason.

    Root asks this of the running root only: the database of another is its author's (see rpmdb_apart).
    """
    directory = database(root)
    if not directory:
        return Ownership("there is no rpm database")
    return ask(directory, goroot, root)


def ask(directory: str, goroot: str, root: str = "/") -> Ownership:
    """As `ownership`, of the database in `directory` (a path of `root`)."""
    try:
        rpm = bindings()
    except ImportError as error:
        return Ownership(f"rpm's Python bindings cannot be loaded: {clean(str(error))}")
    try:
        return _ask(rpm, root, directory, goroot)
    except Exception as error:  # whatever librpm makes of a damaged database
        return Ownership(f"the rpm database cannot be read: {clean(str(error) or repr(error))}")


def has_any(names: Iterable[str]) -> bool:
    """Whether a package of one of these names is installed; False where the database cannot be asked."""
    try:
        rpm = bindings()
        ts = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
        return any(True for name in names for _ in ts.dbMatch(rpm.RPMTAG_NAME, name))
    except Exception:  # as in `ownership`
        return False


def bindings() -> Any:
    """rpm's Python module, its own messages silenced. Raises ImportError.

    The gates are started without the directories of the distribution's modules (python3 -S), which takes less time.
    """
    try:
        import rpm
    except ImportError:
        import site

        site.main()
        import rpm
    rpm.setVerbosity(rpm.RPMLOG_CRIT)
    return rpm


def _ask(rpm: Any, root: str, directory: str, goroot: str) -> Ownership:
    if root != "/" or clean(rpm.expandMacro("%{_dbpath}")) not in DATABASES:
        rpm.addMacro("_dbpath", directory)
    # The database's own headers were verified when they went in; what dnf itself reads is not verified again either.
    ts = rpm.TransactionSet(root, rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
    if ts.openDB() not in (None, 0):
        return Ownership("the rpm database cannot be opened")
    given = Ownership()
    seen = set()
    for header, path in _matches(rpm, ts, goroot):
        key = header["nevra"]
        if key not in seen:
            seen.add(key)
            given.packages.append(owner_of(header))
            given.headers.append(header)
        if path == f"{goroot}/bin/go":
            given.go = next(p for p in given.packages if p.nevra == clean(key))
    if not given.packages:
        if not any(True for _ in ts.dbMatch()):
            return Ownership("the rpm database is empty or cannot be read")
        return Ownership(f"no package owns {clean(goroot)}")
    return given


def _matches(rpm: Any, ts: Any, goroot: str) -> Iterator[tuple[Any, str]]:
    for name in KEY_PATHS:
        for header in ts.dbMatch(rpm.RPMTAG_BASENAMES, goroot + name):
            yield header, goroot + name
    for name in KEY_DIRECTORIES:
        for header in ts.dbMatch(rpm.RPMTAG_DIRNAMES, f"{goroot}{name}/"):
            yield header, ""


def files_of(header: Any) -> Iterator[tuple[str, int, int, int, str, int]]:
    """Name, size, mode, time, digest and flags of each file of a package that it was to install."""
    names = header["filenames"]
    states = list(header["filestates"] or []) or [0] * len(names)
    rows = zip(
        names,
        header["filesizes"],
        header["filemodes"],
        header["filemtimes"],
        header["filedigests"],
        header["fileflags"],
        states,
    )
    for name, size, mode, time, digest, flags, state in rows:
        if state == 0:  # RPMFILE_STATE_NORMAL: neither left out (nodocs) nor replaced by another package
            yield name, size, mode & 0xFFFF, time, digest, flags


def changed(given: Ownership, subject: Subject, goroot: str, deadline: Deadline, deep: bool) -> list[str]:
    """What differs from the packages: one line each for files missing or of another size, mode or content.

    The content of an executable is read where its time differs from the package's, of all executables with `deep`.
    Stops, with a line saying so, when the deadline comes.
    """
    found: list[str] = []
    for header in given.headers:
        algorithm = header["filedigestalgo"] or 1
        for count, (name, size, mode, time, digest, flags) in enumerate(files_of(header)):
            if count % 256 == 0 and deadline.expired:
                return [*found, "not all files were looked at: time ran out"]
            if flags & GHOST_OR_CONFIG or not name.startswith(goroot + "/"):
                continue
            with _looked_up(subject, name) as host:
                wrong = _differs(host, size, mode, time, digest, algorithm, deep)
            if wrong:
                found.append(f"{clean(name)}: {wrong}")
    return found


@contextlib.contextmanager
def _looked_up(subject: Subject, name: str) -> Iterator[str]:
    """A host path of a package's file: below another root, one that leads nowhere else meanwhile."""
    if subject.root == "/":
        yield subject.on_host(name)
        return
    try:
        fd = subject.open_path(os.path.dirname(name))
    except OSError:
        yield subject.on_host(name)
        return
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(name)}"
    finally:
        os.close(fd)


GHOST_OR_CONFIG = 1 | 1 << 6  # RPMFILE_CONFIG, RPMFILE_GHOST


def _differs(host: str, size: int, mode: int, time: int, digest: str, algorithm: int, deep: bool) -> str:
    try:
        info = os.lstat(host)
    except OSError as error:
        return error.strerror or "cannot be looked at"
    if info.st_mode != mode:
        if stat.S_IFMT(info.st_mode) != stat.S_IFMT(mode):
            return "is not of the kind that the package has"
        return f"mode {stat.S_IMODE(info.st_mode):04o}, the package has {stat.S_IMODE(mode):04o}"
    if not stat.S_ISREG(mode):
        return ""
    if info.st_size != size:
        return f"{info.st_size} bytes, the package has {size}"
    if mode & 0o111 and digest and (deep or int(info.st_mtime) != time):
        return _content(host, digest, algorithm)
    return ""


def _content(host: str, digest: str, algorithm: int) -> str:
    """Whether a file's digest is the package's; the numbers are OpenPGP's (RFC 9580, 9.5)."""
    import hashlib

    name = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512"}.get(algorithm)
    if name is None:
        return ""
    try:
        summer = hashlib.new(name, usedforsecurity=False)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(host, flags), "rb") as file:
            while chunk := file.read(1 << 20):
                summer.update(chunk)
    except (OSError, ValueError) as error:
        return f"cannot be read: {clean(str(error))}"
    return "" if summer.hexdigest() == digest else "its content is not the package's"
