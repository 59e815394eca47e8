# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing a file in one step, so that a reader, a crash or a full disk never meets half of it."""

from __future__ import annotations

import contextlib
import os


def replace(path: str, text: str, mode: int = 0o644, *, only_new: bool = False) -> None:
    """Put `text` where `path` is, on the disk when this returns. Raises OSError, with `path` as its filename.

    With `only_new` a file that is there already stays as it is. The directory may be another account's: what is written
    to is a file that did not exist before, of a name that cannot be guessed.
    """
    directory, name = os.path.split(path)
    new = f"{directory}/.{name}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            view = memoryview(text.encode("utf-8", "surrogateescape"))
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        if only_new:
            with contextlib.suppress(FileExistsError):
                os.link(new, path)
            os.unlink(new)
        else:
            os.replace(new, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise OSError(error.errno, error.strerror, path) from None
    _sweep(directory, name)


def _sweep(directory: str, name: str) -> None:
    """Remove what writers that were killed half-way left behind; one that is alive keeps its own."""
    with contextlib.suppress(OSError):
        for other in os.listdir(directory):
            pid, dot, _ = other[len(name) + 2 :].partition(".")
            if other.startswith(f".{name}.") and dot and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
                os.unlink(f"{directory}/{other}")
