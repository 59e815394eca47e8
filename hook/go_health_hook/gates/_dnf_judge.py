# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dnf gate does in its worker: find Go, lay an incoming one out, have it examined, decide, say why.

Nothing here talks to the updater. A worker that hangs is killed by the gate, which keeps the clock.
"""

from __future__ import annotations

import time

from go_health_hook import override, policy
from go_health_hook.deadline import Clock, Deadline
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, EXIT_TIMEOUT, BadInput
from go_health_hook.policy import Action, Case
from go_health_hook.records import Record
from go_health_hook.run.worker import unless_stuck
from go_health_hook.subject import Subject
from go_health_hook.text import clean
from go_health_hook.verdict import FAIL, LIMIT_CHECKS, TIMEOUT, WARN, Examination, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.gates._dnf_transaction import Transaction
    from go_health_hook.go.toolchain import Toolchain
    from go_health_hook.linux.cgroup_chain import Chain
    from go_health_hook.linux.offline import Prepared
    from go_health_hook.linux.rpmfile import Place
    from go_health_hook.verdict import Finding

MOST_SECONDS = 110.0  # that an updater is kept waiting; the timeout in the action line is the last resort
OVERRIDE_SECONDS = 1.0  # to read it, on a disk that may not answer
UNREAD = ("", f"{override.FILE}: cannot be read in time")
MAX_NOTES = 5  # in a message
ONCE = "go-health-hook override --for 2h --reason TEXT"
REFUSED = "the update prepared for the next reboot would be refused"
LONGER = "set [budget] dnf = {seconds:g} in /etc/go-health-hook.conf"
# The gate's words for a finding's remedy. An incoming Go is not repaired, it is kept out.
REMEDY = {
    "keep-out": "update without it until its vendor has fixed it: dnf upgrade --exclude='{names}'",
    "keep-out-unnamed": (
        "see what dnf upgrade would replace it with, and exclude that; a person's own upgrade is not stopped"
    ),
    "limit": (
        "keep the Go that reads the quota: dnf upgrade --exclude='{names}'; or set {check} = advisory in [checks] of "
        "/etc/go-health-hook.conf"
    ),
    # Of an update that waits for a reboot or that a boot applies.
    "keep-out-offline": "prepare it again without that Go, until its vendor has fixed it: {without}",
    # Of an incoming Go that does not answer, for which nobody is blamed.
    "time": f"update without it: dnf upgrade --exclude='{{names}}'; or, if it is only slow here, {LONGER}",
    "time-offline": f"prepare it again without that Go: {{without}}; or, if it is only slow here, {LONGER}",
    "late": f"see whether it answers by hand: go version; if it is only slow here, {LONGER}",
}


class Survey(Record):
    """What is installed: GOROOT or "", how it looks (see _dnf_after), who owns its files, and what was asked for.

    `older_installed`: whether packages of the names asked for are installed.
    """

    goroot: str = ""
    looks: str = ""
    owners: list[str] = []
    older_installed: bool = False


def find_installed(settings: Config) -> Toolchain | None:
    """Return the running root's toolchain, or None where there is none."""
    from go_health_hook.go.toolchain import find

    configured = settings.get("toolchain", "goroot")
    return find(Subject(), "" if configured == "auto" else configured)


def survey(found: Toolchain | None, new_names: Sequence[str], with_owners: bool) -> dict[str, Any]:
    """Return the arguments of a Survey. `with_owners`: the updater does not tell who owns which file."""
    from go_health_hook.gates._dnf_after import looks

    goroot = found.goroot if found else ""
    owners: list[str] = []
    older = False
    if (goroot and with_owners) or new_names:
        from go_health_hook.linux.rpmdb import has_any, ownership

        owners = [p.name for p in ownership("/", goroot).packages] if goroot and with_owners else []
        older = bool(new_names) and has_any(new_names)
    return {"goroot": goroot, "looks": looks(goroot), "owners": owners, "older_installed": older}


class Answer(Record):
    """What becomes of a transaction: an exit status and, for a veto, the message to the updater. All plain values.

    `notes` are for the updater's log, `said` for people on stderr. `entry` is what is to be announced (record.entry),
    or None. `look`: Go is to be looked at after the transaction whatever has changed.
    """

    status: int = EXIT_ALLOW
    message: str = ""
    notes: Sequence[str] = ()
    said: Sequence[str] = ()
    entry: dict[str, Any] | None = None
    look: bool = False

    def to_message(self) -> dict[str, Any]:
        """Return the arguments that make an equal one."""
        return dict(vars(self))


class Task(Record):
    """What is to be judged: what comes in, the installed Go, or both in turn; and where incoming packages may be.

    `names` are those of Go's packages in the transaction. `places` are known so far; `last`: there are no more.
    `found` is what `find_installed` has returned in this process, `...` where it was not asked.
    """

    transaction: Transaction
    survey: Survey
    names: set[str]
    incoming: bool
    running: bool
    places: dict[str, list[Place]] = {}
    last: bool = False
    found: Any = ...

    def __post_init__(self) -> None:
        self.token = _token() if self.incoming else ""


def _token() -> str:
    from go_health_hook.go.unpack import new_token

    return new_token()


def judge(
    task: Task, settings: Config, deadline: Deadline, clock: Clock, stage: Callable[[str, str, Deadline], None]
) -> Answer:
    """Return the answer to the updater. `stage` is told what begins, of which kind of subject, and its deadline.

    The toolchain's own time begins when it is laid out: to unpack it was our work. `clock` is for that part. Raises
    NotFound while there are more places to look for packages in.
    """
    transaction = task.transaction
    touching = [item for item in transaction.items if item.name in task.names]
    if touching:
        from go_health_hook.go import ledger

        ledger.drop()
    if task.incoming:
        from go_health_hook.gates import _dnf_incoming
        from go_health_hook.go.unpack import CannotLook

        try:
            answers = _dnf_incoming.judge(task, settings, deadline, clock, stage)
        except CannotLook as error:
            return undecided(transaction.gate, f"the incoming Go is not judged: {error}", "incoming")
        if answers:
            return _dnf_incoming.worst(answers)
    elif touching and not transaction.automatic and _go_owner(task.survey.goroot) in {item.name for item in touching}:
        return Answer(notes=["a person removes Go: not judged"])
    if not task.running:
        return Answer()
    from go_health_hook.examine import BY_GATE, examine_here

    until = deadline
    if task.incoming:  # to read the packages was our work
        until = Deadline(deadline.budget, ceiling=deadline.ceiling - deadline.elapsed(), clock=clock)
    stage("judging", "running", until)
    examination = examine_here(Subject(), settings, until, depth=BY_GATE, found=task.found)
    excused = excuse_libraries(task, examination, stage)
    return decide(transaction.gate, examination, settings, in_force(), look=excused, offline=transaction.offline)


def _go_owner(goroot: str) -> str:
    """Return the name of the installed package that has the go command, or an empty string."""
    from go_health_hook.linux.rpmdb import ownership

    go = ownership("/", goroot).go
    return go.name if go else ""


def excuse_libraries(task: Task, examination: Examination, stage: Callable[[str, str, Deadline], None]) -> bool:
    """Return whether Go only lacks a library that this transaction brings. Raises NotFound."""
    if not any(finding.status == FAIL for finding in examination.findings):
        return False
    from go_health_hook.gates import _libraries

    if not any(_libraries.is_excusable(finding) for finding in examination.findings):
        return False
    stage("libraries", examination.subject.kind, Deadline(_libraries.SECONDS))
    coming = [item.full for item in task.transaction.coming]
    return _libraries.excuse(examination.findings, coming, task.places, task.last)


def sound_before(before: str, chain: Chain, affinity: int) -> list[str]:
    """Return the checks on the CPU limit that the installed Go passes, by its version's rule.

    `before` is the version of the installed package that has the go command, or empty. An unreadable limit is so with
    any Go.
    """
    from go_health_hook.go import maxprocs
    from go_health_hook.go.versions import parse_version

    try:
        version = parse_version(f"go{before.replace('~', '')}")
    except ValueError:
        return []
    fits = maxprocs.predict(version, affinity, chain).value == maxprocs.expected(affinity, chain)
    return ["gomaxprocs"] if chain.certain and fits else []


def in_force() -> tuple[str, str]:
    """In a worker: return one line on the override in force, or ""; and what is wrong with its record, likewise."""
    try:
        found = unless_stuck(override.in_force, OVERRIDE_SECONDS, ...)
    except BadInput as error:
        return "", error.line()
    if found is ...:
        return UNREAD
    return (found.line() if found else ""), ""


def decide(
    gate: str,
    examination: Examination,
    settings: Config,
    overridden: tuple[str, str],
    *,
    names: Sequence[str] = (),
    sound_before: Sequence[str] = (),
    notes: Sequence[str] = (),
    look: bool = False,
    offline: Prepared | None = None,
) -> Answer:
    """Return the answer to the updater, by the policy.

    `overridden` is what `in_force` returns, `names` are the incoming packages of Go. `offline` is the update that waits
    for a reboot or that this boot applies. `look`: Go lacks only what the transaction brings and is looked at
    afterwards.
    """
    from go_health_hook.announce import record

    line, trouble = overridden
    decision = policy.settle(
        examination,
        Case(
            override=line,
            sound_before=sound_before,
            starved_blocks=settings.get("budget", "starved") == "block",
        ),
    )
    _reword(examination, names, offline)
    verdict = examination.verdict
    if offline is not None and offline.waits and decision.action is Action.BLOCK:
        examination.verdict = verdict = Verdict(verdict.exit_status, f"{REFUSED}: {verdict.reason}")
    event = record.OVERRIDE if decision.action is Action.OVERRIDE else record.VERDICT
    entry = record.entry(examination, gate, event, time.time())
    entry["judged_later"] = look
    said = [trouble] if trouble and verdict.block else []
    if decision.action is Action.BLOCK:
        return Answer(verdict.exit_status, veto(examination, notes[:MAX_NOTES], offline), [], said, entry)
    if decision.action is Action.OVERRIDE:
        said.append(f"the update goes on although {verdict.reason}: {line}")
        return Answer(EXIT_ALLOW, "", [line, *notes], said, entry, look)
    if decision.action is Action.UNDECIDED or examination.not_judged:
        said.append(f"{verdict.reason}. The update goes on")
    elif examination.subject.kind == "incoming":
        warned = [f for f in examination.findings if f.check in LIMIT_CHECKS and f.status in (WARN, FAIL)]
        said += [f"{f.check}: {f.summary}. The update goes on" for f in warned]
    as_judged = f", {examination.judged}" if examination.judged else ""
    notes = [f"{verdict.reason}{as_judged} ({examination.elapsed_s:.2f} s)", *notes]
    return Answer(verdict.exit_status, "", notes, said, entry, look)


def found_afterwards(gate: str, examination: Examination, settings: Config) -> Answer:
    """Return what is said and recorded of the Go that a transaction has left."""
    from go_health_hook.announce import record

    policy.settle(examination, Case(starved_blocks=settings.get("budget", "starved") == "block"))
    _reword(examination)
    verdict = examination.verdict
    said = []
    if verdict.block:
        what = "Go is broken" if examination.broken else "a check fails"
        said = [f"after this transaction {what}: {verdict.reason}"]
    elif verdict.exit_status or examination.not_judged:
        said = [f"after this transaction: {verdict.reason}"]
    entry = record.entry(examination, gate, record.AFTER, time.time())
    return Answer(verdict.exit_status, "", [], said, entry)


def _reword(examination: Examination, names: Sequence[str] = (), offline: Prepared | None = None) -> None:
    """Say remedies in this updater's words: what comes in is kept out, and nobody is blamed for slowness."""
    incoming = examination.subject.kind == "incoming"
    words = {
        "names": ",".join(clean(name) for name in names) or "golang*",
        "seconds": more_seconds(examination.budget_s),
        "without": offline.without(names) if offline else "",
    }
    for finding in examination.findings:
        key = _key(finding, incoming, bool(names), offline is not None) if finding.blocks else ""
        if key:
            finding.remedy_key = key
            finding.remedy = clean(REMEDY[key].format(**words, check=finding.check), 600)


def _key(finding: Finding, incoming: bool, named: bool, offline: bool) -> str:
    """Return which of REMEDY a finding that blocks gets; an empty string leaves it its own."""
    if finding.status == TIMEOUT:
        if incoming:
            return "time-offline" if offline else "time"
        return "" if finding.remedy_key == "time" else "late"
    if not incoming:
        return ""
    if finding.check in LIMIT_CHECKS:
        return "limit"
    return "keep-out-unnamed" if not named else "keep-out-offline" if offline else "keep-out"


def more_seconds(budget: float) -> float:
    """Return a budget (seconds) that may do where this one did not."""
    return min(max(20.0, 4 * budget), MOST_SECONDS)


def veto(examination: Examination, notes: Sequence[str] = (), offline: Prepared | None = None) -> str:
    """Return what the updater prints: what failed, the remedy, and how to go ahead once."""
    incoming = examination.subject.kind == "incoming"
    blocking = [f for f in examination.findings if f.blocks]
    if examination.verdict.exit_status == EXIT_TIMEOUT:
        what = f"Go could not be judged within {examination.budget_s:g} s"
    elif all(f.check in LIMIT_CHECKS for f in blocking):
        what = "the Go that it would leave ignores the CPU limit here, which the installed one keeps to"
        if not incoming:
            what = "the CPU limit here is not kept or cannot be read, which [checks] requires"
    else:
        what = "the Go that this transaction would leave is broken" if incoming else "the Go installed here is broken"
    waits = offline is not None and offline.waits
    lines = [f"go-health-hook: {REFUSED if waits else 'nothing is installed'}, since {what}."]
    seen = ""
    for finding in blocking:
        lines.append(f"  {finding.check}: {finding.summary}")
        if finding.remedy and finding.remedy != seen:
            lines.append(f"    -> {finding.remedy}")
            seen = finding.remedy
    lines += [f"  {note}" for note in notes]
    once = ONCE
    if offline is not None and not waits:
        once = f"{ONCE} && {offline.again()}" if offline.repeatable else f"{ONCE}, and prepare it again"
        if not incoming:
            lines.append(f"  Then prepare it again{f': {offline.again()}' if offline.repeatable else ''}")
    lines.append(f"  To go ahead once anyway: {once}")
    return "\n".join(lines)


def undecided(gate: str, line: str, kind: str = "running") -> Answer:
    """Return the answer where nothing could be judged, in one line: the update goes on, and that is recorded."""
    from go_health_hook.announce import record

    examination = Examination(Subject(kind), Deadline(0), Verdict(EXIT_INTERNAL, clean(line, 600)))
    entry = record.entry(examination, gate, record.VERDICT, time.time())
    return Answer(EXIT_INTERNAL, "", [], [f"{line}. The update goes on"], entry, look=True)
