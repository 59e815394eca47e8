# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of dnf 4: its plugin gives the transaction as JSON on standard input; a veto (status 1 or 3) is printed."""

from __future__ import annotations

import json
import os
import sys

from go_health_hook.errors import BadInput
from go_health_hook.gates import _dnf as shared
from go_health_hook.gates._dnf_transaction import Item, Transaction, applied, is_automatic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.gates import Call
    from go_health_hook.gates._dnf_judge import Survey
    from go_health_hook.wiring import View, Wired

MAX_REQUEST = 64 << 20
FIELDS = {"name": str, "evr": str, "full": str, "action": str, "coming": bool, "path": str, "go": bool}


TIMERS = ("dnf-automatic.timer", "dnf-automatic-install.timer")
UNREAD = (
    ("/etc/dnf/automatic.conf", "", "upgrade_command", "no dnf reads it; the gates stop a bad update without it"),
)


def answer(call: Call) -> int:
    """Answer the plugin; the arguments are those of `_dnf.answer`. Returns the exit status."""
    result = shared.answer("dnf4", call, lambda pid: _transaction(_request(), pid))
    # What does not stop it is for dnf's log.
    print(result.message or "\n".join(result.notes))
    return result.status


def _request() -> list[dict[str, Any]]:
    """The packages that the plugin names. Raises BadInput."""
    try:
        packages = json.loads(sys.stdin.buffer.read(MAX_REQUEST))["packages"]
        if not all(isinstance(p[name], kind) for p in packages for name, kind in FIELDS.items()):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput(
            "standard input is not what dnf's plugin sends", hint="update both packages to one release"
        ) from None
    return list(packages)


def _transaction(packages: list[dict[str, Any]], pid: int) -> Transaction:
    items = [
        Item(
            p["name"],
            p["evr"],
            p["action"],
            p["coming"],
            p["full"],
            lambda p=p: [[("", "", p["path"].lstrip("/"))]],  # type: ignore[misc]
        )
        for p in packages
    ]

    def go_names(installed: Survey) -> set[str]:
        return {*installed.owners, *(p["name"] for p in packages if p["go"])}

    update = applied(pid)
    automatic = update is None and is_automatic(pid)  # who applies an update at a boot does what a person asked for
    return Transaction("dnf4", items, automatic, go_names, watched=(1,), wants_owners=True, offline=update)


def wired(view: View) -> Wired:
    """Return whether dnf 4 loads our plugin, and the plugin finds the gate."""
    from go_health_hook.gates._dnf_wired import DNF_CONF, gate_program, plugins_off
    from go_health_hook.wiring import NOT_HERE, NOT_WIRED, OFF, Wired

    library = view.first(
        "/usr/lib/python3*/site-packages/dnf/__init__.py", "/usr/lib/python3/dist-packages/dnf/__init__.py"
    )
    if view.image or not library:
        return Wired(NOT_HERE, "updates come as images" if view.image else "no dnf 4")
    plugin = f"{os.path.dirname(os.path.dirname(library))}/dnf-plugins/go_health_hook.py"
    if not view.exists(plugin):
        return Wired(NOT_WIRED, f"{plugin} is not in place", view.get("python3-dnf-plugin-go-health-hook", "dnf"))
    settings = [DNF_CONF]
    places = view.setting(settings, "main", "pluginconfpath")
    folders = places[0].replace(",", " ").split() if places else ["/etc/dnf/plugins"]
    found = view.setting([f"{folder}/go_health_hook.conf" for folder in folders], "main", "enabled")
    if found and found[0].lower() in OFF:
        file = found[1].rsplit(":", 1)[0]
        return Wired(NOT_WIRED, f"{found[1]}: enabled = {found[0]}", f"set enabled = 1 in {file}")
    path = view.setting(settings, "main", "pluginpath")
    if path and os.path.dirname(plugin) not in path[0].replace(",", " ").split():
        remedy = f"add {os.path.dirname(plugin)} to pluginpath"
        return Wired(NOT_WIRED, f"{path[1]}: pluginpath = {path[0]}", remedy)
    return plugins_off(view, settings) or gate_program(view, plugin)
