# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading small files of procfs and cgroupfs: bounded, never followed elsewhere, never waited for."""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook.text import clean

MALFORMED = "malformed"
TOO_LONG = "too long"
VALUE_MAX = 4096  # bytes of a file that holds a value or a few

# A file that is not what it should be must neither lead elsewhere nor keep us waiting.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Malformed(ValueError):
    """A file says what the kernel never writes. `kind` is MALFORMED or TOO_LONG."""

    def __init__(self, text: str, kind: str = MALFORMED) -> None:
        super().__init__(text)
        self.kind = kind


def read_file(path: str, limit: int = VALUE_MAX) -> bytes:
    """Read a file. Raises OSError, and Malformed for more than `limit` bytes."""
    return _drain(os.open(path, _READ), path, limit)


def read_in(directory: int, name: str) -> bytes | None:
    """Read a small file of an open directory, or None where it has none of that name. Raises as read_file does."""
    try:
        fd = os.open(name, _READ, dir_fd=directory)
    except FileNotFoundError:
        return None
    return _drain(fd, name, VALUE_MAX)


def number(text: str) -> int:
    """Read a decimal number without sign or space, of no more digits than 64 bits have. Raises Malformed."""
    if not text or len(text) > 19 or text.strip("0123456789"):
        raise Malformed(f"not a number: {clean(text, 60)!r}")
    return int(text)


def one_line(data: bytes) -> str:
    """The one line that `data` is, without its end. Raises Malformed where it is none, several or cut short."""
    line, newline, rest = data.partition(b"\n")
    if not newline or rest:
        raise Malformed(f"not one line: {clean(data, 60)!r}")
    return line.decode("ascii", "replace")


def _drain(fd: int, name: str, limit: int) -> bytes:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", name)
        chunks = []
        size = 0
        # procfs gives what fits a page and goes on at the next call; only nothing is the end.
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise Malformed(f"{name}: more than {limit} bytes", TOO_LONG)
        return b"".join(chunks)
    finally:
        os.close(fd)
