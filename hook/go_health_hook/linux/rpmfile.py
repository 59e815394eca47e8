# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files: find them where an updater keeps them, and read their headers. Other users may own the folder."""

from __future__ import annotations

import errno
import os
import stat

from go_health_hook.linux.rpmdb import Owner, bindings, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    # Where a package may be: a folder, how one of the folders in it begins (empty: none is between), and the rest.
    Place = tuple[str, str, str]


class Package:
    """An rpm file and its header."""

    def __init__(self, rpm: Any, ts: Any, path: str) -> None:
        self.path = path
        self.fd = open_regular(path)
        self.header = ts.hdrFromFdno(self.fd)
        self.payload = os.lseek(self.fd, 0, os.SEEK_CUR)
        self.owner: Owner = owner_of(self.header)
        self.files: list[str] = self.header["filenames"]
        self.aliases: dict[str, str] = {}
        self.left_out: set[str] = set()

    def see_as(self, aliases: dict[str, str]) -> None:
        """Have files below these folders count as files of GOROOT, whose links lead to them."""
        self.aliases = aliases
        self.files = [self.seen(name) for name in self.files]

    def leave_out(self, names: set[str]) -> None:
        """Have these files count as none of the package's: rpm does not install them."""
        self.left_out = names
        self.files = [self.seen(name) for name in self.files]

    def seen(self, name: str) -> str:
        """Where a file of the package is in GOROOT, if by a link of GOROOT's; empty for one that is left out."""
        for folder, link in self.aliases.items():
            if name == folder or name.startswith(folder + "/"):
                name = link + name[len(folder) :]
                break
        return "" if name in self.left_out else name

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def full_nevra(header: Any) -> str:
    """A header's name-epoch:version-release.arch, the epoch always there."""
    return f"{header['name']}-{header['epoch'] or 0}:{header['version']}-{header['release']}.{header['arch']}"


def locate(wanted: Mapping[str, Sequence[Place]]) -> dict[str, str]:
    """Of the packages, by their full names, those that are in one of their places, and their files."""
    found = {}
    for full, places in wanted.items():
        for folder, prefix, rest in places:
            path = next((p for p in _candidates(folder, prefix, rest) if os.path.isfile(p)), "")
            if path and names_itself(path) == full:
                found[full] = path
                break
    return found


def _candidates(folder: str, prefix: str, rest: str) -> list[str]:
    if not prefix:
        return [f"{folder}/{rest}"]
    try:
        return [f"{folder}/{name}/{rest}" for name in sorted(os.listdir(folder)) if name.startswith(prefix)]
    except OSError:
        return []


def names_itself(path: str) -> str:
    """Return what the header of an rpm file says it is, as name-epoch:version-release.arch; empty for anything else."""
    header = header_of(path)
    return full_nevra(header) if header is not None else ""


def header_of(path: str) -> Any:
    """Return rpm's header of an rpm file; None for anything else, and for what cannot be read."""
    try:
        rpm = bindings()
        ts = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
        with open(open_regular(path), "rb") as file:
            return ts.hdrFromFdno(file.fileno())
    except Exception:  # whatever librpm makes of a damaged file
        return None


def open_regular(path: str) -> int:
    """Open a regular file for reading and return its descriptor. Raises OSError; never waits, as for a FIFO's writer.

    The directory may be writable by other users (a package named on the command line).
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd
