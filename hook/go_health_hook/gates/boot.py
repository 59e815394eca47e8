# SPDX-License-Identifier: GPL-2.0-or-later
"""After the boot: is the Go of this deployment sound? greenboot, or the boot's own completion, hears the answer."""

from __future__ import annotations

from go_health_hook import policy
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, EXIT_BLOCK, EXIT_INTERNAL, EXIT_TIMEOUT, BadInput, HookError
from go_health_hook.examine import examine
from go_health_hook.gates._unit import ERR, INFO, NOTICE, WARNING, overridden, say, say_override, say_remedies
from go_health_hook.linux import ostree
from go_health_hook.subject import Subject
from go_health_hook.text import clean
from go_health_hook.wiring import NOT_HERE, NOT_WIRED, WIRED, Wired, add_to_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.config import Config
    from go_health_hook.gates import Call
    from go_health_hook.verdict import Examination
    from go_health_hook.wiring import View

# To find out, once the verdict stands, what changed in Go since the last deployment (seconds).
TELL_SECONDS = 5.0
# How long the announcement may take (seconds): what this unit leaves behind is killed.
WAIT_SECONDS = 1.0


BUDGET = 60.0
BOOT_UNIT = "go-health-hook-boot.service"
GREENBOOT_UNIT = "greenboot-healthcheck.service"
GREENBOOT_SCRIPT = "50_go_health_hook.sh"
GREENBOOT_CHECK = f"greenboot/check/required.d/{GREENBOOT_SCRIPT}"
GREENBOOT_CONF = "/etc/greenboot/greenboot.conf"
UNITS = (BOOT_UNIT, GREENBOOT_UNIT)


def answer(call: Call) -> int:
    """Return 0 when this boot's Go is sound, 1 when it is not or hangs; a fault of our own is no broken Go."""
    if call.arguments:
        raise BadInput(f"gate boot takes no {clean(call.arguments[0])!r}", hint="call it without arguments")
    settings = call.settings()
    budget = call.budget if call.budget is not None else settings.budget(__name__, BUDGET)
    deadline = Deadline(budget, ceiling=ceiling_of(settings.get("budget", "ceiling")))
    examination = _examine(settings, deadline)
    verdict = examination.verdict
    let = overridden() if verdict.block else None
    if not call.dry_run:
        event = record.OVERRIDE if let else record.VERDICT
        publish.publish(examination, "boot", event=event, wait=WAIT_SECONDS)
    if verdict.exit_status == EXIT_INTERNAL:
        say(ERR, f"{verdict.reason}; this boot is not held against Go")
        return EXIT_ALLOW
    if not verdict.block:
        say(INFO, f"Go after this boot: {verdict.reason}")
        return EXIT_ALLOW
    if let is not None:
        say(WARNING, f"this boot passes although {verdict.reason}: {let.line()}")
        return EXIT_ALLOW
    say(ERR, f"Go is broken after this boot: {verdict.reason}")
    say_remedies(examination)
    if ostree.on_ostree():
        _tell_deployment()
    say_override("to let this boot pass once anyway")
    return EXIT_ALLOW if call.dry_run else EXIT_BLOCK


def _examine(settings: Config, deadline: Deadline) -> Examination:
    """The usual checks in half of the time, then --deep in what is left.

    The usual ones take a fraction of a second: one that has no answer after half a minute hangs. But building a program
    with a cold cache can take minutes on a small machine, and a rollback costs more than it is worth for that: where
    only the deep check ran out of time, what the usual ones said holds.
    """
    usual = examine(Subject(), settings, deadline.within(deadline.budget / 2))
    policy.settle(usual, policy.Case())
    if usual.verdict.exit_status != EXIT_ALLOW or usual.toolchain is None:
        return usual
    deep = examine(Subject(), settings, deadline, deep=True)
    policy.settle(deep, policy.Case())
    if deep.verdict.exit_status == EXIT_TIMEOUT:
        say(WARNING, f"no time to build and run a program: {deep.verdict.reason}; [budget] boot gives it more")
        return usual
    return deep


def _tell_deployment() -> None:
    """Say which deployment this is, what changed in Go since the previous one, and how to roll back."""
    deadline = Deadline(TELL_SECONDS)
    try:
        state = ostree.on_disk(deadline)
    except HookError as error:
        say(INFO, error.line())
        return
    booted, previous = state.booted, state.previous
    if booted is not None:
        say(NOTICE, f"this is {booted.name}")
    if booted is None or previous is None:
        say(NOTICE, "there is no previous deployment to roll back to")
        return
    try:
        changes = ostree.go_changes(previous, booted, deadline)
        what = ", ".join(str(c) for c in changes) or "no package of Go"
        say(NOTICE, f"changed since {previous.name}: {what}")
    except HookError as error:
        say(INFO, f"what changed since {previous.name} is not known: {error.line()}")
    say(NOTICE, f"to roll back: {ostree.how_to_roll_back(state)}")


def wired(view: View) -> Wired:
    """Return whether greenboot, or the unit of our own where there is no greenboot, calls this gate."""
    if not view.ostree:
        return Wired(NOT_HERE, "no image system")
    if view.exists(f"/usr/lib/systemd/system/{GREENBOOT_UNIT}"):
        return _greenboot(view)
    state = view.load_state(BOOT_UNIT)
    if state != "loaded":
        remedy = f"systemctl unmask {BOOT_UNIT}" if state == "masked" else add_to_image("go-health-hook-rpm-ostree")
        return Wired(NOT_WIRED, f"{BOOT_UNIT} is {state}", remedy)
    if not view.pulled_in(BOOT_UNIT):
        return Wired(NOT_WIRED, f"no target wants {BOOT_UNIT}", f"systemctl add-wants multi-user.target {BOOT_UNIT}")
    return Wired(WIRED, BOOT_UNIT)


def _greenboot(view: View) -> Wired:
    check = view.first(f"/usr/lib/{GREENBOOT_CHECK}", f"/etc/{GREENBOOT_CHECK}")
    if not check or not view.executable(check):
        remedy = add_to_image("go-health-hook-greenboot")
        return Wired(NOT_WIRED, f"/usr/lib/{GREENBOOT_CHECK} is missing or not executable", remedy)
    # ("A.sh" "B.sh"), as bash has a list.
    skipped = view.setting([GREENBOOT_CONF], "", "DISABLED_HEALTHCHECKS")
    if skipped and GREENBOOT_SCRIPT in [word.strip('"') for word in skipped[0].strip("()").split()]:
        how = f"{skipped[1]}: DISABLED_HEALTHCHECKS names {GREENBOOT_SCRIPT}"
        return Wired(NOT_WIRED, how, "take it out there")
    state = view.load_state(GREENBOOT_UNIT)
    if state != "loaded" or not view.pulled_in(GREENBOOT_UNIT):
        remedy = f"systemctl {'unmask' if state == 'masked' else 'enable'} {GREENBOOT_UNIT}"
        return Wired(NOT_WIRED, f"{GREENBOOT_UNIT} is {'not enabled' if state == 'loaded' else state}", remedy)
    return Wired(WIRED, f"greenboot, {check}")
