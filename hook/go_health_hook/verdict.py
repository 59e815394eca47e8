# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings, how they are weighed into a verdict, and the whole of a run as the reports get it."""

from __future__ import annotations

from go_health_hook.errors import EXIT_ALLOW, EXIT_BLOCK, EXIT_INTERNAL, EXIT_TIMEOUT
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from go_health_hook.deadline import Deadline
    from go_health_hook.subject import Subject

PASS = "pass"
FAIL = "fail"
WARN = "warn"
SKIP = "skip"
TIMEOUT = "timeout"
ERROR = "error"

REQUIRED = "required"
ADVISORY = "advisory"
OFF = "off"


class Finding:
    """What one check found: a status, one line on it, and what to do. Text is cleaned for terminals."""

    __slots__ = ("check", "elapsed_s", "evidence", "remedy", "severity", "status", "summary")

    def __init__(
        self, status: str, summary: str, remedy: str = "", evidence: Mapping[str, object] | None = None
    ) -> None:
        self.check = ""
        self.severity = REQUIRED
        self.status = status
        self.summary = clean(summary, 400)
        self.remedy = clean(remedy, 600)
        self.evidence = {
            str(k): v if isinstance(v, (int, float)) else clean(str(v), 2000) for k, v in (evidence or {}).items()
        }
        self.elapsed_s = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The finding as the JSON contract has it."""
        return {
            "check": self.check,
            "status": self.status,
            "severity": self.severity,
            "summary": self.summary,
            "remedy": self.remedy,
            "evidence": dict(self.evidence),
            "elapsed_s": round(self.elapsed_s, 4),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The inverse of `to_dict`."""
        finding = cls(data["status"], data["summary"], data["remedy"], data["evidence"])
        finding.check = data["check"]
        finding.severity = data["severity"]
        finding.elapsed_s = data["elapsed_s"]
        return finding

    @property
    def blocks(self) -> bool:
        """Whether this finding alone is reason enough to hold an update back."""
        return self.severity == REQUIRED and self.status in (FAIL, TIMEOUT)


class Verdict:
    """`block` or allow, the exit status that says so, and one line why."""

    __slots__ = ("exit_status", "reason")

    def __init__(self, exit_status: int, reason: str) -> None:
        self.exit_status = exit_status
        self.reason = reason

    @property
    def block(self) -> bool:
        """Whether an update is to be held back."""
        return self.exit_status in (EXIT_BLOCK, EXIT_TIMEOUT)

    @property
    def word(self) -> str:
        """The verdict as the JSON contract has it."""
        return "block" if self.block else "allow"


def weigh(findings: Sequence[Finding], nothing_to_judge: str = "") -> Verdict:
    """Weigh findings: a required check that failed blocks (1), one that ran out of time blocks (3).

    `nothing_to_judge` says why there is no toolchain, where that is so and allowed.

    A check that could not be carried out, by a fault of ours or for want of a sandbox, never blocks: the exit status
    then says that nothing was decided (4), and a gate lets the update go on.
    """
    failed = [f for f in findings if f.blocks and f.status == FAIL]
    late = [f for f in findings if f.blocks and f.status == TIMEOUT]
    broken = [f for f in findings if f.status == ERROR and f.severity == REQUIRED]
    if failed:
        return Verdict(EXIT_BLOCK, "; ".join(f"{f.check}: {f.summary}" for f in failed))
    if late:
        return Verdict(EXIT_TIMEOUT, f"time ran out before these had answered: {', '.join(f.check for f in late)}")
    if broken:
        return Verdict(EXIT_INTERNAL, f"not decided, could not be carried out: {', '.join(f.check for f in broken)}")
    advice = [f for f in findings if f.status in (FAIL, WARN, TIMEOUT, ERROR)]
    if nothing_to_judge:
        return Verdict(EXIT_ALLOW, nothing_to_judge)
    if advice:
        return Verdict(EXIT_ALLOW, f"healthy, with advice from: {', '.join(f.check for f in advice)}")
    return Verdict(EXIT_ALLOW, "healthy")


class Examination:
    """What a run found: findings in the order of the checks, the verdict, and the facts that the reports show."""

    def __init__(self, subject: Subject, deadline: Deadline) -> None:
        self.subject = subject
        self.budget_s = deadline.budget
        self.elapsed_s = 0.0
        self.findings: list[Finding] = []
        self.toolchain: dict[str, Any] | None = None
        self.cpu: dict[str, Any] | None = None
        self.sandbox = ""
        # Whether a program was killed or did not start, or a file could not be read: what was found may pass.
        self.passing = False
        self.bug = ""
        self.verdict = Verdict(0, "")
        # The [announce] settings, for whoever tells people.
        self.announce: dict[str, Any] = {"motd": True, "journal": True, "metrics-directory": ""}

    def to_dict(self) -> dict[str, Any]:
        """The JSON of a check, schema 1 (DESIGN: the contract that programs rely on)."""
        return {
            "schema": 1,
            "verdict": self.verdict.word,
            "exit_status": self.verdict.exit_status,
            "reason": self.verdict.reason,
            "budget_s": self.budget_s,
            "elapsed_s": round(self.elapsed_s, 4),
            "subject": {"kind": self.subject.kind, "root": clean(self.subject.root)},
            "toolchain": self.toolchain,
            "cpu": self.cpu,
            "sandbox": self.sandbox,
            "results": [f.to_dict() for f in self.findings],
        }
