# SPDX-License-Identifier: GPL-2.0-or-later
"""A spoiled build cache costs time at most, and only once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.toolchains.trees import real

from go_health_hook import examine, policy
from go_health_hook.config import Config, severities
from go_health_hook.deadline import Deadline
from go_health_hook.go import cache
from go_health_hook.run import sandbox
from go_health_hook.subject import Subject
from go_health_hook.verdict import Examination


def examined(goroot: Path) -> Examination:
    config = Config(severities())
    config._values["toolchain"]["goroot"] = str(goroot)
    found = examine.examine(Subject(), config, Deadline(30))
    policy.settle(found, policy.Case(by_hand=True))
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not sandbox.host().bwrap:
        pytest.skip("bubblewrap is not installed: root's toolchains have no cache")
    monkeypatch.setattr(cache, "SYSTEM", str(tmp_path / "go-health-hook"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "go-health-hook"


def only(place: Path) -> Path:
    (found,) = place.glob(f"{cache.BUILD}*")
    return found


@pytest.mark.parametrize("seen", ["before it is used", "when it hangs"])
def test_listing_with_fifos_in_the_cache_is_repeated_without_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    goroot = real("1.27.3")
    assert not examined(goroot).verdict.block
    entries = [path for path in only(place).glob("??/*") if path.is_file()]
    assert entries
    for path in entries:
        path.unlink()
        os.mkfifo(path)
        os.chown(path, only(place).stat().st_uid, -1)
    if seen == "when it hangs":
        # As when they come between the look and the listing.
        monkeypatch.setattr(cache, "_is_sound", os.path.isdir)
    found = examined(goroot)
    assert {f.check: f.status for f in found.findings}["stdlib"] == "pass"
    assert not [path for path in place.glob(f"{cache.BUILD}*/??/*") if path.is_fifo()]
