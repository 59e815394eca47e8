# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings, the verdict on them, and the whole of a run as the reports get it."""

from __future__ import annotations

import enum

from go_health_hook.errors import EXIT_BLOCK, EXIT_TIMEOUT
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from go_health_hook.deadline import Deadline
    from go_health_hook.subject import Subject


class Word(str, enum.Enum):
    """An enum of words that go into JSON and messages between processes as they are."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:  # Python 3.9 to 3.12 differ about what an f-string makes of such an enum
        return format(str(self.value), spec)


class Outcome(Word):
    """How one check ended."""

    PASS = "pass"
    FAIL = "fail"
    WARN = "warn"
    SKIP = "skip"
    TIMEOUT = "timeout"
    ERROR = "error"


class Ground(Word):
    """Why a finding is no `pass`, which decides whether it may hold an update back (see policy).

    BROKEN: shown by running or reading it that Go does not work, or will not after this update. WORSE: the update makes
    a standing condition worse. NOT_JUDGED: could not be told; not proof of anything.
    """

    BROKEN = "broken"
    WORSE = "worse"
    NOT_JUDGED = "not-judged"


PASS, FAIL, WARN, SKIP, TIMEOUT, ERROR = Outcome
BROKEN, WORSE, NOT_JUDGED = Ground

REQUIRED = "required"
REGRESSION = "regression"
ADVISORY = "advisory"
OFF = "off"
# The checks on the CPU limit: a failure of theirs does not say that Go is broken.
LIMIT_CHECKS = ("cgroup", "gomaxprocs")
# The ground of an outcome that was given none.
GROUNDS = {FAIL: BROKEN, TIMEOUT: BROKEN, ERROR: NOT_JUDGED}


class Finding(Record):
    """The result of one check: outcome, ground, one line on it, and what to do. Text is cleaned for terminals.

    `ground` is None for `pass`, for `skip`, and for a warning that says nothing about whether Go works. `remedy` is a
    command or sentence; a gate may replace it with its updater's words (`remedy_key` says which remedy is meant).
    `blocks` is set by policy.decide.
    """

    status: Outcome
    summary: str
    remedy: str = ""
    evidence: Mapping[str, object] = {}
    ground: Ground | None = None
    remedy_key: str = ""
    check: str = ""
    severity: str = REQUIRED
    elapsed_s: float = 0.0
    blocks: bool = False

    def __post_init__(self) -> None:
        self.ground = self.ground or GROUNDS.get(self.status)
        self.summary, self.remedy = clean(self.summary, 400), clean(self.remedy, 600)
        self.evidence = {
            str(k): v if isinstance(v, (int, float)) else clean(str(v), 2000) for k, v in self.evidence.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The finding as the JSON contract has it."""
        return {
            "check": self.check,
            "status": self.status.value,
            "severity": self.severity,
            "ground": self.ground.value if self.ground else None,
            "summary": self.summary,
            "remedy": self.remedy,
            "evidence": dict(self.evidence),
            "elapsed_s": round(self.elapsed_s, 4),
        }

    def to_message(self) -> dict[str, Any]:
        """All of it as plain values, for another process."""
        return {**self.to_dict(), "remedy_key": self.remedy_key}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The inverse of `to_dict` and `to_message`. Raises KeyError, TypeError, ValueError for what is not one."""
        names = ("summary", "remedy", "evidence", "check", "severity", "elapsed_s")
        finding = cls(Outcome(data["status"]), **{name: data[name] for name in names})
        finding.remedy_key = data.get("remedy_key", "")
        if data.get("ground"):
            finding.ground = Ground(data["ground"])
        if not data.get("ground", True):
            finding.ground = None
        return finding

    def copy(self) -> Finding:
        """An equal finding of its own, not blocking."""
        return Finding.from_dict(self.to_message())


class Verdict(Record):
    """`block` or allow, the exit status that says so, and one line why."""

    exit_status: int
    reason: str

    @property
    def block(self) -> bool:
        """Whether an update is to be held back."""
        return self.exit_status in (EXIT_BLOCK, EXIT_TIMEOUT)

    @property
    def word(self) -> str:
        """The verdict as the JSON contract has it."""
        return "block" if self.block else "allow"


class Examination(Record):
    """What a run found: findings in the order of the checks, the verdict, and the facts that the reports show."""

    subject: Subject
    deadline: Deadline
    verdict: Verdict = Verdict(0, "")
    # The [announce] settings, for whoever tells people.
    announce: dict[str, Any] = {"motd": True, "journal": True, "metrics-directory": ""}
    findings: list[Finding] = []
    toolchain: dict[str, Any] | None = None
    cpu: dict[str, Any] | None = None
    sandbox: str = ""
    elapsed_s: float = 0.0
    # Seconds that the machine kept the toolchain waiting, which the budget does not count.
    credited_s: float = 0.0
    # When the ledger's judgement was made that this one rests on, in words; empty where everything was judged.
    judged: str = ""
    # Whether a program was killed or did not start, or a file could not be read: the findings may be passing.
    passing: bool = False
    bug: str = ""
    # Why there is no toolchain to judge, where there is none and none is required.
    nothing: str = ""

    @property
    def budget_s(self) -> float:
        """The budget of the run, seconds."""
        return self.deadline.budget

    @property
    def broken(self) -> bool:
        """Whether Go itself was shown to be broken: some check blocks that is not about the CPU limit."""
        return any(f.blocks and f.ground is BROKEN and f.check not in LIMIT_CHECKS for f in self.findings)

    @property
    def not_judged(self) -> list[Finding]:
        """The findings that say nothing for or against Go: to be judged again at the next run."""
        return [f for f in self.findings if f.ground is NOT_JUDGED and f.severity not in (ADVISORY, OFF)]

    def to_dict(self) -> dict[str, Any]:
        """The JSON of a check, schema 1 (DESIGN: the contract that programs rely on)."""
        return {
            "schema": 1,
            "verdict": self.verdict.word,
            "exit_status": self.verdict.exit_status,
            "reason": self.verdict.reason,
            "budget_s": self.budget_s,
            "elapsed_s": round(self.elapsed_s, 4),
            "credited_s": round(self.credited_s, 4),
            "judged": self.judged,
            "subject": {"kind": self.subject.kind, "root": clean(self.subject.root)},
            "toolchain": self.toolchain,
            "cpu": self.cpu,
            "sandbox": self.sandbox,
            "results": [f.to_dict() for f in self.findings],
        }
