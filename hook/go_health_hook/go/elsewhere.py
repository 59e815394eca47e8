# SPDX-License-Identifier: GPL-2.0-or-later
"""What answers to `go` where no toolchain was found to judge: gcc's go, a wrapper script, a Go in an unusual place."""

from __future__ import annotations

import os
import re
import stat

from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from go_health_hook.subject import Subject

NOTHING = "no Go toolchain is installed: nothing to protect"
SETTING = "[toolchain] goroot in /etc/go-health-hook.conf"
# Where distributions, vendors and package managers put a GOROOT that is not on root's search path. A "*" at the end of
# one part stands for every name that begins so.
PLACES = (
    *("/opt/go*", "/usr/local/go*", "/usr/lib/go*", "/usr/lib64/go", "/usr/lib64/go/*", "/usr/libexec/go*"),
    *("/snap/go/current", "/var/lib/snapd/snap/go/current", "/home/linuxbrew/.linuxbrew/opt/go/libexec"),
    *("/nix/var/nix/profiles/default/share/go", "/run/current-system/sw/share/go"),
    *("/opt/rh/go-toolset*/root/usr/lib/golang", "/opt/homebrew/opt/go/libexec", "/opt/local/lib/go"),
)
MAX_NAMES = 1000
SCRIPT_MAX = 65536
# gcc's go command is called go-13, x86_64-linux-gnu-go-13 or go.gcc.
GCCS = r"(.*-)?go(-[0-9.]+|\.gcc|-gcc.*)|.*gccgo.*"
NAMED = rb"(/[\w./+~-]+)/bin/go\b"


def unjudged(subject: Subject, search: tuple[str, ...]) -> str:
    """Return, in one line, what answers to `go` in the directories `search` of a subject without a toolchain.

    Says NOTHING where nothing does, names a link that leads nowhere, and says how to have a Go judged that is there.
    """
    dangling = ""
    for directory in search:
        link = f"{directory}/go"
        try:
            steps = subject.walk(link)
        except OSError:
            dangling = dangling or _dangling(subject, link)
            continue
        if stat.S_ISREG(steps[-1].info.st_mode) and steps[-1].info.st_mode & 0o111:
            return _program(subject, link, steps[-1].path)
    for home in _places(subject):
        return f"Go in {clean(home)} is not judged: it is not on the search path; name it in {SETTING}"
    return f"{NOTHING} ({dangling})" if dangling else NOTHING


def _dangling(subject: Subject, link: str) -> str:
    target = subject.readlink(link)
    return f"{link} leads to {clean(target)}, which is not there: rm {link}" if target else ""


def _program(subject: Subject, link: str, real: str) -> str:
    name = os.path.basename(real)
    if re.fullmatch(GCCS, name):
        return f"gcc's go ({clean(real)}) is not judged, and no other Go toolchain is installed"
    if name == "snap":
        return f"{link} is snap's: name the GOROOT, as /var/lib/snapd/snap/go/current, in {SETTING} to have it judged"
    try:
        with open(subject.open(real), "rb") as file:
            text = file.read(SCRIPT_MAX)
    except OSError:
        text = b""
    if not text.startswith(b"#!"):
        return f"{link} is a program that lies in no GOROOT: name its GOROOT in {SETTING} to have it judged"
    for path in re.findall(NAMED, text):
        home = os.fsdecode(path)
        if is_goroot(subject, home):
            return f"{link} is a script that starts Go in {clean(home)}: name that in {SETTING} to have it judged"
    return f"{link} is a script that does not lead to a GOROOT: name its GOROOT in {SETTING} to have it judged"


def is_goroot(subject: Subject, path: str) -> bool:
    """Whether a directory looks like a GOROOT, a damaged one included."""
    return any(subject.exists(f"{path}/{name}") for name in ("pkg/tool", "src/runtime", "VERSION", "go.env"))


def _places(subject: Subject) -> Iterator[str]:
    """The unusual places that have a GOROOT with a go command."""
    for place in PLACES:
        before, star, below = place.partition("*")
        directory, _, start = before.rpartition("/")
        candidates = [place]
        if star:
            try:
                listed = sorted(subject.listdir(directory))[:MAX_NAMES]
            except OSError:
                continue
            candidates = [f"{directory}/{name}{below}" for name in listed if name.startswith(start)]
        for candidate in candidates:
            if subject.exists(f"{candidate}/bin/go") and is_goroot(subject, candidate):
                yield candidate
