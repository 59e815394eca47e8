# SPDX-License-Identifier: GPL-2.0-or-later
"""Weighing: what blocks, what does not, and with which exit status."""

from __future__ import annotations

import pytest

from go_health_hook.verdict import ADVISORY, ERROR, FAIL, PASS, REQUIRED, SKIP, TIMEOUT, WARN, Finding, weigh


def finding(status: str, severity: str = REQUIRED, check: str = "version") -> Finding:
    made = Finding(status, f"it is {status}", "mend it")
    made.check, made.severity = check, severity
    return made


@pytest.mark.parametrize(
    ("statuses", "exit_status"),
    [
        ([PASS], 0),
        ([PASS, WARN], 0),
        ([PASS, SKIP], 0),
        ([PASS, FAIL], 1),
        ([PASS, TIMEOUT], 3),
        ([TIMEOUT, FAIL], 1),
        ([PASS, ERROR], 4),
        ([FAIL, ERROR], 1),
    ],
)
def test_exit_status(statuses: list[str], exit_status: int) -> None:
    verdict = weigh([finding(s) for s in statuses])
    assert verdict.exit_status == exit_status
    assert verdict.word == ("block" if exit_status in (1, 3) else "allow")
    assert verdict.reason


@pytest.mark.parametrize("status", [FAIL, TIMEOUT, ERROR])
def test_an_advisory_finding_never_blocks(status: str) -> None:
    assert weigh([finding(PASS), finding(status, ADVISORY)]).exit_status == 0


def test_the_reason_names_the_checks() -> None:
    assert "stdlib" in weigh([finding(FAIL, check="stdlib")]).reason
    assert "goroot, version" in weigh([finding(TIMEOUT, check="goroot"), finding(TIMEOUT)]).reason


def test_nothing_to_judge_is_allowed() -> None:
    assert weigh([finding(SKIP)], "no Go").reason == "no Go"


def test_text_cannot_drive_a_terminal_or_forge_a_line() -> None:
    made = Finding(FAIL, "a\x1b[31m\nb\u202e", "r\r", {"k": b"\xff".decode("latin1") + "\x07"})
    assert made.summary.isprintable() and made.remedy.isprintable()
    assert all(str(v).isprintable() for v in made.evidence.values())
    assert Finding.from_dict(made.to_dict()).to_dict() == made.to_dict()
