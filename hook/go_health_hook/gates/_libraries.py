# SPDX-License-Identifier: GPL-2.0-or-later
"""A Go that only lacks a library which the same transaction brings is not broken: it cannot be judged before that."""

from __future__ import annotations

from go_health_hook.deadline import Deadline
from go_health_hook.gates._dnf_transaction import NotFound
from go_health_hook.go import loader
from go_health_hook.linux import rpmfile
from go_health_hook.text import clean
from go_health_hook.verdict import BROKEN, NOT_JUDGED, WARN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from go_health_hook.go.loader import Lacking
    from go_health_hook.linux.rpmfile import Place
    from go_health_hook.verdict import Finding


# To find the incoming packages and to read their headers (a release upgrade has thousands).
SECONDS = 10.0
AFTERWARDS = "nothing needs to be done: Go is looked at again after the transaction"


def is_excusable(finding: Finding) -> bool:
    """Return whether a finding says that Go is broken, and the loader that a library is missing."""
    return finding.ground is BROKEN and loader.lacking(finding.summary) is not None


def excuse(
    findings: Sequence[Finding], coming: Sequence[str], places: Mapping[str, Sequence[Place]], last: bool
) -> bool:
    """Turn what the loader says into `not judged` where an incoming package brings the library; return whether.

    `coming` are the full names of all incoming packages, `places` where their files may be. Unless those are the `last`
    places, NotFound is raised for packages that are in none. Where the files cannot be found or read in time, nothing
    is proved and Go is not judged either. Without an incoming package the library will not be there later.
    """
    excused = False
    for finding in findings:
        wanted = loader.lacking(finding.summary) if finding.ground is BROKEN else None
        if wanted is None or not coming:
            continue
        who = _bringer(wanted, coming, places, last)
        if who:
            finding.status, finding.ground = WARN, NOT_JUDGED
            finding.summary = f"Go needs {clean(str(wanted))}, {who}"
            finding.remedy = AFTERWARDS
            excused = True
    return excused


def _bringer(wanted: Lacking, coming: Sequence[str], places: Mapping[str, Sequence[Place]], last: bool) -> str:
    """Return who brings the library, or why that is not known, in words; an empty string where nobody does."""
    deadline = Deadline(SECONDS)
    missing = []
    for full in coming:
        if deadline.expired:
            return "and whether this transaction brings it could not be read in time"
        path = rpmfile.locate({full: places.get(full, ())}).get(full)
        header = rpmfile.header_of(path) if path else None
        if header is None:
            missing.append(full)
            continue
        who = loader.bringer(wanted, [header])
        if who:
            return f"which {who} of this transaction brings"
    if missing and not last:
        raise NotFound(missing)
    return "and not all packages of this transaction could be found to see whether they bring it" if missing else ""
