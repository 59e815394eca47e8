# SPDX-License-Identifier: GPL-2.0-or-later
"""The one interface to image systems: read deployments, lock, lift, discard, and take back a soft reboot.

The gates know only `here()` and what it returns. One subclass of ImageSystem for each backend.
"""

from __future__ import annotations

import abc
import os

from go_health_hook.linux.deployments import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractContextManager

    from go_health_hook.deadline import Deadline
    from go_health_hook.linux.deployments import Deployment, State


class Busy(Unreadable):
    """Another transaction holds the system's lock: nothing has changed, the same can be tried again later."""


class ImageSystem(abc.ABC):
    """A backend. All methods raise Unreadable where the system fails or does not answer in time."""

    # Exists as long as something is staged; a path unit watches its directory.
    staged_file = ""
    # Its stop at shutdown makes what is staged the default, unless that is locked.
    finalize_unit = ""
    # The marks that `hold` sets.
    quick: frozenset[str] = frozenset()
    # The marks by which the system's own tools know a lock, which `lock` sets.
    shown: frozenset[str] = frozenset()

    @abc.abstractmethod
    def read(self, deadline: Deadline) -> State:
        """Return the deployments in boot order, with their locks and prepared soft reboots. Needs no lock or bus."""

    def describe(self, deployment: Deployment, deadline: Deadline) -> None:  # noqa: B027 - nothing, where `read` has it
        """Fill in version and image digest where `read` leaves them out. Raises nothing."""

    @abc.abstractmethod
    def tree(self, deployment: Deployment) -> AbstractContextManager[str]:
        """Return a context manager that gives the directory of the deployment's root file system, read-only."""

    def busy(self) -> bool:
        """Return whether a transaction holds the system's lock at this moment, as far as can be told."""
        return False

    @abc.abstractmethod
    def hold(self, staged: Deployment) -> frozenset[str]:
        """Set the lock that needs no waiting. Return the marks that this call has set; none where they were there."""

    @abc.abstractmethod
    def lock(self, staged: Deployment, deadline: Deadline) -> frozenset[str]:
        """Set the lock that the system's own tools show, after `hold`. Return the marks that this call has set.

        Raises Busy while a transaction holds the system's lock.
        """

    def is_shown(self, marks: Collection[str]) -> bool:
        """Return whether the system's own tools show a deployment with these marks as locked."""
        return bool(marks)

    def outlives(self, marks: Collection[str]) -> frozenset[str]:
        """Return those marks of a staged deployment that are still there when another one is staged after it."""
        return frozenset()

    @abc.abstractmethod
    def lift(self, staged: Deployment, ours: Collection[str], deadline: Deadline) -> frozenset[str]:
        """Lift the marks `ours`, all or none. Return those of them that are left.

        Raises Busy while a transaction holds the system's lock.
        """

    @abc.abstractmethod
    def discard(self, staged: Deployment, deadline: Deadline) -> None:
        """Remove the staged deployment, whoever has locked it. Raises Busy while a transaction holds the lock."""

    @abc.abstractmethod
    def cancel_soft_reboot(self, deployment: Deployment, deadline: Deadline) -> None:
        """Take back that a soft reboot goes into `deployment`. Raises Unreadable if it still would."""

    @abc.abstractmethod
    def roll_back(self, state: State | None) -> str:
        """Return the command line that makes the previous deployment the default and boots it."""

    @abc.abstractmethod
    def drop(self) -> str:
        """Return the command line that removes what is staged."""

    @abc.abstractmethod
    def upgrade(self) -> str:
        """Return the command line that updates by hand."""

    def install(self, package: str) -> str:
        """Return how a package gets into the image; where no program layers packages, into its build."""
        return f"add {package} to the image: RUN dnf install -y {package} in its Containerfile"

    def later(self) -> str:
        """Return what brings an update again after a refused one is gone, a command line first."""
        return f"{self.upgrade()}, once another build is out: the one that was refused is refused again"

    def repair(self, state: State | None) -> str:
        """Return what makes a broken Go of the running image whole, a command line first."""
        update = f"{self.upgrade()} && systemctl reboot, once a build with a Go that works is out"
        if state is None or state.previous is None:
            return update
        return f"{self.roll_back(state)}: back to {state.previous.name}; or {update}"


def backends() -> list[type[ImageSystem]]:
    """Return all backends."""
    from go_health_hook.linux import composefs, ostree

    return [ostree.Ostree, composefs.Composefs]


def here() -> ImageSystem | None:
    """Return the image system that this machine was booted from, or None."""
    from go_health_hook.linux import composefs, ostree

    if os.path.exists(ostree.BOOTED):
        return ostree.Ostree()
    return composefs.Composefs() if composefs.booted() else None
