# SPDX-License-Identifier: GPL-2.0-or-later
"""Before an automatic update of an image system: the running toolchain, unless what waits brings another Go.

Called by drop-ins of rpm-ostreed-automatic.service and bootc-fetch-apply-updates.service, which can only look at the
running system; what an update brings is the staged gate's business.
"""

from __future__ import annotations

import os

from go_health_hook import policy
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, EXIT_BLOCK, EXIT_INTERNAL, BadInput, HookError
from go_health_hook.examine import examine
from go_health_hook.gates._unit import ERR, INFO, NOTICE, WARNING, overridden, say, say_override, say_remedies
from go_health_hook.linux import ostree
from go_health_hook.subject import Subject
from go_health_hook.text import clean
from go_health_hook.wiring import NOT_HERE, NOT_WIRED, VETO_PROGRAM, WIRED, Wired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.gates import Call
    from go_health_hook.linux.ostree import State
    from go_health_hook.wiring import View


# How long the announcement may take (seconds): what the unit's ExecStartPre= leaves behind is killed.
WAIT_SECONDS = 0.5
# To read the deployments from the disk after a bus that never answered (seconds).
READ_SECONDS = 0.5


BUDGET = 3.0
UNITS = ("rpm-ostreed-automatic.service", "bootc-fetch-apply-updates.service")
TIMERS = ("rpm-ostreed-automatic.timer", "bootc-fetch-apply-updates.timer")
UNREAD = (
    ("/etc/rpm-ostreed.conf", "", "HookPost", "rpm-ostree has no hooks; the staged deployment is judged without it"),
)


def answer(call: Call) -> int:
    """Return 1 to stop the automatic update, 0 to let it go on; a fault of our own lets it go on."""
    if call.arguments:
        raise BadInput(f"gate rpm-ostree takes no {clean(call.arguments[0])!r}", hint="call it without arguments")
    settings = call.settings()
    budget = call.budget if call.budget is not None else settings.budget(__name__, BUDGET)
    deadline = Deadline(budget, ceiling=ceiling_of(settings.get("budget", "ceiling"), person=os.isatty(2)))
    # Asked from the start: should the toolchain hang, there would be no time left for it afterwards.
    inquiry = ostree.Inquiry(deadline) if ostree.on_ostree() else None
    examination = examine(Subject(), settings, deadline)
    policy.settle(examination, policy.Case())
    verdict = examination.verdict
    let = overridden() if verdict.block else None
    state = None
    repair = ""
    if verdict.block and let is None and inquiry is not None:
        state, repair = _repair(inquiry, deadline)
    if not call.dry_run:
        event = record.OVERRIDE if let else record.WARNED if repair else record.VERDICT
        publish.publish(examination, "rpm-ostree", event=event, wait=WAIT_SECONDS)
    if verdict.exit_status == EXIT_INTERNAL:
        say(ERR, f"{verdict.reason}; the update goes on")
        return EXIT_ALLOW
    if not verdict.block:
        say(INFO, f"the running Go: {verdict.reason}; the update goes on")
        return EXIT_ALLOW
    if let is not None:
        say(WARNING, f"the update goes on although {verdict.reason}: {let.line()}")
        return EXIT_ALLOW
    if repair:
        say(WARNING, f"the running Go is broken: {verdict.reason}")
        say(NOTICE, f"{repair}, which may repair it: the update goes on")
        return EXIT_ALLOW
    say(ERR, f"the automatic update is stopped, the running Go is broken: {verdict.reason}")
    say_remedies(examination)
    say(NOTICE, f"on an image system: {ostree.how_to_roll_back(state)}, or update by hand: {_by_hand()}")
    say_override("to let automatic updates go on once anyway")
    return EXIT_ALLOW if call.dry_run else EXIT_BLOCK


def _by_hand() -> str:
    return "ostree admin upgrade" if ostree.driver() == "ostree" else f"{ostree.driver()} upgrade"


def _repair(inquiry: ostree.Inquiry, deadline: Deadline) -> tuple[State | None, str]:
    """The deployments, where they can be read, and what waits for this machine that brings another Go, in words."""
    try:
        update = inquiry.answer()
        if update.changes:
            changes = ", ".join(str(c) for c in update.changes[:4])
            return update.state, f"an update waits that changes Go ({changes})"
        state = update.state
    except HookError as error:
        say(INFO, f"rpm-ostree was not asked what waits: {error.line()}")
        try:
            # When the bus took all the time there was: this is a few milliseconds, and decides whether Go is repaired.
            state = ostree.on_disk(Deadline(max(deadline.remaining(), READ_SECONDS)))
        except HookError as unread:
            say(INFO, unread.line())
            return None, ""
    # Whatever rpm-ostree says of packages: a Go that is from none differs in the tree alone.
    staged = state.staged
    if staged is not None and _go_of(staged.root) != _go_of("/"):
        return state, f"{staged.name} is staged and brings another Go"
    return state, ""


def _go_of(root: str) -> tuple[object, ...]:
    """What tells one Go from another without running it: where it is, its VERSION, and the sizes of its programs."""
    from go_health_hook.go import toolchain as toolchains

    subject = Subject("staged" if root != "/" else "running", root)
    toolchain = toolchains.find(subject)
    if toolchain is None:
        return ()
    sizes: list[object] = []
    for path in (toolchain.go, toolchain.tool("compile"), toolchain.tool("link")):
        try:
            sizes.append(subject.stat(path).st_size)
        except OSError:
            sizes.append(None)
    try:
        version = toolchain.read("VERSION")
    except OSError:
        version = None
    return (toolchain.goroot, version, *sizes)


def wired(view: View) -> Wired:
    """Return whether the units of the automatic updaters call this gate before they begin."""
    if not view.ostree:
        return Wired(NOT_HERE, "no image system")
    here = [unit for unit in UNITS if unit in view.units or view.first(f"/usr/lib/systemd/system/{unit}")]
    if not here:
        return Wired(NOT_HERE, "no automatic updater's unit")
    for unit in here:
        if not any(VETO_PROGRAM in command for command in view.values(unit, "Service", "ExecStartPre")):
            remedy = view.drop_in_remedy(unit, "go-health-hook-rpm-ostree")
            return Wired(NOT_WIRED, f"{unit} does not call the gate before it begins", remedy)
    return Wired(WIRED, f"drop-in of {', '.join(here)}")
