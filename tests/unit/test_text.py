# SPDX-License-Identifier: GPL-2.0-or-later
"""Text for people: lengths of time, and lines that fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook.text import duration, fit, span, wrap


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (12.2, "12 s"), (60, "1 min"), (5400, "1 h 30 min"), (86400, "1 d"), (93900, "1 d 2 h 5 min")],
)
def test_duration_has_its_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(59, "less than a minute"), (3600, "1 hour"), (200_000, "2 days")])
def test_span_has_one_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


@given(st.text(min_size=1), st.integers(3, 30))
def test_fit_keeps_both_ends(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert len(fitted) <= width
    assert (fitted[0], fitted[-1]) == (text[0], text[-1])


@given(st.lists(st.text("ab.", min_size=1, max_size=40), max_size=20), st.integers(20, 60))
def test_wrap_keeps_every_letter_and_the_width(words: list[str], width: int) -> None:
    lines = wrap(" ".join(words), width, 4).split("\n")
    assert "".join("".join(line.split()) for line in lines) == "".join(words)
    assert all(len(line) <= width for line in lines[1:]) and len(lines[0]) <= width - 4
    assert all(line.startswith("    ") for line in lines[1:])


def test_wrap_is_cut_to_the_lines_wanted() -> None:
    lines = wrap("one two three four", 10, 2, most=2).split("\n")
    assert len(lines) == 2
    assert lines[1].endswith("…")


def test_wrap_keeps_a_long_command_whole() -> None:
    command = f"bootc delete-deployment {'5e' * 64}"
    lines = wrap(f"-> {command} drops this update; or wait for a build whose Go is whole", 60, 8, 2, whole=True)
    assert lines.splitlines()[0] == f"-> {command}"
    assert wrap("some short words", 24, 8, whole=True) == wrap("some short words", 24, 8)
