# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an update is held back: the one place where findings, settings and override become an action.

A gate blocks only on proof. Order of harm, for every rule here: a healthy machine held back > updater hung or state
lost > broken Go let through > wrong words.
"""

from __future__ import annotations

import enum

from go_health_hook.errors import EXIT_ALLOW, EXIT_BLOCK, EXIT_INTERNAL, EXIT_TIMEOUT
from go_health_hook.records import Record
from go_health_hook.verdict import (
    ADVISORY,
    BROKEN,
    ERROR,
    FAIL,
    NOT_JUDGED,
    OFF,
    REGRESSION,
    REQUIRED,
    TIMEOUT,
    WARN,
    WORSE,
    Finding,
    Verdict,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from go_health_hook.verdict import Examination


class Action(enum.Enum):
    """What a gate does about an update."""

    ALLOW = "allow"  # nothing speaks against it
    UNDECIDED = "undecided"  # the checks could not be carried out: the update goes on
    BLOCK = "block"
    OVERRIDE = "override"  # would be blocked, but a person has said to let updates through
    WARN = "warn"  # would be blocked, but that would repair nothing, or the settings say to warn only


class Case(Record):
    """What a gate knows besides the findings.

    `by_hand`: a person runs the checks; a failed check is a failure, whatever an update would change about it.
    `sound_before`: names of the checks that are known to pass without this update.
    `standing`: names of the checks that fail in the same way without this update: it makes nothing worse.
    `standing_blocks`: `[ostree] standing = block`.
    `starved_blocks`: `[budget] starved = block`.
    `powerless`: why blocking would repair nothing here, or why it is not wanted, in words; else empty.
    `nothing`: why there is no toolchain to judge, in words; else empty.
    `override`: one line on the override in force, or empty.
    """

    by_hand: bool = False
    sound_before: Collection[str] = ()
    standing: Collection[str] = ()
    standing_blocks: bool = False
    starved_blocks: bool = False
    powerless: str = ""
    nothing: str = ""
    override: str = ""


class Decision(Record):
    """An action, the verdict behind it, and the findings as they were taken (copies; `blocks` is set).

    `note` says why the action is not the verdict's: the override's line, or why blocking would repair nothing.
    """

    action: Action
    verdict: Verdict
    findings: list[Finding]
    note: str = ""


def decide(findings: Sequence[Finding], case: Case) -> Decision:
    """Return what is to be done about an update. Pure: it reads nothing and changes none of its arguments."""
    taken = [_take(finding.copy(), case) for finding in findings]
    verdict = _verdict(taken, case)
    if not verdict.block:
        action = Action.UNDECIDED if verdict.exit_status == EXIT_INTERNAL else Action.ALLOW
        return Decision(action, verdict, taken)
    if case.override:
        return Decision(Action.OVERRIDE, verdict, taken, case.override)
    if case.powerless:
        return Decision(Action.WARN, verdict, taken, case.powerless)
    blocking = {f.check for f in taken if f.blocks}
    if blocking <= set(case.standing) and not case.standing_blocks:
        return Decision(Action.WARN, verdict, taken, "Go is broken in the same way without this update")
    return Decision(Action.BLOCK, verdict, taken)


def settle(examination: Examination, case: Case) -> Decision:
    """`decide` on the findings of a run, which then has the verdict and the findings as they were taken."""
    case.nothing = case.nothing or examination.nothing
    decision = decide(examination.findings, case)
    examination.findings = decision.findings
    examination.verdict = decision.verdict
    return decision


def _take(finding: Finding, case: Case) -> Finding:
    """Set whether a finding blocks; a standing regression becomes a warning."""
    if finding.severity in (ADVISORY, OFF) or finding.status not in (FAIL, TIMEOUT):
        return finding
    if finding.status == TIMEOUT:
        finding.blocks = finding.ground is not NOT_JUDGED or case.starved_blocks
        if finding.severity == REGRESSION and not case.by_hand:
            finding.blocks = False
        return finding
    if finding.severity == REGRESSION and not case.by_hand:
        if finding.check in case.sound_before:
            finding.ground = WORSE
            finding.blocks = True
        else:
            # No update can repair it: said, not held against this one.
            finding.status = WARN
            finding.ground = finding.ground if finding.ground is NOT_JUDGED else None
        return finding
    # A limit that cannot be read is a failure only where a person asks, or has made it `required`.
    finding.blocks = finding.ground in (BROKEN, WORSE) or case.by_hand or finding.severity == REQUIRED
    return finding


def _verdict(findings: Sequence[Finding], case: Case) -> Verdict:
    failed = [f for f in findings if f.blocks and f.status == FAIL]
    late = [f for f in findings if f.blocks and f.status == TIMEOUT]
    if failed:
        return Verdict(EXIT_BLOCK, "; ".join(f"{f.check}: {f.summary}" for f in failed))
    if late:
        return Verdict(EXIT_TIMEOUT, f"time ran out before these had answered: {', '.join(f.check for f in late)}")
    faults = [f for f in findings if f.status == ERROR and f.severity not in (ADVISORY, OFF)]
    if faults:
        return Verdict(EXIT_INTERNAL, f"not decided, could not be carried out: {', '.join(f.check for f in faults)}")
    if case.nothing:
        return Verdict(EXIT_ALLOW, case.nothing)
    unjudged = [f for f in findings if f.ground is NOT_JUDGED and f.severity not in (ADVISORY, OFF)]
    if unjudged:
        return Verdict(EXIT_ALLOW, "; ".join(f"not judged: {f.check}: {f.summary}" for f in unjudged))
    advice = [f for f in findings if f.status in (FAIL, WARN, TIMEOUT, ERROR)]
    if advice:
        return Verdict(EXIT_ALLOW, f"healthy, with advice from: {', '.join(f.check for f in advice)}")
    return Verdict(EXIT_ALLOW, "healthy")
