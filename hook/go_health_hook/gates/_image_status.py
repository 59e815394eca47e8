# SPDX-License-Identifier: GPL-2.0-or-later
"""What `status` shows of an image system: what is staged, who has locked it, who drives updates, what was refused."""

from __future__ import annotations

import os

from go_health_hook import files
from go_health_hook.errors import HookError
from go_health_hook.gates import _refused
from go_health_hook.linux import image, zincati
from go_health_hook.run import process
from go_health_hook.text import clean, first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.deadline import Deadline
    from go_health_hook.linux.deployments import Deployment, State

# rpm-ostree's record of who drives updates here (`rpm-ostree deploy --register-driver`), a serialized dictionary.
DRIVER = "/run/rpm-ostree/update-driver.gv"
# libostree's own unit that fails after a boot whose shutdown could not finalize (ostree-impl-system-generator.c).
COMPLETE = "ostree-boot-complete.service"
FAILED = "failed on previous boot: "


def details(deadline: Deadline) -> dict[str, Any] | None:
    """Return the facts as the JSON of `status` has them, or None where this is no image system."""
    system = image.here()
    if system is None:
        return None
    try:
        state: State | None = system.read(deadline)
    except HookError:
        state = None
    staged = state.staged if state else None
    if staged is not None and os.geteuid() == 0:
        system.describe(staged, deadline)
    by_zincati = zincati.is_active(deadline)
    return {
        "staged": _staged(staged, by_zincati) if staged else None,
        "drivers": (["zincati"] if by_zincati else []) + [name for name in _driver() if name != "zincati"],
        "refused": [
            {
                "name": clean(e["name"], 120),
                "since": e["time"],
                "reboots": e["reboots"],
                "reason": clean(e["reason"], 400),
            }
            for e in _refused.held()
        ],
        "applied_live": _live(state),
        "finalization_error": _finalization_error(deadline),
    }


def _staged(staged: Deployment, by_zincati: bool) -> dict[str, Any]:
    note = _refused.Note.read()
    ours = note.marks if note.deployment == staged.id else frozenset()
    other = "zincati or an operator" if by_zincati else "somebody else"
    owners = (["go-health-hook"] if ours & staged.marks else []) + ([other] if staged.marks - ours else [])
    refused = _refused.find(staged.checksum)
    return {"name": staged.name, "locked_by": owners, "refused": bool(refused and refused["held"])}


def _live(state: State | None) -> str:
    """Return the name of a refused deployment that was applied to the running system, or an empty string."""
    booted = state.booted if state else None
    refused = _refused.find(booted.live) if booted and booted.live else None
    return clean(refused["name"], 120) if refused else ""


def _driver() -> list[str]:
    """Return the name of the update driver that is registered with rpm-ostree, in lower case."""
    words = files.head(DRIVER, 1 << 16).split(b"\0")
    names = [word.decode("ascii", "replace") for word in words if word.isalnum()]
    return [clean(name.lower(), 40) for name in names if name not in ("driver", "name", "sd", "unit")][:1]


def _finalization_error(deadline: Deadline) -> str:
    """Return what the finalization of the last shutdown said when it failed, or an empty string."""
    result = process.run_host("systemctl", ["is-failed", "--quiet", COMPLETE], deadline)
    if not result.ok:
        return ""
    words = ["--boot", f"--unit={COMPLETE}", "--output=cat", "--lines=20", "--no-pager"]
    for line in process.run_host("journalctl", words, deadline).stdout.splitlines():
        if FAILED.encode() in line:
            return first_line(line.partition(FAILED.encode())[2], 300)
    return f"see journalctl --unit={COMPLETE}"


def rows(found: dict[str, Any]) -> list[str]:
    """Return the lines for a person."""
    lines = []
    staged = found["staged"]
    if staged:
        how = f"locked by {' and '.join(staged['locked_by'])}" if staged["locked_by"] else "default after a shutdown"
        lines.append(f"{staged['name']} is staged: {how}")
    if found["applied_live"]:
        lines.append(f"{found['applied_live']} was refused, and rpm-ostree apply-live put it into the running system")
    if found["finalization_error"]:
        lines.append(f"the last shutdown could not finalize: {found['finalization_error']}")
    for entry in found["refused"][:2]:
        if entry["reboots"]:
            times = "a reboot" if entry["reboots"] == 1 else f"{entry['reboots']} reboots"
            lines.append(f"{entry['name']} is refused: {times} changed nothing about that")
    if found["drivers"]:
        lines.append(f"updates are driven by {', '.join(found['drivers'])}")
    return lines


def foreign_lock(found: dict[str, Any] | None) -> str:
    """Return the name of a staged deployment that was not refused and that somebody else has locked, or ""."""
    staged = found["staged"] if found else None
    if not staged or staged["refused"] or staged["locked_by"] in ([], ["go-health-hook"]):
        return ""
    return str(staged["name"])
