# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeping the staged deployment from being finalized: our locks, the note of which are ours, and discarding it.

The lock that needs no waiting comes first. The one that the system's own tools show, lifting and discarding wait for
the end of a transaction: each of these methods can be called again until it returns True.
"""

from __future__ import annotations

from go_health_hook.announce import publish
from go_health_hook.errors import HookError
from go_health_hook.gates import _refused
from go_health_hook.gates._unit import ERR, INFO, NOTICE, WARNING, kept, overridden, say
from go_health_hook.linux import zincati
from go_health_hook.linux.image import Busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.deadline import Deadline
    from go_health_hook.linux.deployments import Deployment
    from go_health_hook.linux.image import ImageSystem

# To read the deployments, to ask for the system's own lock, and to remove a deployment (seconds).
READ_SECONDS = 5.0
LOCK_SECONDS = 8.0
DISCARD_SECONDS = 60.0


class Lock:
    """Our lock on one staged deployment. `limit` bounds everything that is done; raises HookError where nothing works.

    `note` is what is known of it in this boot. `seen` says that the note is about this deployment.
    """

    def __init__(self, system: ImageSystem, staged: Deployment, limit: Deadline) -> None:
        self.system = system
        self.staged = staged
        self.limit = limit
        last = _refused.Note.read()
        self.seen = last.deployment == staged.id
        # A lock file of ours for what was staged before may still be there for a moment, and then stands for this one.
        older = system.outlives(last.marks)
        self.note = (
            last if self.seen else _refused.Note(staged.id, marks=older if staged.marks <= older else frozenset())
        )
        self.note.marks &= staged.marks
        self.marks = staged.marks
        self._waiting_said = False

    @property
    def foreign(self) -> frozenset[str]:
        """The locks that somebody else has set."""
        return self.marks - self.note.marks

    def write_note(self) -> None:
        """Keep the note; a failure to write it is said."""
        kept(self.note.write)

    def is_staged(self) -> bool:
        """Return whether this deployment is still what is staged; `marks` are then what it has now."""
        now = self.system.read(self.limit.within(READ_SECONDS)).staged
        if now is None or now.id != self.staged.id:
            return False
        self.marks = now.marks
        self.staged.soft = now.soft
        return True

    def hold(self) -> bool:
        """Set the lock that needs no waiting, if it is not there; where that fails, the system's own.

        Return whether this deployment is what has been locked: another one may be staged by now, and has it.
        """
        # Noted before it is done: should this process end between the two, the lock is known to be ours.
        before = self.note.marks
        self.note.marks = before if self.marks else before | self.system.quick
        self.write_note()
        try:
            new = self.system.hold(self.staged)
        except HookError as error:
            say(WARNING, error.line())
            self.note.marks = before
            new = self.system.lock(self.staged, self.limit.within(LOCK_SECONDS))
        self.note.marks = before | new
        self.marks |= new
        if self._is_still_staged():
            self.marks |= new
            self.write_note()
            return True
        self.note = _refused.Note(self._staged_now(), marks=self.note.marks)
        self.write_note()
        return False

    def show(self) -> bool:
        """Set the lock that the system's own tools show; return whether nothing is left to do."""
        try:
            if not self.is_staged():
                return True
            if self.system.busy():
                return False
            new = self._lock()
        except Busy:
            return False
        except HookError as error:
            say(INFO, f"{error.line()}; the lock file keeps it from being finalized all the same")
            return True
        if not self._is_still_staged():
            # The command has waited for a transaction that staged another one, and has locked that.
            self.note = _refused.Note(self._staged_now(), marks=new | self.system.outlives(self.note.marks))
            self.write_note()
            return True
        self.note.marks |= new
        self.marks |= new
        self.write_note()
        return True

    def _lock(self) -> frozenset[str]:
        """Set the system's own lock; return the marks that are new. Raises HookError.

        Noted before it is done, as in `hold`: should this process end between the two, the lock is known to be ours.
        """
        before = self.note.marks
        self.note.marks = before | (self.system.shown - self.marks)
        self.write_note()
        try:
            new = self.system.lock(self.staged, self.limit.within(LOCK_SECONDS))
        except HookError:
            self.note.marks = before
            self.write_note()
            raise
        self.note.marks = before
        return new

    def _is_still_staged(self) -> bool:
        try:
            return self.is_staged()
        except HookError as error:
            say(WARNING, f"it is not known whether another one was staged meanwhile: {error.line()}")
            return True

    def _staged_now(self) -> str:
        now = self.system.read(self.limit.within(READ_SECONDS)).staged
        return now.id if now else ""

    def lift(self) -> bool:
        """Lift our locks, all or none; return whether none is left. Raises HookError where that cannot be done."""
        if self.foreign:
            owner = zincati.owner(self.limit.within(READ_SECONDS))
            say(INFO, f"its finalization is locked by {owner}: that lock is left alone")
        if not self.note.marks:
            return True
        if not self.is_staged():
            return True  # the lock that is there now is another deployment's
        try:
            left = self.system.lift(self.staged, self.note.marks, self.limit.within(LOCK_SECONDS))
        except Busy as error:
            if not self._waiting_said:
                say(NOTICE, f"{self.staged.name}: our finalization lock stays until a transaction has ended")
                say(INFO, error.line())
            self._waiting_said = True
            return False
        self.marks = (self.marks - self.note.marks) | left
        self.note.marks = left
        self.write_note()
        if left:
            return False
        publish.note("unlocked", f"{self.staged.name}: the finalization lock of go-health-hook has been lifted")
        say(NOTICE, f"{self.staged.name}: our finalization lock has been lifted")
        return True

    def discard(self, reason: str) -> bool:
        """Remove the deployment, whoever has locked it; return whether nothing is left to do."""
        if overridden() is not None or self.system.busy():
            return False
        try:
            if not self.is_staged():
                return True
            if self.staged.soft:
                self.system.cancel_soft_reboot(self.staged, self.limit.within(LOCK_SECONDS))
            self.system.discard(self.staged, self.limit.within(DISCARD_SECONDS))
        except Busy:
            return False
        except HookError as error:
            say(ERR, f"{self.staged.name} could not be discarded; it stays locked: {error.line()}")
            return True
        # That it is gone does not mean that updates are no longer held back: the note keeps no deployment.
        self.note = _refused.Note(verdict=self.note.verdict)
        self.marks = frozenset()
        self.write_note()
        publish.note("discarded", f"{self.staged.name} has been discarded: {reason}")
        say(NOTICE, f"{self.staged.name} has been discarded; a later update is judged again")
        if zincati.restart_if_waiting(self.limit.within(LOCK_SECONDS)):
            say(NOTICE, "zincati is restarted, so that it looks for a later release")
        return True
