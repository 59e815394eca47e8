# SPDX-License-Identifier: GPL-2.0-or-later
"""Executables that are damaged, foreign or hostile: an answer or NotGo, quickly, whatever their headers claim."""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook.go import buildinfo, elf

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
        with contextlib.suppress(elf.NotElf):
            elf.opened(file.fileno()).symbol("runtime.gomaxprocs")
        return buildinfo.read_fd(file.fileno())


@pytest.mark.parametrize("sections", [True, False])
def test_what_go_writes_is_read(sections: bool) -> None:
    info = read(executable(b"go1.27.3", MODULES.encode(), sections))
    assert (info.version, info.path, info.module) == ("go1.27.3", "example.com/x", "example.com/x")
    assert info.godebug == "containermaxprocs=0,panicnil=1"


def test_names_in_it_cannot_drive_a_terminal() -> None:
    info = read(executable(b"go1.27\x1b[2J", b"path\tx\x1b]0;y\x07\n"))
    assert "\x1b" not in info.version + info.path


@pytest.mark.parametrize("version", [b"go1.27.3", b"go1.16.5"])
def test_build_information_is_found_in_memory(version: bytes) -> None:
    """The structure of Go from 1.18 has its strings behind it, the older one pointers to them."""
    inline = executable(version, MODULES.encode())
    body = b"0" * 16 + MODULES.encode() + b"1" * 16
    at, strings = 0x1000, b""
    for text in (version, body):
        strings += struct.pack("<QQ", at + 64 + 16 * 2 + len(strings), len(text))
    header = buildinfo.MAGIC + bytes([8, 0]) + struct.pack("<QQ", at + 64, at + 80)
    strings = struct.pack("<QQQQ", at + 96, len(version), at + 96 + len(version), len(body)) + version + body
    pointers = header.ljust(64, b"\0") + strings
    for start, memory in ((0x400080 - 128, inline), (at, pointers)):

        def read(size: int, address: int, start: int = start, memory: bytes = memory) -> bytes:
            return memory[max(0, address - start) : max(0, address - start + size)]

        info = buildinfo.of_memory(read, [(0x10, 16), (start, len(memory))])
        assert (info.version, info.path) == (version.decode(), "example.com/x")
    with pytest.raises(buildinfo.NotGo):
        buildinfo.of_memory(lambda size, at: bytes(size), [(0, 1 << 20)])


def test_build_information_of_lines_alone_is_cut() -> None:
    info = read(executable(b"go1.27.3", b"build\ta=b\n" * 400_000))
    assert info.settings == {"a": "b"}


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
