# SPDX-License-Identifier: GPL-2.0-or-later
"""Deployments of an image system, and reading them out of what ostree, rpm-ostree and bootc print. Runs nothing."""

from __future__ import annotations

import contextlib
import json
import re

from go_health_hook.errors import HookError
from go_health_hook.records import Record
from go_health_hook.text import clean, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A commit, or the digest of an image (SHA-256 or SHA-512).
_CHECKSUM = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?\Z")
# The packages that Fedora, EL and their toolset builds make of one Go toolchain; golang-github-… are libraries.
GO_PACKAGES = re.compile(r"(go-toolset(-.+)?|golang(-(bin|src|race|shared|misc|docs|tests))?|gcc-go)\Z")
# `ostree admin status`, start and end of a deployment's line (ot-admin-builtin-status.c). The mark is two characters.
_STATUS_LINE = re.compile(r"(?:([* ]) )?(\S+) ([0-9a-f]{64})\.([0-9]{1,9})((?: \([a-z -]+\))*)\Z")
# The finalization locks of a staged deployment. libostree: the file next to the state file, and the key inside it.
FILE, KEY = "file", "key"


class Unreadable(HookError):
    """The state of the deployments cannot be read or changed; nothing is decided."""


class Deployment(Record):
    """One deployment.

    `marks` are the finalization locks that it has: a locked deployment is not finalized at shutdown. `soft` says that a
    soft reboot into it is prepared, which no lock stops. `digest` is the image's, where it is a container image. `live`
    is the checksum of the commit that `rpm-ostree apply-live` laid over it, or empty. `base` is the commit that
    rpm-ostree layered packages on, unless Go is among them. `title` is what people call it, where that is neither.
    """

    osname: str
    checksum: str
    serial: int
    booted: bool = False
    staged: bool = False
    marks: frozenset[str] = frozenset()
    soft: bool = False
    version: str = ""
    digest: str = ""
    live: str = ""
    base: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        """Raises Unreadable where that is no deployment."""
        osname, checksum, serial = self.osname, self.checksum, self.serial
        if not _CHECKSUM.match(checksum) or serial < 0 or osname in ("", ".", "..") or "/" in osname or "\0" in osname:
            raise Unreadable(f"not a deployment: {clean(osname)} {clean(checksum)}.{serial}")
        self.staged = self.staged or bool(self.marks)
        self.version, self.digest = clean(self.version, 80), clean(self.digest, 100)
        self.root = f"/ostree/deploy/{osname}/deploy/{checksum}.{serial}"

    @property
    def locked(self) -> bool:
        """Whether the shutdown leaves it as it is."""
        return bool(self.marks)

    @property
    def id(self) -> str:
        """rpm-ostree's name for it."""
        return f"{self.osname}-{self.checksum}.{self.serial}"

    @property
    def name(self) -> str:
        """A name for people: its title, or the version if it has one and the first digits of its checksum."""
        if self.title:
            return self.title
        short = f"{clean(self.osname, 40)} {self.checksum[:12]}.{self.serial}"
        return f"{self.version} ({short})" if self.version else short


class State(Record):
    """The deployments in boot order; not `complete` where the image system did not tell of all of them."""

    deployments: list[Deployment]
    complete: bool = True

    @property
    def booted(self) -> Deployment | None:
        """The deployment that is running."""
        return next((d for d in self.deployments if d.booted), None)

    @property
    def staged(self) -> Deployment | None:
        """The deployment that waits for the shutdown, locked or not."""
        return next((d for d in self.deployments if d.staged), None)

    @property
    def default(self) -> Deployment | None:
        """The deployment that the boot loader boots next if nothing staged is finalized."""
        return next((d for d in self.deployments if not d.staged), None)

    @property
    def previous(self) -> Deployment | None:
        """The deployment that a rollback would bring back: the first after the booted one, of the same OS."""
        booted = self.booted
        if booted is None:
            return None
        after = self.deployments[self.deployments.index(booted) + 1 :]
        return next((d for d in after if d.osname == booted.osname), None)

    @property
    def going_back(self) -> bool:
        """Whether a rollback is queued: another finished deployment of the same OS boots next."""
        booted, default = self.booted, self.default
        return booted is not None and default is not None and default is not booted and default.osname == booted.osname


def parse_ostree(text: str) -> list[Deployment]:
    """Return the deployments of `ostree admin status`. Raises Unreadable.

    "(finalization locked)" stands for the key alone: with a bare lock file ostree prints "(staged)".
    """
    found: list[Deployment] = []
    for line in text.splitlines():
        match = _STATUS_LINE.match(line)
        if match:
            mark, osname, checksum, serial, marks = match.groups()
            # A version with a line break may look like a deployment and be none.
            with contextlib.suppress(Unreadable):
                found.append(
                    Deployment(
                        osname,
                        checksum,
                        int(serial),
                        booted=mark == "*",
                        staged="(staged)" in marks,
                        marks=frozenset({KEY} if "(finalization locked)" in marks else ()),
                        soft="(soft-reboot)" in marks,
                    )
                )
        elif line.startswith("    Version: ") and found:
            found[-1].version = clean(line[len("    Version: ") :], 80)
    said = first_line(text.encode("utf-8", "backslashreplace"), 120)
    if not found and said != "No deployments.":
        raise Unreadable(f"no deployment in {said or 'an empty answer'!r}")
    return found


def parse_rpm_ostree(deployments: object) -> list[Deployment]:
    """Return the deployments of rpm-ostree's D-Bus property or of `rpm-ostree status --json`. Raises Unreadable.

    The lock is not read: "finalization-locked" is what the daemon saw when it last loaded the sysroot.
    """
    if not isinstance(deployments, list):
        raise Unreadable("rpm-ostree gives no list of deployments")
    found = []
    for entry in deployments:
        if not isinstance(entry, dict):
            raise Unreadable("rpm-ostree gives a deployment that is none")
        layered = [*_field(entry, "packages", list, []), *_field(entry, "requested-local-packages", list, [])]
        with_go = any(GO_PACKAGES.match(str(name)) or "golang" in str(name) for name in layered)
        found.append(
            Deployment(
                _field(entry, "osname", str),
                _field(entry, "checksum", str),
                _field(entry, "serial", int),
                booted=_field(entry, "booted", bool, False),
                staged=_field(entry, "staged", bool, False),
                version=_field(entry, "version", str, ""),
                digest=_field(entry, "container-image-reference-digest", str, ""),
                base="" if with_go else _field(entry, "base-checksum", str, ""),
                live=_field(entry, "live-replaced", str, ""),
            )
        )
    return found


def parse_bootc(status: object) -> list[Deployment]:
    """Return the deployments of `bootc status --json`, schema v1 (bootc's spec.rs), in boot order. Raises Unreadable.

    "downloadOnly" is the key; a bare lock file is not in it.
    """
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
                marks=frozenset({KEY} if place == "staged" and _field(entry, "downloadOnly", bool, False) else ()),
                version=_field(image, "version", str, ""),
                digest=_field(image, "imageDigest", str, ""),
            )
        )
    if not found:
        raise Unreadable("bootc knows of no deployment")
    return found


def waiting_digests(status: object) -> list[str]:
    """Return the digests of the updates that `bootc status --json` knows, the newest first: cached, then staged."""
    host = _field(status, "status", dict)
    booted, staged = _field(host, "booted", dict, {}), _field(host, "staged", dict, {})
    images = [_field(booted, "cachedUpdate", dict, {}), _field(staged, "image", dict, {})]
    found = [_field(image, "imageDigest", str, "") for image in images]
    running = _field(_field(booted, "image", dict, {}), "imageDigest", str, "")
    return [digest for digest in found if digest and digest != running]


def parse_rpm_ostree_text(text: str) -> list[Deployment]:
    """`parse_rpm_ostree` of the text of `rpm-ostree status --json`."""
    return parse_rpm_ostree(_field(parse_json(text), "deployments", list))


def parse_bootc_text(text: str) -> list[Deployment]:
    """`parse_bootc` of the text of `bootc status --json`."""
    return parse_bootc(parse_json(text))


def parse_json(text: str) -> object:
    """Return the value of a JSON text. Raises Unreadable."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from None


_REQUIRED = object()


def _field(entry: object, key: str, kind: type, default: Any = _REQUIRED) -> Any:
    """Return a field of the right type; null counts as absent. Raises Unreadable."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if value is None and default is not _REQUIRED:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Unreadable(f"{key} is missing or not of type {kind.__name__}")
    return value
