# SPDX-License-Identifier: GPL-2.0-or-later
"""The cgroup file systems in /proc/PID/mountinfo: where they are, what they show, whether something covers them.

Format: proc_pid_mountinfo(5), show_mountinfo() in the kernel's fs/proc_namespace.c.
"""

from __future__ import annotations

import os

from go_health_hook.linux.kernel_files import TOO_LONG, Malformed
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PATH_MAX = 4096  # bytes; the kernel shows no longer path
SIZE_MAX = 32 * 1024 * 1024  # a namespace may hold 100,000 mounts (fs.mount-max)
_REMOVED = b"//deleted"
_HEAD_MAX = 16 * PATH_MAX  # two paths, every byte of them escaped, and room for the rest


class Mount(Record):
    """A cgroup file system in a mountinfo.

    version   1 or 2
    root      the cgroup that is seen at the mount point, relative to the reader's cgroup namespace
    point     the mount point
    options   of the superblock: for v1 they name its controllers
    device    (major, minor)
    covered   whether something else is mounted over it, so that the path no longer leads to what it shows
    removed   whether its root has been removed: it shows nothing any more
    """

    version: int
    root: str
    point: str
    options: tuple[str, ...]
    device: tuple[int, int] = (0, 0)
    covered: bool = False
    removed: bool = False

    def has(self, version: int, controller: str) -> bool:
        """Whether it shows the hierarchy of that version (v1: the one with that controller)."""
        return self.version == version and (version == 2 or controller in self.options)


def parse_mounts(data: bytes) -> tuple[list[Mount], list[Malformed]]:
    """Read the cgroup file systems out of a mountinfo, in its order, and why lines about such make no sense."""
    mounts: list[Mount] = []
    bad: list[Malformed] = []
    lines = [line for line in data.split(b"\n") if b" - cgroup" in line]
    table = _Table(data if lines else b"")
    for line in lines:
        try:
            mount = _parse_line(line, table)
            if mount is not None:
                mounts.append(mount)
        except Malformed as e:
            bad.append(e)
    # What lies over a mount may show the same: some containers bind /sys or the cgroups on themselves.
    seen = {(m.point, m.device, m.root) for m in mounts if not m.covered and not m.removed}
    for mount in mounts:
        mount.covered = mount.covered and (mount.point, mount.device, mount.root) not in seen
    return mounts, bad


def unescape(field: bytes) -> bytes:
    r"""Undo mountinfo's escapes: a backslash and three octal digits (\040 a space, \134 a backslash).

    Raises Malformed for a backslash that does not begin one, for \000 and for a NUL, which no path has.
    """
    if b"\0" in field:
        raise Malformed(f"not a path: {clean(field, 100)!r}")
    if b"\\" not in field:
        return field
    parts = field.split(b"\\")
    out = [parts[0]]
    for part in parts[1:]:
        digits = part[:3]
        if len(digits) != 3 or digits.strip(b"01234567") or not b"000" < digits <= b"377":
            raise Malformed(f"not an escaped path: {clean(field, 100)!r}")
        out.append(bytes((int(digits, 8),)) + part[3:])
    return b"".join(out)


def split_path(path: str) -> list[str]:
    """The parts of a cgroup's path, doubled slashes left out: "/a//b" is ["a", "b"], "/../c" is ["..", "c"].

    Raises Malformed for steps up that are not at the beginning, where they lead out of the cgroup namespace.
    """
    parts = [p for p in path.split("/") if p]
    climbing = True
    for part in parts:
        if part == "." or (part == ".." and not climbing):
            raise Malformed(f"not a cgroup's path: {clean(path, 100)!r}")
        climbing = part == ".."
    return parts


def join_path(parts: Sequence[str]) -> str:
    """The path of these parts, "/" of none."""
    return "/" + "/".join(parts)


def _parse_line(line: bytes, table: _Table) -> Mount | None:
    """Read a line with " - cgroup" in it, or None where it belongs to another file system after all."""
    head, _, tail = line.partition(b" - ")
    last = tail.split(b" ", 2)
    if last[0] not in (b"cgroup", b"cgroup2"):
        return None
    if len(head) > _HEAD_MAX:
        raise Malformed(f"a line of {len(line)} bytes", TOO_LONG)
    # ID, parent's ID, device, root, mount point, options, optional fields until the separator; type, source, options
    fields = head.split(b" ")
    if len(fields) < 6 or len(last) != 3 or not (fields[0].isdigit() and fields[1].isdigit()):
        raise Malformed(f"not a line of mountinfo: {clean(line, 100)!r}")
    major, _, minor = fields[2].partition(b":")
    if not (major.isdigit() and minor.isdigit() and len(fields[2]) < 24):
        raise Malformed(f"not a line of mountinfo: {clean(line, 100)!r}")
    removed = fields[3].endswith(_REMOVED)
    root, point = unescape(fields[3][: -len(_REMOVED)] if removed else fields[3]), unescape(fields[4])
    if not (root.startswith(b"/") and point.startswith(b"/")):
        raise Malformed(f"not a line of mountinfo: {clean(line, 100)!r}")
    if len(root) > PATH_MAX or len(point) > PATH_MAX:
        raise Malformed("a path longer than the kernel's longest", TOO_LONG)
    return Mount(
        2 if last[0] == b"cgroup2" else 1,
        join_path(split_path(os.fsdecode(root))),
        os.fsdecode(point),
        tuple(os.fsdecode(last[2]).split(",")),
        (int(major), int(minor)),
        table.covered(fields[0]),
        removed,
    )


class _Table:
    """Who is mounted on whom: whether a mount point still leads to its mount.

    Looking up a path enters, at each directory, the mount on top of it. A mount is covered if anything is mounted on
    its root. It is covered too if, on one of the mounts below it, something is mounted above the place of the next one.
    (At the same place there is never more than one.)
    """

    def __init__(self, data: bytes) -> None:
        self.mounts: dict[bytes, tuple[bytes, bytes]] = {}  # ID: parent's ID, mount point as written
        self.places: dict[bytes, set[bytes]] = {}  # ID: the points of what is mounted on it
        self.reached: dict[bytes, bool] = {}
        for line in data.split(b"\n"):
            fields = line.split(b" ", 5)
            if len(fields) == 6:
                self.mounts[fields[0]] = (fields[1], fields[4])
                if fields[0] != fields[1]:  # the topmost mount is its own parent
                    self.places.setdefault(fields[1], set()).add(fields[4])

    def covered(self, mount: bytes) -> bool:
        """Whether the mount point of that ID leads elsewhere."""
        return self.mounts[mount][1] in self.places.get(mount, ()) or not self._reaches(mount)

    def _reaches(self, mount: bytes) -> bool:
        """Whether a lookup of the mount point gets as far as that mount."""
        steps = []
        while mount in self.mounts and mount not in self.reached:
            steps.append(mount)
            self.reached[mount] = True  # for now; also ends a circle, as the topmost mount is its own parent
            mount = self.mounts[mount][0]
        so_far = self.reached.get(mount, True)
        for step in reversed(steps):
            so_far = so_far and not self._blocked(step)
            self.reached[step] = so_far
        return so_far

    def _blocked(self, mount: bytes) -> bool:
        """Whether another mount is in the way, on the same file system and above the place of this one."""
        parent, point = self.mounts[mount]
        places = self.places.get(parent, ())
        # A namespace may hold very many mounts, so their number must not count: the directories above are looked up.
        while point not in (b"/", b""):
            point = point.rpartition(b"/")[0] or b"/"
            if point in places:
                return True
        return False
