# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether failing a boot helps: who would act on it, and whether the previous deployment's Go is sound."""

from __future__ import annotations

import glob

from go_health_hook import config, policy
from go_health_hook.deadline import Deadline
from go_health_hook.errors import EXIT_INTERNAL, HookError
from go_health_hook.examine import examine
from go_health_hook.linux import greenboot
from go_health_hook.records import Record
from go_health_hook.subject import Subject
from go_health_hook.verdict import BROKEN, NOT_JUDGED, TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.linux.deployments import Deployment, State
    from go_health_hook.linux.image import ImageSystem
    from go_health_hook.verdict import Examination

# The checks whose failure can be an image's fault. Limits are the machine's, and packages change nothing about Go.
OF_THE_IMAGE = frozenset({"goroot", "version", "stdlib"})
# Set by a boot loader that counts boots (systemd's AUTOMATIC_BOOT_ASSESSMENT document).
BOOT_COUNTING = "/sys/firmware/efi/efivars/LoaderBootCountPath-*"
# To read the deployments (seconds).
READ_SECONDS, ONCE_MORE_SECONDS = 5.0, 15.0
UNCLEAR = "it could not be told whether the Go of the previous deployment works"
ANSWERED = "Go answered when it was asked again"
ALONE = "there is no previous deployment to go back to"
NO_STATUS = "it could not be told whether there is a previous deployment"
ALONE_LATE = f"{ALONE}, and none to tell a slow machine from a Go that hangs"
# Where these are the reasons, a Go that had not answered in time says that the machine is slow.
SLOW = (UNCLEAR, ANSWERED, NO_STATUS, ALONE_LATE)


class Judged(Record):
    """The Go of one deployment, as judged now with the vendor's settings.

    `goroot` is empty where the deployment has no Go of its own, `broken` are the checks that prove it broken, and
    `unclear` says that a check could not tell. `late`: those of `broken` that have only not answered in time.
    """

    goroot: str
    broken: frozenset[str] = frozenset()
    unclear: bool = False
    late: frozenset[str] = frozenset()


def proof(examination: Examination) -> frozenset[str]:
    """Return the checks that prove a settled examination's Go broken and may be an image's fault."""
    return frozenset(
        f.check for f in examination.findings if f.blocks and f.ground is BROKEN and f.check in OF_THE_IMAGE
    )


def late(examination: Examination) -> frozenset[str]:
    """Return those checks of `proof` that have only not answered in time, as on a slow machine."""
    return proof(examination) & {f.check for f in examination.findings if f.status == TIMEOUT}


def why_not(broken: frozenset[str], goroot: str, own: Judged, previous: Judged | None, actor: str) -> str:
    """Return why going back would repair nothing, in words, or an empty string where it would.

    `broken` and `goroot` are of the running system, `own` is the tree of the booted deployment, `previous` that of the
    deployment before (None where there is none), `actor` is who acts on a failed boot.
    """
    culprits = broken & own.broken
    if not broken or not goroot or own.goroot != goroot or not culprits:
        return "the fault is not this image's, so going back would not repair it"
    if previous is None:
        return ALONE
    if not previous.goroot:
        return "the previous deployment has no Go"
    if previous.broken:
        return "the Go of the previous deployment is broken as well"
    if previous.unclear:
        return UNCLEAR
    return "" if actor else "nothing on this machine acts on a failed boot"


def ask(system: ImageSystem | None, examination: Examination, actor: str, seconds: float) -> str:
    """Return `why_not` of this machine; each deployment is judged for `seconds` at most, a Go that hangs twice.

    A boot is when a machine is slowest. The previous deployment is judged last, when it may have become quick.
    """
    limit = Deadline(READ_SECONDS)
    broken = proof(examination)
    goroot = (examination.toolchain or {}).get("goroot", "")
    nothing = Judged("")
    try:
        state = system.read(limit) if system else None
        if system and state and not state.complete:
            state = system.read(Deadline(ONCE_MORE_SECONDS))
        if not system or not state or not state.booted or not broken or not goroot:
            return why_not(broken, goroot, nothing, None, actor)
        if state.going_back or state.default is not state.booted:
            return "another deployment boots next in any case"
        own = judge(system, state.booted, seconds)
        previous = None
        if state.previous and broken & own.broken:
            previous = judge(system, state.previous, seconds)
        reason = why_not(broken, goroot, own, previous, actor)
        if reason == ALONE and not state.complete:
            return NO_STATUS
        certain = broken - late(examination)
        if certain and (not own.broken or certain & own.broken):
            return reason
        if own.goroot == goroot and not own.broken:
            return ANSWERED
        if reason == ALONE and broken & own.broken <= own.late:
            return ALONE_LATE
        if previous is not None and previous.broken and previous.broken == previous.late:
            return UNCLEAR  # two that hang are no proof against a machine that keeps both waiting
        if not reason:
            again = judge(system, state.booted, seconds)
            return "" if broken & again.broken else ANSWERED
    except HookError as error:
        return f"whether going back would repair it is not known: {error.line()}"
    return reason


def excuse_late(examination: Examination) -> None:
    """Count what had not answered in time as not judged."""
    for finding in examination.findings:
        if finding.status == TIMEOUT:
            finding.ground = NOT_JUDGED


def judge(system: ImageSystem, deployment: Deployment, seconds: float) -> Judged:
    """Judge a deployment's tree as the staged gate judges, with the vendor's settings. Raises HookError.

    Half of the `seconds` is the budget, so that a machine that keeps Go waiting is told from a Go that hangs.
    """
    deadline = Deadline(seconds / 2, ceiling=seconds)
    with system.tree(deployment) as root:
        examination = examine(Subject("staged", root), config.Config(config.severities()), deadline)
    policy.settle(examination, policy.Case())
    unclear = examination.verdict.exit_status == EXIT_INTERNAL
    unclear = unclear or any(f.check in OF_THE_IMAGE for f in examination.not_judged)
    goroot = (examination.toolchain or {}).get("goroot", "")
    return Judged(goroot, proof(examination), unclear, late(examination))


def actor(called_by_greenboot: bool) -> str:
    """Return who acts on a failed boot here: "greenboot", "boot counting", or an empty string."""
    if called_by_greenboot or greenboot.is_installed():
        return "greenboot"
    return "boot counting" if glob.glob(BOOT_COUNTING) else ""


def deployments(system: ImageSystem | None, deadline: Deadline) -> State | None:
    """Return the deployments, or None where they cannot be read."""
    try:
        return system.read(deadline) if system else None
    except HookError:
        return None
