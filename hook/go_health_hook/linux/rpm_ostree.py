# SPDX-License-Identifier: GPL-2.0-or-later
"""rpm-ostree: the packages that an update changes, the update that it knows of, and its automatic update policy."""

from __future__ import annotations

from go_health_hook import files
from go_health_hook.linux import bus
from go_health_hook.linux.deployments import GO_PACKAGES, Deployment, State, Unreadable, parse_rpm_ostree
from go_health_hook.records import Record
from go_health_hook.text import assignments, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from go_health_hook.deadline import Deadline

# src/daemon/org.projectatomic.rpmostree1.xml
SERVICE = "org.projectatomic.rpmostree1"
SYSROOT_PATH = "/org/projectatomic/rpmostree1/Sysroot"
SYSROOT = f"{SERVICE}.Sysroot"
OS = f"{SERVICE}.OS"
SETTINGS = "/etc/rpm-ostreed.conf"
MAX_BYTES = 1 << 20


class Change(Record):
    """A package that differs between two deployments: its name, and its version before and after ("" where absent)."""

    name: str
    before: str
    after: str

    def __post_init__(self) -> None:
        self.name, self.before, self.after = (clean(text, 80) for text in (self.name, self.before, self.after))

    def __str__(self) -> str:
        if self.before and self.after:
            return f"{self.name} {self.before} -> {self.after}"
        return f"{self.name} {self.after} added" if self.after else f"{self.name} {self.before} removed"


class Update(Record):
    """The update that waits, as rpm-ostree knows it.

    `state` are the deployments, `changes` Go's packages that would change, each once. `checksum` is the commit of the
    update in the cache, empty where there is none.
    """

    state: State
    changes: Sequence[Change]
    checksum: str


class Inquiry:
    """A question to rpm-ostree that has begun; `answer()` gives the Update."""

    def __init__(self, deadline: Deadline) -> None:
        self._conversation = bus.Conversation(SERVICE, _ask_update, deadline)

    def answer(self) -> Update:
        """Return the update. Raises HookError where bus, rpm-ostree or python3-dbus-next is missing, late or broken."""
        deployments, diff, cached = self._conversation.result()
        return update_of(deployments, diff, cached)


def update_of(deployments: object, diff: object, cached: object) -> Update:
    """Return the Update of rpm-ostree's answers as plain values. Raises Unreadable.

    With something staged, CachedUpdate repeats the staged deployment's difference: each package is kept once.
    """
    changes: dict[str, Change] = {}
    for change in [*diff_changes(diff), *cached_changes(cached)]:
        if GO_PACKAGES.match(change.name):
            changes.setdefault(change.name, change)
    checksum = cached.get("checksum") if isinstance(cached, dict) else None
    known = checksum if isinstance(checksum, str) else ""
    return Update(State(parse_rpm_ostree(deployments)), [*changes.values()], known)


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
    """Return Go's packages that differ between two deployments, as rpm-ostree says. Raises HookError."""

    def ask(call: bus.Call) -> object:
        path = call(SYSROOT_PATH, SYSROOT, "GetOS", "s", after.osname)[0]
        return call(path, OS, "GetDeploymentsRpmDiff", "ss", before.id, after.id)[0]

    return [c for c in diff_changes(bus.Conversation(SERVICE, ask, deadline).result()) if GO_PACKAGES.match(c.name)]


def diff_changes(diff: object) -> list[Change]:
    """Return the packages of a GetDeploymentsRpmDiff, a(sua{sv}). Raises Unreadable.

    Source: rpmostree-package-variants.cxx.
    """
    found = []
    try:
        for name, _, options in diff:  # type: ignore[attr-defined]
            before, after = options.get("PreviousPackage"), options.get("NewPackage")
            found.append(Change(name, before[1] if before else "", after[1] if after else ""))
    except (TypeError, ValueError, AttributeError, IndexError, KeyError):
        raise Unreadable("rpm-ostree gives a package difference of another form") from None
    return found


def cached_changes(cached: object) -> list[Change]:
    """Return the packages of a CachedUpdate's rpm-diff (rpmostreed-deployment-utils.cxx). Raises Unreadable."""
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


def waiting_commits(status: object) -> list[str]:
    """Return the checksums of the updates that `rpm-ostree status --json` knows, the newest first: cached, staged."""
    cached = status.get("cached-update") if isinstance(status, dict) else None
    found = [cached.get("checksum") if isinstance(cached, dict) else None]
    listed = status.get("deployments") if isinstance(status, dict) else None
    for deployment in parse_rpm_ostree(listed):
        found += [deployment.checksum] if deployment.staged else []
    return [checksum for checksum in found if isinstance(checksum, str) and checksum]


def automatic_policy(path: str = SETTINGS) -> str:
    """Return AutomaticUpdatePolicy= of rpm-ostreed.conf in lower case; "none", the default, where nothing is said."""
    policy = "none"
    for _, section, key, value in assignments(files.head(path, MAX_BYTES).decode("utf-8", "replace").splitlines()):
        if (section, key) == ("Daemon", "AutomaticUpdatePolicy"):
            policy = value.lower()
    return policy
