# SPDX-License-Identifier: GPL-2.0-or-later
"""The composefs backend of image systems: bootc keeps deployments as EROFS images over an object store.

Measured on bootc 1.16.9. A deployment is named by the fs-verity digest of its image. What is staged stands in
/run/composefs/staged-deployment, which bootc's own finalization reads at shutdown: with `finalization_locked` true it
leaves the boot entries alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat

from go_health_hook import files
from go_health_hook.linux.deployments import Deployment, State, Unreadable, parse_json
from go_health_hook.linux.image import ImageSystem
from go_health_hook.linux.soft_reboot import in_first
from go_health_hook.records import Record
from go_health_hook.run import kernel_calls, process
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from go_health_hook.deadline import Deadline

CMDLINE = "/proc/cmdline"
MOUNTS = "/proc/self/mountinfo"
FIRST_MOUNTS = "/proc/1/mountinfo"
NEXT_ROOT = "/run/nextroot"
STAGED = "/run/composefs/staged-deployment"
IMAGES = "/sysroot/composefs/images"
OBJECTS = "/sysroot/composefs/objects"
STATE = "/sysroot/state/deploy"
OURS = "/run/go-health-hook"
OSNAME = "default"  # the backend has no other
MAX_BYTES = 1 << 16
MAX_MOUNTS = 32
ID = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?\Z")  # SHA-256 or SHA-512
# What a root is mounted from; the second where changes to it are lost at the next boot.
SOURCES = ("composefs:", "transient:composefs=")
# The one mark of a lock: the field of the staged file, which `bootc upgrade --download-only` sets as well.
FIELD = "field"


def booted() -> str:
    """Return the id of the deployment that runs, or an empty string on a machine that was not booted so.

    As bootc tells it: `composefs=ID` (or `composefs=?ID`, where objects without fs-verity are allowed) on the kernel
    command line, and a root that is mounted from "composefs:ID". After a soft reboot only the mount is right.
    """
    if not any(word.startswith(b"composefs=") for word in files.head(CMDLINE, MAX_BYTES).split()):
        return ""
    try:
        roots = _mounted(MOUNTS, "/")
    except OSError:
        return ""
    return roots[-1][0] if roots else ""


def _mounted(mountinfo: str, point: str) -> list[tuple[str, str]]:
    """Return id and verity mode ("", "on", "require") of each image mounted at `point`, the lowest first (proc(5))."""
    found = []
    with open(mountinfo, encoding="utf-8", errors="replace") as file:
        lines = [line.split() for line in file.read(1 << 22).splitlines()]
    for words in lines:
        if len(words) < 10 or words[4] != point or "-" not in words[6:]:
            continue
        kind, source, options = (*words[words.index("-", 6) + 1 :], "", "")[:3]
        name = next((source[len(prefix) :] for prefix in SOURCES if source.startswith(prefix)), "")
        if kind == "overlay" and ID.match(name):
            found.append((name, dict(o.partition("=")[::2] for o in options.split(",")).get("verity", "")))
    return found


class Composefs(ImageSystem):
    """Deployments that bootc keeps without ostree."""

    staged_file = STAGED
    finalize_unit = "bootc-finalize-staged.service"
    quick = frozenset({FIELD})
    shown = frozenset({FIELD})

    def read(self, deadline: Deadline) -> State:
        """See ImageSystem. bootc says what else there is; what is staged, and its lock, stands in the staged file."""
        now = read_staged()
        deployments = []
        complete = False
        result = process.run_host("bootc", ["status", "--json"], deadline)
        if result.ok:
            with contextlib.suppress(Unreadable):  # the staged file alone is enough to judge and to lock
                deployments = parse_status(parse_json(result.stdout.decode("utf-8", "replace")))
                complete = True
        deployments = [d for d in deployments if not d.staged or (now is not None and d.checksum == now.id)]
        if not any(d.booted for d in deployments):
            deployments.insert(0, deployment(booted(), booted=True))
        if now is not None:
            staged = next((d for d in deployments if d.staged), None)
            if staged is None:
                staged = deployment(now.id, staged=True)
                deployments.insert(0, staged)
            staged.marks = frozenset({FIELD}) if now.locked else frozenset()
        next_roots: list[str] = []
        with contextlib.suppress(OSError):
            next_roots = [id for id, _ in _mounted(FIRST_MOUNTS, NEXT_ROOT)]
        for each in deployments:
            each.soft = not each.booted and each.checksum in next_roots
        return State(deployments, complete)

    @contextlib.contextmanager
    def tree(self, deployment: Deployment) -> Iterator[str]:
        """See ImageSystem. The image is mounted in a mount namespace of this process's own, and gone with it.

        Read-only, over the object store, with the /etc that the deployment has in the state directory.
        """
        top = f"{OURS}/image"
        try:
            os.makedirs(top, 0o755, exist_ok=True)
            kernel_calls.private_mounts()
            kernel_calls.mount("go-health-hook", top, "tmpfs", kernel_calls.NOSUID | kernel_calls.NODEV, "mode=0755")
        except OSError as error:
            raise _unmounted(deployment, error) from None
        try:
            try:
                root = _mount_image(deployment.checksum, top)
            except OSError as error:
                raise _unmounted(deployment, error) from None
            yield root
        finally:
            kernel_calls.detach(top)

    def hold(self, staged: Deployment) -> frozenset[str]:
        """See ImageSystem."""
        return frozenset({FIELD}) if set_locked(staged.checksum, True) else frozenset()

    def lock(self, staged: Deployment, deadline: Deadline) -> frozenset[str]:
        """See ImageSystem. The same as `hold`: bootc shows it as downloadOnly, and no transaction holds it up."""
        return self.hold(staged)

    def lift(self, staged: Deployment, ours: Collection[str], deadline: Deadline) -> frozenset[str]:
        """See ImageSystem."""
        if FIELD in ours:
            set_locked(staged.checksum, False)
        return frozenset()

    def discard(self, staged: Deployment, deadline: Deadline) -> None:
        """See ImageSystem. bootc removes the boot entries, the image and the staged file."""
        result = process.run_host("bootc", ["delete-deployment", staged.checksum], deadline)
        if not result.ok:
            raise Unreadable(f"the staged deployment could not be discarded: bootc delete-deployment {result.why()}")

    def cancel_soft_reboot(self, deployment: Deployment, deadline: Deadline) -> None:
        """See ImageSystem. bootc's command takes off one mount; any that is left is taken off in PID 1's namespace."""
        result = process.run_host("bootc", ["internals", "prep-soft-reboot", "--reset"], deadline)
        for _ in range(MAX_MOUNTS):
            try:
                mounts = _mounted(FIRST_MOUNTS, NEXT_ROOT)
            except OSError as error:
                raise Unreadable(f"{FIRST_MOUNTS}: {error.strerror}") from None
            if not mounts or mounts[-1][0] != deployment.checksum:
                return
            result = in_first("umount", ["--lazy", NEXT_ROOT], deadline)
            if not result.ok:
                break
        raise Unreadable(f"the prepared soft reboot could not be taken back: {result.argv[0]} {result.why()}")

    def roll_back(self, state: State | None) -> str:
        """See ImageSystem."""
        return "systemctl reboot" if state is not None and state.going_back else "bootc rollback && systemctl reboot"

    def drop(self) -> str:
        """See ImageSystem. The id is needed, so it is read out of the staged file."""
        with contextlib.suppress(Unreadable):
            if now := read_staged():
                return f"bootc delete-deployment {now.id}"
        return "bootc status"

    def upgrade(self) -> str:
        """See ImageSystem."""
        return "bootc upgrade"


# --- reading


def deployment(id: str, **more: Any) -> Deployment:
    """Return a deployment of this backend. Raises Unreadable for an id that is none."""
    return Deployment(OSNAME, id, 0, **more)


def parse_status(status: object) -> list[Deployment]:
    """Return the deployments of `bootc status --json` (schema v1, bootc's spec.rs) in boot order. Raises Unreadable.

    An image without a version is called by its reference and digest.
    """
    host = status.get("status") if isinstance(status, dict) else None
    if not isinstance(host, dict):
        raise Unreadable("bootc gives no status")
    places = ["staged", "booted", "rollback"]
    if host.get("rollbackQueued") is True and host.get("rollback") is not None:
        places = ["staged", "rollback", "booted"]
    found = []
    for place in places:
        entry = host.get(place)
        backend = entry.get("composefs") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(backend, dict):
            continue
        image = _object(entry, "image")
        reference = clean(str(_object(image, "image").get("image") or ""), 120)
        digest = str(image.get("imageDigest") or "")
        made = deployment(str(backend.get("verity")), booted=place == "booted", staged=place == "staged", digest=digest)
        made.title = clean(image.get("version") or " ".join(w for w in (reference, f"({digest[:19]})") if w), 160)
        if place == "staged" and entry.get("downloadOnly") is True:
            made.marks = frozenset({FIELD})
        found.append(made)
    return found


def _object(entry: dict[str, Any], key: str) -> dict[str, Any]:
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


class Staged(Record):
    """What is staged: `id`, whether its finalization is `locked`, and the file's `key` (device, inode)."""

    id: str
    locked: bool
    key: tuple[int, int] = (0, 0)


def read_staged() -> Staged | None:
    """Return what is staged, or None. Raises Unreadable for a file of another form than bootc 1.16 writes."""
    try:
        fd = os.open(STAGED, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"{STAGED}: {error.strerror}") from None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Unreadable(f"{STAGED} is no regular file", hint="look at bootc status")
        text = os.read(fd, MAX_BYTES)
    finally:
        os.close(fd)
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


# --- the lock


def set_locked(id: str, locked: bool) -> bool:
    """Set or lift the lock on the finalization of `id`; return whether this call changed it.

    The new file changes places with the old one in one step. Had bootc replaced that meanwhile, theirs is put back.
    Raises Unreadable where something else is staged now, or the file cannot be replaced.
    """
    now = read_staged()
    if now is None or now.id != id:
        raise Unreadable("another deployment is staged now")
    if now.locked == locked:
        return False
    new = f"{OURS}/staged-deployment.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        _sweep()
        _write(new, json.dumps({"depl_id": id, "finalization_locked": locked}, separators=(",", ":")), os.lstat(STAGED))
        kernel_calls.exchange(new, STAGED)
        old = os.lstat(new)
        if (old.st_dev, old.st_ino) != now.key:
            kernel_calls.exchange(new, STAGED)
            raise Unreadable("another deployment was staged meanwhile")
    except OSError as error:
        raise Unreadable(f"{STAGED} could not be replaced: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new)
    after = read_staged()
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


def _mount_image(id: str, top: str) -> str:
    """Mount an image below `top`; return the directory of its tree. Raises OSError.

    A data-only lower layer (overlayfs.rst, "Data-only lower layers"; Linux 6.5) and an EROFS image that is a file
    (Linux 6.12), as bootc itself mounts them.
    """
    k = kernel_calls
    flags = k.RDONLY | k.NOSUID | k.NODEV
    root, etc = f"{top}/root", f"{STATE}/{id}/etc"
    for path in (f"{top}/erofs", root):
        os.mkdir(path, 0o755)
    k.mount(os.path.realpath(f"{IMAGES}/{id}"), f"{top}/erofs", "erofs", flags, None)
    options = f"lowerdir={top}/erofs::{OBJECTS},metacopy=on,redirect_dir=on"
    running = _mounted(MOUNTS, "/")
    if running and running[-1][1] in ("on", "require"):
        options += f",verity={running[-1][1]}"
    k.mount("go-health-hook", root, "overlay", flags, options)
    if os.path.isdir(etc):
        k.mount(etc, f"{root}/etc", None, k.BIND, None)
        k.mount(None, f"{root}/etc", None, k.BIND | k.REMOUNT | flags, None)
    return root


def _unmounted(deployment: Deployment, error: OSError) -> Unreadable:
    where = clean(str(error.filename or deployment.checksum))
    return Unreadable(
        f"the image of {deployment.name} cannot be looked into: {where}: {error.strerror}",
        hint="look at bootc status; a damaged image is replaced by the next bootc upgrade",
    )
