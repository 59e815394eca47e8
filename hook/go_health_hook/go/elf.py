# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF files that may be of anybody's making: headers, segments, sections and one symbol, in bounded time and memory.

The one ELF reader of this package. Formats: elf(5). No libelf or pyelftools: they believe the sizes that headers claim,
and root reads the executables of every user here.
"""

from __future__ import annotations

import os
import struct

from go_health_hook import files
from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]  # size and offset, as os.pread

EXECUTABLES = (2, 3)  # ET_EXEC, ET_DYN
LOADED, INTERPRETER = 1, 3  # PT_LOAD, PT_INTERP
EXECUTED, WRITTEN = 1, 2  # PF_X, PF_W
# e_machine of what runs on a machine of that name; a 64-bit kernel may carry a 32-bit system. It may also call itself
# a 32-bit one, as under linux32 (setarch(8), personality(2)): whether a 64-bit program runs there shows by running it.
MACHINES = {
    "x86_64": (62, 3),
    "i686": (3, 62),
    "aarch64": (183, 40),
    "armv7l": (40,),
    "armv8l": (40, 183),
    "ppc64le": (21,),
    "s390x": (22,),
    "riscv64": (243,),
    "loongarch64": (258,),
}
MACHINE_NAMES = {
    62: "x86-64",
    3: "x86",
    183: "arm64",
    40: "arm",
    21: "ppc64",
    22: "s390x",
    243: "riscv",
    258: "loongarch",
}
# What Go calls the machines that have one byte order there (internal/syslist).
GOARCH = {62: "amd64", 3: "386", 183: "arm64", 40: "arm", 22: "s390x", 243: "riscv64", 258: "loong64"}
_SYMTAB, _STRTAB, _COMPRESSED = 2, 3, 0x800  # SHT_SYMTAB, SHT_STRTAB, SHF_COMPRESSED
_SECTIONS_MAX = 4096
BINFMT = "/proc/sys/fs/binfmt_misc"
_INTERPRETERS_MAX = 200
_SEGMENTS_MAX = 256
_NAMES_MAX = 1 << 20
_SYMBOLS_MAX = 256 << 20
_CHUNK = 4 << 20
_MISSES_MAX = 500_000  # hits between two symbols, a tenth of a second; a linker's tables have a handful


class NotElf(ValueError):
    """The file is no ELF file, or its headers make no sense."""


class Segment(Record):
    """A program header: `kind` and `flags` as elf(5) has them, `address` in memory, `offset` and `size` in the file."""

    kind: int
    flags: int
    address: int
    offset: int
    size: int


class Section(Record):
    """A section header, as far as it is needed. `name` is an offset in the table of names; `entry` an entry's size."""

    name: int
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    entry: int


class Elf:
    """The headers of an ELF file. `read(size, offset)` gives its bytes, fewer where it ends. Raises NotElf.

    wide, order      whether it is of 64 bits, and its byte order as struct has it
    kind, machine    e_type and e_machine
    entry            the address where it starts
    """

    def __init__(self, read: Read) -> None:
        self.read = read
        head = read(64, 0)
        if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
            raise NotElf("not an ELF file")
        self.wide = head[4] == 2
        if self.wide and len(head) < 64:
            raise NotElf("an ELF file that is cut short")
        self.order = "<" if head[5] == 1 else ">"
        self.kind: int
        self.machine: int
        self.kind, self.machine = struct.unpack_from(self.order + "HH", head, 16)
        places: tuple[int, ...] = struct.unpack_from(self.order + ("QQQ" if self.wide else "III"), head, 24)
        self.entry, self._segments_at, self._sections_at = places
        sizes: tuple[int, ...] = struct.unpack_from(self.order + "HHHHH", head, 54 if self.wide else 42)
        self._segment_size, self._segment_count, self._section_size, self._section_count, self._names = sizes

    @property
    def word(self) -> str:
        """The struct format of a pointer."""
        return self.order + ("Q" if self.wide else "I")

    @property
    def has_sections(self) -> bool:
        """Whether it has section headers. Packers write none, compilers always do."""
        return self._section_count > 0

    def segments(self) -> list[Segment]:
        """All program headers; none where their number or size is not one that a linker writes."""
        wanted = 56 if self.wide else 32
        if self._segment_size != wanted or not 0 < self._segment_count <= _SEGMENTS_MAX:
            return []
        data = self._table(wanted, self._segment_count, self._segments_at)
        form = self.order + ("IIQQQQQQ" if self.wide else "IIIIIIII")
        segments = []
        for fields in struct.iter_unpack(form, data):
            if self.wide:
                kind, flags, offset, address, _, size, _, _ = fields
            else:
                kind, offset, address, _, size, _, flags, _ = fields
            segments.append(Segment(kind, flags, address, offset, size))
        return segments

    def sections(self) -> list[Section]:
        """The section headers; none where their count stands elsewhere (e_shnum is 0), as no linker of Go's has it."""
        wanted = 64 if self.wide else 40
        if self._section_size != wanted or not 0 < self._section_count <= _SECTIONS_MAX:
            return []
        data = self._table(wanted, self._section_count, self._sections_at)
        form = self.order + ("IIQQQQIIQQ" if self.wide else "IIIIIIIIII")
        return [
            Section(name, kind, flags, offset, size, link, entry)
            for name, kind, flags, _, offset, size, link, _, _, entry in struct.iter_unpack(form, data)
        ]

    def section(self, name: bytes) -> Section | None:
        """The section of that name, or None."""
        sections = self.sections()
        if self._names >= len(sections):
            return None
        table = sections[self._names]
        names = self._at_offset(min(table.size, _NAMES_MAX), table.offset)
        for section in sections:
            if names[section.name : section.name + len(name) + 1] == name + b"\0":
                return section
        return None

    def at(self, size: int, address: int) -> bytes:
        """What the file has at an address of the program. Raises NotElf where it has nothing."""
        for segment in self.segments():
            start = segment.address
            if segment.kind == LOADED and start <= address and address + size <= start + segment.size:
                return self._at_offset(size, segment.offset + address - start)
        raise NotElf("an address outside the file")

    def end(self) -> int:
        """Bytes that the file must have at least, by its headers."""
        ends = [self._sections_at + self._section_size * self._section_count]
        return max(ends + [segment.offset + segment.size for segment in self.segments()])

    def symbol(self, name: str) -> int | None:
        """A symbol's address, or None where the file has no such symbol (it is stripped).

        None also for tables that no toolchain writes: compressed, too large, of odd entries. The names are searched as
        bytes and a piece at a time, since large programs have 100,000 symbols.
        """
        tables = self._symbol_tables()
        if tables is None:
            return None
        symbols, strings = tables
        at = next(self._find(b"\0" + name.encode() + b"\0", strings, 1), None)
        if at is None:
            return None
        wanted = struct.pack(self.order + "I", at + 1)
        found = next(self._find(wanted, symbols, symbols.entry), None)
        if found is None or found + symbols.entry > symbols.size:
            return None
        data = self._at_offset(symbols.entry, symbols.offset + found)
        where = 8 if self.wide else 4  # st_value
        if len(data) < symbols.entry:
            return None
        value: int = struct.unpack_from(self.word, data, where)[0]
        return value

    def _symbol_tables(self) -> tuple[Section, Section] | None:
        sections = self.sections()
        for table in sections:
            if table.kind == _SYMTAB:
                if table.entry != (24 if self.wide else 16) or table.link >= len(sections):
                    return None
                strings = sections[table.link]
                odd = strings.kind != _STRTAB or (table.flags | strings.flags) & _COMPRESSED
                odd = odd or max(table.size, strings.size) > _SYMBOLS_MAX
                return None if odd else (table, strings)
        return None

    def _find(self, wanted: bytes, table: Section, step: int) -> Iterator[int]:
        """Yield the offsets of `wanted` in a table that are multiples of `step`, up to _MISSES_MAX others."""
        misses = 0
        piece = _CHUNK // step * step
        for start in range(0, table.size, piece):
            size = min(piece + len(wanted), table.size - start)
            data = self._at_offset(size, table.offset + start)
            at = data.find(wanted)
            while at >= 0:
                if at % step == 0:
                    yield start + at
                else:
                    misses += 1
                    if misses > _MISSES_MAX:
                        return
                at = data.find(wanted, at // step * step + step)
            if len(data) < size:
                return

    def _table(self, size: int, count: int, offset: int) -> bytes:
        data = self._at_offset(size * count, offset)
        return data[: len(data) // size * size]

    def _at_offset(self, size: int, offset: int) -> bytes:
        try:
            return self.read(size, offset)
        except OverflowError:  # no file is as long
            return b""


def problem(name: str, read: Read, size: int) -> str:
    """What is wrong with an executable of that size, in words, or an empty string.

    By elf(5): its format, its machine, and whether its tables and segments are all there. A script's fitness shows when
    it is run (execve(2)).
    """
    if size == 0:
        return f"{name} is empty"
    start = read(4, 0)
    if start[:2] == b"#!":
        return ""
    if start != b"\x7fELF":
        return f"{name} is not a program (neither ELF nor a script)"
    start_of_header = read(20, 0)
    try:
        executable = Elf(read)
    except NotElf:
        return f"{name} is cut short ({size} bytes)" if size < 64 else f"{name} has a damaged header"
    machine = executable.machine
    runs = MACHINES.get(os.uname().machine)
    if runs and machine not in runs and not _is_emulated(start_of_header):
        return f"{name} is for {MACHINE_NAMES.get(machine, f'machine {machine}')}, not for this {os.uname().machine}"
    end = executable.end()
    return f"{name} is cut short: {size} bytes of at least {end}" if end > size else ""


def _is_emulated(start: bytes) -> bool:
    """Whether the kernel starts files that begin so through an interpreter, as qemu-user's.

    Source: Documentation/admin-guide/binfmt-misc.rst; an entry reads "enabled", "offset 0", "magic HEX", "mask HEX".
    """
    try:
        names = os.listdir(BINFMT)
    except OSError:
        return False
    for name in names[:_INTERPRETERS_MAX]:
        try:
            text = files.head(f"{BINFMT}/{name}", 4096).decode("utf-8", "replace")
            lines = [line.split() for line in text.splitlines()]
            fields = {line[0]: line[-1] for line in lines if line}
            magic = bytes.fromhex(fields["magic"])
            mask = bytes.fromhex(fields.get("mask", "ff" * len(magic)))
        except (ValueError, KeyError):
            continue
        same = all(a & m == b & m for a, b, m in zip(start, magic, mask))
        if "enabled" in fields and fields.get("offset") == "0" and 4 < len(magic) <= len(start) and same:
            return True
    return False


def opened(fd: int) -> Elf:
    """The headers of an open file. Raises NotElf, OSError."""
    return Elf(lambda size, offset: os.pread(fd, size, offset))
