# SPDX-License-Identifier: GPL-2.0-or-later
"""Read the files of Go out of packages into a private directory, and write nowhere else."""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook import files
from go_health_hook.run import scratch
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.linux.rpmfile import Package

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


def new_token() -> str:
    """Return a name for a private directory that says which process it is for, as scratch.sweep reads it."""
    return f"{files.mark()}-{os.urandom(8).hex()}"


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


def remove(directory: str) -> None:
    """Remove a private directory; what cannot be removed is left for the next sweep. Raises nothing."""
    files.remove_tree(directory)


def forget(token: str) -> None:
    """Remove the private directory of that token, wherever it was made."""
    for place in {*PLACES, *OPEN_PLACES}:
        path = f"{place}/{PREFIX}{token}"
        if os.path.isdir(path):
            remove(path)


def first_part(name: str, home: str) -> str:
    """The first part of a name below GOROOT, or an empty string."""
    return name[len(home) + 1 :].partition("/")[0] if name.startswith(home + "/") else ""


def is_wanted(name: str, home: str) -> bool:
    if not name.startswith(home + "/"):
        return False
    rest = name[len(home) + 1 :]
    if rest in TOP:
        return True
    if not rest.startswith(WANTED) or rest.endswith(("_test.go", ".a", ".syso")):
        return False
    return not any(part in rest for part in UNWANTED)


class Writer:
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
        self.led_out: list[tuple[str, str]] = []  # links left out, and where they lead
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
            self.led_out.append((name, os.path.normpath(whole)))
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


def extract(rpm: Any, package: Package, writer: Writer) -> None:
    """Read the wanted files of one package out of it; rpm itself holds each to its digest."""
    header, home = package.header, writer.home
    if not any(is_wanted(name, home) for name in package.files):
        return
    files = rpm.files(header)
    # The bindings do not keep what the archive is read from: without a name of its own it would be closed at once.
    os.lseek(package.fd, package.payload, os.SEEK_SET)
    payload = rpm.fd(package.fd, "r", header["payloadcompressor"] or "gzip")
    archive = files.archive(payload, write=False)
    left = sum(1 for name in package.files if is_wanted(name, home))
    linked: dict[int, list[str]] = {}
    for entry in archive:
        name = package.seen(entry.name)
        if not is_wanted(name, home):
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
    writer: Writer,
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
            try:
                archive.readto(target)
            finally:
                # readto of rpm 4.18 and earlier keeps a reference for ever. A file that is open for writing cannot be
                # executed (ETXTBSY).
                target.close()
        except (OSError, rpm.error) as error:
            raise OSError(errno.EIO, f"{clean(package.path)}: {clean(name)}: {clean(str(error))}") from None
        finally:
            os.close(fd)
        path = writer.top + name[len(writer.home) :]
        for other in linked.pop(entry.inode, []):
            writer.same(other, path)
