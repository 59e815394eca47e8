# SPDX-License-Identifier: GPL-2.0-or-later
"""A file is replaced whole or not at all, in directories of other accounts too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from go_health_hook import files

NO_PROCESS = 4194305  # above the largest that a kernel gives (proc(5), pid_max)


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    path.chmod(0o600)
    before = path.stat().st_ino
    files.replace(str(path), "after\udcff")
    assert path.read_bytes() == b"after\xff"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert path.stat().st_ino != before
    assert os.listdir(tmp_path) == ["file"]


def test_only_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.replace(str(path), "first", only_new=True)
    files.replace(str(path), "second", only_new=True)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("untouched")
    (tmp_path / "file").symlink_to("other")
    files.replace(str(tmp_path / "file"), "new")
    assert (tmp_path / "other").read_text() == "untouched"
    assert not (tmp_path / "file").is_symlink()


def test_what_cannot_be_written_leaves_what_was(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError) as caught:
        files.replace(str(tmp_path / "file"), "text")
    assert caught.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    for name in (f".file.{NO_PROCESS}.abcd", f".file.{os.getpid()}.abcd", ".file.swp", ".filex.9.a"):
        (tmp_path / name).write_text("half")
    os.mkfifo(tmp_path / f".file.{NO_PROCESS}.fifo")
    files.replace(str(tmp_path / "file"), "text")
    assert sorted(os.listdir(tmp_path)) == sorted(["file", f".file.{os.getpid()}.abcd", ".file.swp", ".filex.9.a"])
