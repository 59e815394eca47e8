# SPDX-License-Identifier: GPL-2.0-or-later
"""From a subject and a deadline to findings and a verdict: the checks, side by side, in a process of their own."""

from __future__ import annotations

import errno
import os
import threading
import time

from go_health_hook import checks
from go_health_hook.deadline import Deadline
from go_health_hook.errors import BadInput, NotJudged
from go_health_hook.go import ledger, maxprocs
from go_health_hook.go import toolchain as toolchains
from go_health_hook.linux import cgroup
from go_health_hook.linux.cgroup_chain import Chain
from go_health_hook.records import Record
from go_health_hook.run import log, sandbox, scratch
from go_health_hook.run.worker import LOOK, Worker, has_own_proc, unless_stuck
from go_health_hook.text import clean
from go_health_hook.verdict import ERROR, FAIL, LIMIT_CHECKS, NOT_JUDGED, OFF, PASS, SKIP, TIMEOUT, Examination, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.subject import Subject

# The worker answers for its own time-outs; one that has not done so this many seconds after the deadline is stuck.
GRACE = 0.06
# For what is on the disk of our own records, which may not answer while Go's does (seconds).
RECORD_SECONDS = 0.5
TRY_AGAIN = (
    "try again when the machine is less busy, or give it more time: [budget] ceiling = 110 in /etc/go-health-hook.conf"
)

# Checks that say the same of the same files.
BY_FILES = ("stdlib", "packages")
# What is no fault of a toolchain's file.
LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EAGAIN)


class Depth(Record):
    """How much a run does. `deep`: a program is built and run. `light`: what the ledger knows is not judged again.

    `enter`: what is judged healthy goes into the ledger. It knows nothing but the running root's own Go.
    """

    deep: bool = False
    light: bool = False
    enter: bool = False


USUAL = Depth()
BY_GATE = Depth(light=True, enter=True)


def examine(
    subject: Subject, config: Config, deadline: Deadline, *, goroot: str = "", depth: Depth = USUAL
) -> Examination:
    """Run the checks on the subject's toolchain; policy.settle gives the verdict on them.

    Never takes longer than the deadline and a moment (GRACE), whatever hangs. Raises BadInput where the subject's root
    is no directory.
    """
    run = _Run(subject, config, deadline)
    worker = Worker(lambda send: _work(subject, config, deadline, goroot, depth, run.wanted, send))
    try:
        for message in worker.messages(deadline.later(GRACE)):
            run.take(message)
    finally:
        worker.close()
    return run.examination(lambda: _unanswered(worker, run.result.bug))


def examine_here(
    subject: Subject, config: Config, deadline: Deadline, *, goroot: str = "", depth: Depth = USUAL, found: Any = ...
) -> Examination:
    """Do what `examine` does in this process, which is a worker already: one who waits for it keeps the clock.

    `found` is the subject's toolchain or None, where it has been looked for already.
    """
    run = _Run(subject, config, deadline)
    messages: list[Any] = []
    _work(subject, config, deadline, goroot, depth, run.wanted, messages.append, found)
    for message in list(messages):  # a check that hangs may answer later
        run.take(message)
    return run.examination(_late)


def late(subject: Subject, config: Config, deadline: Deadline) -> Examination:
    """Return the examination of a run that had not answered at all when time ran out."""
    return _Run(subject, config, deadline).examination(_late)


class _Run:
    """What has been heard of the checks so far."""

    def __init__(self, subject: Subject, config: Config, deadline: Deadline) -> None:
        self.config = config
        self.deadline = deadline
        self.wanted = [c for c in checks.every() if config.get("checks", c.name) != OFF]
        self.result = Examination(subject, deadline, announce=config.announce)
        self._found: dict[str, Finding] = {}
        self._nothing = ""

    def take(self, message: Any) -> None:
        """Take one message of `_work`. Raises BadInput."""
        kind, *values = message
        if kind == "finding":
            finding = Finding.from_dict(values[0])
            self._found[finding.check] = finding
        elif kind == "facts":
            _take(self.result, values[0])
        elif kind == "unusable":
            raise BadInput(values[0], hint="name the top of a root file system")
        elif kind == "nothing":
            self._nothing = values[0]
        else:
            self.result.bug = str(values[0])

    def examination(self, unanswered: Callable[[], Finding]) -> Examination:
        """Return all of it; `unanswered` gives the finding of a check that has not answered."""
        examination, config = self.result, self.config
        starved = self.deadline.starved
        log.debug(self.deadline.ledger())
        for check in self.wanted:
            finding = self._found.get(check.name) or unanswered()
            if finding.status == TIMEOUT and starved:
                finding.ground = NOT_JUDGED
                finding.remedy = TRY_AGAIN
            finding.check = check.name
            finding.severity = config.get("checks", check.name)
            examination.findings.append(finding)
        examination.elapsed_s = self.deadline.elapsed()
        examination.credited_s = self.deadline.credited()
        if self._nothing and config.get("toolchain", "required"):
            from go_health_hook.checks._remedies import install

            # Asked for by a setting of its own, so it blocks whatever the severity of the check that would have looked.
            missing = Finding(
                FAIL, "no Go toolchain is installed", f"{install('golang')}, or set required = no in [toolchain]"
            )
            missing.check = "goroot"
            examination.findings = [missing, *(f for f in examination.findings if f.check != missing.check)]
        else:
            examination.nothing = self._nothing
        return examination


def _late() -> Finding:
    return Finding(
        TIMEOUT, "had not answered when time ran out", "look for a hanging disk or toolchain; try --budget 30"
    )


def _unanswered(worker: Worker, bug: str) -> Finding:
    """Return the finding of a check that sent none: its worker died, or time ran out with the check in it."""
    if bug:
        return Finding(ERROR, "not carried out, through a fault of the hook itself", "please report it", {"trace": bug})
    if worker.finished and worker.end():
        return Finding(ERROR, f"not judged: the process of the hook that runs the checks {worker.end()}", LOOK)
    return _late()


def _take(examination: Examination, facts: dict[str, Any]) -> None:
    examination.sandbox = facts.get("sandbox", "")
    examination.passing = facts.get("passing", False)
    examination.judged = facts.get("judged", "")
    if facts.get("cpu"):
        known = (examination.cpu or {}).get("actual_gomaxprocs")  # messages of threads may overtake each other
        examination.cpu = {**facts["cpu"], "actual_gomaxprocs": facts.get("actual", known)}
    if facts.get("goroot"):
        examination.toolchain = {
            "goroot": clean(facts["goroot"]),
            "version": facts.get("version"),
            "go": f"{clean(facts['goroot'])}/bin/go",
            "packages": facts.get("packages", []),
        }


def _work(
    subject: Subject,
    config: Config,
    deadline: Deadline,
    goroot: str,
    depth: Depth,
    wanted: list[checks.Check],
    send: Callable[[object], None],
    found: Any = ...,
) -> None:
    """In the worker: find the toolchain, run the checks side by side, send what they find as they find it."""
    root = os.path.realpath(subject.root)
    if not os.path.isdir(root):
        send(("unusable", f"{clean(subject.root)} is not a directory"))
        return
    if not has_own_proc():
        lacking = NotJudged(
            "/proc is not mounted here, or that of another PID namespace", hint="mount -t proc proc /proc"
        )
        for check in wanted:
            _send(send, check.name, _mishap(lacking), 0.0)
        return
    subject.root = root
    configured = config.get("toolchain", "goroot")
    toolchain: toolchains.Toolchain | None
    try:
        wanted_goroot = goroot or ("" if configured == "auto" else configured)
        toolchain = toolchains.find(subject, wanted_goroot) if found is ... else found
    except NotJudged as error:
        for check in wanted:
            _send(send, check.name, _mishap(error), 0.0)
        return
    if toolchain is None:
        nothing = toolchains.why_none(subject)
        send(("facts", {"cpu": _cpu(cgroup.read_chain())}))
        send(("nothing", nothing))
        for check in wanted:
            _send(send, check.name, Finding(SKIP, nothing), 0.0)
        return
    toolchain.lasting = subject.kind == "running" and not goroot
    began = time.time()
    context = checks.Context(subject, toolchain, config, deadline, depth.deep)
    context.facts["goroot"] = toolchain.goroot
    send(("facts", dict(context.facts)))
    own = toolchain.lasting and os.geteuid() == 0
    if own and depth.light:
        context.known = unless_stuck(lambda: ledger.recall(toolchain, config), RECORD_SECONDS, None)
        context.facts["judged"] = context.known.line if context.known else ""
    threads = [threading.Thread(target=_run, args=(check, context, send), daemon=True) for check in wanted]
    for thread in threads:
        thread.start()
    context.facts["cpu"] = _cpu(checks.chain_of(context))
    send(("facts", dict(context.facts)))
    end = deadline.later(GRACE / 2)
    for thread in threads:
        while thread.is_alive() and not end.expired:
            thread.join(end.remaining())
    unless_stuck(scratch.sweep_killed, RECORD_SECONDS, None)
    if own and depth.enter and context.known is None and not end.expired:
        unless_stuck(lambda: _enter(context, wanted, began), RECORD_SECONDS, None)


def _enter(context: checks.Context, wanted: Sequence[checks.Check], began: float) -> None:
    """Put a toolchain that was judged healthy into the ledger; one that was not is forgotten."""
    found = dict(context.found)
    healthy = all(found[name].status in (PASS, SKIP) for name in BY_FILES if name in found)
    sound = all(f.ground is None and f.status != ERROR for name, f in found.items() if name not in LIMIT_CHECKS)
    if "stdlib" in found and len(found) == len(wanted) and healthy and sound and not context.facts.get("passing"):
        by_files = {name: found[name].to_message() for name in BY_FILES if name in found}
        ledger.enter(
            context.toolchain, context.config, by_files, context.facts.get("packages", []), context.closure, began
        )
    else:
        ledger.drop()


def _cpu(chain: Chain) -> dict[str, Any]:
    """What the reports say of the CPU limit on the hook's own process, whichever checks are carried out."""
    tightest = chain.tightest
    affinity = cgroup.affinity()
    return {
        "hierarchy": chain.hierarchy,
        "path": clean(chain.path),
        "quota_cpus": chain.quota_cpus,
        "affinity_cpus": affinity,
        "expected_gomaxprocs": maxprocs.expected(affinity, chain),
        "limiting_level": clean(tightest.path) if tightest else None,
    }


def _run(check: checks.Check, context: checks.Context, send: Callable[[object], None]) -> None:
    started = time.monotonic()
    try:
        finding = _as_known(context, check.name) or check.run(context)
    except Exception as error:
        finding = _mishap(error, context.toolchain.goroot, context.subject.on_host(context.toolchain.goroot))
        context.facts["passing"] = True
    context.facts["sandbox"] = sandbox.host().describe()  # running may have shown that this machine can do less
    context.facts["passing"] = context.facts.get("passing", False) or sandbox.host().struck
    send(("facts", dict(context.facts)))
    context.found[check.name] = finding
    _send(send, check.name, finding, time.monotonic() - started)


def _as_known(context: checks.Context, name: str) -> Finding | None:
    """Return what the ledger has of a check that depends on the files alone."""
    if context.known is None or name not in context.known.findings:
        return None
    finding = Finding.from_dict(context.known.findings[name])
    if finding.status == PASS:
        finding.summary = f"{finding.summary}, {context.known.line}"
    return finding


def _mishap(error: Exception, *goroots: str) -> Finding:
    """A toolchain's file that cannot be read is the toolchain's fault; what else was not foreseen is ours."""
    if isinstance(error, NotJudged):
        return Finding(ERROR, f"not judged: {error.message}", error.hint)
    # The subject's path or the host's: they differ below another root.
    places = tuple(f"{place}/" for place in goroots)
    if isinstance(error, OSError) and f"{error.filename or ''}/".startswith(places) and error.errno not in LACKING:
        where = clean(str(error.filename))
        return Finding(
            FAIL, f"{where}: {error.strerror}", "look at the file and its disk (dmesg), then reinstall the toolchain"
        )
    import traceback

    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return Finding(ERROR, f"a fault of the hook itself: {error!r}", "please report it", {"trace": trace})


def _send(send: Callable[[object], None], name: str, finding: Finding, seconds: float) -> None:
    finding.check = name
    finding.elapsed_s = seconds
    send(("finding", finding.to_message()))
