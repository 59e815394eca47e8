# SPDX-License-Identifier: GPL-2.0-or-later
"""A Go that only lacks a library which the same transaction brings is not broken: it cannot be judged before that."""

from __future__ import annotations

from go_health_hook.deadline import Deadline
from go_health_hook.go import loader
from go_health_hook.run.worker import bounded
from go_health_hook.text import clean
from go_health_hook.verdict import BROKEN, NOT_JUDGED, WARN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from go_health_hook.gates._dnf import Item
    from go_health_hook.go.loader import Lacking
    from go_health_hook.verdict import Finding

# To find the incoming packages and to read their headers (a release upgrade has thousands).
SECONDS = 10.0
AFTERWARDS = "nothing needs to be done: Go is looked at again after the transaction"


def excuse(findings: Sequence[Finding], items: Sequence[Item]) -> bool:
    """Turn what the loader says into `not judged` where an incoming package brings the library; return whether.

    `items` are all packages of the transaction. Where their files cannot be found or read in time, nothing is proved
    and Go is not judged either. Without an incoming package nothing changes: the library will not be there later.
    """
    coming = [item for item in items if item.coming]
    excused = False
    for finding in findings:
        wanted = loader.lacking(finding.summary) if finding.ground is BROKEN else None
        if wanted is None or not coming:
            continue
        who = _bringer(wanted, coming)
        if who:
            finding.status, finding.ground = WARN, NOT_JUDGED
            finding.summary = f"Go needs {clean(str(wanted))}, {who}"
            finding.remedy = AFTERWARDS
            excused = True
    return excused


def _bringer(wanted: Lacking, coming: Sequence[Item]) -> str:
    """Return who brings the library, or why that is not known, in words; an empty string where nobody does."""
    deadline = Deadline(SECONDS)
    turns = {item.full: iter(item.places()) for item in coming}
    found: set[str] = set()
    unread = True
    while turns:
        turn = {full: places for full in turns if (places := next(turns[full], None)) is not None}
        if not turn:
            break
        answer = bounded(lambda turn=turn: _look(wanted, turn), deadline, None)  # type: ignore[misc]
        if answer is None:
            return "and whether this transaction brings it could not be read in time"
        who, names = answer
        if who:
            return f"which {who} of this transaction brings"
        found.update(names)
        turns = {full: rest for full, rest in turns.items() if full in turn and full not in found}
        unread = len(found) < len(coming)
    return "and not all packages of this transaction could be found to see whether they bring it" if unread else ""


def _look(wanted: Lacking, turn: dict[str, list[tuple[str, str, str]]]) -> tuple[str, list[str]]:
    from go_health_hook.go import incoming

    found = incoming.locate(turn)
    headers = [header for path in found.values() if (header := incoming.header_of(path)) is not None]
    return loader.bringer(wanted, headers), list(found)
