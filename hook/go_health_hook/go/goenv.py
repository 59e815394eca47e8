# SPDX-License-Identifier: GPL-2.0-or-later
"""GOROOT/go.env, read as the go command itself reads it: nothing is trimmed, and what stands first counts.

Source: cmd/go/internal/cfg/cfg.go (readEnvFile), cmd/go/internal/toolchain/select.go (Select) of Go 1.21 to 1.27.
"""

from __future__ import annotations

import re

from go_health_hook.go.versions import parse_version
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from go_health_hook.go.versions import Version

# Settings that name servers, or another place of the user's: no short command of a toolchain depends on them.
HARMLESS = frozenset(
    ("GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOINSECURE", "GOVCS", "GOAUTH", "GOBIN")
)
PLATFORM = ("GOOS", "GOARCH")
# The names of systems and processors, as the sources have them: `"amd64": true,`.
KNOWN = re.compile(r'"(\w+)":\s+true')
# What GOTOOLCHAIN may say without leading to another toolchain.
OWN = ("", "auto", "path", "local", "local+auto", "local+path")


def parse(text: str) -> dict[str, str]:
    """Return the settings of a go.env."""
    settings: dict[str, str] = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if equals and "A" <= name[:1] <= "Z":
            settings.setdefault(name, value)
    return settings


def unusual(settings: Mapping[str, str]) -> bool:
    """Whether the go command has to be asked what it makes of them."""
    return any(
        name not in HARMLESS
        and not (name == "GOTOOLCHAIN" and value in OWN)
        and not (name == "GOPATH" and value.startswith("/"))
        for name, value in settings.items()
    )


def unknown_platform(settings: Mapping[str, str], syslist: str) -> str:
    """Return the setting that names a system or a processor for which no Go builds, as "GOARCH=x64", or nothing.

    `syslist` is the toolchain's own list (internal/syslist since 1.23, before go/build). The go command accepts any
    name until it builds.
    """
    known = KNOWN.findall(syslist)
    wrong = [f"{name}={settings[name]}" for name in PLATFORM if settings.get(name) and settings[name] not in known]
    return wrong[0] if known and wrong else ""


def elsewhere(settings: Mapping[str, str], own: Version | None) -> str:
    """Return the GOTOOLCHAIN that sends every command to another toolchain, or an empty string (go.dev/doc/toolchain).

    `own` is the toolchain's version. What is no toolchain's name at all is for the go command to refuse.
    """
    value = settings.get("GOTOOLCHAIN", "")
    name = value.partition("+")[0]
    if value in OWN or name == "local":
        return ""
    try:
        other = parse_version(name)
    except ValueError:
        return ""
    # A trailing carriage return or blank makes it no name: parse_version would trim it.
    return clean(value, 60) if name == name.strip() and "go" in name and other != own else ""
