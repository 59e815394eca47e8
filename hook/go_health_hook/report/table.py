# SPDX-License-Identifier: GPL-2.0-or-later
"""A report for a person: a line a finding, what to do about each that is not well, and the verdict."""

from __future__ import annotations

from go_health_hook.errors import EXIT_TIMEOUT
from go_health_hook.report.style import Style
from go_health_hook.text import clean
from go_health_hook.verdict import ADVISORY, ERROR, FAIL, PASS, SKIP, TIMEOUT, WARN, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.verdict import Examination

# On a terminal; in plain text the words stand alone.
MARKS = {
    PASS: ("32", "✔"),
    FAIL: ("31", "✘"),
    TIMEOUT: ("31", "⏱"),
    WARN: ("33", "!"),
    SKIP: ("2", "–"),
    ERROR: ("35", "?"),
}
WORDS = {PASS: "ok", FAIL: "FAIL", TIMEOUT: "TIMEOUT", WARN: "warn", SKIP: "skip", ERROR: "ERROR"}
INDENT = 13
LONG = 0.5  # seconds of waiting that are worth a word
ONCE = "go-health-hook override --for 2h --reason TEXT"


def report(examination: Examination, *, dry_run: bool = False, verbose: bool = False) -> str:
    """The report of one run, as text of several lines."""
    style = Style()
    lines = [_heading(examination, style)]
    for finding in examination.findings:
        lines += _finding(finding, style, verbose)
    lines.append(_verdict(examination, style, dry_run))
    if examination.verdict.block:
        lines.append(style.wrap(f"To let updates through once anyway: {ONCE}", 2))
    return "\n".join(lines)


def _heading(examination: Examination, style: Style) -> str:
    toolchain = examination.toolchain
    what = "no Go toolchain"
    if toolchain:
        what = f"{toolchain['version'] or 'Go'} in {toolchain['goroot']}"
    elif examination.verdict.exit_status == EXIT_TIMEOUT:
        what = "the Go toolchain was not found in time"
    where = "" if examination.subject.root == "/" else f" of {clean(examination.subject.root)}"
    sandbox = f", run with {examination.sandbox}" if examination.sandbox.startswith("no ") else ""
    return style.paint(style.wrap(f"{what}{where}{sandbox}", 2), "1")


def _finding(finding: Finding, style: Style, verbose: bool) -> list[str]:
    colour, tick = MARKS[finding.status]
    mark = f"{tick} " if style.ticks else ""
    label = f"{mark}{finding.check}"
    word = WORDS[finding.status]
    advisory = " (advisory)" if finding.severity == ADVISORY and finding.status in (FAIL, TIMEOUT) else ""
    head = style.paint(f"  {label:<{INDENT}}{word:<8}", colour)
    lines = [head + style.wrap(finding.summary + advisory, INDENT + 10)]
    if finding.remedy and finding.status != PASS:
        lines.append(" " * (INDENT + 10) + style.wrap(f"-> {finding.remedy}", INDENT + 13, whole=True))
    if verbose:
        for name, value in finding.evidence.items():
            lines.append(style.paint(f"{'':{INDENT + 10}}{style.wrap(f'{name}: {value}', INDENT + 12)}", "2"))
        lines.append(style.paint(f"{'':{INDENT + 10}}took {finding.elapsed_s:.3f} s", "2"))
    return lines


def _verdict(examination: Examination, style: Style, dry_run: bool) -> str:
    verdict = examination.verdict
    status = verdict.exit_status
    if verdict.block:
        word, colour = ("would be blocked" if dry_run else "blocked"), "1;31"
    else:
        word, colour = ("would be allowed" if dry_run else "allowed"), "1;32" if status == 0 else "1;35"
    failed = [f.check for f in examination.findings if f.blocks and f.status == FAIL]
    reason = f"failed: {', '.join(failed)}" if failed else verdict.reason
    credit = examination.credited_s if examination.credited_s >= LONG else 0.0
    took = f"{examination.elapsed_s - credit:.2f} s of {examination.budget_s:g} s"
    waited = f", and {credit:.1f} s in which the machine kept it waiting" if credit else ""
    tail = f" (exit status {status}; {took}{waited})"
    head, _, rest = style.wrap(f"Updates {word}: {reason}{tail}", 2).partition(": ")
    return f"{style.paint(head + ':', colour)} {rest}"
