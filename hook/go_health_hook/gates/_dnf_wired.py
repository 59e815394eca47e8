# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes both dnf gates unwired: plugins that are switched off, and a gate that is missing or not to judge."""

from __future__ import annotations

from go_health_hook.wiring import GATE_PROGRAM, NOT_WIRED, OFF, WIRED, Wired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from go_health_hook.wiring import View

DNF_CONF = "/etc/dnf/dnf.conf"


def plugins_off(view: View, files: Sequence[str]) -> Wired | None:
    """Return NOT_WIRED where dnf's settings switch all plugins off, else None."""
    found = view.setting(files, "main", "plugins")
    if found and found[0].lower() in OFF:
        file = found[1].rsplit(":", 1)[0]
        return Wired(NOT_WIRED, f"{found[1]}: plugins = {found[0]}", f"remove that line from {file}")
    return None


def gate_program(view: View, how: str) -> Wired:
    """Return whether the program is there that dnf's side of a gate calls, and is to judge."""
    if not view.executable(GATE_PROGRAM):
        return Wired(NOT_WIRED, f"{GATE_PROGRAM} is missing or not executable", "dnf reinstall go-health-hook")
    if view.config.get("dnf", "transactions") == "off":
        remedy = "set it to updates in /etc/go-health-hook.conf"
        return Wired(NOT_WIRED, "switched off: [dnf] transactions = off", remedy)
    return Wired(WIRED, how)
