# SPDX-License-Identifier: GPL-2.0-or-later
"""Where Go is in a process: in its executable, unpacked in its memory, in a shared library, below an emulator."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct

from go_health_hook.go import buildinfo, elf
from go_health_hook.linux.kernel_files import read_file
from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from go_health_hook.go.buildinfo import BuildInfo

SYMBOL = "runtime.gomaxprocs"
EXECUTABLE, PACKED = "", "packed"
EMULATORS = ("qemu-", "box64", "box86", "FEXInterpreter")
_AT_ENTRY = 9  # getauxval(3)
_LARGEST = 1 << 20  # more Ps than any machine has: what was read is not the variable
_MAPS_MAX = 1 << 20  # bytes of a list of mappings that are read
_REGIONS_MAX = 64  # of a packed program
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Image(Record):
    """Go in a file: its build information, the address of its GOMAXPROCS or None, and the file's headers."""

    build: BuildInfo
    symbol: int | None
    entry: int
    segments: list[elf.Segment]
    word: str


class Found(Record):
    """Go in a process: `where` is EXECUTABLE, PACKED or a library's or emulated program's name, `gomaxprocs` as it is.

    `gomaxprocs` is None where its memory does not show it: the symbol is stripped, or reading it is not allowed.
    """

    build: BuildInfo
    where: str
    gomaxprocs: int | None


class Mapping(Record):
    """A line of /proc/PID/maps: proc_pid_maps(5)."""

    start: int
    end: int
    offset: int
    device: bytes
    inode: int
    path: bytes

    @property
    def key(self) -> tuple[bytes, int]:
        """What tells its file from others."""
        return self.device, self.inode


class _Executable(Record):
    """What an executable's own file says: Go in it, or how Go may come into a process of it all the same."""

    image: Image | None
    packed: bool = False
    links: bool = False
    emulates: bool = False


class Images:
    """Looks for Go in processes, remembering files: of a thousand processes most are the same few programs."""

    def __init__(self, proc: str) -> None:
        self.proc = proc
        self._executables: dict[tuple[int, ...], _Executable] = {}
        self._libraries: dict[tuple[bytes, int], Image | None] = {}

    def find(self, pid: int) -> Found | None:
        """Go in that process, or None. Raises PermissionError where it is not ours to see, OSError where it ended."""
        place = f"{self.proc}/{pid}"
        info = os.stat(f"{place}/exe")
        key = (info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size)
        if key not in self._executables:
            emulates = os.path.basename(os.readlink(f"{place}/exe")).startswith(EMULATORS)
            self._executables[key] = _executable(f"{place}/exe", emulates)
        known = self._executables[key]
        if known.image:
            return Found(known.image.build, EXECUTABLE, _value(place, known.image, None))
        if known.packed:
            with contextlib.suppress(buildinfo.NotGo):
                return Found(_unpacked(place), PACKED, None)
        return self._mapped(place, info.st_ino, known.emulates) if known.links or known.emulates else None

    def _mapped(self, place: str, own: int, emulates: bool) -> Found | None:
        """Go in one of the files that the process has mapped to execute them; an emulator only reads its program."""
        for mapping in mappings(place, b"r..." if emulates else b"r.x."):
            if not mapping.inode or mapping.inode == own:
                continue
            if mapping.key not in self._libraries:
                self._libraries[mapping.key] = _library(place, mapping)
            image = self._libraries[mapping.key]
            if image:
                name = os.fsdecode(os.path.basename(mapping.path))
                return Found(image.build, name, _value(place, image, mapping))
        return None


def _executable(path: str, emulates: bool) -> _Executable:
    fd = os.open(path, _READ)
    try:
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return _Executable(None)
            executable = buildinfo.open_elf(fd)
        except buildinfo.NotGo:
            return _Executable(None)
        try:
            return _Executable(_image(executable))
        except buildinfo.NotGo:
            pass
        # A linker writes section headers, a packer none; a static program loads no library.
        links = any(segment.kind == elf.INTERPRETER for segment in executable.segments())
        return _Executable(None, packed=not executable.has_sections, links=links, emulates=emulates)
    finally:
        os.close(fd)


def _image(file: elf.Elf) -> Image:
    """Raises NotGo."""
    build = buildinfo.of_elf(file)
    segments = [segment for segment in file.segments() if segment.kind == elf.LOADED]
    return Image(build, file.symbol(SYMBOL), file.entry, segments, file.word)


def _library(place: str, mapping: Mapping) -> Image | None:
    """Go in a mapped file, or None. What the name leads to must be what is mapped, since the process chose it."""
    paths = [f"{place}/map_files/{mapping.start:x}-{mapping.end:x}", f"{place}/root{os.fsdecode(mapping.path)}"]
    for path, flags in zip(paths, (_READ, _READ | os.O_NOFOLLOW)):
        try:
            fd = os.open(path, flags)
        except (OSError, ValueError):
            continue
        try:
            info = os.fstat(fd)
            if stat.S_ISREG(info.st_mode) and info.st_ino == mapping.inode:
                library = buildinfo.open_elf(fd)
                return _image(library)
        except buildinfo.NotGo:
            return None
        finally:
            os.close(fd)
    return None


def mappings(place: str, perms: bytes) -> Iterator[Mapping]:
    """What is mapped with those permissions in a process, as far as one megabyte of the list tells.

    `place` is the process's folder of procfs, `perms` a regular expression as of "r-xp".
    """
    line = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) (?:" + perms + rb") ([0-9a-f]+) (\S+) (\d+) *(.*)$", re.MULTILINE)
    fd = os.open(f"{place}/maps", _READ)
    try:
        rest, size = b"", 0
        while size < _MAPS_MAX and (data := os.read(fd, 1 << 16)):
            size += len(data)
            whole, _, tail = data.rpartition(b"\n")
            for match in line.finditer(rest + whole):
                start, end, offset, device, inode, path = match.groups()
                yield Mapping(int(start, 16), int(end, 16), int(offset, 16), device, int(inode), path)
            rest = tail
    finally:
        os.close(fd)


def _unpacked(place: str) -> BuildInfo:
    """The build information in a process's memory. Raises NotGo, OSError."""
    regions = [(m.start, m.end - m.start) for m in mappings(place, b"rw..")]
    memory = os.open(f"{place}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return buildinfo.of_memory(lambda size, at: os.pread(memory, size, at), regions[:_REGIONS_MAX])
    finally:
        os.close(memory)


def _value(place: str, image: Image, mapping: Mapping | None) -> int | None:
    """The runtime's own variable in the running process, or None where there is no symbol or no permission."""
    if image.symbol is None:
        return None
    try:
        moved = _moved_by_entry(place, image) if mapping is None else _moved_by_mapping(image, mapping)
        memory = os.open(f"{place}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(memory, 4, image.symbol + moved)
        finally:
            os.close(memory)
    except (OSError, ValueError, KeyError, OverflowError):
        return None
    value: int = struct.unpack(image.word[0] + "i", data)[0] if len(data) == 4 else 0
    return value if 0 < value < _LARGEST else None  # zero: its runtime has not begun


def _moved_by_entry(place: str, image: Image) -> int:
    """How far the executable's addresses in memory are from those in its file. Raises OSError, KeyError, Malformed."""
    vector = read_file(f"{place}/auxv")
    form = image.word[0] + 2 * image.word[1]
    size = struct.calcsize(form)
    pairs = dict(struct.iter_unpack(form, vector[: len(vector) // size * size]))
    entry: int = pairs[_AT_ENTRY]
    return entry - image.entry


def _moved_by_mapping(image: Image, mapping: Mapping) -> int:
    """As `_moved_by_entry`, by the segment of which a piece of the file is mapped. Raises KeyError."""
    for segment in image.segments:
        if segment.offset - segment.offset % 4096 <= mapping.offset < segment.offset + segment.size:
            return mapping.start - (segment.address + mapping.offset - segment.offset)
    raise KeyError(mapping.offset)
