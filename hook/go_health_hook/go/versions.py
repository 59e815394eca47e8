# SPDX-License-Identifier: GPL-2.0-or-later
"""Go's version strings: releases, candidates, vendors' builds, development trees and experiments, in Go's own order."""

from __future__ import annotations

import functools

from go_health_hook.records import Record
from go_health_hook.text import clean

LONGEST = 1000  # characters; the longest real ones carry a list of experiments

# What comes after a number without a dot, in the order of internal/gover; a bare "1.27" stands before them all.
_KINDS = {"alpha": 1, "beta": 2, "rc": 3}
_RELEASE = 9


@functools.total_ordering
class Version(Record):
    """One Go version. Compares as Go's internal/gover does (1.21 < 1.21rc1 < 1.21.0), so 1.27rc2 < 1.27.0 < 1.27.3.

    text        the whole of it as it was given, experiments and vendor included
    name        what names the release: "go1.27.3", "go1.27rc2", "devel go1.28-abc123"
    major, minor, patch
                numbers; `patch` is None for a candidate, a bare language version and a development tree. All three
                are None for development trees older than Go 1.18, which do not say where they stand
    kind        "" a release or a language version, "alpha", "beta" or "rc"
    devel       whether it is a build of a development tree: one on the way to 1.28 sorts as 1.28 does
    vendor      "Red Hat 1.25.9-1.el10", or empty
    experiments ("nodwarf5",), or empty
    """

    text: str
    name: str
    numbers: tuple[int | None, int | None, int | None]
    kind: str = ""
    pre: int = 0
    devel: bool = False
    vendor: str = ""
    experiments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.major, self.minor, patch = self.numbers
        self.patch = patch
        # Before 1.21 the first release of a series was called without its .0.
        if patch is None and not self.kind and not self.devel and (self.minor or 0) < 21:
            patch = 0
        rank = _RELEASE if patch is not None else _KINDS.get(self.kind, 0)
        self._key = (self.major or 0, self.minor or 0, rank, patch or 0, self.pre)

    @property
    def language(self) -> str:
        """The series it belongs to, "1.27", or an empty string where it does not say."""
        return "" if self.minor is None else f"{self.major}.{self.minor}"

    @property
    def knows_cgroups(self) -> bool:
        """Whether its runtime can derive GOMAXPROCS from a CPU quota (since 1.25, internal/runtime/cgroup)."""
        return self._key[:2] >= (1, 25)

    def at_least(self, major: int, minor: int, patch: int = 0) -> bool:
        """Whether it is this release or a later one; candidates and development trees count with their series."""
        if self.patch is None:
            return self._key[:2] >= (major, minor) if patch == 0 else self._key[:2] > (major, minor)
        return (self.major or 0, self.minor or 0, self.patch) >= (major, minor, patch)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"parse_version({self.text!r})"


def parse_version(text: str) -> Version:
    """Read what a toolchain, its VERSION file, a binary or a go line calls itself.

    Takes "go1.27.3", "1.25" (a go line), "go1.27rc2", "go1.25.9 (Red Hat 1.25.9-1.el10)", "go1.27.3 X:nodwarf5",
    "go1.22.4-custom", "go1.20.5b7", "devel go1.28-abc123 Tue Oct 20 …", "go1.28-devel_abc123" and
    "devel +abc123 Tue …" (before Go 1.18). Raises ValueError, in one clean line, for anything else.
    Source of the forms: internal/gover/gover.go, cmd/go/internal/gover/toolchain.go, cmd/dist/build.go (findgoversion).
    """
    whole = text.strip()
    if not whole or len(whole) > LONGEST or not whole.isprintable():
        raise _bad(text)
    rest, vendor = _cut_vendor(whole)
    words = rest.split(" ")
    experiments = tuple(e for w in words if w.startswith("X:") for e in w[2:].split(",") if e)
    words = [w for w in words if w and not w.startswith("X:")]
    devel = bool(words) and words[0] == "devel"
    if devel:
        words = words[1:]
    if not words:
        raise _bad(text)
    word = words[0]
    if devel and word.startswith("+"):
        return Version(whole, f"devel {word}", (None, None, None), devel=True, experiments=experiments)
    # Vendors and Go itself append to the number: -custom, -abc123 (a commit), +local; the number alone gives the order.
    number, extra = word, ""
    for mark in "-+":
        if mark in number:
            number, _, tail = number.partition(mark)
            extra = tail + extra
    devel = devel or extra.startswith("devel")
    numbers, kind, pre = _parse_number(number[2:] if number.startswith("go") else number, text)
    name = word if word.startswith("go") else f"go{word}"
    if devel:
        numbers = (numbers[0], numbers[1], None)
        name = f"devel {name}" if not extra.startswith("devel") else name
    return Version(whole, name, numbers, kind, pre, devel, vendor, experiments)


def parse_version_output(line: str) -> tuple[Version, str]:
    """Read the line that `go version` prints: the version, and the platform as "linux/amd64".

    Raises ValueError for anything else, in one clean line.
    """
    head = "go version "
    words = line.strip()
    body, _, platform = words[len(head) :].rpartition(" ")
    if not words.startswith(head) or platform.count("/") != 1 or not all(platform.split("/")):
        raise ValueError(f"not a line of go version: {clean(line, 120)!r}")
    return parse_version(body), clean(platform, 60)


def _bad(text: str) -> ValueError:
    return ValueError(f"not a Go version: {clean(text, 120)!r}")


def _cut_vendor(text: str) -> tuple[str, str]:
    """Split "go1.25.9 (Red Hat 1.25.9-1.el10) X:a" into what is Go's and what stands in the parentheses."""
    start = text.find(" (")
    end = text.rfind(")")
    if start < 0 or end < start:
        return text, ""
    return text[:start] + text[end + 1 :], text[start + 2 : end].strip()


def _parse_number(text: str, whole: str) -> tuple[tuple[int, int | None, int | None], str, int]:
    """internal/gover's Parse: major[.minor[.patch]] or major.minor followed by a kind and its number."""
    major, rest = _cut_int(text, whole)
    if not rest:
        return (major, 0, 0), "", 0
    minor, rest = _cut_int(rest[1:] if rest[0] == "." else "", whole)
    if not rest:
        return (major, minor, None), "", 0
    if rest[0] == ".":
        patch, rest = _cut_int(rest[1:], whole)
        # BoringCrypto's builds were called go1.18.4b7.
        if rest and not (rest[0] == "b" and not rest[1:].strip("0123456789")):
            raise _bad(whole)
        return (major, minor, patch), "", 0
    kind = rest.rstrip("0123456789")
    if kind == "b":
        return (major, minor, None), "", 0
    if kind not in _KINDS:
        raise _bad(whole)
    pre, rest = _cut_int(rest[len(kind) :] or "0", whole)
    return (major, minor, None), kind, pre


def _cut_int(text: str, whole: str) -> tuple[int, str]:
    end = 0
    while end < len(text) and text[end] in "0123456789":
        end += 1
    # As gover: no digits, or a leading zero that says nothing. Nine digits are more than any version has.
    if end == 0 or end > 9 or (text[0] == "0" and end > 1):
        raise _bad(whole)
    return int(text[:end]), text[end:]
