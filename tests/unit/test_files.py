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


def test_remove_tree_takes_away_a_tree_of_any_depth(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("directory" * 20, dir_fd=fd)
        below = os.open("directory" * 20, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
        fd = below
    os.close(fd)
    assert files.remove_tree(str(top)) and not top.exists()


def test_remove_tree_follows_no_link_and_opens_what_is_closed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("x")
    top = tmp_path / "top"
    (top / "closed/below").mkdir(parents=True)
    (top / "closed/below/file").write_text("x")
    (top / "link").symlink_to(tmp_path / "outside")
    (top / "closed").chmod(0)
    os.mkfifo(top / "fifo")
    assert files.remove_tree(str(top))
    assert (tmp_path / "outside/kept").exists()
    (tmp_path / "alias").symlink_to(tmp_path / "outside")
    assert files.remove_tree(str(tmp_path / "alias")) and (tmp_path / "outside/kept").exists()
    assert files.remove_tree(str(tmp_path / "none"))


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "large"])
def test_read_takes_bounded_regular_files_only(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b"x" * 101)
    with pytest.raises(OSError, match=r"Not a regular file|Larger than|Is a directory"):
        files.read("/dev/zero" if kind == "device" else str(path), 100)


def test_read_returns_what_fits(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert files.read(str(tmp_path / "file"), 100) == b"x" * 100
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic links"):
        files.read(str(tmp_path / "link"), follow=False)


def test_mark_names_a_process_that_lives() -> None:
    assert files.lives(files.mark())
    pid, _, began = files.mark().partition(".")
    assert not files.lives(f"{pid}.{int(began) + 1}")
    assert files.lives("older version's name")


@pytest.mark.parametrize("umask", [0o077, 0o177])
def test_make_directory_lets_every_user_read_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.make_directory(str(tmp_path / "state/below"))
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("state", "state/below")] == [0o755, 0o755]


def test_replace_above_leaves_nothing_where_every_file_is_shown(tmp_path: Path) -> None:
    directory = tmp_path / "motd.d"
    directory.mkdir()
    (directory / f".message.{NO_PROCESS}.abcd").write_text("of a writer that was killed")
    files.replace(str(directory / "message"), "text", above=True)
    assert [path.name for path in directory.iterdir()] == ["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["motd.d"]


def test_head_gives_what_there_is_and_nothing_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    os.mkfifo(tmp_path / "fifo")
    assert files.head(str(tmp_path / "file"), 4) == b"0123"
    assert files.head(str(tmp_path / "file")) == b"0123456789"
    assert files.head("/proc/self/status", 1 << 16).endswith(b"\n")
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path, tmp_path / "none", tmp_path / "fifo", "a\0b"):
        assert files.head(str(path)) == b""
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(("text", "given"), [('{"a": 1}', {"a": 1}), ("[1]", {}), ("{", {}), ("[" * 100_000, {})])
def test_read_object_gives_an_object_or_an_empty_one(tmp_path: Path, text: str, given: dict) -> None:
    (tmp_path / "file").write_text(text)
    assert files.read_object(str(tmp_path / "file")) == given
    assert files.read_object(str(tmp_path / "none")) == {}


def test_looks_change_with_the_file(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    assert files.looks([path]) == [(0, 0, 0)]
    (tmp_path / "file").write_text("a")
    first = files.looks([path])
    (tmp_path / "file").write_text("ab")
    assert first != files.looks([path]) != [(0, 0, 0)]
