# SPDX-License-Identifier: GPL-2.0-or-later
"""A transaction of dnf's: its packages, whether it is an update, and whether it runs unattended."""

from __future__ import annotations

import os

from go_health_hook import files
from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from go_health_hook.gates._dnf_judge import Survey
    from go_health_hook.linux.offline import Prepared
    from go_health_hook.linux.rpmfile import Place

OURS = ("go-health-hook", "go-health-hook-dnf5", "python3-dnf-plugin-go-health-hook")


class Item(Record):
    """A package of a transaction. `action` and `coming` as libdnf5-actions(8) has them; `full` has the epoch always.

    `places` yields lists of places where its file may be (incoming.Place), cheapest first. A later list may need a
    question to the updater and is only requested if the earlier ones do not hold the file.
    """

    name: str
    evr: str
    action: str
    coming: bool
    full: str
    places: Callable[[], Iterable[list[Place]]]


class NotFound(Exception):
    """The files of some packages are in none of the places known so far; `names` are their full names."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = list(names)


class Transaction(Record):
    """What an updater is about to do.

    `go_names` returns the names of the packages that own or bring Go's files, given what is installed; `wants_owners`:
    for that it has to be told who owns GOROOT's files. `watched` are the descriptors of pipes to the updater: where the
    other end of one is closed, it has left. `offline` is the update that waits for a reboot, or that this boot applies.
    """

    gate: str
    items: Sequence[Item]
    automatic: bool
    go_names: Callable[[Survey], set[str]]
    watched: Sequence[int] = ()
    wants_owners: bool = False
    offline: Prepared | None = None

    @property
    def coming(self) -> list[Item]:
        """The packages that are to be installed."""
        return [item for item in self.items if item.coming]

    @property
    def upgrades(self) -> bool:
        """Whether anything in it is upgraded."""
        return any(item.action == "U" for item in self.items)

    @property
    def replaces(self) -> bool:
        """Whether anything installed is downgraded in it, or makes room for a package of another name (Obsoletes)."""
        coming = {item.name for item in self.coming}
        return any(item.action == "D" or (item.action == "O" and item.name not in coming) for item in self.items)

    @property
    def new_names(self) -> list[str]:
        """The names of new packages, where it depends on older ones of their name whether this is an update.

        So it does for what runs unattended and upgrades nothing: a kernel is installed next to older ones.
        """
        if not self.automatic or self.upgrades or self.replaces:
            return []
        return [item.name for item in self.items if item.action == "I"]

    def is_update(self, older_installed: bool) -> bool:
        """Return whether it brings what is installed to another release.

        A person's does by upgrades alone: who downgrades something may be repairing it. What runs unattended also by
        what takes the place of something else, and by new packages where older ones of their name are installed. All
        other installing and removing was asked for by a person, through a daemon as PackageKit's too.
        """
        return self.upgrades or (self.automatic and (self.replaces or older_installed))

    @property
    def removes_us(self) -> bool:
        """Whether it takes the hook itself off this machine, which is one way to get past it."""
        coming = {item.name for item in self.coming}
        return any(item.name in OURS and item.name not in coming for item in self.items)


CLIENTS = ("dnf5", "dnf", "dnf-3", "yum")
# systemd's generator makes it for a boot that applies an offline update (systemd-system-update-generator(8)).
BOOT_TARGET = "/run/systemd/generator.early/default.target"


def applied(pid: int) -> Prepared | None:
    """Return the update that the process applies at a boot, None for one that applies none.

    That is dnf5 ("offline _execute"), dnf 4 ("system-upgrade upgrade" and the like), and anybody in a boot for updates.
    """
    words = _words(pid)
    if "_execute" in words:
        client = "dnf5"
    elif "upgrade" in words and not {"system-upgrade", "offline-upgrade", "offline-distrosync"}.isdisjoint(words):
        client = "dnf 4"
    else:
        try:
            target = os.readlink(BOOT_TARGET)
        except OSError:
            return None
        if os.path.basename(target) != "system-update.target":
            return None
        client = "PackageKit"
    from go_health_hook.linux import offline

    return offline.applied(client)


def asks_for_all(pid: int) -> bool:
    """Return whether the updater asks for all that is offered, so that nothing is offered where it has nothing to do.

    A person's `dnf install` of what is installed says nothing about updates. Nor, for want of an answer, do options
    whose value is a word of its own. What is no dnf, as a service is, updates.
    """
    from go_health_hook.linux.offline import UPDATES

    words = _words(pid)
    at = next((i for i, word in enumerate(words[:3]) if os.path.basename(word) in CLIENTS), None)
    plain = "automatic" if at is None else " ".join(w for w in words[at + 1 :] if w and not w.startswith("-"))
    return plain in (*UPDATES, "automatic")


def _words(pid: int) -> list[str]:
    return [w.decode("utf-8", "replace") for w in files.head(f"/proc/{pid}/cmdline", 65536).split(b"\0")]


def is_automatic(pid: int) -> bool:
    """Return whether the updater with that process number runs unattended: by its name, or a service's, no terminal."""
    try:
        words = _words(pid)
        names = [os.path.basename(w) for w in words[:3]]
        if any(n.startswith("dnf-automatic") for n in names):
            return True
        if names and names[0] in ("dnf5", "dnf", "yum") and "automatic" in words[1:]:
            return True
        terminal = int(files.head(f"/proc/{pid}/stat").rpartition(b")")[2].split()[4])
        groups = files.head(f"/proc/{pid}/cgroup").splitlines()
        in_service = any(line.rstrip().endswith(b".service") and b"/user@" not in line for line in groups)
        return terminal == 0 and in_service
    except (ValueError, IndexError):
        return False
