# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of dnf 4: its plugin gives the transaction as JSON on standard input; a veto (status 1 or 3) is printed."""

from __future__ import annotations

import json
import sys

from go_health_hook.errors import BadInput
from go_health_hook.gates import _transaction as shared
from go_health_hook.linux.rpmdb import ownership
from go_health_hook.run.worker import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.deadline import Deadline

MAX_REQUEST = 64 << 20
FIELDS = {"name": str, "evr": str, "full": str, "action": str, "coming": bool, "path": str, "go": bool}


def answer(args: argparse.Namespace, configuration: Callable[[], Config]) -> int:
    """Answer the plugin; the arguments are those of transaction.answer. Returns the exit status."""
    outcome = shared.answer("dnf4", args.arguments, configuration, lambda pid: _transaction(_request(), pid))
    # What does not stop it is for dnf's log.
    print(outcome.message or "\n".join(outcome.notes))
    return outcome.status


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


def _transaction(packages: list[dict[str, Any]], pid: int) -> shared.Transaction:
    items = [
        shared.Item(
            p["name"],
            p["evr"],
            p["action"],
            p["coming"],
            p["full"],
            lambda p=p: [[("", "", p["path"].lstrip("/"))]],  # type: ignore[misc]
        )
        for p in packages
    ]

    def go_names(goroot: str, deadline: Deadline) -> set[str]:
        owners = bounded(lambda: [p.name for p in ownership("/", goroot).packages], deadline, []) if goroot else []
        return {*owners, *(p["name"] for p in packages if p["go"])}

    return shared.Transaction("dnf4", items, shared.is_automatic(pid), go_names)
