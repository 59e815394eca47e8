# SPDX-License-Identifier: GPL-2.0-or-later
"""What is built once and kept outside the tree: an entry is found by its name and by the recipe that made it."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TREE = Path(__file__).parents[2]
in_use: dict[Path, int] = {}  # entries of this process, each with the open folder whose lock keeps it


@functools.cache
def home() -> Path:
    """The cache's folder, the same as the Makefile's."""
    printed = subprocess.run([TREE / "packaging/dev/cache-dir"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return Path(printed.rstrip("\n"))


def built(name: str, recipe: Iterable[str | Path], build: Callable[[Path], object]) -> Path:
    """The entry's folder, which nobody removes while this process lives; `build(folder)` fills a new one.

    The recipe is texts, and files whose contents count. A build that fails leaves nothing but its error.
    """
    path = home() / "testbed" / f"{name}-{key(recipe)}"
    if path in in_use:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if not hold(path):
        with locked(path.parent / f".{path.name[:-13]}.lock"):
            if not hold(path):
                make(path, build)
                hold(path)
            forget_older(path)
    os.utime(path)
    return path


def key(recipe: Iterable[str | Path]) -> str:
    """Twelve digits that differ when any part of the recipe does."""
    digest = hashlib.sha256()
    for part in recipe:
        data = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()[:12]


def make(path: Path, build: Callable[[Path], object]) -> None:
    new = path.with_name(path.name + ".new")
    remove(new)
    new.mkdir()
    started = time.monotonic()
    print(f"testbed: building {path.name} …", file=sys.stderr, flush=True)
    try:
        build(new)
        new.rename(path)
    except BaseException:
        remove(new)
        raise
    print(f"testbed: {path.name} took {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def hold(path: Path) -> bool:
    """Takes the entry's lock as one of its users; False where there is no such entry."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    fcntl.flock(folder, fcntl.LOCK_SH)
    with contextlib.suppress(FileNotFoundError):  # removed while we waited
        if os.path.samestat(os.fstat(folder), os.stat(path)):
            in_use[path] = folder
            return True
    os.close(folder)
    return False


def forget_older(path: Path) -> None:
    """Removes the entries that other recipes of this name left, but for the last used: branches take turns."""
    others_too = path.name[:-12] + "[0-9a-f]" * 12
    for died in path.parent.glob(others_too + ".new"):
        remove(died)
    others = [p for p in path.parent.glob(others_too) if p != path]
    others.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for other in others[1:]:
        folder = os.open(other, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(BlockingIOError):  # somebody uses it
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(other)
        os.close(folder)


def remove(path: Path) -> None:
    """Removes a folder of ours; nothing that is mounted below it."""
    if path.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", path], check=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
