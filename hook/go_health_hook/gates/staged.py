# SPDX-License-Identifier: GPL-2.0-or-later
"""The staged deployment: judged where it lies, as soon as it is staged and once more before the shutdown finalizes it.

The answer to the updater is ostree's own finalization lock. Only a lock that is ours is ever lifted.
"""

from __future__ import annotations

from go_health_hook import deployments
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, BadInput, HookError
from go_health_hook.examine import examine, severities
from go_health_hook.gates import _refused
from go_health_hook.gates._unit import ERR, INFO, NOTICE, WARNING, overridden, say
from go_health_hook.subject import Subject
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from go_health_hook.config import Config
    from go_health_hook.deployments import Deployment
    from go_health_hook.gates._refused import Note
    from go_health_hook.verdict import Examination

GATE = "staged"
# How long the announcement may take (seconds): what this unit leaves behind is killed.
TELL_SECONDS = 1.0
# Besides the time for judging (seconds): to read the deployments, and to lock, which waits for ostree's own lock.
READ_SECONDS = 5.0
LOCK_SECONDS = 8.0
WORDS = ("shutdown", "recheck")
# systemd starts no second run of the unit for what changes during one, so each looks again at its end, so many times.
MAX_ROUNDS = 4


def answer(args: argparse.Namespace, configuration: Callable[[], Config]) -> int:
    """Judge the staged deployment and lock, discard or leave it.

    `shutdown`: the last look, nothing can be discarded any more. `recheck`: forget an earlier refusal of this commit.
    Returns the verdict's exit status; 4 where nothing could be decided, and the update goes on.
    """
    for word in args.arguments:
        if word not in WORDS:
            raise BadInput(f"gate staged does not take {clean(word)!r}", hint=f"it takes: {', '.join(WORDS)}")
    if not deployments.on_ostree():
        say(INFO, "not booted from an ostree deployment: no update is staged here")
        return EXIT_ALLOW
    settings = configuration()
    budget = args.budget if args.budget is not None else settings.get("budget", "staged")
    status = EXIT_ALLOW
    try:
        for _ in range(1 if "shutdown" in args.arguments or args.dry_run else MAX_ROUNDS):
            deadline = Deadline(budget + READ_SECONDS + LOCK_SECONDS)
            staged = deployments.on_disk(deadline.within(READ_SECONDS)).staged
            if staged is None:
                _nothing_staged(settings)
                return EXIT_ALLOW
            gate = _Gate(staged, settings, budget, deadline, args)
            status = gate.decide()
            if gate.settled():
                break
        return status
    except HookError as error:
        say(ERR, f"nothing was decided about the staged deployment, the update goes on: {error.line()}")
        return EXIT_INTERNAL
    except OSError as error:
        say(ERR, f"nothing was decided about the staged deployment, the update goes on: {clean(str(error))}")
        return EXIT_INTERNAL


def _nothing_staged(settings: Config) -> None:
    """What was refused before is not staged any more: somebody has discarded it, so nothing is held back."""
    last = _refused.Note.read()
    if last.deployment and last.verdict == "block":
        publish.release(GATE, {key: settings.get("announce", key) for key in ("motd", "journal", "metrics-directory")})
        say(INFO, "the deployment that was refused is not staged any more")
    if last.deployment:
        _kept(_refused.Note().write)


class _Gate:
    def __init__(
        self, staged: Deployment, settings: Config, budget: float, deadline: Deadline, args: argparse.Namespace
    ) -> None:
        self.staged = staged
        self.settings = settings
        self.budget = budget
        self.deadline = deadline
        self.at_shutdown = "shutdown" in args.arguments
        self.recheck = "recheck" in args.arguments
        self.dry_run = args.dry_run
        self.mark = _refused.fingerprint(settings, severities())
        last = _refused.Note.read()
        self.seen = last.deployment == staged.id
        self.note: Note = last if self.seen else _refused.Note(staged.id)
        self.note.ours = self.note.ours and staged.locked
        self.locked = staged.locked
        self.let = False

    def settled(self) -> bool:
        """Whether what was decided upon is still what is there."""
        now = deployments.on_disk(Deadline(READ_SECONDS)).staged
        if now is None:
            return not self.note.deployment
        return now.id == self.staged.id and now.locked == self.locked and (overridden() is not None) == self.let

    def decide(self) -> int:
        """Judge, act, remember; return the exit status."""
        let = overridden()
        self.let = let is not None
        examination = self._judge()
        verdict = examination.verdict
        if self.dry_run:
            say(INFO, f"{self.staged.name}: would be {'refused' if verdict.block else 'let through'}: {verdict.reason}")
            return EXIT_ALLOW
        if verdict.exit_status == EXIT_INTERNAL:
            say(ERR, f"{self.staged.name}: {verdict.reason}; its finalization is left as it is")
            publish.publish(examination, GATE, wait=TELL_SECONDS)
            return EXIT_INTERNAL
        if self.at_shutdown and verdict.block and self.note.verdict == "allow" and _only_late(examination):
            # It was found healthy when it was staged; that a machine on its way down is slow says nothing about Go.
            say(WARNING, f"{self.staged.name} was found healthy before; now {verdict.reason}: it is finalized")
            return EXIT_ALLOW
        news = not self.seen or self.note.verdict != verdict.word
        if not verdict.block:
            if news or self.at_shutdown:
                say(INFO, f"{self.staged.name}: {verdict.reason}")
            self._unlock()
            return self._done(examination, record.VERDICT, news)
        if let is not None:
            say(WARNING, f"{self.staged.name} is let through although {verdict.reason}: {let.line()}")
            self._unlock()
            self._done(examination, record.OVERRIDE, self.note.verdict != record.OVERRIDE)
            return EXIT_ALLOW
        if self.settings.get("ostree", "on-failure") == "warn":
            say(WARNING, f"{self.staged.name} brings a broken Go; on-failure = warn: {verdict.reason}")
            self._unlock()
            self._done(examination, record.WARNED, self.note.verdict != record.WARNED)
            return EXIT_ALLOW
        if self._standing(news):
            say(INFO, f"{self.staged.name} stays locked: {verdict.reason}")
        else:
            self._lock(examination)
        _kept(lambda: _refused.remember(self.staged, examination, self.mark))
        return self._done(examination, record.VERDICT, news)

    def _standing(self, news: bool) -> bool:
        """Whether all has been done and said before: our own lock starts the unit once more."""
        return not news and self.note.ours and not self.at_shutdown

    def _done(self, examination: Examination, event: str, news: bool) -> int:
        """Announce what is new, note what was decided; return the exit status."""
        self.note.verdict = event if event != record.VERDICT else examination.verdict.word
        _kept(self.note.write)
        if news:
            publish.publish(examination, GATE, event=event, wait=TELL_SECONDS)
        return examination.verdict.exit_status

    def _judge(self) -> Examination:
        subject = Subject("staged", self.staged.root)
        limit = self.deadline.within(self.budget)
        if self.recheck:
            _refused.forget(self.staged.checksum)
        known = _refused.recall(self.staged, self.mark, self.settings, subject, limit)
        if known is not None:
            return known
        return examine(subject, self.settings, limit)

    def _lock(self, examination: Examination) -> None:
        """Keep it from being finalized, or discard it, and say so."""
        verdict = examination.verdict
        if self.staged.locked and not self.note.ours:
            say(ERR, f"{self.staged.name} brings a broken Go: {verdict.reason}")
            say(NOTICE, "its finalization is locked by somebody else already: that lock is left alone")
            return
        say(ERR, f"{self.staged.name} brings a broken Go: {verdict.reason}")
        for finding in examination.findings:
            if finding.blocks and finding.remedy:
                say(NOTICE, f"{finding.check}: {finding.remedy}")
        if not self.staged.locked:
            # Noted before it is done: should we be cut off between the two, the lock is known to be ours.
            self.note.ours, self.note.verdict = True, verdict.word
            _kept(self.note.write)
            try:
                self.note.ours = deployments.lock(self.deadline.within(LOCK_SECONDS))
                self.locked = True
                if self.note.ours and not self._is_staged():
                    # Another one was staged meanwhile, and it is that one which has been locked.
                    self._unlock()
                    return
            except HookError as error:
                self.note.ours = False
                say(ERR, f"the update goes on: {error.line()}")
                return
        if self.settings.get("ostree", "on-failure") == "discard" and self.note.ours and not self.at_shutdown:
            deployments.discard(self.deadline.within(LOCK_SECONDS))
            self.note.deployment, self.note.ours = "", False
            publish.note("discarded", f"{self.staged.name} has been discarded: {verdict.reason}")
            say(NOTICE, f"{self.staged.name} has been discarded; a later update is judged anew")
            return
        publish.note("locked", f"{self.staged.name} is locked and will not be finalized: {verdict.reason}")
        say(NOTICE, f"{self.staged.name} is locked: this system stays the default until an update brings a sound Go")
        say(NOTICE, "to let it through once anyway: go-health-hook override --for 2h --reason TEXT")

    def _is_staged(self) -> bool:
        """Whether what was judged is still what is staged."""
        now = deployments.on_disk(self.deadline.within(READ_SECONDS)).staged
        return now is not None and now.id == self.staged.id

    def _unlock(self) -> None:
        """Lift the lock if it is ours."""
        if self.note.ours:
            deployments.unlock(self.deadline.within(LOCK_SECONDS))
            self.note.ours = self.locked = False
            publish.note("unlocked", f"{self.staged.name}: the finalization lock of go-health-hook has been lifted")
            say(NOTICE, f"{self.staged.name}: our finalization lock has been lifted")
        elif self.staged.locked:
            say(INFO, "its finalization is locked by somebody else: that lock is left alone")


def _kept(write: Callable[[], None]) -> None:
    """Write a record; a full or read-only disk changes nothing about the answer."""
    try:
        write()
    except OSError as error:
        say(WARNING, f"{clean(str(error.filename or ''))} is not written: {error.strerror}")


def _only_late(examination: Examination) -> bool:
    return all(f.status == "timeout" for f in examination.findings if f.blocks)
