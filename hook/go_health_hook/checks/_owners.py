# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages the toolchain is from: asked once a run, for every check that wants to know."""

from __future__ import annotations

import os

from go_health_hook.linux.rpmdb import Ownership, ownership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.checks import Context


def _ask(context: Context) -> Ownership:
    root, goroot = context.subject.root, context.toolchain.goroot
    if root == "/" or os.geteuid() != 0:
        return ownership(root, goroot)
    from go_health_hook.linux import rpmdb_apart

    return rpmdb_apart.ownership(root, goroot, context.deadline)


def owners(context: Context) -> Ownership:
    """Who owns GOROOT, by the subject's package database or, for what a transaction brings, by its packages."""

    def ask() -> Ownership:
        if context.known is not None:
            context.facts["packages"] = context.known.packages
            return Ownership(context.known.line)
        known: Ownership | None = context.subject.ownership
        given = known or _ask(context)
        context.facts["packages"] = [p.nevra for p in given.packages]
        return given

    asked: Ownership = context.shared("owners", ask)
    return asked
