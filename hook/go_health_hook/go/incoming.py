# SPDX-License-Identifier: GPL-2.0-or-later
"""The Go that a transaction will leave behind, laid out in a private directory before anything is installed.

Which packages those are is found by the files they own or bring and by their source package, never by a list of names.
What comes in is read out of the packages, what stays is seen where it is.
"""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook import files
from go_health_hook.linux.rpmdb import Owner, Ownership, bindings, owner_of, ownership
from go_health_hook.run import scratch
from go_health_hook.subject import Subject
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    # Where a package may be: a folder, how one of the folders in it begins (empty: none is between), and the rest.
    Place = tuple[str, str, str]

# The first is closed to all but root; without a view of their own, programs run as nobody must be able to pass.
PLACES = ("/var/cache/go-health-hook", "/run/go-health-hook", "/tmp")
OPEN_PLACES = ("/run/go-health-hook", "/var/lib/go-health-hook", "/tmp")
PREFIX = scratch.INCOMING  # also in /tmp, where everybody has names: nobody else's begins so
MAX_BYTES = 3 << 30
MAX_FILES = 100_000
SPARE = 32 << 20  # what must be left on the disk
SPARE_FILES = 1000
BLOCK = 4096  # what a small file takes
# Of a GOROOT, what the checks use. Sources only that a build of the standard library reads (go/build).
WANTED = ("bin/", "pkg/tool/", "pkg/include/", "src/", "lib/")
TOP = ("VERSION", "go.env", "bin", "pkg", "src", "lib")
UNWANTED = ("/testdata/", "src/cmd/")


FULL = (errno.ENOSPC, errno.EDQUOT)


class CannotLook(Exception):
    """The incoming packages cannot be looked into, for a reason that is not theirs."""


class Package:
    """An rpm file and its header."""

    __slots__ = ("aliases", "fd", "files", "header", "owner", "path", "payload")

    def __init__(self, rpm: Any, ts: Any, path: str) -> None:
        self.path = path
        self.fd = open_regular(path)
        self.header = ts.hdrFromFdno(self.fd)
        self.payload = os.lseek(self.fd, 0, os.SEEK_CUR)
        self.owner: Owner = owner_of(self.header)
        self.files: list[str] = self.header["filenames"]
        self.aliases: dict[str, str] = {}

    def see_as(self, aliases: dict[str, str]) -> None:
        """Have files below these folders count as files of GOROOT, whose links lead to them."""
        self.aliases = aliases
        self.files = [self.seen(name) for name in self.files]

    def seen(self, name: str) -> str:
        """Where a file of the package is in GOROOT, if by a link of GOROOT's."""
        for folder, link in self.aliases.items():
            if name.startswith(folder + "/"):
                return link + name[len(folder) :]
        return name

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


class Incoming:
    """What the transaction leaves: where it lies, at which GOROOT it is to be, what its packages are.

    `before` is the version of the package that has the go command now, or empty. `problem` says why it cannot be a
    working toolchain, found from the headers alone. `names` are the incoming packages of that source, those included
    that have no file in GOROOT and may ask for exactly this release. `notes` are for the record. `others` are further
    places to which the transaction brings a Go, each to be laid out by itself.
    """

    __slots__ = ("before", "directory", "goroot", "names", "notes", "others", "ownership", "problem", "stays")

    def __init__(self, goroot: str) -> None:
        self.goroot = goroot
        self.directory = ""
        self.before = ""
        self.stays: list[str] = []
        self.names: list[str] = []
        self.problem = ""
        self.notes: list[str] = []
        self.others: list[str] = []
        self.ownership = Ownership()

    def subject(self, in_a_view: bool) -> tuple[Subject, str]:
        """The subject to judge and its GOROOT: at the final path in a view of its own, else where it lies."""
        source = f"{self.directory}/root"
        if not in_a_view:
            subject = Subject("incoming")
            goroot = source
        else:
            # Nothing can be mounted on a directory of a read-only /usr that is not there yet.
            goroot = self.goroot if os.path.isdir(self.goroot) else "/tmp/goroot"
            binds = [(source, goroot)]
            binds += [(f"{self.goroot}/{name}", f"{goroot}/{name}") for name in self.stays]
            subject = Subject("incoming", binds=binds)
        subject.ownership = self.ownership
        return subject, goroot


def homes(files: Sequence[str]) -> Iterator[str]:
    """Yield every GOROOT whose go command is among the files.

    A program of that name alone is none: tools, sources or VERSION must be next to it (as for toolchain.is_goroot).
    """
    for name in files:
        home = name[: -len("/bin/go")]
        if name.endswith("/bin/go") and home not in ("", "/usr", "/usr/local", "/opt"):
            parts = (f"{home}/pkg/tool/", f"{home}/src/runtime/", f"{home}/VERSION", f"{home}/go.env")
            if any(other.startswith(parts) for other in files):
                yield home


def brings_go(files: Sequence[str]) -> str:
    """Return the first GOROOT whose go command is among the files, or an empty string."""
    return next(homes(files), "")


def lay_out(paths: Sequence[str], leaving: Iterable[str], goroot: str, in_a_view: bool, token: str) -> Incoming | None:
    """Lay out what the transaction leaves, or return None where it brings nothing of Go.

    `paths` are the incoming packages that may be Go's. `leaving` are the full name-epoch:version-release.arch of what is
    removed or replaced. `goroot` is the GOROOT to lay out if the packages touch it (the live one), or empty. `token`
    names the private directory, which the caller removes. Raises CannotLook.
    """
    try:
        rpm = bindings()
    except ImportError as error:
        raise CannotLook(f"rpm's Python bindings cannot be loaded: {clean(str(error))}") from None
    os.umask(0o022)  # the caller's may keep nobody out of what nobody is to run
    ts = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
    packages: list[Package] = []
    try:
        for path in paths:
            try:
                packages.append(Package(rpm, ts, path))
            except (OSError, rpm.error) as error:
                raise CannotLook(f"{clean(path)}: {clean(str(error))}") from None
        chosen, home = _choose(packages, goroot)
        if not home:
            return None
        sources = {p.owner.source_name for p in chosen}
        names = sorted(p.owner.name for p in packages if p in chosen or p.owner.source_name in sources)
        others = sorted(set(homes([name for p in packages for name in p.files])) - {home})
        incoming = _compose(rpm, chosen, names, set(leaving), home, in_a_view, token)
        if incoming is not None:
            incoming.others = others
        return incoming
    except (OSError, rpm.error) as error:
        raise CannotLook(clean(str(error))) from None
    finally:
        for package in packages:
            package.close()


def _choose(packages: list[Package], goroot: str) -> tuple[list[Package], str]:
    """Those of the packages that are Go's, and the GOROOT they are for: the live one, or else one that they bring."""
    home = goroot
    if not goroot or not any(_has_below(p, goroot) for p in packages):
        home = brings_go([name for p in packages for name in p.files]) or goroot
    aliases: dict[str, str] = {}
    for package in packages:
        aliases.update(_links_out(package, home))
    for package in packages:
        package.see_as(aliases)
    return [p for p in packages if home and any(name.startswith(home + "/") for name in p.files)], home


def _links_out(package: Package, home: str) -> Iterator[tuple[str, str]]:
    """The folders outside GOROOT that links in its top lead to, as some vendors have it with src; and the links."""
    for name, target in zip(package.files, package.header["filelinktos"] or []):
        if target and os.path.dirname(name) == home and os.path.basename(name) in TOP:
            folder = os.path.normpath(os.path.join(home, target))
            if not f"{folder}/".startswith(f"{home}/") and not f"{home}/".startswith(f"{folder.rstrip('/')}/"):
                yield folder, name


def _has_below(package: Package, home: str) -> bool:
    return any(d.startswith(home + "/") for d in package.header["dirnames"] or [])


def _compose(
    rpm: Any, chosen: list[Package], names: list[str], leaving: set[str], home: str, in_a_view: bool, token: str
) -> Incoming | None:
    incoming = Incoming(home)
    incoming.names = names
    now = ownership("/", home)
    incoming.before = now.go.version if now.go else ""
    gone = leaving | {f"{p.owner.name}.{p.header['arch']}" for p in chosen}
    stays = [
        (owner, header)
        for owner, header in zip(now.packages, now.headers)
        if full_nevra(header) not in gone and f"{owner.name}.{header['arch']}" not in gone
    ]
    if not chosen and len(stays) == len(now.packages):
        return None
    after = incoming.ownership
    after.packages = [p.owner for p in chosen] + [owner for owner, _ in stays]
    after.headers = [p.header for p in chosen] + [header for _, header in stays]
    go = f"{home}/bin/go"
    after.go = next((o for o, h in zip(after.packages, after.headers) if go in h["filenames"]), None)
    if after.go is None:
        gone_go = f"it removes Go ({now.go.nevra}) and brings none" if now.go else ""
        incoming.problem = gone_go or f"no package of it has {clean(go)}"
        return incoming
    incoming.problem = after.mixed()
    if incoming.problem:
        return incoming
    coming = {name for p in chosen for name in p.files}
    staying = {name for _, header in stays for name in header["filenames"]}
    sources = f"{home}/src/runtime"
    linked = os.path.islink(f"{home}/src") and f"{home}/src" in staying - coming and os.path.isdir(sources)
    if not linked and not any(n.startswith(f"{sources}/") and n.endswith(".go") for n in coming | staying):
        incoming.problem = f"no package of it has the sources of the standard library in {clean(home)}/src"
        return incoming
    _fill(rpm, incoming, chosen, coming, staying, in_a_view, token)
    return incoming


def full_nevra(header: Any) -> str:
    """A header's name-epoch:version-release.arch, the epoch always there."""
    return f"{header['name']}-{header['epoch'] or 0}:{header['version']}-{header['release']}.{header['arch']}"


def _fill(
    rpm: Any,
    incoming: Incoming,
    chosen: list[Package],
    coming: set[str],
    staying: set[str],
    in_a_view: bool,
    token: str,
) -> None:
    home = incoming.goroot
    first = {_first(name, home) for name in coming} - {""}
    kept = sorted({_first(name, home) for name in staying} & set(TOP) - first)
    mixed = sorted(n for n in staying if _first(n, home) in first and _wanted(n, home) and n not in coming)
    sizes = [
        -(-size // BLOCK) * BLOCK
        for p in chosen
        for name, size, mode in zip(p.files, p.header["filesizes"], p.header["filemodes"])
        if _wanted(name, home) and stat.S_ISREG(mode & 0xFFFF)
    ]
    need = sum(sizes)
    if need > MAX_BYTES:
        raise CannotLook(f"its packages hold {need >> 20} MiB, more than {MAX_BYTES >> 20}")
    whys = []
    for place in PLACES if in_a_view else OPEN_PLACES:
        incoming.stays, incoming.notes = [], []
        try:
            incoming.directory = make_place(place, need, len(sizes), in_a_view, token)
            _write(rpm, incoming, chosen, mixed, kept, in_a_view)
            return
        except OSError as error:
            whys.append(f"{place}: {clean(str(error.strerror))}")
            remove(f"{place}/{PREFIX}{token}")
    raise CannotLook(f"nowhere to look into them: {'; '.join(whys)}")


def _write(
    rpm: Any, incoming: Incoming, chosen: list[Package], mixed: list[str], kept: list[str], in_a_view: bool
) -> None:
    """Fill the private directory: `mixed` are files that stay next to those that come in, `kept` what stays whole.

    Raises OSError.
    """
    home = incoming.goroot
    writer = _Writer(f"{incoming.directory}/root", home, incoming.notes)
    for package in chosen:
        _extract(rpm, package, writer)
    for name in mixed:
        writer.copy(name)
    for name in kept:
        if in_a_view:
            writer.mount_point(name)
            incoming.stays.append(name)
        else:
            os.symlink(f"{home}/{name}", f"{writer.top}/{name}")


def _first(name: str, home: str) -> str:
    """The first part of a name below GOROOT, or an empty string."""
    return name[len(home) + 1 :].partition("/")[0] if name.startswith(home + "/") else ""


def _wanted(name: str, home: str) -> bool:
    if not name.startswith(home + "/"):
        return False
    rest = name[len(home) + 1 :]
    if rest in TOP:
        return True
    if not rest.startswith(WANTED) or rest.endswith(("_test.go", ".a", ".syso")):
        return False
    return not any(part in rest for part in UNWANTED)


class _Writer:
    """Makes files of a package below a private directory, and nowhere else.

    Every directory on the way was made here and is no link; names that climb, links that lead out of GOROOT and what
    is neither file, link nor directory are left out, with a note.
    """

    def __init__(self, top: str, home: str, notes: list[str]) -> None:
        self.top = top
        self.home = home
        self.notes = notes
        self.written = 0
        self.count = 0
        self.made: set[str] = set()
        os.mkdir(top, 0o755)

    def place(self, name: str) -> str:
        """Where a file of the package is to be written, its directories made; empty where it may not be."""
        rest = name[len(self.home) + 1 :]
        parts = rest.split("/")
        if any(part in ("", ".", "..") or len(part) > 255 for part in parts) or "\0" in rest:
            self.note(f"{clean(name)}: not a name that can be installed")
            return ""
        path = self.top
        for part in parts[:-1]:
            path += "/" + part
            if path not in self.made:
                try:
                    os.mkdir(path, 0o755)
                except FileExistsError:
                    self.note(f"{clean(name)}: lies below something that is no directory")
                    return ""
                self.made.add(path)
        self.count += 1
        if self.count > MAX_FILES:
            raise CannotLook(f"its packages hold more than {MAX_FILES} files")
        return f"{path}/{parts[-1]}"

    def note(self, line: str) -> None:
        if len(self.notes) < 20:
            self.notes.append(line)

    def directory(self, name: str) -> None:
        path = self.place(name)
        if path and path not in self.made:
            try:
                os.mkdir(path, 0o755)
                self.made.add(path)
            except FileExistsError:
                self.note(f"{clean(name)}: stands there twice")

    def link(self, name: str, target: str) -> None:
        whole = target if target.startswith("/") else f"{os.path.dirname(name)}/{target}"
        if not (os.path.normpath(whole) + "/").startswith(self.home + "/"):
            self.note(f"{clean(name)}: a link that leads out of {clean(self.home)}, to {clean(target)}")
            return
        path = self.place(name)
        if path:
            try:
                os.symlink(os.path.relpath(os.path.normpath(whole), os.path.dirname(name)), path)
            except FileExistsError:
                self.note(f"{clean(name)}: stands there twice")

    def open(self, name: str, mode: int, size: int) -> int:
        """A new file open for writing, or -1."""
        path = self.place(name)
        if not path:
            return -1
        self.written += size
        if self.written > MAX_BYTES:
            raise CannotLook(f"its packages hold more than {MAX_BYTES >> 20} MiB")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            self.note(f"{clean(name)}: stands there twice")
            return -1
        os.fchmod(fd, mode & 0o777)
        return fd

    def same(self, name: str, other: str) -> None:
        """A further name of a file already written."""
        path = self.place(name)
        if path:
            try:
                os.link(other, path, follow_symlinks=False)
            except OSError as error:
                self.note(f"{clean(name)}: {error.strerror}")

    def copy(self, name: str) -> None:
        """A file that stays installed, next to those that come in."""
        try:
            info = os.lstat(name)
            if stat.S_ISLNK(info.st_mode):
                self.link(name, os.readlink(name))
            elif stat.S_ISREG(info.st_mode):
                with open(name, "rb") as source:
                    fd = self.open(name, info.st_mode, info.st_size)
                    if fd >= 0:
                        with open(fd, "wb") as target:
                            while chunk := source.read(1 << 20):
                                target.write(chunk)
        except OSError as error:
            if error.errno in FULL:
                raise
            self.note(f"{clean(name)}: {error.strerror}")

    def mount_point(self, name: str) -> None:
        """Something to mount what stays installed on."""
        source = f"{self.home}/{name}"
        if os.path.isdir(source):
            self.directory(source)
        else:
            fd = self.open(source, 0o644, 0)
            if fd >= 0:
                os.close(fd)


def _extract(rpm: Any, package: Package, writer: _Writer) -> None:
    """Read the wanted files of one package out of it; rpm itself holds each to its digest."""
    header, home = package.header, writer.home
    if not any(_wanted(name, home) for name in package.files):
        return
    files = rpm.files(header)
    # The bindings do not keep what the archive is read from: without a name of its own it would be closed at once.
    os.lseek(package.fd, package.payload, os.SEEK_SET)
    payload = rpm.fd(package.fd, "r", header["payloadcompressor"] or "gzip")
    archive = files.archive(payload, write=False)
    left = sum(1 for name in package.files if _wanted(name, home))
    linked: dict[int, list[str]] = {}
    for entry in archive:
        name = package.seen(entry.name)
        if not _wanted(name, home):
            continue
        left -= 1
        _entry(rpm, package, archive, entry, name, writer, linked)
        if left == 0:
            break


def _entry(
    rpm: Any,
    package: Package,
    archive: Any,
    entry: Any,
    name: str,
    writer: _Writer,
    linked: dict[int, list[str]],
) -> None:
    mode = entry.mode & 0xFFFF
    if stat.S_ISDIR(mode):
        writer.directory(name)
    elif stat.S_ISLNK(mode) and name not in package.aliases.values():
        writer.link(name, entry.linkto)
    elif stat.S_ISLNK(mode):
        pass  # what it leads to is written in its place
    elif not stat.S_ISREG(mode):
        writer.note(f"{clean(name)}: neither file, link nor directory")
    elif entry.nlink > 1 and not archive.hascontent():
        # Names of one file come one after another, the content with the last (rpm's cpio).
        linked.setdefault(entry.inode, []).append(name)
    else:
        fd = writer.open(name, mode, entry.size)
        if fd < 0:
            return
        try:
            target = rpm.fd(fd, "w")
            archive.readto(target)
        except (OSError, rpm.error) as error:
            raise OSError(errno.EIO, f"{clean(package.path)}: {clean(name)}: {clean(str(error))}") from None
        finally:
            os.close(fd)
        path = writer.top + name[len(writer.home) :]
        for other in linked.pop(entry.inode, []):
            writer.same(other, path)


def make_place(place: str, need: int, count: int, in_a_view: bool, token: str) -> str:
    """A new private directory in `place`, where so many bytes and files have room and programs may be run.

    Raises OSError.

    With a view of their own, programs need not find the way there: only root may enter. Without, nobody has to pass,
    who may not read the directory and cannot guess the name.
    """
    if not os.path.isdir(place):
        os.mkdir(place, 0o700 if in_a_view else 0o755)
    scratch.sweep(place, PREFIX)
    room = os.statvfs(place)
    if room.f_flag & os.ST_NOEXEC:
        raise OSError(errno.EACCES, "mounted noexec")
    if room.f_bavail * room.f_frsize < need + SPARE:
        raise OSError(errno.ENOSPC, f"has no room for {need >> 20} MiB")
    if room.f_files and room.f_favail < count + SPARE_FILES:  # btrfs, which has no such limit, says 0
        raise OSError(errno.ENOSPC, f"has no room for {count} files")
    path = f"{place}/{PREFIX}{token}"
    os.mkdir(path, 0o700 if in_a_view else 0o711)
    return path


def new_token() -> str:
    """Return a name for a private directory that says which process it is for, as scratch.sweep reads it."""
    return f"{files.mark()}-{os.urandom(8).hex()}"


def remove(directory: str) -> None:
    """Remove a private directory; what cannot be removed is left for the next sweep. Raises nothing."""
    files.remove_tree(directory)


def forget(token: str) -> None:
    """Remove the private directory of that token, wherever it was made."""
    for place in {*PLACES, *OPEN_PLACES}:
        path = f"{place}/{PREFIX}{token}"
        if os.path.isdir(path):
            remove(path)


def locate(wanted: Mapping[str, Sequence[Place]]) -> dict[str, str]:
    """Of the packages, by their full names, those that are in one of their places, and their files."""
    found = {}
    for full, places in wanted.items():
        for folder, prefix, rest in places:
            path = next((p for p in _candidates(folder, prefix, rest) if os.path.isfile(p)), "")
            if path and names_itself(path) == full:
                found[full] = path
                break
    return found


def _candidates(folder: str, prefix: str, rest: str) -> list[str]:
    if not prefix:
        return [f"{folder}/{rest}"]
    try:
        return [f"{folder}/{name}/{rest}" for name in sorted(os.listdir(folder)) if name.startswith(prefix)]
    except OSError:
        return []


def open_regular(path: str) -> int:
    """Open a regular file for reading and return its descriptor. Raises OSError; never waits, as for a FIFO's writer.

    The directory may be writable by other users (a package named on the command line).
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def names_itself(path: str) -> str:
    """Return what the header of an rpm file says it is, as name-epoch:version-release.arch; empty for anything else."""
    header = header_of(path)
    return full_nevra(header) if header is not None else ""


def header_of(path: str) -> Any:
    """Return rpm's header of an rpm file; None for anything else, and for what cannot be read."""
    try:
        rpm = bindings()
        ts = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
        with open(open_regular(path), "rb") as file:
            return ts.hdrFromFdno(file.fileno())
    except Exception:  # whatever librpm makes of a damaged file
        return None
