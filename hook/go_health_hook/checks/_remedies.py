# SPDX-License-Identifier: GPL-2.0-or-later
"""How a toolchain is made whole again, in the words of what put it there."""

from __future__ import annotations

from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.checks import Context


def reinstall(context: Context) -> str:
    """What to do about a toolchain that is damaged, incomplete or of several releases."""
    goroot = context.toolchain.goroot
    if context.subject.kind == "staged":
        return (
            "wait for a build whose Go is whole: this one does not become the default. "
            "To drop it: rpm-ostree cleanup -p, or ostree admin undeploy 0"
        )
    if not goroot.startswith("/usr/lib"):
        return f"unpack the archive of one release anew at {clean(goroot)}, after removing what is there"
    if context.subject.kind == "running" and _on_ostree():
        return "deploy a build whose Go is whole (rpm-ostree upgrade, bootc upgrade), or go back: rpm-ostree rollback"
    # A reinstall alone would bring back the same mixture of releases.
    return "bring all of it to one release, whole: dnf distro-sync 'golang*', then dnf reinstall 'golang*'"


def _on_ostree() -> bool:
    from go_health_hook.linux import ostree

    return ostree.on_ostree()
