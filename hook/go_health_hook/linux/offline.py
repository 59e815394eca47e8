# SPDX-License-Identifier: GPL-2.0-or-later
"""Updates that are downloaded and wait for a reboot (systemd.offline-updates(7)): what each client has stored.

dnf5 and dnf5daemon: libdnf5's offline transaction. dnf 4: dnf-plugins-core's system-upgrade, offline-upgrade and
offline-distrosync. PackageKit (GNOME Software, Discover): prepared-update, and prepared-upgrade without its packages.
"""

from __future__ import annotations

import json
import os
import re
import shlex

from go_health_hook import files
from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from go_health_hook.linux.rpmfile import Place

DNF5 = "/usr/lib/sysimage/libdnf5/offline"
DNF5_STATE = f"{DNF5}/offline-transaction-state.toml"
DNF4 = "/var/lib/dnf/system-upgrade"
DNF4_STATE = f"{DNF4}/system-upgrade-state.json"
PACKAGEKIT = "/var/lib/PackageKit"
PACKAGEKIT_UPDATE = f"{PACKAGEKIT}/prepared-update"
PACKAGEKIT_UPGRADE = f"{PACKAGEKIT}/prepared-upgrade"
PACKAGEKIT_CACHE = "/var/cache/PackageKit"
STATES = (DNF5_STATE, DNF4_STATE, PACKAGEKIT_UPDATE, PACKAGEKIT_UPGRADE)
MAX_BYTES = 32 << 20
# A package's action, as dnf5 and dnf 4 write it, and the letter of libdnf5-actions(8).
LETTERS = {
    "Install": "I",
    "Upgrade": "U",
    "Downgrade": "D",
    "Reinstall": "R",
    "Remove": "E",
    "Removed": "E",
    **dict.fromkeys(("Replaced", "Upgraded", "Downgraded", "Obsoleted", "Reinstalled"), "O"),
}
# Verbs of dnf5 that update what is installed.
UPDATES = frozenset(
    (
        *("upgrade", "update", "up", "distro-sync", "dsync"),
        *("system-upgrade download", "offline-upgrade download", "offline-distrosync download"),
    )
)
NEVRA = re.compile(r"(?P<name>.+)-(?:(?P<epoch>\d+):)?(?P<version>[^-:]+)-(?P<release>[^-]+)\.(?P<arch>[^.-]+)")


class Package(Record):
    """One package of a stored transaction: action as a letter, whether it comes in, and where its file may be."""

    name: str
    evr: str
    full: str
    action: str
    places: list[Place]

    @property
    def coming(self) -> bool:
        """Whether it is to be there afterwards."""
        return self.action in "IUDR"


class Prepared(Record):
    """An update that waits for a reboot (`waits`), or that this boot applies.

    `packages` is empty where the client does not store them, and for an update that is being applied.

    `command` is what prepares an update without Go, as words, where that is known: else the one that was typed named
    packages or files. `reboot` reboots into it. Both are empty for PackageKit, whose clients are graphical. `alone`:
    nothing but Go comes in, so without Go there is nothing to prepare.
    """

    client: str
    packages: list[Package]
    command: list[str]
    reboot: str
    waits: bool = True
    alone: bool = False

    def again(self, *options: str) -> str:
        """Return what to type to prepare it again and to reboot into it; else to drop it and update at once."""
        if self.command:
            return f"{shlex.join([*self.command, *options])} && {self.reboot}"
        return self._at_once(*options)

    def _at_once(self, *options: str) -> str:
        drop = f"rm -f /system-update {PACKAGEKIT_UPDATE}"
        program = "dnf"
        if self.reboot:
            program = self.reboot.split()[0]
            drop = f"{self.reboot.rpartition(' ')[0]} clean"
        return f"{drop}; {shlex.join([program, 'upgrade', *options])}"

    @property
    def repeatable(self) -> bool:
        """Whether `again` brings the same: what PackageKit prepares is all that `dnf upgrade` brings."""
        return bool(self.command) or not self.reboot

    def without(self, names: Iterable[str]) -> str:
        """Return what to type to do without some packages; dnf takes --exclude several times."""
        option = f"--exclude={','.join(sorted(names))}"
        return self._at_once(option) if self.alone else self.again(option)


def prepared(root: str = "") -> list[Prepared]:
    """Return the updates that are ready for a reboot. Raises OSError, ValueError for a store that makes no sense."""
    found = [_dnf5(root), _dnf4(root), *_packagekit(root)]
    return [update for update in found if update is not None]


def applied(client: str) -> Prepared:
    """Return the update that this boot applies, without its packages; `client` is who applies it."""
    read = {"dnf5": _dnf5, "dnf 4": _dnf4}.get(client)
    update = None
    try:
        update = read("", any_state=True) if read else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # its state is what this boot changes
    if update is None:
        update = Prepared("PackageKit", [], [], "")
        if read is not None:
            update = Prepared(client, [], ["dnf", "upgrade", "--offline"], "dnf offline reboot")
    update.waits = False
    return update


def _text(path: str) -> str:
    """Return a file's text, an empty string where it is not there. Raises OSError."""
    try:
        return files.read(path, MAX_BYTES).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _toml(text: str) -> dict[str, str]:
    """Return the strings of a flat TOML file; tomllib is not in Python 3.9."""
    values = {}
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if equals and value[:1] == '"':
            try:
                values[key] = str(json.loads(value))  # a basic string of TOML, but for rare escapes, is JSON's
            except ValueError:
                values[key] = value.strip('"')
        elif equals and value[:1] == "'":
            values[key] = value.strip("'")
    return values


def _dnf5(root: str, any_state: bool = False) -> Prepared | None:
    state = _toml(_text(root + DNF5_STATE))
    # libdnf5's offline transaction: download-incomplete, download-complete, ready, transaction-incomplete
    if not state or (state.get("status") not in ("download-complete", "ready") and not any_state):
        return None
    command = _typed(state.get("cmd_line", ""))
    verb = state.get("verb", "upgrade")
    if not command and verb in UPDATES:  # dnf5daemon has none
        release = state.get("target_releasever", "")
        command = ["dnf5", *verb.split()]
        command += [f"--releasever={release}"] if verb.startswith("system-upgrade") and release else ["--offline"]
    # What is stored is what its packages are; the path may be relative to the folder.
    packages = [] if any_state else _stored(_text(f"{root}{DNF5}/transaction.json"), lambda p: _path(root, p))
    return Prepared("dnf5", packages, command, "dnf5 offline reboot")


def _typed(line: str) -> list[str]:
    """Return the words of dnf5's command line where it names nothing, else none.

    It is stored without quotes and without the directory in which it was typed, and packages that it names cannot be
    excluded: only a verb and options whose value is in the same word can be typed again.
    """
    words = line.split()
    if not words or os.path.basename(words[0]) not in ("dnf5", "dnf"):
        return []
    plain = " ".join(word for word in words[1:] if not word.startswith("-"))
    return [os.path.basename(words[0]), *words[1:]] if plain in UPDATES else []


def _path(root: str, package: dict[str, Any]) -> list[Place]:
    path = str(package.get("package_path", ""))
    return [("", "", path[1:])] if path.startswith("/") else [(f"{root}{DNF5}", "", path)]


def _dnf4(root: str, any_state: bool = False) -> Prepared | None:
    text = _text(root + DNF4_STATE)
    if not text:
        return None
    state = json.loads(text)
    if state.get("download_status") != "complete" and not any_state:
        return None
    command = str(state.get("upgrade_command") or "system-upgrade")
    release = state.get("target_releasever") or ""
    words = ["dnf", command, "download", *([f"--releasever={release}"] if command == "system-upgrade" else [])]
    folder = str(state.get("destdir") or "")

    def places(package: dict[str, Any]) -> list[Place]:
        name = _file_name(str(package["nevra"]))
        own: list[Place] = [(folder, "", name)] if folder else []
        return [*own, (root + DNF4, f"{package.get('repo_id', '')}-", f"packages/{name}")]

    packages = [] if any_state else _stored(_text(f"{root}{DNF4}/system-upgrade-transaction.json"), places)
    return Prepared("dnf 4", packages, words, f"dnf {command} reboot")


def _stored(text: str, places: Any) -> list[Package]:
    """Return the packages of a stored transaction in JSON, as dnf 4 and dnf5 write it. Raises ValueError."""
    try:
        return list(_packages(json.loads(text)["rpms"], places))
    except (KeyError, TypeError, AttributeError):
        raise ValueError("the stored transaction is not in a known format") from None


def _packages(rpms: Iterable[dict[str, Any]], places: Any) -> Iterator[Package]:
    for rpm in rpms:
        letter = LETTERS.get(str(rpm["action"]))
        match = NEVRA.fullmatch(str(rpm["nevra"]))
        if letter is None or match is None:  # "Reason Change"
            continue
        yield _package(match, letter, places(rpm) if letter in "IUDR" else [])


def _package(match: re.Match[str], letter: str, places: list[Place]) -> Package:
    name, epoch, arch = match["name"], match["epoch"] or "0", match["arch"]
    release = f"{match['version']}-{match['release']}"
    evr = release if epoch == "0" else f"{epoch}:{release}"
    return Package(name, evr, f"{name}-{epoch}:{release}.{arch}", letter, places)


def _file_name(nevra: str) -> str:
    """Return the name that a package's file has in a repository: without the epoch."""
    match = NEVRA.fullmatch(nevra)
    return f"{match['name']}-{match['version']}-{match['release']}.{match['arch']}.rpm" if match else ""


def _packagekit(root: str) -> list[Prepared]:
    """Return PackageKit's prepared update and upgrade; the ids are NAME;[EPOCH:]VERSION-RELEASE;ARCH;REPOSITORY."""
    found = []
    packages = []
    for word in re.split(r"[,\n=]", _text(root + PACKAGEKIT_UPDATE)):
        parts = word.strip().split(";")
        match = NEVRA.fullmatch(f"{parts[0]}-{parts[1]}.{parts[2]}") if len(parts) == 4 else None
        if match is not None:
            packages.append(_package(match, "U", _packagekit_places(root, parts[3], match)))
    if packages:
        found.append(Prepared("PackageKit", packages, [], ""))
    if _text(root + PACKAGEKIT_UPGRADE):
        found.append(Prepared("PackageKit", [], [], ""))
    return found


def _packagekit_places(root: str, repository: str, match: re.Match[str]) -> list[Place]:
    """Return where PackageKit keeps a package: a cache of its own for each release, or that of the library."""
    rest = f"packages/{_file_name(match.group())}"
    repository = repository.partition(":")[2] if ":" in repository else repository  # "installed:updates"
    try:
        releases = sorted(os.listdir(root + PACKAGEKIT_CACHE))
    except OSError:
        releases = []
    folders = [f"{root}{PACKAGEKIT_CACHE}/{release}/metadata" for release in releases]
    return [(folder, f"{repository}-", rest) for folder in [*folders, f"{root}/var/cache/libdnf5"]]
