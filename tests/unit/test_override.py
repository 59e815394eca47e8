# SPDX-License-Identifier: GPL-2.0-or-later
"""Spans of time, and records that are no override."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook import override
from go_health_hook.errors import BadInput


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1d", 86400), ("1h30m", 5400), ("45s", 45), (" 2 H ", 7200)]
)
def test_spans(text: str, seconds: float) -> None:
    assert override.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2w", "0h", "31d", "2h3", "1.5h", "²h", "9" * 400 + "h"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        override.parse_duration(text)
    assert "\n" not in caught.value.line()


@given(st.text(max_size=12))
def test_any_text_is_a_span_or_bad_input(text: str) -> None:
    try:
        assert 0 < override.parse_duration(text) <= override.MAX_SECONDS
    except BadInput:
        pass


@given(st.floats(min_value=1, max_value=override.MAX_SECONDS))
def test_a_span_is_said_in_words(seconds: float) -> None:
    assert override.duration(seconds).split()[-1] in ("d", "h", "min")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's record is looked into")
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_a_record_of_anything_is_never_in_force(value: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "override.json"
        path.write_text(json.dumps(value))
        with pytest.raises(BadInput):
            override.in_force(str(path))


def test_no_record_is_no_override(tmp_path: Path) -> None:
    assert override.in_force(str(tmp_path / "none.json")) is None


def test_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(BadInput):
            override.in_force(str(tmp_path / name))
