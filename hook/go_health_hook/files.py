# SPDX-License-Identifier: GPL-2.0-or-later
"""Files: read without waiting, replaced in one step, removed with all that is below.

A reader, a crash or a full disk never meets half of a file that is replaced here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MAX_BYTES = 1 << 20
# Directories that one removal may meet: a directory that others still write to must not keep it busy for ever.
MAX_DIRECTORIES = 2_000_000


def read(path: str, limit: int = MAX_BYTES, *, follow: bool = True) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Never waits for a FIFO or a device. Raises OSError: EINVAL for what is no regular file, EFBIG for one that is
    larger, ELOOP for a link where `follow` is false.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(path, flags)
    try:
        return read_fd(fd, path, limit)
    finally:
        os.close(fd)


def read_fd(fd: int, path: str, limit: int = MAX_BYTES) -> bytes:
    """As `read`, of an open file that `path` names in errors."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)
    content = bytearray()
    while len(content) <= limit:
        chunk = os.read(fd, min(1 << 16, limit + 1 - len(content)))
        if not chunk:
            return bytes(content)
        content += chunk
    raise OSError(errno.EFBIG, f"Larger than {limit} bytes", path)


def head(path: str, limit: int = MAX_BYTES) -> bytes:
    """Return the first `limit` bytes of a file, of procfs too; nothing where it cannot be read. Never waits."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError):
        return b""
    content = b""
    try:
        # procfs gives a page at a time.
        while len(content) < limit and (chunk := os.read(fd, limit - len(content))):
            content += chunk
    except OSError:
        return b""
    finally:
        os.close(fd)
    return content


def constant(path: str, name: str) -> str:
    """Return what a module sets a constant to, a number or a string in double quotes, without importing it: an updater
    waits. Empty where it sets none. Raises OSError, UnicodeDecodeError.
    """
    with open(path, "rb") as file:
        _, _, rest = file.read(MAX_BYTES).partition(b"\n%s = " % name.encode())
    return rest.partition(b"\n")[0].partition(b" ")[0].strip(b'"').decode()


def read_object(path: str, limit: int = MAX_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is none or it makes no sense."""
    import json

    try:
        data = json.loads(read(path, limit))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def looks(paths: Iterable[str]) -> list[tuple[int, int, int]]:
    """Return inode, size and time of each file, zeros where there is none: what changes with the file."""
    found = []
    for path in paths:
        try:
            info = os.stat(path)
            found.append((info.st_ino, info.st_size, info.st_mtime_ns))
        except OSError:
            found.append((0, 0, 0))
    return found


def mark() -> str:
    """Return a name for this process that no other has: its id and when it began, in clock ticks since the boot."""
    return f"{os.getpid()}.{_began(os.getpid())}"


def lives(name: str) -> bool:
    """Whether the process that a `mark` names is still there. True for what is no mark: nothing is known of it."""
    pid, dot, began = name.partition(".")
    if not (dot and pid.isdecimal() and began.isdecimal() and len(pid) < 10):
        return True
    return _began(int(pid)) == began


def _began(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read(4096).rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def remove_tree(path: str) -> bool:
    """Remove a directory with all that is below, or a file; return whether it is gone. Raises nothing.

    No link is followed. A directory inside is moved up before it is emptied, so that no tree is too deep.
    """
    try:
        parent = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return not os.path.lexists(path)
    try:
        top = _open_below(parent, os.path.basename(path))
        if top is None:
            with contextlib.suppress(OSError):
                os.unlink(os.path.basename(path), dir_fd=parent)
        else:
            try:
                _empty(top)
            finally:
                os.close(top)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.basename(path), dir_fd=parent)
    except OSError:
        pass
    finally:
        os.close(parent)
    return not os.path.lexists(path)


def _open_below(parent: int, name: str) -> int | None:
    """Open a directory, made readable first where need be; None for what is none. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except NotADirectoryError:
        return None
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def _empty(top: int) -> None:
    """Remove what is in an open directory, directories by moving what is in them into it."""
    pending = _clear(top, top)
    for _ in range(MAX_DIRECTORIES):
        if not pending:
            return
        name = pending.pop()
        with contextlib.suppress(OSError):
            below = _open_below(top, name)
            if below is not None:
                try:
                    pending += _clear(below, top)
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=top)


def _clear(directory: int, top: int) -> list[str]:
    """Remove the files of a directory and move its directories into `top`; return their names there."""
    with contextlib.suppress(OSError):
        os.fchmod(directory, 0o700)
    moved = []
    for name in os.listdir(directory):
        try:
            os.unlink(name, dir_fd=directory)
            continue
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM, errno.EACCES):
                continue
        try:
            os.rmdir(name, dir_fd=directory)
            continue
        except OSError:
            pass
        new = f".{os.urandom(12).hex()}"
        try:
            os.rename(name, new, src_dir_fd=directory, dst_dir_fd=top)
        except PermissionError:
            # Moving a directory changes its "..": its owner must be able to write to it (rename(2)).
            with contextlib.suppress(OSError):
                os.chmod(name, 0o700, dir_fd=directory)
                os.rename(name, new, src_dir_fd=directory, dst_dir_fd=top)
                moved.append(new)
        except OSError:
            continue
        else:
            moved.append(new)
    return moved


def make_directory(path: str) -> None:
    """Make a directory that every user may read, with those above it, whatever the umask. Raises OSError."""
    missing = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
            os.chmod(directory, 0o755)  # noqa: S103


def replace(path: str, text: str, mode: int = 0o644, *, only_new: bool = False, above: bool = False) -> None:
    """Put `text` where `path` is, on the disk when this returns. Raises OSError, with `path` as its filename.

    With `only_new` a file that is there already stays as it is. The directory may be another account's: what is written
    to is a file that did not exist before, of a name that cannot be guessed. With `above` that file is in the directory
    above, for readers that take every file of a directory, as pam_motd does.
    """
    directory, name = os.path.split(path)
    if above:
        _sweep(directory, name)  # of earlier versions
        up = os.path.dirname(directory)
        if os.path.isdir(directory) and os.lstat(up).st_dev == os.lstat(directory).st_dev and os.access(up, os.W_OK):
            directory = up
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
