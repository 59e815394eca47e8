# SPDX-License-Identifier: GPL-2.0-or-later
"""The build cache that lasts: the running toolchain's alone, bounded, thrown away when it is not as Go leaves it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from go_health_hook.go import cache
from go_health_hook.go.toolchain import Toolchain
from go_health_hook.run import sandbox
from go_health_hook.subject import Subject


@pytest.fixture
def toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolchain:
    (tmp_path / "go").mkdir()
    monkeypatch.setattr(cache, "SYSTEM", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = Toolchain(Subject(), str(tmp_path / "go"), "given")
    found.lasting = True
    return found


def build_cache(toolchain: Toolchain) -> Path:
    if not sandbox.host().bwrap and os.geteuid() == 0:
        pytest.skip("bubblewrap is not installed: root's toolchains have no cache")
    return Path(cache.build_cache(toolchain))


def filled(toolchain: Toolchain) -> Path:
    """A cache with an entry, as Go leaves it."""
    path = build_cache(toolchain)
    (path / "00").mkdir()
    (path / "00/entry-d").write_text("kept")
    os.chown(path / "00/entry-d", path.stat().st_uid, -1)
    return path


def test_cache_of_a_sound_toolchain_is_kept(toolchain: Toolchain) -> None:
    path = filled(toolchain)
    assert build_cache(toolchain) == path and (path / "00/entry-d").read_text() == "kept"


@pytest.mark.parametrize("kind", ["fifo", "socket", "link", "huge", "linked directory", "many"])
def test_cache_with_what_go_does_not_write_is_thrown_away(
    toolchain: Toolchain, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(toolchain)
    odd = path / "00/odd"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            monkeypatch.chdir(odd.parent)
            server.bind("odd")
    elif kind == "link":
        odd.symlink_to("/dev/zero")
    elif kind == "linked directory":
        odd.symlink_to("/etc")
    elif kind == "many":
        monkeypatch.setattr(cache, "MAX_ENTRIES", 1)
    else:
        odd.touch()
        os.truncate(odd, cache.MAX_BYTES + 1)
    again = build_cache(toolchain)
    assert again == path and list(again.iterdir()) == []
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(cache.DISCARDED)] == []


def test_cache_is_the_running_toolchains_alone(toolchain: Toolchain, tmp_path: Path) -> None:
    mine = build_cache(toolchain)
    (tmp_path / "other").mkdir()
    other = Toolchain(Subject(), str(tmp_path / "other"), "given")
    assert cache.build_cache(other) == ""
    other.lasting = True
    assert build_cache(other) != mine


@pytest.mark.root
def test_cache_in_a_directory_that_root_does_not_own_is_not_used(toolchain: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 1000, 1000)
    assert cache.build_cache(toolchain) == ""
