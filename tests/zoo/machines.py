# SPDX-License-Identifier: GPL-2.0-or-later
"""Cases that take a real package manager: what an update does on machines that differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple

from tests.dnf.machines import machine, without_go
from tests.testbed import cache
from tests.testbed.machine import Machine

if TYPE_CHECKING:
    from tests.testbed.machine import Root


class Case(NamedTuple):
    """A machine on which an update of another package is offered.

    `prepare` changes a machine with or without the distribution's Go; `blocked` are words of the veto, empty where the
    update has to pass; `never` are words that nothing may say.
    """

    name: str
    root: Callable[[str], Machine]
    prepare: str
    source: str
    blocked: str = ""
    never: tuple[str, ...] = ()


UNPACK = "mkdir -p /usr/local/go && cp -a /go/1.27.3/. /usr/local/go && ln -s /usr/local/go/bin/go /usr/local/bin/go"
BROKEN = ("is broken",)
CASES = [
    Case(
        "devcontainers-owner",
        without_go,
        f"{UNPACK} && chown -R 1000:986 /usr/local/go && chmod -R g+rw /usr/local/go",
        "https://github.com/devcontainers/features: src/go/install.sh",
        never=("chown", *BROKEN),
    ),
    Case(
        "go-for-a-group",
        without_go,
        f"{UNPACK} && chown 0:986 /usr/local/go && chmod 0750 /usr/local/go",
        "mkdir under umask 027",
        never=BROKEN,
    ),
    Case(
        "link-left-behind",
        without_go,
        "ln -s /usr/local/go/bin/go /usr/local/bin/go",
        "https://go.dev/doc/manage-install",
        never=BROKEN,
    ),
    Case(
        "wrapper-script",
        without_go,
        "printf '#!/bin/sh\\nexec /go/1.27.3/bin/go \"$@\"\\n' >/usr/local/bin/go && chmod 0755 /usr/local/bin/go",
        "a wrapper script for all users",
        never=BROKEN,
    ),
    Case(
        "go-env-of-the-house",
        machine,
        "printf 'GOCACHEPROG=/opt/tools/cacher\\nGOFLAGS=-mod=mod\\n' >>/usr/lib/golang/go.env",
        "https://pkg.go.dev/cmd/go: GOCACHEPROG",
        never=BROKEN,
    ),
    Case(
        "archive-over-an-older-release",
        without_go,
        f"{UNPACK} && cp -a --remove-destination /go/1.25.5/. /usr/local/go",
        "https://github.com/golang/go/issues/36180",
        blocked="src has files of several releases",
    ),
    Case(
        "go-env-with-carriage-returns",
        machine,
        "sed -i 's/$/\\r/' /usr/lib/golang/go.env",
        "an editor on Windows",
        blocked="go.env has a setting that go does not take: invalid GOTOOLCHAIN",
    ),
    Case(
        "packages-files-are-gone",
        machine,
        "rm -r /usr/lib/golang",
        "a person who removed what a package owns",
        blocked="the Go installed here is broken",
    ),
]


def start(case: Case, suite: str) -> Machine:
    """A machine with whole toolchains at /go/VERSION, not yet prepared."""
    made = case.root(suite)
    root: Root = made.root
    return Machine(root, binds={f"/go/{v}": cache.home() / "go" / v for v in ("1.25.5", "1.27.3")})
