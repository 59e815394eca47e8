# SPDX-License-Identifier: GPL-2.0-or-later
"""zincati, Fedora CoreOS' update agent: whether it drives the updates here, and what it waits for."""

from __future__ import annotations

from go_health_hook.run import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.deadline import Deadline

UNIT = "zincati.service"
# The unit's status before anything is staged (zincati's src/update_agent/actor.rs): it goes on from these by itself.
EARLIER = ("initializ", "periodically polling", "found update", "trying to stage")


def is_active(deadline: Deadline) -> bool:
    """Return whether zincati runs, and so drives the updates of this machine."""
    return process.run_host("systemctl", ["is-active", "--quiet", UNIT], deadline).ok


def owner(deadline: Deadline) -> str:
    """Return who has probably locked a staged deployment where it was not this hook, in words."""
    return "zincati or an operator" if is_active(deadline) else "somebody else"


def restart_if_waiting(deadline: Deadline) -> bool:
    """Restart zincati where it waits for a deployment that is gone; return whether it was restarted.

    It would try to finalize that one for ever and look for no later release. Before it has seen the deployment staged
    it stages it again some times, and then looks for a later one.
    """
    if not is_active(deadline):
        return False
    status = process.run_host("systemctl", ["show", "--property=StatusText", "--value", UNIT], deadline)
    if status.ok and status.out.lower().startswith(EARLIER):
        return False
    return process.run_host("systemctl", ["try-restart", "--no-block", UNIT], deadline).ok
