# SPDX-License-Identifier: GPL-2.0-or-later
"""What the dynamic loader says when a program's library is not there, and which incoming packages bring that library.

EL's Go is linked dynamically (Fedora's and upstream's are not): a new one may need a library, or a newer glibc, that is
installed by the same transaction.
"""

from __future__ import annotations

import re

from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# Compiled once there is a failure to look at: that costs more than all else here.
# glibc, elf/dl-load.c, elf/dl-version.c, elf/dl-lookup.c, elf/dl-error.c: the wording of the untranslated messages.
NOT_LOADED = r"error while loading shared libraries: ([^:\s]+): "
NO_VERSION = r"(\S+): version [`']([^'\s]+)' not found \(required by "
NOT_DEFINED = r"relocation error: \S+: symbol \S+ version (\S+) not defined in file (\S+) "
NO_SYMBOL = r"symbol lookup error: \S+: undefined symbol: "
ANY = "*"


class Lacking(Record):
    """A library that the loader misses: its file name (ANY where the loader does not tell) and symbol version or ""."""

    soname: str
    version: str = ""

    def __post_init__(self) -> None:
        self.soname = self.soname.rpartition("/")[2]

    def __str__(self) -> str:
        name = "another version of a library" if self.soname == ANY else self.soname
        return f"{name} ({self.version})" if self.version else name

    def is_in(self, provides: Sequence[str], names: Sequence[str]) -> bool:
        """Return whether a package brings it, by what the package provides and its files' names without directories.

        rpm's own dependencies read libX.so.1()(64bit) and libX.so.1(VERSION)(64bit).
        """
        if self.soname == ANY:
            return any(".so." in name or name.endswith(".so") for name in names)
        of_library = [p for p in provides if p == self.soname or p.startswith(f"{self.soname}(")]
        if self.version and of_library:
            return any(p.startswith(f"{self.soname}({self.version})") for p in of_library)
        return bool(of_library) or self.soname in names


def lacking(said: str) -> Lacking | None:
    """Return the library that a line of the loader's misses, None for any other line."""
    found = re.search(NO_VERSION, said)
    if found:
        return Lacking(found[1], found[2])
    found = re.search(NOT_DEFINED, said)
    if found:
        return Lacking(found[2], found[1])
    found = re.search(NOT_LOADED, said)
    if found:
        return Lacking(found[1])
    return Lacking(ANY) if re.search(NO_SYMBOL, said) else None


def bringer(wanted: Lacking, headers: Sequence[Any]) -> str:
    """Return the name-version-release.arch of the first package that brings the library, or an empty string.

    Also a package with settings of the loader's (ld.so.conf.d), which may name the directory of an installed one.
    """
    for header in headers:
        files = [str(name) for name in header["filenames"]]
        names = [name.rpartition("/")[2] for name in files]
        configures = any(name.startswith("/etc/ld.so.conf.d/") for name in files)
        if configures or wanted.is_in([str(p) for p in header["providename"]], names):
            return clean(str(header["nevra"]))
    return ""
