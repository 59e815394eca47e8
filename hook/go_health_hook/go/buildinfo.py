# SPDX-License-Identifier: GPL-2.0-or-later
"""Go's build information in an executable: which Go built it, from what, with which settings.

The few ELF headers on the way are read here, since `exec` answers in less time than importing pyelftools takes (0.1 s);
symbols, which only `ps` wants, are pyelftools' part. Formats: elf(5), Go's debug/buildinfo/buildinfo.go.
"""

from __future__ import annotations

import os
import stat
import struct

from go_health_hook.linux.kernel_files import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"\xff Go buildinf:"
_HEADER = 32  # bytes of the structure; the strings of Go from 1.18 follow it
_INLINE, _BIG = 2, 1
_SECTIONS_MAX = 4096
_SEGMENTS_MAX = 256
_NAMES_MAX = 1 << 20
_VERSION_MAX = 1000
_MODULES_MAX = 4 << 20  # large programs have a few hundred kilobytes of dependencies
_SEARCHED = 64 << 10  # of a data segment, where the section headers are gone
_SYMBOLS_MAX = 256 << 20
_SYMTAB, _STRTAB, _COMPRESSED = 2, 3, 0x800  # SHT_SYMTAB, SHT_STRTAB, SHF_COMPRESSED
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

    __slots__ = ("module", "path", "settings", "version")

    def __init__(self, version: str, path: str, module: str, settings: dict[str, str]) -> None:
        self.version = version
        self.path = path
        self.module = module
        self.settings = settings

    @property
    def godebug(self) -> str:
        """DefaultGODEBUG: what a go line older than the toolchain, and //go:debug lines, switched."""
        return self.settings.get("DefaultGODEBUG", "")


class _Section:
    """A section's header, as far as it is needed."""

    __slots__ = ("entry", "flags", "kind", "link", "name", "offset", "size")

    def __init__(self, name: int, kind: int, flags: int, _: int, offset: int, size: int, link: int, *rest: int) -> None:
        self.name = name
        self.kind = kind
        self.flags = flags
        self.offset = offset
        self.size = size
        self.link = link
        self.entry = rest[-1]


class _Elf:
    """The headers of an open ELF file, as far as they are needed. Raises NotGo for what is none."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        head = os.pread(fd, 64, 0)
        if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
            raise NotGo("not an ELF file")
        self.wide = head[4] == 2
        self.order = "<" if head[5] == 1 else ">"
        self.kind = self.number(head, 16, "H")
        if self.kind not in (2, 3):  # ET_EXEC, ET_DYN
            raise NotGo("not an executable")
        word = "Q" if self.wide else "I"
        self.segments_at, self.sections_at = struct.unpack_from(self.order + word * 2, head, 32 if self.wide else 28)
        sizes = struct.unpack_from(self.order + "HHHHH", head, 54 if self.wide else 42)
        self.segment_size, self.segment_count, self.section_size, self.section_count, self.names = sizes

    def number(self, data: bytes, at: int, kind: str) -> int:
        value: int = struct.unpack_from(self.order + kind, data, at)[0]
        return value

    def segments(self) -> list[tuple[int, int, int, int]]:
        """Of each loaded segment: flags, address, offset and size in the file."""
        wanted = 56 if self.wide else 32
        if self.segment_size != wanted or not 0 < self.segment_count <= _SEGMENTS_MAX:
            return []
        data = os.pread(self.fd, wanted * self.segment_count, self.segments_at)
        found = []
        for at in range(0, len(data) - wanted + 1, wanted):
            if self.number(data, at, "I") != 1:  # PT_LOAD
                continue
            if self.wide:
                flags, offset, address = struct.unpack_from(self.order + "IQQ", data, at + 4)
                size = self.number(data, at + 32, "Q")
            else:
                offset, address = struct.unpack_from(self.order + "II", data, at + 4)
                size, flags = self.number(data, at + 16, "I"), self.number(data, at + 24, "I")
            found.append((flags, address, offset, size))
        return found

    def sections(self) -> list[_Section]:
        """The section headers; none where their count stands elsewhere (e_shnum is 0), as no linker of Go's has it."""
        wanted = 64 if self.wide else 40
        if self.section_size != wanted or not 0 < self.section_count <= _SECTIONS_MAX:
            return []
        data = os.pread(self.fd, wanted * self.section_count, self.sections_at)
        form = self.order + ("IIQQQQIIQQ" if self.wide else "IIIIIIIIII")
        return [_Section(*fields) for fields in struct.iter_unpack(form, data[: len(data) // wanted * wanted])]

    def section(self, name: bytes) -> tuple[int, int] | None:
        """Offset and size in the file of the section of that name, or None."""
        sections = self.sections()
        if self.names >= len(sections):
            return None
        table = sections[self.names]
        names = os.pread(self.fd, min(table.size, _NAMES_MAX), table.offset)
        for section in sections:
            if names[section.name : section.name + len(name) + 1] == name + b"\0":
                return section.offset, section.size
        return None

    def at(self, address: int, size: int) -> bytes:
        """What the file has at an address of the program. Raises NotGo where it has nothing."""
        for _, start, offset, length in self.segments():
            if start <= address and address + size <= start + length:
                return os.pread(self.fd, size, offset + address - start)
        raise NotGo("its build information points outside the file")


def word_size(fd: int) -> tuple[int, str]:
    """Bytes of a pointer in an executable, and its byte order as struct has it. Raises NotGo."""
    elf = _Elf(fd)
    return (8 if elf.wide else 4), elf.order


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
    try:
        elf = _Elf(fd)
        data, offset = _find(elf)
        version, modules = _inline(fd, data, offset) if data[15] & _INLINE else _pointers(elf, data)
    except (struct.error, OverflowError, IndexError):
        raise NotGo("an ELF file that is damaged") from None
    if not version:
        raise NotGo("its build information is empty")
    return _parse(version.decode("utf-8", "replace"), modules)


def _find(elf: _Elf) -> tuple[bytes, int]:
    """The structure's header and where it is in the file: in its section, else at the start of a data segment."""
    section = elf.section(b".go.buildinfo")
    places: Iterable[tuple[int, int]]
    if section is not None:
        places = [section]
    else:
        places = [(offset, size) for flags, _, offset, size in elf.segments() if flags & 2]  # PF_W
    for offset, size in places:
        data = os.pread(elf.fd, min(size, _SEARCHED), offset)
        at = data.find(MAGIC)
        while at >= 0:
            if at % 16 == 0 and len(data) >= at + _HEADER:
                return data[at : at + _HEADER], offset + at
            at = data.find(MAGIC, at + 1)
    raise NotGo("an executable not built by Go, or before Go 1.13")


def _inline(fd: int, data: bytes, offset: int) -> tuple[bytes, bytes]:
    """Since Go 1.18 two strings follow the header, each after its length as a varint."""
    at = offset + _HEADER
    version, at = _counted(fd, at, _VERSION_MAX)
    modules, _ = _counted(fd, at, _MODULES_MAX)
    return version, modules


def _counted(fd: int, at: int, limit: int) -> tuple[bytes, int]:
    head = os.pread(fd, 10, at)
    length = shift = used = 0
    for byte in head:
        length |= (byte & 0x7F) << shift
        shift += 7
        used += 1
        if byte < 0x80:
            break
    if length > limit:
        raise NotGo(f"build information of {length} bytes")
    return os.pread(fd, length, at + used), at + used + length


def _pointers(elf: _Elf, data: bytes) -> tuple[bytes, bytes]:
    """Before Go 1.18 the header held pointers to two Go strings, each a pointer and a length."""
    size = data[14]
    order = ">" if data[15] & _BIG else "<"
    if size not in (4, 8):
        raise NotGo("build information of an unknown form")
    form = order + ("QQ" if size == 8 else "II")
    found = []
    for header, limit in zip(struct.unpack_from(form, data, 16), (_VERSION_MAX, _MODULES_MAX)):
        if header == 0:
            found.append(b"")
            continue
        start, length = struct.unpack(form, elf.at(header, 2 * size))
        if length > limit:
            raise NotGo(f"build information of {length} bytes")
        found.append(elf.at(start, length) if length else b"")
    return found[0], found[1]


def _parse(version: str, modules: bytes) -> BuildInfo:
    text = modules[_SENTINEL:-_SENTINEL].decode("utf-8", "replace") if len(modules) > 2 * _SENTINEL else ""
    path = module = ""
    settings: dict[str, str] = {}
    for line in text.split("\n"):
        kind, _, rest = line.partition("\t")
        if kind == "path":
            path = rest
        elif kind == "mod":
            module = rest.split("\t")[0]
        elif kind == "build":
            key, _, value = rest.partition("=")
            settings[key] = value[1:-1] if value[:1] == '"' and value[-1:] == '"' else value
    return BuildInfo(clean(version), clean(path), clean(module), settings)


def symbol(fd: int, name: str) -> tuple[int, int] | None:
    """A symbol's address and the entry point's, as the file has them: in memory both are moved alike.

    None where the executable has no such symbol (it is stripped), where its tables are such as no toolchain writes
    (compressed, too large, of odd entries), or pyelftools is not there. The names are searched as bytes, since large
    programs have 100,000 symbols.
    """
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile
    except ImportError:
        return None
    try:
        head = _Elf(fd)
        number = _symbol_table(head)
        if number is None:
            return None
        with os.fdopen(os.dup(fd), "rb") as file:
            elf = ELFFile(file)
            table = elf.get_section(number)
            at = elf.get_section(table["sh_link"]).data().find(b"\0" + name.encode() + b"\0")
            if at < 0:
                return None
            wanted = struct.pack(head.order + "I", at + 1)
            entries, step = table.data(), table["sh_entsize"]
            found = entries.find(wanted)
            while found >= 0 and found % step:
                found = entries.find(wanted, found + 1)
            if found < 0 or found + step > len(entries):
                return None
            return table.get_symbol(found // step)["st_value"], elf["e_entry"]
    except (ELFError, NotGo, OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, OverflowError):
        return None


def _symbol_table(elf: _Elf) -> int | None:
    """The number of the section with the symbols, if it and its strings are such as cost no more than their size says.

    pyelftools believes what the headers claim, and they may be of anybody's making.
    """
    sections = elf.sections()
    for number, table in enumerate(sections):
        if table.kind == _SYMTAB:
            if table.entry != (24 if elf.wide else 16) or table.link >= len(sections):
                return None
            strings = sections[table.link]
            odd = strings.kind != _STRTAB or (table.flags | strings.flags) & _COMPRESSED
            odd = odd or max(table.size, strings.size) > _SYMBOLS_MAX
            return None if odd else number
    return None
