# SPDX-License-Identifier: GPL-2.0-or-later
"""A prepared soft reboot as PID 1 has it: `systemctl reboot` enters /run/nextroot wherever that is an OS tree.

A unit with ProtectHome= and the like has a mount namespace of its own, so both looking and unmounting go to PID 1's.
"""

from __future__ import annotations

import contextlib
import os
import re

from go_health_hook.linux.deployments import Unreadable
from go_health_hook.run import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.deadline import Deadline
    from go_health_hook.run.result import Result

NEXT_ROOT = "/run/nextroot"
MOUNTS = "/proc/1/mountinfo"
NAMESPACE = "/proc/1/ns/mnt"
# libostree's record of what it has prepared (ostree-sysroot-private.h).
RECORD = "/run/ostree/nextroot-booted"
MAX_BYTES = 32 << 20
# More stacked mounts than this are not taken away one by one.
MAX_MOUNTS = 32
_DEPLOYMENT = re.compile(r"/deploy/([0-9a-f]{64}\.[0-9]+)(?:/|\Z)")


def stack(mountinfo: str) -> list[set[str]]:
    """Return the mounts at /run/nextroot, the lowest first: for each, the deployments CHECKSUM.SERIAL that it shows.

    An overlay (composefs) does not say which deployment it is, but the binds below it do: its /etc is one of them.
    Format: proc_pid_mountinfo(5).
    """
    tops: dict[str, set[str]] = {}
    owner: dict[str, str] = {}
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) < 6:
            continue
        number, parent, _, root, point = fields[:5]
        if point == NEXT_ROOT:
            tops[number] = set()
            owner[number] = number
        elif point.startswith(f"{NEXT_ROOT}/") and parent in owner:
            owner[number] = owner[parent]
        else:
            continue
        tops[owner[number]].update(_DEPLOYMENT.findall(root))
    return [*tops.values()]


def prepared() -> set[str]:
    """Return the deployments CHECKSUM.SERIAL that PID 1's next soft reboot may lead into. Raises Unreadable."""
    return set().union(*_stack())


def cancel(directory: str, deadline: Deadline) -> None:
    """Take every mount of the deployment CHECKSUM.SERIAL off the top of /run/nextroot, and look afterwards.

    Mounts that name no deployment go as well; one that names another stays. Raises Unreadable.
    """
    in_first("ostree", ["admin", "prepare-soft-reboot", "--reset"], deadline)
    why = ""
    for _ in range(MAX_MOUNTS):
        mounts = _stack()
        if not mounts:
            for remove, left_over in ((os.unlink, RECORD), (os.rmdir, NEXT_ROOT)):
                with contextlib.suppress(OSError):
                    remove(left_over)
            return
        if mounts[-1] and directory not in mounts[-1]:
            return
        result = in_first("umount", ["--lazy", NEXT_ROOT], deadline)
        if not result.ok:
            why = f"umount {result.why()}"
            break
    if _stack():
        raise Unreadable(f"the prepared soft reboot could not be taken back: {why or 'too many mounts'}")


def in_first(program: str, arguments: list[str], deadline: Deadline) -> Result:
    """Run a program of this machine in the mount namespace of PID 1."""
    return process.run_host("nsenter", [f"--mount={NAMESPACE}", "--", program, *arguments], deadline)


def _stack() -> list[set[str]]:
    try:
        with open(MOUNTS, "rb") as file:
            return stack(file.read(MAX_BYTES).decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise Unreadable(f"{MOUNTS}: {error.strerror}") from None
