# SPDX-License-Identifier: GPL-2.0-or-later
"""Go's build information in an executable: which Go built it, from what, with which settings.

Format: Go's debug/buildinfo/buildinfo.go.
"""

from __future__ import annotations

import os
import stat
import struct

from go_health_hook.go import elf
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"\xff Go buildinf:"
_HEADER = 32  # bytes of the structure; the strings of Go from 1.18 follow it
_INLINE, _BIG = 2, 1
_VERSION_MAX = 1000
_MODULES_MAX = 4 << 20  # large programs have a few hundred kilobytes of dependencies
_LINES_MAX = 50_000  # of these; a hostile file may have nothing but lines
_SEARCHED = 64 << 10  # of a data segment, where the section headers are gone
_SENTINEL = 16  # bytes around the module information, by which other tools find it in memory


class NotGo(ValueError):
    """The file is no executable of Go's, or says nothing about its build."""


class BuildInfo(Record):
    """What a Go executable says of its build.

    version   "go1.27.3", of the toolchain and thereby of the runtime in it
    path      of its main package: "cmd/go" for the go command
    module    of its main module, or an empty string
    settings  the build settings, "DefaultGODEBUG" among them where it is not the toolchain's own
    """

    version: str
    path: str
    module: str
    settings: dict[str, str]

    @property
    def godebug(self) -> str:
        """DefaultGODEBUG: what a go line older than the toolchain, and //go:debug lines, switched."""
        return self.settings.get("DefaultGODEBUG", "")


def read(path: str) -> BuildInfo:
    """The build information of an executable; /proc/PID/exe will do. Raises NotGo, OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        return read_fd(fd)
    finally:
        os.close(fd)


def read_fd(fd: int) -> BuildInfo:
    """As `read`, of an open file."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise NotGo("not a regular file")
    return of_elf(open_elf(fd))


def open_elf(fd: int) -> elf.Elf:
    """The headers of an open executable. Raises NotGo, OSError."""
    try:
        executable = elf.opened(fd)
    except elf.NotElf as error:
        raise NotGo(str(error)) from None
    if executable.kind not in elf.EXECUTABLES:
        raise NotGo("not an executable")
    return executable


def of_elf(executable: elf.Elf) -> BuildInfo:
    """The build information of an executable or a shared library. Raises NotGo, OSError."""
    section = executable.section(b".go.buildinfo")
    regions = [(section.offset, section.size)] if section else [
        (s.offset, s.size) for s in executable.segments() if s.kind == elf.LOADED and s.flags & elf.WRITTEN
    ]  # fmt: skip
    try:
        return _search(executable.read, regions, executable.at)
    except (elf.NotElf, struct.error, OverflowError, IndexError):
        raise NotGo("an ELF file that is damaged") from None


def of_memory(read: elf.Read, regions: Iterable[tuple[int, int]]) -> BuildInfo:
    """The build information of a program in memory, where its file does not show it (packed by UPX). Raises NotGo.

    read     the bytes of its memory, of a size and at an address
    regions  what it may write to: address and size of each
    """
    try:
        return _search(read, regions, read)
    except (struct.error, OverflowError, IndexError):
        raise NotGo("build information that is damaged") from None


def _search(read: elf.Read, regions: Iterable[tuple[int, int]], at_address: elf.Read) -> BuildInfo:
    """Find the structure: in its section, else at the start of what the program may write to."""
    for offset, size in regions:
        data = read(min(size, _SEARCHED), offset)
        at = data.find(MAGIC)
        while at >= 0:
            if at % 16 == 0 and len(data) >= at + _HEADER:
                return _decode(read, data[at : at + _HEADER], offset + at + _HEADER, at_address)
            at = data.find(MAGIC, at + 1)
    raise NotGo("an executable not built by Go, or before Go 1.13")


def _decode(read: elf.Read, header: bytes, offset: int, at_address: elf.Read) -> BuildInfo:
    """Since Go 1.18 two strings follow the header, each after its length as a varint."""
    if header[15] & _INLINE:
        version, offset = _counted(read, offset, _VERSION_MAX)
        modules, _ = _counted(read, offset, _MODULES_MAX)
    else:
        version, modules = _pointers(header, at_address)
    if not version:
        raise NotGo("its build information is empty")
    return _parse(version.decode("utf-8", "replace"), modules)


def _counted(read: elf.Read, at: int, limit: int) -> tuple[bytes, int]:
    length = shift = used = 0
    for byte in read(10, at):
        length |= (byte & 0x7F) << shift
        shift += 7
        used += 1
        if byte < 0x80:
            break
    if length > limit:
        raise NotGo(f"build information of {length} bytes")
    return read(length, at + used), at + used + length


def _pointers(header: bytes, at_address: elf.Read) -> tuple[bytes, bytes]:
    """Before Go 1.18 the header held pointers to two Go strings, each a pointer and a length."""
    size = header[14]
    order = ">" if header[15] & _BIG else "<"
    if size not in (4, 8):
        raise NotGo("build information of an unknown form")
    form = order + ("QQ" if size == 8 else "II")
    strings = []
    for pointer, limit in zip(struct.unpack_from(form, header, 16), (_VERSION_MAX, _MODULES_MAX)):
        if pointer == 0:
            strings.append(b"")
            continue
        start, length = struct.unpack(form, at_address(2 * size, pointer))
        if length > limit:
            raise NotGo(f"build information of {length} bytes")
        strings.append(at_address(length, start) if length else b"")
    return strings[0], strings[1]


def _parse(version: str, modules: bytes) -> BuildInfo:
    text = modules[_SENTINEL:-_SENTINEL].decode("utf-8", "replace") if len(modules) > 2 * _SENTINEL else ""
    path = module = ""
    settings: dict[str, str] = {}
    for line in text.split("\n", _LINES_MAX)[:_LINES_MAX]:
        kind, _, rest = line.partition("\t")
        if kind == "path":
            path = rest
        elif kind == "mod":
            module = rest.split("\t")[0]
        elif kind == "build":
            key, _, value = rest.partition("=")
            settings[key] = value[1:-1] if value[:1] == '"' and value[-1:] == '"' else value
    return BuildInfo(clean(version), clean(path), clean(module), settings)
