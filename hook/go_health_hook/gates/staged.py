# SPDX-License-Identifier: GPL-2.0-or-later
"""The staged deployment: judged where it lies, as soon as it is staged and once more before the shutdown finalizes it.

The answer to the updater is ostree's own finalization lock. Only a lock that is ours is ever lifted.
"""

from __future__ import annotations

from go_health_hook import policy
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, EXIT_TIMEOUT, BadInput, HookError
from go_health_hook.examine import examine, severities
from go_health_hook.gates import _refused
from go_health_hook.gates._unit import ERR, INFO, NOTICE, WARNING, overridden, say, say_override, say_remedies
from go_health_hook.linux import ostree
from go_health_hook.subject import Subject
from go_health_hook.text import clean
from go_health_hook.verdict import Examination, Verdict
from go_health_hook.wiring import NOT_HERE, NOT_WIRED, WIRED, Wired, add_to_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from go_health_hook.config import Config
    from go_health_hook.gates import Call
    from go_health_hook.gates._refused import Note
    from go_health_hook.linux.ostree import Deployment
    from go_health_hook.wiring import View

GATE = "staged"
# How long the announcement may take (seconds), since what this unit leaves behind is killed: nobody waits for it but a
# shutdown.
TELL_SECONDS = 5.0
TELL_SECONDS_AT_SHUTDOWN = 1.0
# Besides the time for judging (seconds): to read the deployments, and to lock, which waits for ostree's own lock.
READ_SECONDS = 5.0
LOCK_SECONDS = 8.0
# The budget at shutdown (seconds) is this at most, whatever [budget] staged is. The ceiling at shutdown and the above
# have to fit into the guard's TimeoutStopSec=, or the guard would be killed before it locks.
SHUTDOWN_SECONDS = 20.0
WORDS = ("shutdown", "recheck")
# systemd starts no second run of the unit for what changes during one, so each looks again at its end, so many times.
MAX_ROUNDS = 4
# What is the machine's and not the image's: a deployment's own is empty (ostree's adapting-existing), and /opt, /home,
# /srv, /usr/local are links into it wherever they are not the image's.
NOT_OF_THE_IMAGE = ("/var", "/run")


BUDGET = 10.0
FINALIZE = "ostree-finalize-staged.service"
PATH_UNIT = "go-health-hook-staged.path"
GUARD_UNIT = "go-health-hook-guard.service"
UNITS = (FINALIZE, PATH_UNIT, GUARD_UNIT)


def answer(call: Call) -> int:
    """Judge the staged deployment and lock, discard or leave it.

    `shutdown`: the last look, nothing can be discarded any more. `recheck`: forget an earlier refusal of this commit.
    Returns the verdict's exit status; 4 where nothing could be decided or what was decided could not be done.
    """
    for word in call.arguments:
        if word not in WORDS:
            raise BadInput(f"gate staged does not take {clean(word)!r}", hint=f"it takes: {', '.join(WORDS)}")
    if not ostree.on_ostree():
        say(INFO, "not booted from an ostree deployment: no update is staged here")
        return EXIT_ALLOW
    settings = call.settings()
    at_shutdown = "shutdown" in call.arguments
    budget = call.budget if call.budget is not None else settings.budget(__name__, BUDGET)
    if at_shutdown:
        budget = min(budget, SHUTDOWN_SECONDS)
    status = EXIT_ALLOW
    try:
        for left in reversed(range(1 if at_shutdown or call.dry_run else MAX_ROUNDS)):
            beside = READ_SECONDS + LOCK_SECONDS
            wall = max(budget, ceiling_of(settings.get("budget", "ceiling"), shutdown=at_shutdown))
            deadline = Deadline(budget + beside, ceiling=wall + beside)
            staged = ostree.on_disk(deadline.within(READ_SECONDS)).staged
            if staged is None:
                if not call.dry_run:
                    _nothing_staged(settings)
                return EXIT_ALLOW
            gate = _Gate(staged, settings, budget, deadline, call)
            status = gate.decide()
            if not left or gate.settled():
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
        publish.release(GATE, settings.announce)
        say(INFO, "the deployment that was refused is not staged any more")
    if last.deployment:
        _kept(_refused.Note().write)


class _Gate:
    def __init__(self, staged: Deployment, settings: Config, budget: float, deadline: Deadline, call: Call) -> None:
        self.staged = staged
        self.settings = settings
        self.budget = budget
        self.deadline = deadline
        self.at_shutdown = "shutdown" in call.arguments
        self.recheck = "recheck" in call.arguments
        self.dry_run = call.dry_run
        self.tell = TELL_SECONDS_AT_SHUTDOWN if self.at_shutdown else TELL_SECONDS
        self.mark = _refused.fingerprint(settings, severities())
        last = _refused.Note.read()
        self.seen = last.deployment == staged.id
        self.note: Note = last if self.seen else _refused.Note(staged.id)
        self.note.ours = self.note.ours and staged.locked
        # How it is to be when this run is over.
        self.locked = staged.locked
        self.let = False

    def settled(self) -> bool:
        """Whether what was decided upon is still what is there; yes where that cannot be read."""
        try:
            now = ostree.on_disk(Deadline(READ_SECONDS)).staged
        except HookError as error:
            say(INFO, f"not looked at again: {error.line()}")
            return True
        if now is None:
            return not self.note.deployment
        return now.id == self.staged.id and now.locked == self.locked and (overridden() is not None) == self.let

    def decide(self) -> int:
        """Judge, act, remember; return the exit status."""
        let = overridden()
        self.let = let is not None
        examination = self._judge()
        if examination.findings:
            policy.settle(examination, policy.Case())
        verdict = examination.verdict
        if self.dry_run:
            say(INFO, f"{self.staged.name}: would be {'refused' if verdict.block else 'let through'}: {verdict.reason}")
            return EXIT_ALLOW
        if verdict.exit_status == EXIT_INTERNAL:
            say(ERR, f"{self.staged.name}: {verdict.reason}; its finalization is left as it is")
            publish.publish(examination, GATE, wait=self.tell)
            return EXIT_INTERNAL
        if self.at_shutdown and verdict.exit_status == EXIT_TIMEOUT and self.note.verdict == "allow":
            # It was found healthy when it was staged; that a machine on its way down is slow says nothing about Go.
            say(WARNING, f"{self.staged.name} was found healthy before; now {verdict.reason}: it is finalized")
            return EXIT_ALLOW
        if not verdict.block:
            if self._is_news(record.VERDICT, examination) or self.at_shutdown:
                say(INFO, f"{self.staged.name}: {verdict.reason}")
            return self._let_go(examination, record.VERDICT)
        if let is not None:
            say(WARNING, f"{self.staged.name} is let through although {verdict.reason}: {let.line()}")
            return self._let_go(examination, record.OVERRIDE)
        if self.settings.get("ostree", "on-failure") == "warn":
            say(WARNING, f"{self.staged.name} brings a broken Go; on-failure = warn: {verdict.reason}")
            return self._let_go(examination, record.WARNED)
        return self._refuse(examination)

    def _judge(self) -> Examination:
        subject = Subject("staged", self.staged.root)
        limit = self.deadline.within(self.budget, spare=LOCK_SECONDS)
        elsewhere = self._elsewhere(subject)
        if elsewhere:
            examination = Examination(subject, limit)
            examination.announce = self.settings.announce
            examination.verdict = Verdict(EXIT_ALLOW, elsewhere)
            return examination
        if self.recheck and not self.dry_run:
            _refused.forget(self.staged.checksum)
        known = None if self.recheck else _refused.recall(self.staged, self.mark, self.settings, subject, limit)
        return known or examine(subject, self.settings, limit)

    def _elsewhere(self, subject: Subject) -> str:
        """Why the configured GOROOT is nothing that this deployment could break, or an empty string."""
        goroot = self.settings.get("toolchain", "goroot")
        if goroot == "auto":
            return ""
        try:
            place = subject.realpath(goroot)
        except OSError as error:
            place = str(error.filename)
        if not f"{place}/".startswith(tuple(f"{top}/" for top in NOT_OF_THE_IMAGE)):
            return ""
        return f"[toolchain] goroot = {clean(goroot)} lies in {clean(place)}, which is not part of the deployment"

    def _is_news(self, event: str, examination: Examination) -> bool:
        return not self.seen or self.note.verdict != _word(event, examination)

    def _done(self, examination: Examination, event: str) -> None:
        """Announce what is new, note what was decided."""
        if self._is_news(event, examination):
            publish.publish(examination, GATE, event=event, wait=self.tell)
        self.note.verdict = _word(event, examination)
        _kept(self.note.write)

    # --- let through

    def _let_go(self, examination: Examination, event: str) -> int:
        """Lift our lock, if there is one; announce; return the exit status of an update that goes on."""
        try:
            self._unlock()
        except HookError as error:
            # Not noted as let through: it is tried again in the next round, at the next run and at the shutdown.
            say(ERR, f"{self.staged.name} is to be finalized, but stays locked: {error.line()}")
            return EXIT_INTERNAL
        self._done(examination, event)
        return EXIT_ALLOW

    def _unlock(self) -> None:
        """Lift the lock if it is ours. Raises HookError."""
        if not self.note.ours:
            if self.staged.locked:
                say(INFO, "its finalization is locked by somebody else: that lock is left alone")
            return
        self.locked = False
        if not self._is_staged():
            return  # the lock that is there now is another deployment's
        ostree.unlock(self.deadline.within(LOCK_SECONDS))
        self.note.ours = False
        publish.note("unlocked", f"{self.staged.name}: the finalization lock of go-health-hook has been lifted")
        say(NOTICE, f"{self.staged.name}: our finalization lock has been lifted")

    # --- refused

    def _refuse(self, examination: Examination) -> int:
        """Keep it from being finalized, or discard it; announce and remember that; return the exit status."""
        verdict = examination.verdict
        done = not self._is_news(record.VERDICT, examination) and self.note.ours and not self.staged.soft
        if done and not self.at_shutdown:
            # All has been done and said before: it was our own lock that started the unit once more.
            say(INFO, f"{self.staged.name} stays locked: {verdict.reason}")
            return verdict.exit_status
        say(ERR, f"{self.staged.name} brings a broken Go: {verdict.reason}")
        say_remedies(examination)
        if self.note.ours or not self.staged.locked:
            try:
                if self.staged.soft:
                    # It would be booted into all the same, and without the settings that the finalization merges.
                    ostree.cancel_soft_reboot(self.deadline.within(LOCK_SECONDS))
                    say(NOTICE, "the soft reboot that was prepared for it has been taken back")
                held = self.staged.locked or self._lock()
            except HookError as error:
                say(ERR, f"the update goes on: {error.line()}")
                examination.verdict = Verdict(EXIT_INTERNAL, f"{error.message}; not heeded: {verdict.reason}")
                self._let_go(examination, record.VERDICT)
                return EXIT_INTERNAL
            if not held:
                return verdict.exit_status
        if not self.note.ours:
            say(NOTICE, "its finalization is locked by somebody else already: that lock is left alone")
        elif not self._discard(verdict):
            name = self.staged.name
            publish.note("locked", f"{name} is locked and will not be finalized: {verdict.reason}")
            say(NOTICE, f"{name} is locked: this system stays the default until an update brings a sound Go")
            say(NOTICE, "an updater that reboots after staging does so in vain: stop its timer, or zincati, until then")
            say_override("to let it through once anyway")
        _kept(lambda: _refused.remember(self.staged, examination, self.mark))
        self._done(examination, record.VERDICT)
        return verdict.exit_status

    def _lock(self) -> bool:
        """Lock its finalization; whether it is what has been locked. Raises HookError where nothing has."""
        # Noted before it is done: should we be cut off between the two, the lock is known to be ours.
        self.note.ours = True
        _kept(self.note.write)
        try:
            self.note.ours = ostree.lock(self.deadline.within(LOCK_SECONDS))
        except HookError:
            self.note.ours = False
            raise
        self.locked = True
        try:
            now = ostree.on_disk(Deadline(READ_SECONDS)).staged
        except HookError as error:
            say(WARNING, f"it is not known whether another one was staged meanwhile: {error.line()}")
            return True
        if now is None or now.id == self.staged.id:
            return True
        # It is another one, staged meanwhile, that has been locked: the next round judges it, and knows whose lock that
        # is. (While systemd stops the finalization there is no other round, and nothing can be staged.)
        if self.note.ours:
            _kept(_refused.Note(now.id, ours=True).write)
        return False

    def _discard(self, verdict: Verdict) -> bool:
        """Remove it where that is asked for and the lock is ours; whether it is gone."""
        if self.settings.get("ostree", "on-failure") != "discard" or not self.note.ours or self.at_shutdown:
            return False
        try:
            ostree.discard(Deadline(LOCK_SECONDS))
        except HookError as error:
            say(ERR, f"{self.staged.name} could not be discarded; it stays locked: {error.line()}")
            return False
        # Not noted as staged: that it is gone does not mean that updates are no longer held back.
        self.note.deployment, self.note.ours = "", False
        publish.note("discarded", f"{self.staged.name} has been discarded: {verdict.reason}")
        say(NOTICE, f"{self.staged.name} has been discarded; a later update is judged anew")
        return True

    def _is_staged(self) -> bool:
        """Whether what was judged is still what is staged. Raises HookError."""
        now = ostree.on_disk(Deadline(READ_SECONDS)).staged
        return now is not None and now.id == self.staged.id


def _word(event: str, examination: Examination) -> str:
    """What the note calls a decision."""
    if event != record.VERDICT:
        return event
    return "fault" if examination.verdict.exit_status == EXIT_INTERNAL else examination.verdict.word


def _kept(write: Callable[[], None]) -> None:
    """Write a record; a full or read-only disk changes nothing about the answer."""
    try:
        write()
    except OSError as error:
        say(WARNING, f"{clean(str(error.filename or ''))} is not written: {error.strerror}")


def wired(view: View) -> Wired:
    """Return whether systemd starts this gate when something is staged, and once more at the shutdown."""
    package = "go-health-hook-rpm-ostree"
    if not view.ostree:
        return Wired(NOT_HERE, "no image system")
    if GUARD_UNIT not in " ".join(view.values(FINALIZE, "Unit", "Wants")).split():
        return Wired(NOT_WIRED, f"{FINALIZE} does not want {GUARD_UNIT}", view.drop_in_remedy(FINALIZE, package))
    for unit in (PATH_UNIT, GUARD_UNIT):
        state = view.load_state(unit)
        if state != "loaded":
            remedy = f"systemctl unmask {unit}" if state == "masked" else add_to_image(package)
            return Wired(NOT_WIRED, f"{unit} is {state}", remedy)
    active = view.units.get(PATH_UNIT, {}).get("ActiveState")
    if view.asked and active != "active":
        return Wired(NOT_WIRED, f"{PATH_UNIT} is {active}", f"systemctl start {PATH_UNIT}")
    if not view.asked and not view.pulled_in(PATH_UNIT):
        return Wired(NOT_WIRED, f"no target wants {PATH_UNIT}", f"systemctl add-wants multi-user.target {PATH_UNIT}")
    only_warns = view.config.get("ostree", "on-failure") == "warn"
    return Wired(WIRED, f"{PATH_UNIT} and the guard at shutdown{', warns only' if only_warns else ''}")


def holds(view: View) -> bool:
    """Return whether a staged deployment is still there: our lock on it outlives this gate."""
    return view.exists("/run/ostree/staged-deployment")
