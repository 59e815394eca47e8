# SPDX-License-Identifier: GPL-2.0-or-later
"""The message at login while updates are held back or Go is broken; louder after a day and after a week.

In /etc/motd.d, as dnf5-automatic's: pam_motd reads it everywhere, and what is held back stays so over a reboot.
"""

from __future__ import annotations

import contextlib
import os

from go_health_hook import files
from go_health_hook.announce import journal, record
from go_health_hook.text import clean, span, when, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATH = "/etc/motd.d/go-health-hook"
DAY = 86400
WIDTH = 79


def level(seconds: float) -> int:
    """How loud to be about updates held back for so many seconds, as a priority of syslog(3)."""
    if seconds >= 7 * DAY:
        return journal.CRIT
    return journal.ERR if seconds >= DAY else journal.WARNING


def text(state: dict[str, Any], now: float) -> str:
    """Return the message, or an empty string when there is nothing to say.

    Updates held back and a broken Go are said at once, updates that could not be judged after a day.
    """
    blocks = sorted(state["blocks"].values(), key=lambda b: b["since"])
    if blocks:
        lines = [_head(blocks[0]["since"], now)]
        for block in blocks[:3]:
            times = f"{block['count']} times" if block["count"] > 1 else "once"
            lines += _remedied(f"{record.label(block['gate'])}, {times}: {block['reason']}", block["remedy"])
        if len(blocks) > 3:
            lines += _wrap(f"and {len(blocks) - 3} more")
    elif state["broken"]:
        broken = state["broken"]
        lines = [f"The Go toolchain on this machine is broken since {when(broken['since'])}."]
        lines += _remedied(f"{record.label(broken['gate'])}: {broken['reason']}", broken["remedy"])
    else:
        late = [u for u in state["unjudged"].values() if now - u["since"] >= DAY and u["gate"] != "check"]
        if not late:
            return ""
        first = min(late, key=lambda u: float(u["since"]))
        lines = [f"WARNING: since {when(first['since'])} updates pass without a check of their Go."]
        lines += _wrap(f"{record.label(first['gate'])}: {first['reason']}")
    lines.append("  look: go-health-hook status")
    if blocks:
        lines.append("  update anyway: go-health-hook override --for 2h --reason TEXT")
    return "\n".join(lines) + "\n"


def _head(since: float, now: float) -> str:
    held = max(0.0, now - since)
    return {
        journal.WARNING: f"Updates are held back since {when(since)}: the Go toolchain is not healthy.",
        journal.ERR: f"WARNING: updates have been held back for {span(held)} (since {when(since)}).",
        journal.CRIT: f"URGENT: updates have been held back for {span(held)} (since {when(since)}).\n"
        "  Security fixes are missing on this machine.",
    }[level(held)]


def _remedied(line: str, remedy: str) -> list[str]:
    return [*_wrap(line), *(_wrap(f"to do: {remedy}", whole=True) if remedy else [])]


def _wrap(line: str, *, whole: bool = False) -> list[str]:
    return ("  " + wrap(clean(line, 2000), WIDTH, 4, whole=whole)).split("\n")


def write(state: dict[str, Any], now: float, path: str = PATH, wanted: bool = True) -> None:
    """Put the message in place, or remove it when there is nothing to say or it is not wanted. Raises OSError."""
    message = text(state, now) if wanted else ""
    if not message:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)
        return
    files.make_directory(os.path.dirname(path))
    files.replace(path, _apart(path) + message, above=True)


def _apart(path: str) -> str:
    """Return a line break where the message before ours has none at its end, as greenboot-rs's boot-status."""
    directory, name = os.path.split(path)
    try:
        before = max((n for n in os.listdir(directory) if n < name and not n.startswith(".")), default="")
    except OSError:
        return ""
    return "" if files.head(f"{directory}/{before}", 1 << 16)[-1:] in (b"", b"\n") else "\n"


def begin(state: dict[str, Any], now: float, path: str = PATH) -> None:
    """Put the message of a state that may not be the last word in place where there is none. Raises OSError."""
    message = text(state, now)
    if message:
        files.make_directory(os.path.dirname(path))
        files.replace(path, _apart(path) + message, only_new=True, above=True)
