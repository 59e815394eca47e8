# SPDX-License-Identifier: GPL-2.0-or-later
"""The deployments of an image system: what is booted, staged and locked, and the finalization lock.

rpm-ostree, bootc and plain ostree keep the same deployments; only here is it known which of them is asked, and how.
"""

from __future__ import annotations

import contextlib
import json
import os
import re

from go_health_hook.errors import HookError
from go_health_hook.linux import bus
from go_health_hook.run import process
from go_health_hook.text import clean, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from go_health_hook.deadline import Deadline

BOOTED = "/run/ostree-booted"
# What the finalization looks at besides the staged file's own note (ostree-sysroot-deploy.c).
LOCK_FILE = "/run/ostree/staged-deployment-locked"

# src/daemon/org.projectatomic.rpmostree1.xml
SERVICE = "org.projectatomic.rpmostree1"
SYSROOT_PATH = "/org/projectatomic/rpmostree1/Sysroot"
SYSROOT = f"{SERVICE}.Sysroot"
OS = f"{SERVICE}.OS"
# The packages that Fedora, EL and their toolset builds make of one Go toolchain; golang-github-… are libraries.
GO_PACKAGES = re.compile(r"(go-toolset(-.+)?|golang(-(bin|src|race|shared|misc|docs|tests))?|gcc-go)\Z")

_CHECKSUM = re.compile(r"[0-9a-f]{64}\Z")
# What `ostree admin status` puts at a line's start and end (ot-admin-builtin-status.c).
_STATUS_LINE = re.compile(r"([* ]) (\S+) ([0-9a-f]{64})\.([0-9]{1,9})((?: \([a-z -]+\))*)\Z")


class Unreadable(HookError):
    """The state of the deployments cannot be read: nothing is decided."""


class Deployment:
    """One deployment; `root` is where its tree lies. `locked` means that it will not be finalized at shutdown, `soft`
    that a soft reboot into it is prepared, which no lock stops."""

    __slots__ = ("booted", "checksum", "locked", "osname", "serial", "soft", "staged", "version")

    def __init__(
        self,
        osname: str,
        checksum: str,
        serial: int,
        *,
        booted: bool = False,
        staged: bool = False,
        locked: bool = False,
        soft: bool = False,
        version: str = "",
    ) -> None:
        if not _CHECKSUM.match(checksum) or serial < 0 or osname in ("", ".", "..") or "/" in osname or "\0" in osname:
            raise Unreadable(f"not a deployment: {clean(osname)} {clean(checksum)}.{serial}")
        self.osname = osname
        self.checksum = checksum
        self.serial = serial
        self.booted = booted
        self.staged = staged or locked
        self.locked = locked
        self.soft = soft
        self.version = clean(version, 80)

    @property
    def id(self) -> str:
        """The name that rpm-ostree gives it."""
        return f"{self.osname}-{self.checksum}.{self.serial}"

    @property
    def root(self) -> str:
        """The top of its file system tree."""
        return f"/ostree/deploy/{self.osname}/deploy/{self.checksum}.{self.serial}"

    @property
    def name(self) -> str:
        """What people call it: the version, where it has one, and the first digits of its checksum."""
        short = f"{clean(self.osname, 40)} {self.checksum[:12]}.{self.serial}"
        return f"{self.version} ({short})" if self.version else short


class State:
    """The deployments in boot order."""

    __slots__ = ("deployments",)

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        self.deployments = list(deployments)

    @property
    def booted(self) -> Deployment | None:
        """The deployment that is running."""
        return next((d for d in self.deployments if d.booted), None)

    @property
    def staged(self) -> Deployment | None:
        """The deployment that waits for the shutdown, locked or not."""
        return next((d for d in self.deployments if d.staged), None)

    @property
    def previous(self) -> Deployment | None:
        """What a rollback would bring back: the first after the booted one, of the same OS."""
        booted = self.booted
        if booted is None:
            return None
        after = self.deployments[self.deployments.index(booted) + 1 :]
        return next((d for d in after if d.osname == booted.osname), None)


class Change:
    """A package that differs between two deployments: its name, and its version before and after ("" where absent)."""

    __slots__ = ("after", "before", "name")

    def __init__(self, name: str, before: str, after: str) -> None:
        self.name = clean(name, 80)
        self.before = clean(before, 80)
        self.after = clean(after, 80)

    def __str__(self) -> str:
        if self.before and self.after:
            return f"{self.name} {self.before} -> {self.after}"
        return f"{self.name} {self.after} added" if self.after else f"{self.name} {self.before} removed"


def on_ostree() -> bool:
    """Whether this system was booted from an ostree deployment (rpm-ostree's and bootc's ostree backend included)."""
    return os.path.exists(BOOTED)


def driver() -> str:
    """What manages the deployments here: "rpm-ostree", "bootc" or "ostree"."""
    return next((name for name in ("rpm-ostree", "bootc") if process.has_host(name)), "ostree")


def how_to_roll_back(state: State | None) -> str:
    """The command that makes the previous deployment the default again; `state` where it could be read."""
    previous = state.previous if state else None
    index = "INDEX" if state is None or previous is None else state.deployments.index(previous)
    return {
        "rpm-ostree": "rpm-ostree rollback --reboot",
        "bootc": "bootc rollback && systemctl reboot",
        # Counted as `ostree admin status` lists them, what is staged included.
        "ostree": f"ostree admin set-default {index} && systemctl reboot",
    }[driver()]


# --- reading


def on_disk(deadline: Deadline) -> State:
    """The state as it stands in the files: right at every moment, at shutdown too, where no bus is left to be asked.

    Raises Unreadable, with what each of the programs said.
    """
    said = []
    for program, arguments, parse in (
        ("ostree", ["admin", "status", "--skip-signatures"], parse_ostree),
        ("rpm-ostree", ["status", "--json"], _parse_rpm_ostree_text),
        ("bootc", ["status", "--json"], _parse_bootc_text),
    ):
        result = process.run_host(program, arguments, deadline)
        if not result.ok:
            said.append(f"{program}: {result.why()}")
            continue
        try:
            deployments = parse(result.stdout.decode("utf-8", "replace"))
        except Unreadable as error:
            said.append(f"{program}: {error.message}")
            continue
        for deployment in deployments:
            deployment.locked = deployment.locked or (deployment.staged and os.path.lexists(LOCK_FILE))
        return State(deployments)
    raise Unreadable(f"the deployments cannot be read: {'; '.join(said)}", hint="look at ostree admin status")


def parse_ostree(text: str) -> list[Deployment]:
    """The deployments of `ostree admin status`. Raises Unreadable."""
    found: list[Deployment] = []
    for line in text.splitlines():
        match = _STATUS_LINE.match(line)
        if match:
            mark, osname, checksum, serial, marks = match.groups()
            with contextlib.suppress(Unreadable):  # what looks like one is part of a version with a line break in it
                found.append(
                    Deployment(
                        osname,
                        checksum,
                        int(serial),
                        booted=mark == "*",
                        staged="(staged)" in marks,
                        locked="(finalization locked)" in marks,
                        soft="(soft-reboot)" in marks,
                    )
                )
        elif line.startswith("    Version: ") and found:
            found[-1].version = clean(line[len("    Version: ") :], 80)
    if not found and first_line(text.encode()) != "No deployments.":
        raise Unreadable(f"no deployment in {first_line(text.encode(), 120) or 'an empty answer'!r}")
    return found


def parse_rpm_ostree(deployments: object) -> list[Deployment]:
    """The deployments as rpm-ostree's D-Bus property and `rpm-ostree status --json` have them. Raises Unreadable."""
    if not isinstance(deployments, list):
        raise Unreadable("rpm-ostree gives no list of deployments")
    found = []
    for entry in deployments:
        if not isinstance(entry, dict):
            raise Unreadable("rpm-ostree gives a deployment that is none")
        found.append(
            Deployment(
                _field(entry, "osname", str),
                _field(entry, "checksum", str),
                _field(entry, "serial", int),
                booted=_field(entry, "booted", bool, False),
                staged=_field(entry, "staged", bool, False),
                locked=_field(entry, "finalization-locked", bool, False),
                version=_field(entry, "version", str, ""),
            )
        )
    return found


def parse_bootc(status: object) -> list[Deployment]:
    """The deployments of `bootc status --json`, schema v1 (bootc's spec.rs), in boot order. Raises Unreadable."""
    host = _field(status, "status", dict)
    found = []
    order = ["staged", "rollback", "booted"] if host.get("rollbackQueued") is True else ["staged", "booted", "rollback"]
    for place in order:
        entry = host.get(place)
        if entry is None:
            continue
        place_of = _field(entry, "ostree", dict)
        image = _field(entry, "image", dict, {})
        found.append(
            Deployment(
                _field(place_of, "stateroot", str, "default"),
                _field(place_of, "checksum", str),
                _field(place_of, "deploySerial", int),
                booted=place == "booted",
                staged=place == "staged",
                locked=place == "staged" and _field(entry, "downloadOnly", bool, False),
                version=_field(image, "version", str, ""),
            )
        )
    if not found:
        raise Unreadable("bootc knows of no deployment")
    return found


def _parse_rpm_ostree_text(text: str) -> list[Deployment]:
    return parse_rpm_ostree(_field(_json(text), "deployments", list))


def _parse_bootc_text(text: str) -> list[Deployment]:
    return parse_bootc(_json(text))


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from None


_REQUIRED = object()


def _field(entry: object, key: str, kind: type, default: Any = _REQUIRED) -> Any:
    """A field of the right type; null counts as absent."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if value is None and default is not _REQUIRED:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Unreadable(f"{key} is missing or not of type {kind.__name__}")
    return value


# --- what an update would change, over D-Bus


class Update:
    """What waits for this machine, as rpm-ostree knows it: the deployments, and Go's packages that would change."""

    __slots__ = ("changes", "known", "state")

    def __init__(self, state: State, changes: Sequence[Change], known: bool) -> None:
        self.state = state
        self.changes = list(changes)
        self.known = known


class Inquiry:
    """Asks rpm-ostree what waits, beside whatever else goes on; `answer()` gives the Update."""

    def __init__(self, deadline: Deadline) -> None:
        self._conversation = bus.Conversation(SERVICE, _ask_update, deadline)

    def answer(self) -> Update:
        """What waits. Raises HookError where the bus, rpm-ostree or python3-dbus-next is not there, late or broken."""
        deployments, diff, cached = self._conversation.result()
        state = State(parse_rpm_ostree(deployments))
        changes = diff_changes(diff) + cached_changes(cached)
        return Update(state, [c for c in changes if GO_PACKAGES.match(c.name)], bool(diff or cached))


def _ask_update(call: bus.Call) -> object:
    """Deployments, the packages between the booted and the staged one, and the update in the cache."""
    sysroot = call(SYSROOT_PATH, bus.PROPERTIES, "GetAll", "s", SYSROOT)[0]
    deployments = sysroot.get("Deployments", [])
    path = sysroot.get("Booted", "/")
    cached: object = {}
    diff: object = []
    if path != "/":
        staged = next((d for d in deployments if d.get("staged")), None)
        booted = next((d for d in deployments if d.get("booted")), None)
        if staged and booted:
            diff = call(path, OS, "GetDeploymentsRpmDiff", "ss", booted["id"], staged["id"])[0]
        cached = call(path, bus.PROPERTIES, "Get", "ss", OS, "CachedUpdate")[0]
    return [deployments, diff, cached]


def go_changes(before: Deployment, after: Deployment, deadline: Deadline) -> list[Change]:
    """Go's packages that differ between two deployments, as rpm-ostree says. Raises HookError."""

    def ask(call: bus.Call) -> object:
        path = call(SYSROOT_PATH, SYSROOT, "GetOS", "s", after.osname)[0]
        return call(path, OS, "GetDeploymentsRpmDiff", "ss", before.id, after.id)[0]

    return [c for c in diff_changes(bus.Conversation(SERVICE, ask, deadline).result()) if GO_PACKAGES.match(c.name)]


def diff_changes(diff: object) -> list[Change]:
    """The packages of a GetDeploymentsRpmDiff: a(sua{sv}) (rpmostree-package-variants.cxx). Raises Unreadable."""
    found = []
    try:
        for name, _, options in diff:  # type: ignore[attr-defined]
            before, after = options.get("PreviousPackage"), options.get("NewPackage")
            found.append(Change(name, before[1] if before else "", after[1] if after else ""))
    except (TypeError, ValueError, AttributeError, IndexError, KeyError):
        raise Unreadable("rpm-ostree gives a package difference of another form") from None
    return found


def cached_changes(cached: object) -> list[Change]:
    """The packages of a CachedUpdate's rpm-diff (rpmostreed-deployment-utils.cxx). Raises Unreadable."""
    found = []
    try:
        diff: Mapping[str, Any] = cached.get("rpm-diff") or {}  # type: ignore[attr-defined]
        for kind in ("upgraded", "downgraded"):
            for _, name, before, after in diff.get(kind, []):
                found.append(Change(name, before[0], after[0]))
        for kind in ("added", "removed"):
            for _, name, evr, _ in diff.get(kind, []):
                found.append(Change(name, "" if kind == "added" else evr, evr if kind == "added" else ""))
    except (TypeError, ValueError, AttributeError, IndexError, KeyError):
        raise Unreadable("rpm-ostree gives a cached update of another form") from None
    return found


# --- the finalization lock


def lock(deadline: Deadline) -> bool:
    """Lock the staged deployment's finalization; False where it was locked already, so that the lock is another's.

    Raises Unreadable where it could not be locked.
    """
    result = process.run_host("ostree", ["admin", "lock-finalization"], deadline)
    if result.ok:
        return "already" not in result.out
    # An old ostree without the command, or one that waits for a transaction's end: the finalization looks at the file.
    try:
        os.close(os.open(LOCK_FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
    except FileExistsError:
        return False
    except OSError as error:
        raise Unreadable(
            f"the finalization could not be locked: ostree admin lock-finalization {result.why()}; "
            f"{LOCK_FILE}: {error.strerror}"
        ) from None
    return True


def unlock(deadline: Deadline) -> None:
    """Lift the finalization lock. Raises Unreadable where that did not work."""
    result = process.run_host("ostree", ["admin", "lock-finalization", "--unlock"], deadline)
    bare = os.path.lexists(LOCK_FILE)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(LOCK_FILE)
    if not result.ok and not bare:
        raise Unreadable(f"the finalization lock could not be lifted: ostree {result.why()}")


def discard(deadline: Deadline) -> None:
    """Remove the staged deployment. Raises Unreadable where that did not work."""
    if driver() == "rpm-ostree":
        result = process.run_host("rpm-ostree", ["cleanup", "--pending"], deadline)
    else:
        # The staged deployment is always the first (ostree-sysroot.c).
        result = process.run_host("ostree", ["admin", "undeploy", "0"], deadline)
    if not result.ok:
        raise Unreadable(f"the staged deployment could not be discarded: {result.argv[0]} {result.why()}")


def cancel_soft_reboot(deadline: Deadline) -> None:
    """Take back that the next soft reboot goes into another deployment. Raises Unreadable where that did not work."""
    result = process.run_host("ostree", ["admin", "prepare-soft-reboot", "--reset"], deadline)
    if not result.ok:
        raise Unreadable(f"the prepared soft reboot could not be taken back: ostree {result.why()}")
