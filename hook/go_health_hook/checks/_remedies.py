# SPDX-License-Identifier: GPL-2.0-or-later
"""How a toolchain is made whole again, in the words of what put it there, and findings that say so.

Each remedy has a key, by which a gate may put its updater's words in its place:
    reinstall   packages of the distribution or a vendor: bring them to one release
    unpack      an archive: remove the directory, then unpack one release
    redeploy    an image system: deploy another build
    keep-out    a staged build: wait for another one
    move        others can change it: use a Go that is root's
    chmod       only some users may use it, or too many may write to it
    setting     a setting of the toolchain's or ours
    time        more time, or a quieter machine
    machine     something about this machine, not about Go
"""

from __future__ import annotations

import os
import re

from go_health_hook.checks._owners import owners
from go_health_hook.errors import HookError
from go_health_hook.go import trust
from go_health_hook.run import control
from go_health_hook.run.sandbox import host
from go_health_hook.run.view import ETC, SYSTEM
from go_health_hook.text import clean, shell_quote
from go_health_hook.verdict import FAIL, NOT_JUDGED, TIMEOUT, WARN, Finding, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from go_health_hook.checks import Context
    from go_health_hook.linux.deployments import State
    from go_health_hook.linux.image import ImageSystem
    from go_health_hook.run.result import Result

    Evidence = Mapping[str, object]

# To read the deployments of an image system (seconds).
READ_SECONDS = 2.0
SILENCE = "set {check} = advisory in [checks] of /etc/go-health-hook.conf"


def reinstall(context: Context) -> tuple[str, str]:
    """Return what to do about a toolchain that is damaged, incomplete or of several releases, and its key."""
    from go_health_hook.linux import image

    goroot = context.toolchain.goroot
    if context.subject.kind == "staged":
        system = image.here()
        drop = f"{system.drop()} drops this update; or " if system else ""
        return f"{drop}wait for a build whose Go is whole: this one does not become the default", "keep-out"
    packages = [p.name for p in owners(context).family]
    if not packages and not goroot.startswith("/usr/lib"):
        return f"remove {clean(goroot)} first, then unpack the archive of one release there", "unpack"
    system = image.here() if context.subject.kind == "running" and goroot.startswith("/usr/") else None
    if system is not None:
        return system.repair(_deployments(system, context)), "redeploy"
    names = "'golang*'"
    if packages and not any(name.startswith("golang") for name in packages):
        names = " ".join(shell_quote(name) for name in sorted(set(packages)))
    # A reinstall alone would bring back the same mixture of releases.
    return f"bring all of it to one release, whole: dnf distro-sync {names}, then dnf reinstall {names}", "reinstall"


def broken(context: Context, summary: str, evidence: Evidence, status: Outcome = FAIL) -> Finding:
    """Return a finding on a toolchain that does not work, or (as a WARN) not wholly, with the remedy that fits it."""
    remedy, key = reinstall(context)
    return Finding(status, summary, remedy, evidence, remedy_key=key)


def not_judged(summary: str, remedy: str, key: str, evidence: Evidence) -> Finding:
    """Return a finding that says nothing for or against the toolchain."""
    return Finding(WARN, summary, remedy, evidence, ground=NOT_JUDGED, remedy_key=key)


def foreign(context: Context, check: str, hindrance: trust.Hindrance, evidence: Evidence) -> Finding:
    """Return that others can change the toolchain, so it is not judged. The remedy takes nothing from its owner."""
    goroot = context.toolchain.goroot
    silence = SILENCE.format(check=check)
    summary = f"not judged, nor executed as root: {hindrance.text}"
    if hindrance.kind == trust.WRITABLE and goroot.startswith(("/usr/", "/opt/")):
        remedy = f"if only root is to change it: chmod -R go-w {shell_quote(goroot)}; else {silence}"
        return not_judged(summary, remedy, "chmod", evidence)
    remedy = (
        "to have a Go judged, put one that only root can change in /usr/local or /opt, or "
        f"{install('golang')}, and name it in [toolchain] goroot of /etc/go-health-hook.conf; else {silence}"
    )
    return not_judged(summary, remedy, "move", evidence)


def late(context: Context, summary: str, by_hand: str, evidence: Evidence) -> Finding:
    """Return the finding on a program that had not answered in time, which blames nobody.

    Where the machine was too busy, the run gives it another remedy.
    """
    remedy = (
        f"see whether it answers by hand: {by_hand}; if it does, allow more time in [budget] of "
        f"/etc/go-health-hook.conf; if it does not, {reinstall(context)[0]}"
    )
    return Finding(TIMEOUT, summary, remedy, evidence, remedy_key="time")


def failed(context: Context, what: str, result: Result, by_hand: str, evidence: Evidence) -> Finding:
    """Return the finding on a program of the toolchain's that failed: late, not judged, or broken."""
    summary = f"{what} {result.why()}"
    if result.timed_out:
        return late(context, summary, by_hand, evidence)
    return excuse(context, summary, result, evidence) or broken(context, summary, evidence)


def excuse(context: Context, summary: str, result: Result, evidence: Evidence) -> Finding | None:
    """Return a finding that does not judge, where a failure is explained by something else than the toolchain."""
    said = (result.stderr[:65536] + result.stdout[:65536]).decode("utf-8", "replace")
    if "ermission denied" in said or "peration not permitted" in said:
        goroot = clean(context.toolchain.goroot)
        remedy = "see what denies it: getfacl, ausearch -m avc"
        if f"{goroot}/" in said or "/" not in said:
            remedy = f"let other users read it (chmod -R o+rX {shell_quote(goroot)}), or {remedy}"
        return not_judged(summary, remedy, "chmod", evidence)
    want = next((w for w in WANTS if w in said), "")
    if want:
        remedy = f"look after the machine ({want}), and judge Go by hand: go-health-hook"
        return not_judged(summary, remedy, "machine", evidence)
    unseen = _unseen(context, said)
    if unseen:
        remedy = f"judge it by hand: go version, go build; else {SILENCE.format(check='goroot')}"
        return not_judged(f"{summary}; the check's view has no {unseen}", remedy, "setting", evidence)
    if result.ok:
        return None
    why = control.sent(result) or context.shared("control", lambda: control.excuse(context.deadline))
    quick = result.elapsed_s < REPEATED
    if not why and quick and result.repeat is not None and result.repeat().ok:
        why = "the same command worked at a second try, with more of this machine in its view"
    if why:
        remedy = "look after the machine, and judge Go by hand: go-health-hook"
        return not_judged(f"{summary}, but {why}", remedy, "machine", evidence)
    return None


# What a view has besides the toolchain, and paths in what a program says.
SHOWN = (*SYSTEM, *ETC, "/proc", "/dev", "/sys/fs/cgroup", "/tmp")
# A position in a trace, FILE:LINE, names a source of whoever built the program, which need not be here. Two
# slashes begin a directive or a comment of Go's, or an address.
PATH = r"(?<![\w./])/(?!/)[\w.+@/-]*[\w+@/-](?![\w+@/-]|[.]\w|:\d)"
# A program that failed within so many seconds gets a second try.
REPEATED = 5.0
# What programs say where the machine lacks something (strerror(3) and the Go runtime's words).
WANTS = (
    *("No space left on device", "no space left on device", "Disk quota exceeded", "disk quota exceeded"),
    *("Too many open files", "too many open files", "Read-only file system", "read-only file system"),
    *("Resource temporarily unavailable", "resource temporarily unavailable", "failed to create new OS thread"),
    *("Text file busy", "text file busy", "Stale file handle", "stale NFS file handle"),
)


def _unseen(context: Context, said: str) -> str:
    """Return the path among a program's words that this machine has and the program's view has not, or nothing.

    A wrapper around a toolchain's program may read settings of the house, or write a log.
    """
    if not host().bwrap or context.subject.root != "/":
        return ""
    shown = [*SHOWN, context.toolchain.goroot, *context.toolchain.sandbox().paths]
    for path in dict.fromkeys(re.findall(PATH, said)):
        within = any(f"{path}/".startswith(f"{place}/") for place in shown)
        if not within and any(place != "/" and os.path.exists(place) for place in (path, os.path.dirname(path))):
            return clean(path)
    return ""


def install(package: str) -> str:
    """Return the command that installs a package on this machine, or how it gets into its image."""
    from go_health_hook.linux import image

    system = image.here()
    return system.install(package) if system else f"dnf install {package}"


def _deployments(system: ImageSystem, context: Context) -> State | None:
    try:
        return system.read(context.deadline.within(READ_SECONDS))
    except HookError:
        return None
