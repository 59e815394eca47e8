# SPDX-License-Identifier: GPL-2.0-or-later
"""Spans of time, and records that are no override."""

from __future__ import annotations

import json
import os
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook import override
from go_health_hook.commands import override as command
from go_health_hook.config import Config
from go_health_hook.errors import BadInput
from go_health_hook.text import duration


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


@given(st.integers(min_value=1, max_value=int(override.MAX_SECONDS) // 60))
def test_a_span_is_said_in_words(minutes: int) -> None:
    said = duration(minutes * 60.0)
    assert override.parse_duration(said.replace("min", "m")) == minutes * 60


ROOTS = pytest.mark.skipif(os.geteuid() != 0, reason="only root's record is looked into")


def record(**fields: object) -> str:
    """One as `override.write` leaves it, set a minute ago for an hour, with those fields in place of its own."""
    sound = {
        "schema": 1,
        "reason": "the mirror is broken",
        "by": "root",
        "set": time.time() - 60,
        "seconds": 3600.0,
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "clock": time.clock_gettime(time.CLOCK_BOOTTIME) - 60,
    }
    return json.dumps({**sound, **fields})


def look(text: str, mode: int = 0o644, owner: int = 0) -> override.Override | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "override.json"
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, owner, owner)
        return override.in_force(str(path))


@ROOTS
def test_a_record_is_in_force_for_the_rest_of_its_time() -> None:
    let = look(record())
    assert let is not None
    assert 3000 < let.left <= 3540
    assert (let.by, let.reason) == ("root", "the mirror is broken")


@ROOTS
@pytest.mark.parametrize(
    "fields",
    [
        {"clock": time.clock_gettime(time.CLOCK_BOOTTIME) - 3601},
        {"clock": time.clock_gettime(time.CLOCK_BOOTTIME) + 1000},
        {"boot": "another", "set": time.time() - 3601},
        {"boot": "another", "set": time.time() + 1000},
        {"seconds": override.MAX_SECONDS + 1},
        {"seconds": float("nan")},
    ],
    ids=["over", "not begun", "over, after a reboot", "clock set back, after a reboot", "too long", "no number"],
)
def test_one_that_is_over_is_none(fields: dict[str, object]) -> None:
    assert look(record(**fields)) is None


@ROOTS
def test_after_a_reboot_the_wall_clock_counts() -> None:
    let = look(record(boot="another", clock=0.0))
    assert let is not None and 3000 < let.left <= 3540


@ROOTS
@pytest.mark.parametrize(("mode", "owner"), [(0o664, 0), (0o646, 0), (0o644, 65534)])
def test_one_that_others_can_write_is_not_heeded(mode: int, owner: int) -> None:
    with pytest.raises(BadInput, match="not root's alone"):
        look(record(), mode, owner)


@ROOTS
@pytest.mark.parametrize("name", ["reason", "by", "set", "seconds", "boot", "clock"])
def test_one_that_lacks_a_field_is_damaged(name: str) -> None:
    whole = json.loads(record())
    del whole[name]
    with pytest.raises(BadInput, match="damaged"):
        look(json.dumps(whole))


@ROOTS
@given(
    st.sampled_from(["set", "seconds", "clock"]),
    st.none() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.just(10**400) | st.floats(),
)
def test_a_field_of_anything_is_never_a_fault_of_ours(name: str, value: object) -> None:
    try:
        let = look(record(**{name: value}))
    except BadInput:
        return
    assert let is None or 0 < let.left <= override.MAX_SECONDS


@ROOTS
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_a_record_of_anything_is_never_in_force(value: object) -> None:
    with pytest.raises(BadInput):
        look(json.dumps(value))


def test_no_record_is_no_override(tmp_path: Path) -> None:
    assert override.in_force(str(tmp_path / "none.json")) is None


def test_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(BadInput):
            override.in_force(str(tmp_path / name))


@pytest.mark.parametrize(
    ("is_image", "is_on", "asked"),
    [(True, True, ["is-active", "start"]), (True, False, ["is-active"]), (False, True, [])],
)
def test_what_is_staged_is_judged_again_where_the_gate_is_on(
    monkeypatch: pytest.MonkeyPatch, is_image: bool, is_on: bool, asked: list[str]
) -> None:
    seen: list[str] = []

    def run_host(name: str, words: list[str], deadline: object) -> SimpleNamespace:
        seen.append(words[0])
        return SimpleNamespace(ok=is_on)

    monkeypatch.setattr(command.image, "here", lambda: object() if is_image else None)
    monkeypatch.setattr(command.process, "run_host", run_host)
    monkeypatch.setattr(command, "_cleared", lambda: (None, "It has ended."))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    words = {"root": "/", "span": None, "reason": None, "json": False}
    assert command.run(Namespace(clear=True, **words), Config({})) == 0
    assert seen == asked
    assert command.run(Namespace(clear=False, **words), Config({})) == 0  # to look at it starts nothing
    assert seen == asked
