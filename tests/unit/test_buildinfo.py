# SPDX-License-Identifier: GPL-2.0-or-later
"""Executables that are damaged, foreign or hostile: an answer or NotGo, quickly, whatever their headers claim."""

from __future__ import annotations

import os
import struct
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook.go import buildinfo

MODULES = "path\texample.com/x\nmod\texample.com/x\tv1.0\t\nbuild\tDefaultGODEBUG=containermaxprocs=0,panicnil=1\n"


def executable(version: bytes, modules: bytes, sections: bool = True) -> bytes:
    """The least that a Go executable has: headers, build information in a writable segment, its section."""
    body = modules if not modules else b"0" * 16 + modules + b"1" * 16
    blob = buildinfo.MAGIC + bytes([8, 2]) + bytes(16)
    for text in (version, body):
        length, head = len(text), b""
        while length >= 0x80:
            head += bytes([length & 0x7F | 0x80])
            length >>= 7
        blob += head + bytes([length]) + text
    names = b"\0.go.buildinfo\0.shstrtab\0"
    at_names = 128 + len(blob)
    at_sections = at_names + len(names)
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    count = 3 if sections else 0
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x401000, 64, at_sections, 0, 64, 56, 1, 64, count, 2)
    segment = struct.pack("<IIQQQQQQ", 1, 6, 128, 0x400080, 0, len(blob), len(blob), 16)
    table = bytes(64)
    table += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 128, len(blob), 0, 0, 16, 0)
    table += struct.pack("<IIQQQQIIQQ", 15, 3, 0, 0, at_names, len(names), 0, 0, 1, 0)
    return (head + segment).ljust(128, b"\0") + blob + names + table


def read(data: bytes) -> buildinfo.BuildInfo:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        buildinfo.symbol(file.fileno(), "runtime.gomaxprocs")
        return buildinfo.read_fd(file.fileno())


@pytest.mark.parametrize("sections", [True, False])
def test_what_go_writes_is_read(sections: bool) -> None:
    info = read(executable(b"go1.27.3", MODULES.encode(), sections))
    assert (info.version, info.path, info.module) == ("go1.27.3", "example.com/x", "example.com/x")
    assert info.godebug == "containermaxprocs=0,panicnil=1"


SYMBOL = "runtime.gomaxprocs"


def with_symbols(order: str = "<", wide: bool = True, count: int = 3, **changed: int) -> bytes:
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
    get = changed.get
    table = struct.pack(form, 0, 0, 0, 0, 0, get("size0", 0), 0, 0, 0, 0)
    table += struct.pack(form, 0, 2, get("flags", 0), 0, size, get("size", len(symbols)), get("link", 2), 0, 8,
                         get("entry", 24 if wide else 16))  # fmt: skip
    table += struct.pack(form, 0, 3, get("flags2", 0), 0, size + len(symbols), get("size2", len(strings)), 0, 0, 1, 0)
    return head + symbols + strings + table


def symbol(data: bytes) -> tuple[int, int] | None:
    pytest.importorskip("elftools", reason="python3-pyelftools is not installed")
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return buildinfo.symbol(file.fileno(), SYMBOL)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wide", [True, False])
def test_a_symbol_is_found_whatever_the_machine(order: str, wide: bool) -> None:
    assert symbol(with_symbols(order, wide)) == (0x401234, 0x401000)


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
    assert symbol(with_symbols(count=count, **changed)) is None


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
    assert symbol(bytes(head) + symbols + strings + table) == (0x401234, 0x401000)


def test_names_in_it_cannot_drive_a_terminal() -> None:
    info = read(executable(b"go1.27\x1b[2J", b"path\tx\x1b]0;y\x07\n"))
    assert "\x1b" not in info.version + info.path


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01" + bytes(57), b"MZ" * 100])
def test_what_is_no_executable_is_refused(data: bytes) -> None:
    with pytest.raises(buildinfo.NotGo):
        read(data)


def test_a_length_beyond_reason_is_refused() -> None:
    data = executable(b"go1.27.3", b"")
    at = data.index(b"\x08go1.27.3")
    with pytest.raises(buildinfo.NotGo, match="bytes"):
        read(data[:at] + b"\xff\xff\xff\xff\x0f" + data[at + 5 :])


def test_a_pipe_is_not_waited_for() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(buildinfo.NotGo):
            buildinfo.read(f"/proc/self/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)


@given(st.lists(st.tuples(st.integers(0, 330), st.integers(0, 255)), max_size=12), st.integers(0, 400))
def test_damage_gives_an_answer_or_a_refusal(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(executable(b"go1.27.3", MODULES.encode()))
    for at, byte in changes:
        data[at] = byte
    try:
        assert read(bytes(data[: len(data) - cut])).version.isprintable()
    except buildinfo.NotGo as error:
        assert str(error)
