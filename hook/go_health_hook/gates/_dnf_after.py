# SPDX-License-Identifier: GPL-2.0-or-later
"""How Go looked before a transaction, so that it is looked at again afterwards where the transaction changed it."""

from __future__ import annotations

import os
import sys

from go_health_hook import files

BEFORE = "/run/go-health-hook/before"
# What stands there while a transaction is judged. A gate that is killed leaves it, and Go is looked at afterwards.
UNFINISHED = "unfinished"
# What of a toolchain tells that a transaction has changed it, and what it runs on: files below GOROOT, files elsewhere.
TELLTALES = (
    *("", "/bin", "/bin/go", "/VERSION", "/go.env", "/pkg", "/pkg/tool"),
    *("/src", "/src/runtime", "/src/crypto", "/src/crypto/tls"),
)
SYSTEM_TELLTALES = ("/usr/bin/go", "/etc/alternatives/go", "/lib64/libc.so.6", "/usr/lib64/libc.so.6")


def remember(updater: int, goroot: str, before: str) -> None:
    """Keep how the toolchain, or the places for a first one, look before a transaction.

    `updater` is the process whose gate looks again. The first line tells it to the package's file triggers, which leave
    the look to that gate; a file that a killed gate has left stops nobody else's.
    """
    try:
        files.make_directory(os.path.dirname(BEFORE))
        files.replace(BEFORE, f"{updater}\n{goroot}\n{before}")
    except OSError as error:
        print(f"go-health-hook: {BEFORE}: {error.strerror}", file=sys.stderr)


def remembered() -> tuple[str, str] | None:
    """Return GOROOT and how it looked, or None where nothing is to be looked at again."""
    try:
        _, goroot, before = os.fsdecode(files.read(BEFORE, 65536)).split("\n", 2)
    except (OSError, ValueError):
        return None
    return goroot, before


def forget() -> None:
    """Have nothing looked at again after this transaction."""
    try:
        os.unlink(BEFORE)
    except OSError:
        pass


def looks(goroot: str) -> str:
    """Return how a toolchain looks, or where GOROOT is empty the places for one: any change shows."""
    from go_health_hook.go.toolchain import FAMILIAR

    tools = f"{goroot}/pkg/tool"
    try:
        paths = [f"{tools}/{d}/{t}" for d in sorted(os.listdir(tools)) for t in ("", "compile", "link", "asm")]
    except OSError:
        paths = []
    lines = []
    homes = [goroot] if goroot else FAMILIAR
    for path in [*(home + t for home in homes for t in TELLTALES), *paths, *SYSTEM_TELLTALES]:
        try:
            info = os.lstat(path)
            lines.append(f"{info.st_dev} {info.st_ino} {info.st_size} {info.st_mode} {info.st_ctime_ns}")
        except OSError as error:
            lines.append(str(error.errno))
    return "\n".join(lines)
