# SPDX-License-Identifier: GPL-2.0-or-later
"""What status shows of an image system: whose locks, who drives updates, reboots that changed nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.libostree import B, Libostree

from go_health_hook.deadline import Deadline
from go_health_hook.gates import _image_status, _refused
from go_health_hook.gates._image_status import foreign_lock, rows
from go_health_hook.linux.deployments import FILE, KEY

NOTHING: dict[str, Any] = {"staged": None, "drivers": [], "refused": [], "applied_live": "", "finalization_error": ""}


def staged(*owners: str, refused: bool = False) -> dict[str, Any]:
    return {"staged": {"name": "43.1", "locked_by": [*owners], "refused": refused}}


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (staged(), "43.1 is staged: default after a shutdown"),
        (staged("go-health-hook", "somebody else"), "43.1 is staged: locked by go-health-hook and somebody else"),
        ({"drivers": ["zincati"]}, "updates are driven by zincati"),
        ({"refused": [{"name": "43.1", "reboots": 2}]}, "43.1 is refused: 2 reboots changed nothing about that"),
        ({"refused": [{"name": "43.1", "reboots": 0}]}, ""),
        ({"finalization_error": "no space"}, "the last shutdown could not finalize: no space"),
        ({"applied_live": "43.1"}, "43.1 was refused, and rpm-ostree apply-live put it into the running system"),
    ],
)
def test_rows_say_each_fact_once(found: dict[str, Any], line: str) -> None:
    assert rows({**NOTHING, **found}) == ([line] if line else [])


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (staged("somebody else"), "43.1"),
        (staged("somebody else", refused=True), ""),
        (staged("go-health-hook"), ""),
        (staged(), ""),
        (NOTHING, ""),
    ],
)
def test_foreign_lock_is_one_on_what_was_not_refused(found: dict[str, Any], name: str) -> None:
    assert foreign_lock(found) == name


def test_details_tell_our_marks_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ostree = Libostree(tmp_path, monkeypatch)
    ostree.stage(B)
    ostree.lock()
    _refused.Note(f"debian-{B}.0", "block", frozenset({FILE})).write()
    for marks, owners in (([FILE], ["go-health-hook", "somebody else"]), ([FILE, KEY], ["go-health-hook"])):
        _refused.Note(f"debian-{B}.0", "block", frozenset(marks)).write()
        found = _image_status.details(Deadline(5))
        assert found and found["staged"]["locked_by"] == owners
