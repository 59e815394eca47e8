# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd says of units, through `systemctl show`: one bounded question for all of them."""

from __future__ import annotations

import os

from go_health_hook.run import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from go_health_hook.deadline import Deadline

BOOTED = "/run/systemd/system"  # sd_booted(3)
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "ExecStartPre",
    "Wants",
    "RequiredBy",
    "WantedBy",
    "Result",
    "ExecMainStatus",
    "ExecMainExitTimestamp",
    "LastTriggerUSec",
)


def show(names: Sequence[str], deadline: Deadline) -> dict[str, dict[str, str]]:
    """Properties of the units that are loaded, by the name that was asked for; times are seconds since 1970 or empty.

    Empty where systemd does not run or does not answer in time: the caller then knows the files alone.
    """
    if not os.path.isdir(BOOTED) or not names:
        return {}
    result = process.run(
        ["systemctl", "show", "--no-pager", "--timestamp=unix", f"--property={','.join(PROPERTIES)}", "--", *names],
        deadline,
    )
    found = {}
    if result.ok:
        for name, block in zip(names, parse(result.out)):
            if block.get("LoadState") in ("loaded", "masked"):
                found[name] = block
    return found


def parse(text: str) -> list[dict[str, str]]:
    """The blocks of `systemctl show`, one a unit, in the order of the question."""
    blocks = []
    for block in text.split("\n\n"):
        found: dict[str, str] = {}
        for key, _, value in (line.partition("=") for line in block.splitlines()):
            # A list of commands is a line each.
            found[key] = f"{found[key]}\n{value}" if key in found else _time(value)
        blocks.append(found)
    return blocks


def _time(value: str) -> str:
    return value[1:] if value.startswith("@") and value[1:].isdecimal() else value
