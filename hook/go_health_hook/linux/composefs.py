# SPDX-License-Identifier: GPL-2.0-or-later
"""bootc's composefs backend: the booted and the staged deployment, its lock, and a view of an image's root.

Measured on bootc 1.16.9. A deployment is named by the fs-verity digest of its EROFS image. `/` is an overlay mounted
from "composefs:ID". What is staged stands in /run/composefs/staged-deployment, which bootc's own finalization reads at
shutdown: with `finalization_locked` true it leaves the boot entries alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat

from go_health_hook.errors import HookError
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CMDLINE = "/proc/cmdline"
MOUNTS = "/proc/self/mountinfo"
STAGED = "/run/composefs/staged-deployment"
IMAGES = "/sysroot/composefs/images"
OBJECTS = "/sysroot/composefs/objects"
STATE = "/sysroot/state/deploy"
OURS = "/run/go-health-hook"
MAX_BYTES = 1 << 16
ID = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?\Z")  # SHA-256 or SHA-512
# mount(2), unshare(2), renameat2(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
CLONE_NEWNS = 0x00020000
AT_FDCWD, RENAME_EXCHANGE = -100, 2


class Unreadable(HookError):
    """The backend's files say something that is not understood: nothing is decided about what is staged."""


def booted() -> str:
    """Return the id of the deployment that runs, or an empty string on a machine that was not booted so.

    As bootc tells it: `composefs=ID` (or `composefs=?ID`, where objects without fs-verity are allowed) on the kernel
    command line, and a root that is mounted from "composefs:ID". After a soft reboot only the mount is right.
    """
    try:
        with open(CMDLINE, encoding="utf-8", errors="replace") as file:
            words = file.read(MAX_BYTES).split()
        if not any(word.startswith("composefs=") for word in words):
            return ""
        return _root_mount()[0]
    except (OSError, ValueError):
        return ""


def _root_mount() -> tuple[str, str]:
    """The id and the verity mode ("", "on" or "require") of the overlay that is mounted at / (proc(5), mountinfo)."""
    with open(MOUNTS, encoding="utf-8", errors="replace") as file:
        lines = [line.split() for line in file.read(1 << 22).splitlines()]
    for words in reversed(lines):
        if len(words) < 10 or words[4] != "/" or "-" not in words[6:]:
            continue
        kind, source, options = words[words.index("-", 6) + 1 :][:3]
        scheme, _, name = source.partition(":")
        if kind == "overlay" and scheme == "composefs" and ID.match(name):
            return name, dict(o.partition("=")[::2] for o in options.split(",")).get("verity", "")
    return "", ""


class Staged:
    """What is staged: `id`, whether its finalization is `locked`, and the file's identity for a later comparison."""

    __slots__ = ("id", "key", "locked")

    def __init__(self, id: str, locked: bool, key: tuple[int, int] = (0, 0)) -> None:
        self.id = id
        self.locked = locked
        self.key = key


def staged() -> Staged | None:
    """Return what is staged, or None. Raises Unreadable for a file of another form than bootc 1.16 writes."""
    try:
        fd = os.open(STAGED, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"{STAGED}: {error.strerror}") from None
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Unreadable(f"{STAGED} is no regular file")
        text = file.read(MAX_BYTES)
    id, locked = parse_staged(text)
    return Staged(id, locked, (info.st_dev, info.st_ino))


def parse_staged(text: bytes) -> tuple[str, bool]:
    """Return id and lock of a staged-deployment file. Raises Unreadable.

    A field that is not known may change what the others mean: such a file is neither judged nor rewritten.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable(f"{STAGED} is not JSON", hint="look at bootc status") from None
    if not isinstance(data, dict) or set(data) != {"depl_id", "finalization_locked"}:
        known = "another form than this release knows"
        raise Unreadable(f"{STAGED} has {known}", hint="update go-health-hook; until then nothing staged is judged")
    id, locked = data["depl_id"], data["finalization_locked"]
    if not isinstance(id, str) or not ID.match(id) or not isinstance(locked, bool):
        raise Unreadable(f"{STAGED} names no deployment: {clean(str(id), 80)}", hint="look at bootc status")
    return id, locked


def set_locked(id: str, locked: bool) -> bool:
    """Set or lift the lock on the finalization of `id`; return whether this call changed it.

    The new file changes places with the old one in one step. Had bootc replaced that meanwhile, theirs is put back.
    Raises Unreadable where something else is staged now, or the file cannot be replaced.
    """
    now = staged()
    if now is None or now.id != id:
        raise Unreadable("another deployment is staged now")
    if now.locked == locked:
        return False
    new = f"{OURS}/staged-deployment.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        _sweep()
        info = os.lstat(STAGED)
        _write(new, json.dumps({"depl_id": id, "finalization_locked": locked}, separators=(",", ":")), info)
        _exchange(new, STAGED)
        old = os.lstat(new)
        if (old.st_dev, old.st_ino) != now.key:
            _exchange(new, STAGED)
            raise Unreadable("another deployment was staged meanwhile")
        os.unlink(new)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise Unreadable(f"{STAGED} could not be replaced: {error.strerror}") from None
    after = staged()
    if after is None or after.id != id:
        raise Unreadable("another deployment was staged meanwhile")
    return after.locked == locked


def _write(path: str, text: str, like: os.stat_result) -> None:
    os.makedirs(OURS, 0o755, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
        os.fchown(fd, like.st_uid, like.st_gid)
        os.fchmod(fd, stat.S_IMODE(like.st_mode))
        with contextlib.suppress(OSError):  # no SELinux here
            os.setxattr(fd, "security.selinux", os.getxattr(STAGED, "security.selinux"))
    finally:
        os.close(fd)


def _sweep() -> None:
    """Remove what runs that were killed half-way left in our directory."""
    with contextlib.suppress(OSError):
        for name in os.listdir(OURS):
            pid = name.split(".")[1:2]
            if name.startswith("staged-deployment.") and pid and not os.path.exists(f"/proc/{pid[0]}"):
                os.unlink(f"{OURS}/{name}")


# --- an image's root


def image_root(id: str) -> str:
    """Mount the image of a deployment in a mount namespace of this process's own; return the top of its tree.

    Read-only, over the object store, with its own /etc from the state directory; all of it ends with this process and
    what it started. Raises Unreadable where the image or the kernel does not allow it.
    """
    image, top, root = f"{IMAGES}/{id}", f"{OURS}/image", f"{OURS}/image/root"
    etc = f"{STATE}/{id}/etc"
    try:
        os.makedirs(top, 0o755, exist_ok=True)
        _call("unshare", CLONE_NEWNS)
        # Nothing that is mounted from here on is seen outside; what others mount is still seen here.
        _mount(None, "/", None, MS_REC | MS_SLAVE, None)
        _mount("go-health-hook", top, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k")
        for path in (f"{top}/erofs", root):
            os.mkdir(path, 0o755)
        _mount(os.path.realpath(image), f"{top}/erofs", "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV, None)
        options = f"lowerdir={top}/erofs::{OBJECTS},metacopy=on,redirect_dir=on"
        verity = _root_mount()[1]
        if verity in ("on", "require"):
            options += f",verity={verity}"
        _mount("composefs", root, "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, options)
        if os.path.isdir(etc):
            _mount(etc, f"{root}/etc", None, MS_BIND, None)
            _mount(None, f"{root}/etc", None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, None)
    except OSError as error:
        raise Unreadable(
            f"the staged image cannot be looked into: {clean(str(error.filename or image))}: {error.strerror}",
            hint="look at bootc status; a damaged image is replaced by the next bootc upgrade",
        ) from None
    return root


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library that os has not in every Python of ours. Raises OSError."""
    import ctypes

    function: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number), name)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    import ctypes

    words = [None if w is None else os.fsencode(w) for w in (source, target, kind, options)]
    try:
        _call("mount", words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    except OSError as error:
        raise OSError(error.errno, error.strerror, source or target) from None


def _exchange(one: str, other: str) -> None:
    try:
        _call("renameat2", AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
    except OSError as error:
        raise OSError(error.errno, error.strerror, other) from None
