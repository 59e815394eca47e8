# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook's own Go build cache: with the index kept there (cmd/go/internal/modindex) `go list` is much faster."""

from __future__ import annotations

import contextlib
import os
import stat

from go_health_hook import files
from go_health_hook.linux import container
from go_health_hook.run.sandbox import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.go.toolchain import Toolchain

SYSTEM = "/var/cache/go-health-hook"
BUILD = "build-"
DISCARDED = "discarded-"
# A cache that holds more than this is thrown away: bytes, and files and directories. Go's has 256 directories.
MAX_BYTES = 512 << 20
MAX_ENTRIES = 20_000


def build_cache(toolchain: Toolchain) -> str:
    """Return a directory that the toolchain's programs may write, or an empty string where there is none that lasts.

    Only the running root's own toolchain has a cache that lasts. As root: owned by the user that toolchains run as, in
    a 0700 directory of root's. Another service of that user could get there only through the /proc entries of a
    toolchain that runs at that moment. What is not as Go leaves it is thrown away here, before it is used. A person's
    cache is in the person's own cache directory.
    """
    if not toolchain.lasting:
        return ""
    try:
        if os.geteuid() != 0:
            home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
            if not os.path.isabs(home):
                return ""
            path = f"{home}/go-health-hook/{_name(toolchain)}"
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        else:
            if not host().bwrap or container.is_build():
                return ""  # user nobody could not reach it; in an image nothing is to be left
            with contextlib.suppress(FileExistsError):
                os.mkdir(SYSTEM, 0o700)
            info = os.lstat(SYSTEM)
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0:
                return ""
            if info.st_mode & 0o077:
                os.chmod(SYSTEM, 0o700)
            path = f"{SYSTEM}/{_name(toolchain)}"
        _sweep(os.path.dirname(path))
        if not _is_sound(path):
            discard(path)
            os.mkdir(path, 0o700)
            if os.geteuid() == 0:
                os.chown(path, host().uid, host().gid)
        return path
    except OSError:
        return ""


def discard(path: str) -> None:
    """Throw a cache away; a process that holds it open then holds what nobody uses. Raises nothing."""
    gone = f"{os.path.dirname(path)}/{DISCARDED}{os.urandom(8).hex()}"
    with contextlib.suppress(OSError):
        os.rename(path, gone)
    files.remove_tree(gone)


def _name(toolchain: Toolchain) -> str:
    """One cache for each GOROOT: two toolchains never share one."""
    import zlib

    return f"{BUILD}{zlib.crc32(os.fsencode(toolchain.goroot)):08x}"


def _sweep(directory: str) -> None:
    """Remove what a run that was killed did not finish removing, and the one cache of earlier versions."""
    for name in os.listdir(directory):
        if name.startswith(DISCARDED) or name == "build":
            files.remove_tree(f"{directory}/{name}")


def _is_sound(path: str) -> bool:
    """Whether a cache is bounded and holds nothing but directories and regular files of its owner's.

    A FIFO, a device or a link in it would let a listing hang, or lead it elsewhere.
    """
    owner = host().uid if os.geteuid() == 0 else os.geteuid()
    try:
        info = os.lstat(path)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != owner:
            return False
        size = count = 0
        pending = [path]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    info = entry.stat(follow_symlinks=False)
                    size += info.st_size
                    if not stat.S_ISREG(info.st_mode) or info.st_uid != owner:
                        return False
                    if count > MAX_ENTRIES or size > MAX_BYTES:
                        return False
                    if len(pending) > 1024:
                        return False
    except OSError:
        return False
    return True
