# SPDX-License-Identifier: GPL-2.0-or-later
"""What the gates that run in systemd's units share: what they say, and whether a person has overridden them."""

from __future__ import annotations

import os
import sys

from go_health_hook import override
from go_health_hook.errors import BadInput
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.verdict import Examination

# syslog(3)
ERR, WARNING, NOTICE, INFO = 3, 4, 5, 6


def say(priority: int, line: str) -> None:
    """Print one line; below systemd with the prefix that sets its priority in the journal (sd-daemon(3))."""
    prefix = f"<{priority}>" if os.environ.get("JOURNAL_STREAM") else ""
    sys.stdout.write(f"{prefix}{clean(line, 2000)}\n")
    sys.stdout.flush()


def overridden() -> override.Override | None:
    """The override in force; one that cannot be heeded is none, and that is said."""
    try:
        return override.in_force()
    except BadInput as error:
        say(ERR, error.line())
        return None


def say_remedies(examination: Examination) -> None:
    """Say what to do about each finding that blocks."""
    for finding in examination.findings:
        if finding.blocks and finding.remedy:
            say(NOTICE, f"{finding.check}: {finding.remedy}")


def say_override(what_for: str) -> None:
    """Say how a person goes ahead anyway; every block ends so."""
    say(NOTICE, f"{what_for}: go-health-hook override --for 2h --reason TEXT")
