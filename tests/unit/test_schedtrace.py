# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler's lines told apart from a program's own stderr, however the pipe cuts them; charts of what they say."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from go_health_hook.announce import chart
from go_health_hook.go.schedtrace import Separator

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


def test_a_prompt_comes_through_at_once() -> None:
    separator = Separator()
    assert separator.feed(b"password: ", 0.0) == b"password: "
    assert separator.feed(b"S", 0.0) == b""
    assert separator.feed(b"top\n", 0.0) == b"Stop\n"


def test_sparks_keep_to_their_width_and_height() -> None:
    values = chart.resample([(0.1, 1.0), (0.2, 3.0), (0.9, 8.0), (1.5, 4.0)], 1.0, 10)
    assert values == [None, 1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 6.0]
    assert chart.spark(values, 6.0, True) == " ▁▄▄▄▄▄▄▄█"
    assert chart.spark([0.0, 5.0], 0.0, False) == " 1"


def test_svg_is_well_formed_whatever_the_names() -> None:
    panel = chart.Panel('<"&>', "%")
    panel.areas.append(("a]]>", "used", [(0.0, 1.0), (2.0, 13.0)]))
    panel.lines.append(("b", "procs", [(0.5, 8.0), (1.0, 2.0)], True))
    panel.level = ("allowed", 2.0)
    tree = ET.fromstring(chart.svg("x < y & z", '"', [panel, chart.Panel("empty", "")], 2.0))
    texts = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"x < y & z", '<"&>', "a]]>", "15%", "2 s"} <= set(texts)
    assert panel.top() == 15
