# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF files of any kind: what is read of them, and that hostile ones cost no more than honest ones."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from go_health_hook.go import elf

SYMBOL = "runtime.gomaxprocs"


def with_symbols(order: str = "<", wide: bool = True, count: int = 3, changed: dict[str, int] | None = None) -> bytes:
    """An executable that has nothing but a symbol table and its strings: two symbols, the second is SYMBOL.

    `changed` are fields of their sections: size0 (of the first, which is none), entry, flags, link and size of the
    table's, and flags2, size2 of the strings'.
    """
    strings = b"\0other\0" + SYMBOL.encode() + b"\0"
    if wide:
        symbols = b"".join(struct.pack(order + "IBBHQQ", n, 0, 0, 1, v, 0) for n, v in ((1, 5), (7, 0x401234)))
    else:
        symbols = b"".join(struct.pack(order + "IIIBBH", n, v, 0, 0, 0, 1) for n, v in ((1, 5), (7, 0x401234)))
    head = b"\x7fELF" + bytes([1 + wide, 1 + (order == ">"), 1]) + bytes(9)
    size, section = (64, 64) if wide else (52, 40)
    at = size + len(symbols) + len(strings)
    words = "QQQ" if wide else "III"
    head += struct.pack(f"{order}HHI{words}IHHHHHH", 2, 62, 1, 0x401000, 0, at, 0, size, 0, 0, section, count, 0)
    form = order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII")
    get = (changed or {}).get
    table = struct.pack(form, 0, 0, 0, 0, 0, get("size0", 0), 0, 0, 0, 0)
    table += struct.pack(form, 0, 2, get("flags", 0), 0, size, get("size", len(symbols)), get("link", 2), 0, 8,
                         get("entry", 24 if wide else 16))  # fmt: skip
    table += struct.pack(form, 0, 3, get("flags2", 0), 0, size + len(symbols), get("size2", len(strings)), 0, 0, 1, 0)
    return head + symbols + strings + table


def symbol(data: bytes) -> int | None:
    return elf.Elf(lambda size, offset: data[offset : offset + size]).symbol(SYMBOL)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wide", [True, False])
def test_a_symbol_is_found_whatever_the_machine(order: str, wide: bool) -> None:
    assert symbol(with_symbols(order, wide)) == 0x401234


@pytest.mark.parametrize(
    ("count", "changed"),
    [
        (0, {"size0": 1 << 40}),
        (0xFFFF, {}),
        (3, {"flags": 0x800}),
        (3, {"flags2": 0x800}),
        (3, {"entry": 0}),
        (3, {"entry": 25}),
        (3, {"entry": 1 << 62}),
        (3, {"link": 1}),
        (3, {"link": 3}),
        (3, {"size": 1 << 62}),
        (3, {"size2": 1 << 62}),
        (3, {"size": 23}),
    ],
)
def test_tables_that_no_toolchain_writes_are_left_alone(count: int, changed: dict[str, int]) -> None:
    assert symbol(with_symbols(count=count, changed=changed)) is None


def test_symbols_far_into_large_tables_are_found() -> None:
    """A table longer than what is read at a time, with the bytes looked for at places where no symbol begins."""
    data = bytearray(with_symbols())
    entry = bytes(data[64 + 24 : 64 + 48])
    decoy = struct.pack("<IIIIII", 1, 7, 7, 7, 7, 7)
    symbols = decoy * 200_000 + entry
    strings = b"\0" * (5 << 20) + bytes(data[64 + 48 : 64 + 48 + 26])
    # The name stands later now.
    name = struct.pack("<I", (5 << 20) + 7)
    symbols = symbols.replace(entry, name + entry[4:]).replace(struct.pack("<I", 7), name)
    head = data[:40] + struct.pack("<Q", 64 + len(symbols) + len(strings)) + data[48:64]
    table = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, 64, len(symbols), 2, 0, 8, 24)
    table += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64 + len(symbols), len(strings), 0, 0, 1, 0)
    assert symbol(bytes(head) + symbols + strings + table) == 0x401234


def test_a_symbol_hidden_among_misses_is_given_up() -> None:
    """Hits between two symbols without end: a hostile file must not cost more time than an honest one."""
    data = with_symbols()
    entry = struct.pack("<IIIIII", 1, 7, 7, 7, 7, 7)
    symbols = entry * 600_000 + data[64 + 24 : 64 + 48]
    strings = data[64 + 48 : 64 + 48 + 26]
    head = data[:40] + struct.pack("<Q", 64 + len(symbols) + len(strings)) + data[48:64]
    table = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, 64, len(symbols), 2, 0, 8, 24)
    table += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64 + len(symbols), len(strings), 0, 0, 1, 0)
    reads: list[int] = []
    whole = head + symbols + strings + table

    def read(size: int, offset: int) -> bytes:
        reads.append(size)
        return whole[offset : offset + size]

    assert elf.Elf(read).symbol(SYMBOL) is None
    assert sum(reads) < len(whole) - 24 * 50_000


def test_segments_and_end_of_both_classes() -> None:
    wide = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0x1000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    wide = (
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + wide + struct.pack("<IIQQQQQQ", 1, 6, 0x80, 0x400080, 0, 0x50, 0, 0)
    )
    narrow = struct.pack(">HHIIIIIHHHHHH", 2, 40, 1, 0x1000, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    narrow = (
        b"\x7fELF\x01\x02\x01".ljust(16, b"\0") + narrow + struct.pack(">IIIIIIII", 1, 0x80, 0x400080, 0, 0x50, 0, 6, 0)
    )
    for data in (wide, narrow):
        executable = elf.Elf(lambda size, offset, data=data: data[offset : offset + size])  # type: ignore[misc]
        assert executable.segments() == [elf.Segment(1, 6, 0x400080, 0x80, 0x50)]
        assert (executable.end(), executable.has_sections) == (0x80 + 0x50, False)
        assert elf.problem("x", executable.read, 0x100) == "" or "is for arm" in elf.problem(
            "x", executable.read, 0x100
        )


def judged(data: bytes) -> str:
    return elf.problem("go", lambda size, offset: data[offset : offset + size], len(data))


def header(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, *[0] * 10)


@pytest.mark.parametrize(
    ("entry", "runs"),
    [
        ("enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: F\noffset 0\nmagic {}\nmask {}\n", True),
        ("disabled\ninterpreter /usr/bin/qemu-aarch64\noffset 0\nmagic {}\nmask {}\n", False),
        ("enabled\ninterpreter /usr/bin/wine\nextension .exe\n", False),
        ("enabled\noffset 4\nmagic {}\nmask {}\n", False),
    ],
)
def test_problem_machine_that_the_kernel_emulates_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, runs: bool
) -> None:
    foreign = 183 if os.uname().machine == "x86_64" else 62
    data = header(foreign)
    magic = data[:18].hex() + struct.pack("<H", foreign).hex()
    (tmp_path / "qemu").write_text(entry.format(magic, "ff" * 7 + "00" * 9 + "feff" + "ffff"))
    monkeypatch.setattr(elf, "BINFMT", str(tmp_path))
    assert (not judged(data)) is runs


def test_problem_machine_that_calls_itself_32_bit_may_run_64_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf.os, "uname", lambda: SimpleNamespace(machine="i686"))
    monkeypatch.setattr(elf, "BINFMT", "/nonexistent")
    for machine, runs in ((62, True), (3, True), (183, False)):
        assert (not judged(header(machine))) is runs
