# SPDX-License-Identifier: GPL-2.0-or-later
"""The ostree backend of image systems: rpm-ostree, bootc on ostree, and plain ostree keep the same deployments."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct

from go_health_hook.linux import soft_reboot
from go_health_hook.linux.deployments import (
    FILE,
    KEY,
    Deployment,
    State,
    Unreadable,
    parse_bootc_text,
    parse_ostree,
    parse_rpm_ostree_text,
)
from go_health_hook.linux.image import Busy, ImageSystem
from go_health_hook.run import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from go_health_hook.deadline import Deadline
    from go_health_hook.run.result import Result

BOOTED = "/run/ostree-booted"
STAGED_FILE = "/run/ostree/staged-deployment"
# The finalization refuses for this file and for the key inside the staged file alike (ostree-sysroot-deploy.c).
LOCK_FILE = "/run/ostree/staged-deployment-locked"
# libostree's lock on the sysroot, an open file description lock (ostree-sysroot.c, glnx-lockfile.c).
SYSROOT_LOCK = "/ostree/lock"
# struct flock: type, whence, start, length, pid.
_FLOCK = "hhqqi4x"


def driver() -> str:
    """Return the program that manages the deployments here: "rpm-ostree", "bootc" or "ostree"."""
    return next((name for name in ("rpm-ostree", "bootc") if process.has_host(name)), "ostree")


class Ostree(ImageSystem):
    """Deployments that libostree keeps."""

    staged_file = STAGED_FILE
    finalize_unit = "ostree-finalize-staged.service"
    quick = frozenset({FILE})
    shown = frozenset({KEY})

    def read(self, deadline: Deadline) -> State:
        """See ImageSystem. Asks ostree, rpm-ostree and bootc in this order until one can be understood."""
        problems = []
        for program, arguments, parse in (
            ("ostree", ["admin", "status", "--skip-signatures"], parse_ostree),
            ("rpm-ostree", ["status", "--json"], parse_rpm_ostree_text),
            ("bootc", ["status", "--json"], parse_bootc_text),
        ):
            result = process.run_host(program, arguments, deadline)
            if not result.ok:
                problems.append(f"{program}: {result.why()}")
                continue
            try:
                deployments = parse(result.stdout.decode("utf-8", "replace"))
            except Unreadable as error:
                problems.append(f"{program}: {error.message}")
                continue
            _add_files(deployments)
            return State(deployments)
        raise Unreadable(f"the deployments cannot be read: {'; '.join(problems)}", hint="look at ostree admin status")

    def describe(self, deployment: Deployment, deadline: Deadline) -> None:
        """See ImageSystem. Only bootc knows the version and digest of a container image, rpm-ostree the base commit."""
        for program, parse in (("bootc", parse_bootc_text), ("rpm-ostree", parse_rpm_ostree_text)):
            if not process.has_host(program):
                continue
            result = process.run_host(program, ["status", "--json"], deadline)
            with contextlib.suppress(Unreadable):
                for known in parse(result.stdout.decode("utf-8", "replace")) if result.ok else ():
                    if (known.checksum, known.serial) == (deployment.checksum, deployment.serial):
                        deployment.version = deployment.version or known.version
                        deployment.digest = deployment.digest or known.digest
                        deployment.base = known.base

    @contextlib.contextmanager
    def tree(self, deployment: Deployment) -> Iterator[str]:
        """See ImageSystem. Its files are hard links into the object store."""
        yield deployment.root

    def busy(self) -> bool:
        """See ImageSystem."""
        try:
            fd = os.open(SYSROOT_LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
            return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
        except (OSError, AttributeError):  # an old kernel; Python without the constant
            return False
        finally:
            os.close(fd)

    def hold(self, staged: Deployment) -> frozenset[str]:
        """See ImageSystem. The file alone stops the finalization, but ostree and bootc do not show it."""
        try:
            os.close(os.open(LOCK_FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
        except FileExistsError:
            return frozenset()
        except OSError as error:
            raise Unreadable(f"the finalization could not be locked: {LOCK_FILE}: {error.strerror}") from None
        return frozenset({FILE})

    def lock(self, staged: Deployment, deadline: Deadline) -> frozenset[str]:
        """See ImageSystem. ostree's command sets the key, and the file too where there is none."""
        new = {KEY} if os.path.lexists(LOCK_FILE) else {KEY, FILE}
        result = self._locked("ostree", ["admin", "lock-finalization"], deadline)
        if not result.ok:
            raise Unreadable(f"the finalization could not be locked: ostree admin lock-finalization {result.why()}")
        return frozenset() if "already" in result.out else frozenset(new)

    def is_shown(self, marks: Collection[str]) -> bool:
        """See ImageSystem. ostree and bootc read the key."""
        return KEY in marks

    def outlives(self, marks: Collection[str]) -> frozenset[str]:
        """See ImageSystem. ostree removes the file a moment after the next staged file is there."""
        return frozenset(marks) & {FILE}

    def lift(self, staged: Deployment, ours: Collection[str], deadline: Deadline) -> frozenset[str]:
        """See ImageSystem. ostree's command lifts both marks, so a file of somebody else's is put back."""
        if KEY in ours and KEY in self._marks(staged, deadline):
            others_file = FILE not in ours and os.path.lexists(LOCK_FILE)
            result = self._locked("ostree", ["admin", "lock-finalization", "--unlock"], deadline)
            if not result.ok:
                raise Unreadable(f"the finalization lock could not be lifted: ostree {result.why()}")
            if others_file:
                self.hold(staged)
        if FILE in ours:
            try:
                os.unlink(LOCK_FILE)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise Unreadable(f"the finalization lock could not be lifted: {error.strerror}") from None
        return frozenset(ours) & self._marks(staged, deadline)

    def discard(self, staged: Deployment, deadline: Deadline) -> None:
        """See ImageSystem. The staged deployment is always the first (ostree-sysroot.c)."""
        if process.has_host("ostree"):
            result = self._locked("ostree", ["admin", "undeploy", "0"], deadline)
        else:
            result = process.run_host("rpm-ostree", ["cleanup", "--pending"], deadline)
        if not result.ok:
            raise Unreadable(f"the staged deployment could not be discarded: {result.argv[0]} {result.why()}")

    def cancel_soft_reboot(self, deployment: Deployment, deadline: Deadline) -> None:
        """See ImageSystem."""
        soft_reboot.cancel(_directory(deployment), deadline)

    def roll_back(self, state: State | None) -> str:
        """See ImageSystem. rpm-ostree does not roll back while something is staged."""
        previous = state.previous if state else None
        index = "INDEX" if state is None or previous is None else state.deployments.index(previous)
        if state is not None and state.going_back:
            return "systemctl reboot"
        commands = {
            "rpm-ostree": "rpm-ostree rollback --reboot",
            "bootc": "bootc rollback && systemctl reboot",
            # Counted as `ostree admin status` lists them, what is staged included.
            "ostree": f"ostree admin set-default {index} && systemctl reboot",
        }
        program = driver()
        first = "rpm-ostree cleanup -p && " if program == "rpm-ostree" and state is not None and state.staged else ""
        return first + commands[program]

    def drop(self) -> str:
        """See ImageSystem."""
        return "rpm-ostree cleanup -p" if driver() == "rpm-ostree" else "ostree admin undeploy 0"

    def upgrade(self) -> str:
        """See ImageSystem."""
        program = driver()
        return "ostree admin upgrade" if program == "ostree" else f"{program} upgrade"

    def install(self, package: str) -> str:
        """See ImageSystem."""
        return f"rpm-ostree install {package}" if driver() == "rpm-ostree" else super().install(package)

    def _locked(self, program: str, arguments: list[str], deadline: Deadline) -> Result:
        """Run a command that waits for the lock on the sysroot. Raises Busy where it waits too long."""
        if self.busy():
            raise Busy("a transaction holds the lock on the sysroot", hint="it is tried again when that has ended")
        result = process.run_host(program, arguments, deadline)
        if result.timed_out:
            raise Busy(
                f"{program} {' '.join(arguments)} {result.why()}: a transaction may hold the lock on the sysroot"
            )
        return result

    def _marks(self, staged: Deployment, deadline: Deadline) -> frozenset[str]:
        """Return the marks of a deployment as they are now; none where it is not staged any more."""
        now = self.read(deadline).staged
        return now.marks if now is not None and now.id == staged.id else frozenset()


def _directory(deployment: Deployment) -> str:
    return f"{deployment.checksum}.{deployment.serial}"


def _add_files(deployments: list[Deployment]) -> None:
    """Add what the programs do not say: the bare lock file, and PID 1's mounts for a soft reboot."""
    next_roots: set[str] = set()
    with contextlib.suppress(Unreadable):
        next_roots = soft_reboot.prepared()
    for deployment in deployments:
        if deployment.staged and os.path.lexists(LOCK_FILE):
            deployment.marks |= {FILE}
        deployment.soft = deployment.soft or (not deployment.booted and _directory(deployment) in next_roots)
