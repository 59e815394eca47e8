# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler's lines told apart from a program's own stderr, however the pipe cuts them; charts of what they say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook.cpu import _chart
from go_health_hook.cpu._schedtrace import HOLD, Separator

OLD = (
    b"SCHED 2010ms: gomaxprocs=8 idleprocs=5 threads=9 spinningthreads=0 needspinning=0 idlethreads=2"
    b" runqueue=3 [1 0 4 0 0 0 0 0]\n"
)
NEW = (
    b"SCHED 0ms: gomaxprocs=2 idleprocs=1 threads=5 spinningthreads=0 needspinning=0 idlethreads=2"
    b" runqueue=0 [ 0 7 ] schedticks=[ 1 2 ]\n"
)


def test_both_forms_of_the_line_are_read() -> None:
    separator = Separator()
    assert separator.feed(OLD + NEW, 2.5) == b""
    first, second = separator.samples
    assert (first.since_start, first.gomaxprocs, first.idle, first.threads, first.queued) == (2.01, 8, 5, 9, 8)
    assert (second.gomaxprocs, second.queued, second.at) == (2, 7, 2.5)


@given(st.lists(st.sampled_from([OLD, NEW, b"SCHED", b"SCHED 1ms: no\n", b"text\n", b"prompt> ", b"\xff\x00S"])),
       st.lists(st.integers(1, 40)))  # fmt: skip
def test_nothing_of_the_programs_own_is_lost_or_reordered(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    separator, own, rest = Separator(), b"", data
    for cut in cuts:
        own += separator.feed(rest[:cut], 0.0)
        rest = rest[cut:]
    own += separator.feed(rest, 0.0) + separator.end()
    assert own == data.replace(OLD, b"").replace(NEW, b"")
    assert len(separator.samples) == data.count(OLD) + data.count(NEW)


# A line as the runtime writes it, piece by piece.
PIECES = re.findall(rb"SCHED |ms: gomaxprocs=|\[ ?| \](?!\n)| [a-z]+=(?:\[ )?|\d+|\]\n| ", NEW)
OLD_PIECES = re.findall(rb"SCHED |ms: gomaxprocs=|\[ ?| [a-z]+=|\d+|\]\n| ", OLD)


@pytest.mark.parametrize(
    "foreign", [b"hello\n", b"42 files\n", b" 5\n", b"8\n7\n", b"\n", b"a 1 [ 0 ]\n", NEW + b"x\n"]
)
@pytest.mark.parametrize("pieces", [PIECES, OLD_PIECES], ids=["new", "old"])
def test_what_others_write_into_a_line_is_given_back(pieces: list[bytes], foreign: bytes) -> None:
    assert b"".join(pieces) in (OLD, NEW)
    for i in range(1, len(pieces)):
        if foreign[:1].isdigit() and pieces[i - 1].isdigit():
            continue  # nothing tells where the one number ends and the other begins
        separator = Separator()
        data = b"before\n" + b"".join(pieces[:i]) + foreign + b"".join(pieces[i:]) + b"after\n"
        cut = len(data) // 2
        own = separator.feed(data[:cut], 0.0) + separator.feed(data[cut:], 0.1) + separator.end()
        assert own == b"before\n" + foreign.replace(NEW, b"") + b"after\n", i
        alone = Separator()
        alone.feed(b"".join(pieces), 0.1)
        assert alone.samples[0] in separator.samples


def test_two_writers_in_one_line() -> None:
    separator = Separator()
    data = b"".join(PIECES[:3]) + b"one\n" + b"".join(PIECES[3:20]) + b"two\n" + b"".join(PIECES[20:])
    assert separator.feed(data, 1.0) == b"one\ntwo\n"
    assert [s.gomaxprocs for s in separator.samples] == [2]


def test_text_behind_a_line_s_end_is_not_swallowed() -> None:
    data = OLD[:-1] + b" and more\n"
    separator = Separator()
    assert separator.feed(data, 0.0) + separator.end() == data
    assert separator.samples == []


def test_what_looks_like_a_line_is_not_held_for_long() -> None:
    separator = Separator()
    assert separator.feed(b"x\nSCHED 5 jobs\nmore\n", 1.0) == b"x\n"
    assert separator.waiting
    assert separator.feed(b"", 2 * HOLD + 1.0) == b"SCHED 5 jobs\nmore\n"
    assert not separator.waiting
    assert separator.feed(NEW + b"S", 9.0) == b""
    assert separator.feed(b"", 2 * HOLD + 9.0) == b"S"


def test_lines_that_come_in_parts_all_the_time_are_all_read() -> None:
    """Something is always held back, but never the same thing for long."""
    separator = Separator()
    data = NEW * 50
    own = b"".join(separator.feed(data[i : i + 100], i / 1000) for i in range(0, len(data), 100))
    assert own + separator.end() == b""
    assert len(separator.samples) == 50


def test_a_number_beyond_reason_is_no_line() -> None:
    data = NEW.replace(b"gomaxprocs=2", b"gomaxprocs=1234567890")
    separator = Separator()
    assert separator.feed(data, 0.0) + separator.end() == data


def test_a_flood_of_beginnings_ends_soon() -> None:
    """Each byte costs the same however much came before it."""
    separator = Separator()
    data = b"SCHED 1\n2\nms: gomaxprocs=3\n4\n idleprocs=5\n" * 2000
    assert separator.feed(data, 0.0) + separator.feed(b"", 2 * HOLD) + separator.end() == data


def test_a_prompt_comes_through_at_once() -> None:
    separator = Separator()
    assert separator.feed(b"password: ", 0.0) == b"password: "
    assert separator.feed(b"S", 0.0) == b""
    assert separator.feed(b"top\n", 0.0) == b"Stop\n"


def test_sparks_keep_to_their_width_and_height() -> None:
    values = _chart.resample([(0.1, 1.0), (0.2, 3.0), (0.9, 8.0), (1.5, 4.0)], 1.0, 10)
    assert values == [None, 1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 6.0]
    assert _chart.spark(values, 6.0, True) == " ▁▄▄▄▄▄▄▄█"
    assert _chart.spark([0.0, 5.0], 0.0, False) == " 1"


def test_svg_is_well_formed_whatever_the_names() -> None:
    panel = _chart.Panel('<"&>', "%")
    panel.areas.append(("a]]>", "used", [(0.0, 1.0), (2.0, 13.0)]))
    panel.lines.append(("b", "procs", [(0.5, 8.0), (1.0, 2.0)], True))
    panel.level = ("allowed", 2.0)
    tree = ET.fromstring(_chart.svg("x < y & z", '"', [panel, _chart.Panel("empty", "")], 2.0))
    texts = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"x < y & z", '<"&>', "a]]>", "15%", "2 s"} <= set(texts)
    assert panel.top() == 15
