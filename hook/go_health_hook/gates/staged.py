# SPDX-License-Identifier: GPL-2.0-or-later
"""The staged deployment: judged where it lies, as soon as it is staged and once more before the shutdown finalizes it.

The answer to the updater is the image system's own finalization lock. Only a lock that is ours is ever lifted.
"""

from __future__ import annotations

import time

from go_health_hook import config, policy
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, EXIT_BLOCK, EXIT_INTERNAL, EXIT_TIMEOUT, HookError
from go_health_hook.examine import examine
from go_health_hook.gates import _image_status, _refused
from go_health_hook.gates._locking import DISCARD_SECONDS, LOCK_SECONDS, READ_SECONDS, Lock
from go_health_hook.gates._unit import ERR, INFO, NOTICE, WARNING, kept, overridden, say, say_override, say_remedies
from go_health_hook.linux import image, zincati
from go_health_hook.policy import Action
from go_health_hook.subject import Subject
from go_health_hook.text import clean
from go_health_hook.verdict import TIMEOUT, Examination, Verdict
from go_health_hook.wiring import NOT_HERE, NOT_WIRED, WIRED, Wired, add_to_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.gates import Call
    from go_health_hook.linux.deployments import Deployment
    from go_health_hook.linux.image import ImageSystem
    from go_health_hook.policy import Decision
    from go_health_hook.wiring import View

GATE = "staged"
BUDGET = 10.0
# How long the announcement may take (seconds), since what this unit leaves behind is killed.
TELL_SECONDS = 5.0
TELL_SECONDS_AT_SHUTDOWN = 1.0
# The budget at shutdown (seconds) is this at most, whatever [budget] staged is. The ceiling at shutdown, reading,
# locking and telling have to fit into the guard's TimeoutStopSec=, or the guard would be killed before it locks.
SHUTDOWN_SECONDS = 20.0
# The same for the running Go, judged for comparison, and for the lock that the system's own tools show.
CONTROL_SECONDS_AT_SHUTDOWN = 6.0
LOCK_SECONDS_AT_SHUTDOWN = 2.0
# How long a run waits for the end of a transaction before it leaves the rest to the next run, and how long between two
# looks (seconds).
WAIT_SECONDS = 600.0
STEP_SECONDS = 0.2
# systemd starts no second run of the unit for what changes during one, so each looks again at its end.
MAX_ROUNDS = 50
WORDS = ("shutdown", "recheck")
# What is the machine's and not the image's: a deployment's own is empty (ostree's adapting-existing), and /opt, /home,
# /srv, /usr/local are links into it wherever they are not the image's.
NOT_OF_THE_IMAGE = ("/var", "/run")

PATH_UNIT, STAGED_UNIT = "go-health-hook-staged.path", "go-health-hook-staged.service"
GUARD_UNIT = "go-health-hook-guard.service"
UNITS = (*(backend.finalize_unit for backend in image.backends()), PATH_UNIT, GUARD_UNIT)


def answer(call: Call) -> int:
    """Judge the staged deployment and lock, discard or leave it.

    `shutdown`: the last look, nothing can be discarded any more. `recheck`: forget an earlier refusal of this commit.
    Returns the verdict's exit status; 4 where nothing could be decided or what was decided could not be done.
    """
    call.only(GATE, WORDS)
    system = image.here()
    if system is None:
        say(INFO, "not booted from an image system: no update is staged here")
        return EXIT_ALLOW
    settings = call.settings()
    try:
        return _rounds(system, settings, call)
    except (HookError, OSError) as error:
        line = error.line() if isinstance(error, HookError) else clean(str(error))
        say(ERR, f"nothing was decided about the staged deployment, the update goes on: {line}")
        if not call.dry_run:
            _record_fault(settings, line)
        return EXIT_INTERNAL


def _record_fault(settings: Config, line: str) -> None:
    """Keep that nothing was decided, and why, for `status`."""
    examination = Examination(Subject("staged"), Deadline(0), Verdict(EXIT_INTERNAL, line), settings.announce)
    publish.publish(examination, GATE, wait=TELL_SECONDS_AT_SHUTDOWN)


def _rounds(system: ImageSystem, settings: Config, call: Call) -> int:
    """Judge and act until nothing has changed meanwhile and nothing is left to do. Raises HookError, OSError."""
    wait = Deadline(WAIT_SECONDS)
    status = EXIT_ALLOW
    for number in range(MAX_ROUNDS):
        staged = system.read(Deadline(READ_SECONDS)).staged
        if staged is None:
            if not call.dry_run:
                _nothing_staged(settings)
            return status if number else EXIT_ALLOW
        gate = _Gate(system, staged, settings, call, again=number > 0)
        status = gate.decide()
        if call.dry_run or gate.at_shutdown or gate.finish(wait):
            break
    return status


def _nothing_staged(settings: Config) -> None:
    """What was refused before is not staged any more: somebody has discarded it, so nothing is held back."""
    last = _refused.Note.read()
    if last.deployment and last.verdict == "block":
        publish.release(GATE, settings.announce)
        say(INFO, "the deployment that was refused is not staged any more")
    if last.deployment:
        kept(_refused.Note().write)


class _Gate:
    """One look at the staged deployment."""

    def __init__(
        self, system: ImageSystem, staged: Deployment, settings: Config, call: Call, *, again: bool = False
    ) -> None:
        self.system = system
        self.staged = staged
        self.settings = settings
        self.at_shutdown = "shutdown" in call.arguments
        self.recheck = "recheck" in call.arguments and not again
        self.dry_run = call.dry_run
        budget = call.seconds(settings, __name__, BUDGET)
        self.budget = min(budget, SHUTDOWN_SECONDS) if self.at_shutdown else budget
        self.tell = TELL_SECONDS_AT_SHUTDOWN if self.at_shutdown else TELL_SECONDS
        self.mark = _refused.fingerprint(settings, config.severities())
        self.lock = Lock(system, staged, Deadline(self.budget + READ_SECONDS + LOCK_SECONDS + DISCARD_SECONDS))
        self.let = False
        # Steps that wait for the end of a transaction, each True once it is done.
        self.left: list[Callable[[], bool]] = []

    # --- judging

    def decide(self) -> int:
        """Judge, act, remember; return the exit status."""
        override = overridden()
        self.let = override is not None
        ceiling = ceiling_of(self.settings.get("budget", "ceiling"), shutdown=self.at_shutdown)
        limit = Deadline(self.budget, ceiling=ceiling)
        with self.system.tree(self.staged) as root:
            examination = self._judge(Subject("staged", root), limit)
        warn = self.settings.get("ostree", "on-failure") == "warn"
        case = policy.Case(
            override=override.line() if override else "",
            powerless="on-failure = warn" if warn else "",
            starved_blocks=self.settings.get("budget", "starved") == "block",
            standing_blocks=self.settings.get("ostree", "standing") == "block",
        )
        decision = policy.settle(examination, case)
        if decision.action is Action.BLOCK and not self._is_done(examination):
            decision = self._compare(examination, case, decision)
        if self.dry_run:
            word = "refused" if decision.action is Action.BLOCK else "let through"
            say(INFO, f"{self.staged.name}: would be {word}: {decision.verdict.reason}")
            return EXIT_ALLOW
        return self._act(decision, examination)

    def _judge(self, subject: Subject, limit: Deadline) -> Examination:
        elsewhere = self._elsewhere(subject)
        if elsewhere:
            return Examination(subject, limit, announce=self.settings.announce, nothing=elsewhere)
        if self.recheck and not self.dry_run:
            kept(lambda: _refused.forget(self.staged.checksum))
        known = None if self.recheck else _refused.recall(self.staged, self.mark, self.settings, subject, limit)
        return known or examine(subject, self.settings, limit)

    def _elsewhere(self, subject: Subject) -> str:
        """Return why the configured GOROOT is nothing that this deployment could break, or an empty string."""
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

    def _compare(self, examination: Examination, case: policy.Case, decision: Decision) -> Decision:
        """Decide again with what the running Go shows: it may be as broken, or the machine too slow for both."""
        seconds = CONTROL_SECONDS_AT_SHUTDOWN if self.at_shutdown else self.budget
        running = examine(Subject(), self.settings, Deadline(seconds, ceiling=seconds))
        policy.settle(running, policy.Case())
        # That the running Go does not answer is nothing in common with a staged one that is proven broken.
        proven = {f.check for f in examination.findings if f.status != TIMEOUT}
        case.standing = frozenset(
            f.check for f in running.findings if f.blocks and (f.status != TIMEOUT or f.check not in proven)
        )
        late = decision.verdict.exit_status == EXIT_TIMEOUT
        unsure = {f.check for f in running.not_judged} & {f.check for f in decision.findings if f.blocks}
        slow = bool(unsure) and not case.starved_blocks
        if self.at_shutdown:
            slow = running.verdict.exit_status == EXIT_TIMEOUT or bool(running.not_judged)
        if late and slow:
            case.powerless = "the running Go did not answer in time either: the machine is slow"
        return policy.settle(examination, case)

    def _is_done(self, examination: Examination) -> bool:
        """Whether this refusal has been carried out before, so that nothing is to be done or said again."""
        is_news = self._is_news(record.VERDICT, examination)
        return not is_news and self.lock.note.ours and not self.staged.soft and not self.at_shutdown

    # --- acting

    def _act(self, decision: Decision, examination: Examination) -> int:
        action, reason = decision.action, decision.verdict.reason
        if action is not Action.BLOCK and not self.at_shutdown and not self.staged.version:
            self.system.describe(self.staged, Deadline(READ_SECONDS))  # a refusal's lock comes before its words
        name = self.staged.name
        before = self.lock.note.verdict if self.lock.seen else ""
        if action is Action.UNDECIDED:
            say(ERR, f"{name}: {reason}; its finalization is left as it is")
            publish.publish(examination, GATE, wait=self.tell)
            return EXIT_INTERNAL
        if before == "block" and self.lock.note.ours and self._says_nothing_new(decision, examination):
            say(WARNING, f"{name} stays locked as it is: {reason}")
            return EXIT_ALLOW
        if action is Action.BLOCK:
            if self.at_shutdown and decision.verdict.exit_status == EXIT_TIMEOUT and before == "allow":
                # That a machine on its way down is slow says nothing about Go.
                say(WARNING, f"{name} was found healthy before; now {reason}: it is finalized")
                return EXIT_ALLOW
            return self._refuse(examination)
        event = {Action.OVERRIDE: record.OVERRIDE, Action.WARN: record.WARNED}.get(action, record.VERDICT)
        if action is Action.OVERRIDE:
            say(WARNING, f"{name} is let through although {reason}: {decision.note}")
        elif action is Action.WARN:
            late = decision.verdict.exit_status == EXIT_TIMEOUT
            what = "has a Go that did not answer" if late else "brings a broken Go"
            say(WARNING, f"{name} {what} and is let through ({decision.note}): {reason}")
        elif self._is_news(event, examination) or self.at_shutdown:
            say(INFO, f"{name}: {reason}")
        return self._let_go(examination, event)

    def _says_nothing_new(self, decision: Decision, examination: Examination) -> bool:
        """Whether this look is no reason to lift the lock on what was refused before, as for want of time."""
        if decision.action is Action.ALLOW:
            return bool(examination.not_judged)
        late = decision.action is Action.WARN and decision.verdict.exit_status == EXIT_TIMEOUT
        return late and self.lock.note.proven and self.settings.get("ostree", "on-failure") != "warn"

    def _let_go(self, examination: Examination, event: str) -> int:
        """Lift our locks; announce once they are gone. Return the exit status of an update that goes on."""
        if event != record.VERDICT:
            kept(lambda: _refused.change(self.staged.checksum, held=False))
        elif not examination.not_judged:
            kept(lambda: _refused.forget(self.staged.checksum))

        def lift() -> bool:
            if not self.lock.lift():
                return False
            self._done(examination, event)
            return True

        try:
            if not lift():
                # Not noted as let through: it is tried again in this run, at the next one and at the shutdown.
                self.left.append(lift)
                return EXIT_INTERNAL if self.at_shutdown else EXIT_ALLOW
        except HookError as error:
            say(ERR, f"{self.staged.name} is to be finalized, but stays locked: {error.line()}")
            self.left.append(lift)
            return EXIT_INTERNAL
        return EXIT_ALLOW

    def _refuse(self, examination: Examination) -> int:
        """Keep it from being finalized, or discard it; announce and remember that; return the exit status."""
        verdict = examination.verdict
        if self._is_done(examination):
            say(INFO, f"{self.staged.name} stays locked: {verdict.reason}")
            self.left = [] if self.system.is_shown(self.lock.marks) else [self.lock.show]
            self.left += [lambda: self.lock.discard(verdict.reason)] if self._discards() else []
            return verdict.exit_status
        others = self.lock.foreign
        try:
            if not self.lock.hold():
                return verdict.exit_status  # the next round judges what is staged by now
            self._take_back_soft_reboot()
        except HookError as error:
            say(ERR, f"the update goes on: {error.line()}")
            examination.verdict = Verdict(EXIT_INTERNAL, f"{error.message}; not followed: {verdict.reason}")
            self._let_go(examination, record.VERDICT)
            return EXIT_INTERNAL
        self.system.describe(self.staged, Deadline(READ_SECONDS))
        discards = self._discards()
        if discards or self.at_shutdown:
            for finding in examination.findings:  # nothing will be staged any more
                finding.remedy = self.system.later() if finding.blocks else finding.remedy
        self._say_refused(examination, others, discards)
        self._remember(examination)
        self._done(examination, record.VERDICT)
        self._show_or_discard(verdict.reason, discards)
        return verdict.exit_status

    def _say_refused(self, examination: Examination, others: frozenset[str], discards: bool) -> None:
        reason, name = examination.verdict.reason, self.staged.name
        say(ERR, f"{name} brings a broken Go: {reason}")
        say_remedies(examination)
        if others:
            owner = zincati.owner(Deadline(READ_SECONDS))
            say(NOTICE, f"its finalization is locked by {owner} as well: that lock is left alone")
        if not discards:
            publish.note("locked", f"{name} is locked and will not be finalized: {reason}")
            say(NOTICE, f"{name} is locked: this system stays the default until an update brings a sound Go")
            say_override("to let it through once anyway")

    def _remember(self, examination: Examination) -> None:
        known = _refused.find(self.staged.checksum) or {}
        kept(lambda: _refused.remember(self.staged, examination, self.mark, held=True))
        if self.at_shutdown:
            kept(lambda: _refused.change(self.staged.checksum, reboots=known.get("reboots", 0) + 1))

    def _show_or_discard(self, reason: str, discards: bool) -> None:
        """Begin what may have to wait for a transaction's end."""
        if self.at_shutdown:
            self.lock.limit = Deadline(LOCK_SECONDS_AT_SHUTDOWN)
            self.lock.show()
            return
        if discards:
            self.left.append(lambda: self.lock.discard(reason))
        else:
            self.left.append(self.lock.show)

    def _take_back_soft_reboot(self) -> None:
        """See that no soft reboot leads into it, which no lock would stop. Raises HookError."""
        if self.staged.soft:
            self.system.cancel_soft_reboot(self.staged, Deadline(LOCK_SECONDS))
            self.staged.soft = False
            say(NOTICE, "the soft reboot that was prepared for it has been taken back")

    def _discards(self) -> bool:
        """Whether it is to be removed: as configured, or since zincati would unlock and finalize it."""
        return not self.at_shutdown and (
            self.settings.get("ostree", "on-failure") == "discard" or zincati.is_active(Deadline(READ_SECONDS))
        )

    # --- afterwards

    def finish(self, wait: Deadline) -> bool:
        """Wait for what is left to do; return False where something has changed, so that another round is needed."""
        while True:
            if not self._settled():
                return False
            self.left = [step for step in self.left if not self._try(step)]
            if not self.left:
                return self._settled()
            if wait.expired:
                say(WARNING, "a transaction has not ended in time: what is left is done at the next change")
                return True
            time.sleep(STEP_SECONDS)

    def _try(self, step: Callable[[], bool]) -> bool:
        """Whether a step is done; one that fails is given up until the next run."""
        self.lock.limit = Deadline(READ_SECONDS + LOCK_SECONDS + DISCARD_SECONDS)
        try:
            return step()
        except HookError as error:
            say(ERR, error.line())
            return True

    def _settled(self) -> bool:
        """Whether what was decided upon is still what is there; yes where that cannot be read."""
        try:
            now = self.system.read(Deadline(READ_SECONDS)).staged
        except HookError as error:
            say(INFO, f"not looked at again: {error.line()}")
            return True
        if now is None:
            return not self.lock.note.deployment
        same = now.id == self.staged.id and now.marks == self.lock.marks
        return same and now.soft == self.staged.soft and (overridden() is not None) == self.let

    def _is_news(self, event: str, examination: Examination) -> bool:
        return not self.lock.seen or self.lock.note.verdict != _word(event, examination)

    def _done(self, examination: Examination, event: str) -> None:
        """Announce what is new, note what was decided."""
        if self._is_news(event, examination):
            publish.publish(examination, GATE, event=event, wait=self.tell)
        self.lock.seen = True
        self.lock.note.verdict = _word(event, examination)
        self.lock.note.digest = self.staged.digest
        self.lock.note.proven = event == record.VERDICT and examination.verdict.exit_status == EXIT_BLOCK
        self.lock.write_note()


def _word(event: str, examination: Examination) -> str:
    """What the note calls a decision."""
    if event != record.VERDICT:
        return event
    return "fault" if examination.verdict.exit_status == EXIT_INTERNAL else examination.verdict.word


def wired(view: View) -> Wired:
    """Return whether systemd starts this gate when something is staged, and once more at the shutdown."""
    package = "go-health-hook-rpm-ostree"
    if not view.image:
        return Wired(NOT_HERE, "no image system")
    finalize = (view.system or image.backends()[0]).finalize_unit
    if GUARD_UNIT not in " ".join(view.values(finalize, "Unit", "Wants")).split():
        return Wired(NOT_WIRED, f"{finalize} does not want {GUARD_UNIT}", view.drop_in_remedy(finalize, package))
    off = view.unloaded(PATH_UNIT, add_to_image(package)) or view.unloaded(GUARD_UNIT, add_to_image(package))
    off = off or view.inactive(PATH_UNIT)
    if off:
        return off
    if not view.asked and not view.pulled_in(PATH_UNIT):
        return Wired(NOT_WIRED, f"no target wants {PATH_UNIT}", f"systemctl add-wants multi-user.target {PATH_UNIT}")
    only_warns = view.config.get("ostree", "on-failure") == "warn"
    return Wired(WIRED, f"{PATH_UNIT} and the guard at shutdown{', warns only' if only_warns else ''}")


def details(view: View) -> dict[str, Any] | None:
    """Return what `status` shows of an image system; None for another root than the running one."""
    return None if view.base else _image_status.details(view.deadline)


def holds(view: View) -> bool:
    """Return whether a staged deployment is still there: our lock on it outlives this gate."""
    return any(view.exists(backend.staged_file) for backend in image.backends())
