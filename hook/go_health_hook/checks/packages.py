# SPDX-License-Identifier: GPL-2.0-or-later
"""The package database agrees with the toolchain: its packages are of one release and its files are theirs."""

from __future__ import annotations

from go_health_hook.checks import Context
from go_health_hook.checks._owners import owners
from go_health_hook.checks._remedies import reinstall
from go_health_hook.linux import image
from go_health_hook.linux.rpmdb import changed
from go_health_hook.text import shell_quote
from go_health_hook.verdict import FAIL, PASS, SKIP, Finding

SEVERITY = "advisory"
ORDER = 60
MAX_SHOWN = 10


def check(context: Context) -> Finding:
    """Whether all packages of the toolchain are of one release and no file of theirs is missing or changed."""
    if context.toolchain.problem:
        return Finding(SKIP, "skipped because there is no GOROOT: see goroot")
    given = owners(context)
    if given.reason:
        return Finding(SKIP, f"skipped because {given.reason}")
    evidence: dict[str, object] = {"packages": " ".join(p.nevra for p in given.packages)}
    names = " ".join(shell_quote(name) for name in sorted(p.name for p in given.packages))
    mixed = given.mixed()
    if mixed:
        return Finding(FAIL, mixed, _repair(context, f"bring them to one release: dnf distro-sync {names}"), evidence)
    wrong = changed(given, context.subject, context.toolchain.goroot, context.deadline, context.deep)
    if wrong:
        evidence.update({f"difference {i}": line for i, line in enumerate(wrong[:MAX_SHOWN], 1)})
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return Finding(
            FAIL, f"differs from its packages: {wrong[0]}{more}", _repair(context, f"dnf reinstall {names}"), evidence
        )
    what = given.go or given.packages[0]
    others = f" and {len(given.packages) - 1} more" if len(given.packages) > 1 else ""
    return Finding(PASS, f"as installed by {what.nevra}{others}", "", evidence)


def _repair(context: Context, command: str) -> str:
    """Return dnf's command, or on an image system, whose packages dnf cannot change, what a new build would need."""
    if image.here() is None or context.subject.kind not in ("running", "staged"):
        return command
    return reinstall(context)[0]
