# SPDX-License-Identifier: GPL-2.0-or-later
"""After the boot: whether the Go of this deployment works. A boot is failed only where going back repairs it.

The usual checks hold the boot up for a few seconds at most. Building a program takes minutes on a cold cache, so that
is done later, in a unit of its own (`gate boot deep`), and is only told.
"""

from __future__ import annotations

import json
import os
import time

from go_health_hook import VERSION, files, policy
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL, EXIT_TIMEOUT, EXIT_VETO, HookError
from go_health_hook.examine import Depth, examine
from go_health_hook.gates import _going_back, _refused
from go_health_hook.gates._unit import ERR, INFO, NOTICE, WARNING, kept, overridden, say, say_override, say_remedies
from go_health_hook.linux import greenboot, image, rpm_ostree, systemd
from go_health_hook.policy import Action
from go_health_hook.subject import Subject
from go_health_hook.text import clean
from go_health_hook.wiring import NOT_HERE, NOT_WIRED, WIRED, Wired, add_to_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.gates import Call
    from go_health_hook.linux.image import ImageSystem
    from go_health_hook.verdict import Examination
    from go_health_hook.wiring import View

GATE = "boot"
BUDGET = 60.0
# What the usual checks may take while multi-user.target waits, and the same on a machine that keeps them waiting
# (seconds). A Go that has not answered then gets the rest of the budget unless the machine explains it.
FIRST_SECONDS = 5.0
FIRST_CEILING = 8.5
# The most that [budget] boot can ask for, and what each deployment gets that is judged for comparison, three times at
# most (seconds). With READ_SECONDS and TELL_SECONDS all of it has to fit into only-veto's 300 s.
MOST_SECONDS = 120.0
CONTROL_SECONDS = 45.0
# What a deep run may take on a machine that keeps it waiting: below its unit's RuntimeMaxSec= (seconds).
DEEP_CEILING = 600.0
READ_SECONDS = 10.0
# To find out, once the verdict stands, what changed in Go since the last deployment (seconds).
TELL_SECONDS = 15.0
# How long the announcement may take (seconds): what this unit leaves behind is killed.
WAIT_SECONDS = 1.0
# What a deep run came to, so that one that did not fit is not tried at every boot.
DEEP = "/var/lib/go-health-hook/deep.json"
WORDS = ("deep", "greenboot", "greenboot-note")
# The kernel may kill what a deep run compiles, and neither of them is the verdict on this boot.
UNTRACED = ("deep", "greenboot-note")

BOOT_UNIT = "go-health-hook-boot.service"
UNITS = (BOOT_UNIT, greenboot.UNIT)


def answer(call: Call) -> int:
    """Return EXIT_VETO when this boot is to be failed, else 0; a fault of our own is no broken Go.

    `greenboot`: greenboot's check calls, and acts on the answer. `deep`: build and run a program, which fails no boot.
    `greenboot-note`: remove greenboot's note of a deployment that was refused.
    """
    call.only(GATE, WORDS)
    if "greenboot-note" in call.arguments:
        return forget_refused_boot(image.here())
    settings = call.settings()
    if "deep" in call.arguments:
        return _deep(settings, call)
    budget = call.seconds(settings, __name__, BUDGET)
    budget = min(budget, MOST_SECONDS)
    system = image.here()
    examination = _usual(settings, budget)
    decision = policy.settle(examination, policy.Case())
    if decision.action is Action.BLOCK:
        override = overridden()
        powerless = ""
        if override is None:
            actor = _going_back.actor("greenboot" in call.arguments)
            powerless = _going_back.ask(system, examination, actor, CONTROL_SECONDS)
            if powerless in _going_back.SLOW:
                _going_back.excuse_late(examination)
        case = policy.Case(override=override.line() if override else "", powerless=powerless)
        decision = policy.settle(examination, case)
    if not call.dry_run:
        _renew_remedy(system)
        event = record.OVERRIDE if decision.action is Action.OVERRIDE else record.FOUND
        publish.publish(examination, GATE, event=event, wait=WAIT_SECONDS)
    _tell(decision, examination, system)
    return EXIT_VETO if decision.action is Action.BLOCK and not call.dry_run else EXIT_ALLOW


def _renew_remedy(system: ImageSystem | None) -> None:
    """Replace the remedy of a staged update that was refused where nothing is staged any more after the reboot."""
    if system is None or (system.staged_file and os.path.exists(system.staged_file)):
        return

    def change(state: dict[str, Any]) -> None:
        block = state["blocks"].get("staged")
        if block:
            block["remedy"] = system.later()

    try:
        if "staged" in record.read()["blocks"]:
            record.update(change)
    except HookError as error:
        say(WARNING, error.line())


def _usual(settings: Config, budget: float) -> Examination:
    """Judge the running Go, quickly first; one that hangs is given the whole budget before it is called broken."""
    first = Deadline(min(budget, FIRST_SECONDS), ceiling=FIRST_CEILING)
    examination = examine(Subject(), settings, first)
    policy.settle(examination, policy.Case())
    if examination.verdict.exit_status == EXIT_TIMEOUT and budget > FIRST_SECONDS:
        ceiling = min(ceiling_of(settings.get("budget", "ceiling")), MOST_SECONDS)
        examination = examine(Subject(), settings, Deadline(budget, ceiling=ceiling))
    return examination


def _tell(decision: policy.Decision, examination: Examination, system: ImageSystem | None) -> None:
    reason = decision.verdict.reason
    if decision.action is Action.UNDECIDED:
        say(ERR, f"{reason}; this boot is not held against Go")
    elif decision.action is Action.ALLOW:
        say(INFO, f"Go after this boot: {reason}")
    elif decision.action is Action.OVERRIDE:
        say(WARNING, f"this boot passes although {reason}: {decision.note}")
    elif decision.action is Action.WARN:
        say(WARNING, f"Go is broken after this boot: {reason}")
        say_remedies(examination)
        say(NOTICE, f"this boot passes all the same: {decision.note}")
    else:
        say(ERR, f"Go is broken after this boot: {reason}")
        say_remedies(examination)
        _tell_deployment(system)
        say_override("to let this boot pass once anyway")


def _tell_deployment(system: ImageSystem | None) -> None:
    """Say which deployment this is, what changed in Go since the previous one, and how to go back."""
    deadline = Deadline(TELL_SECONDS)
    state = _going_back.deployments(system, deadline)
    if system is None or state is None or state.booted is None or state.previous is None:
        return
    booted, previous = state.booted, state.previous
    system.describe(booted, deadline.within(READ_SECONDS))
    system.describe(previous, deadline.within(READ_SECONDS))
    say(NOTICE, f"this is {booted.name}")
    try:
        changes = rpm_ostree.go_changes(previous, booted, deadline)
        what = ", ".join(str(c) for c in changes) or "no package of Go"
        say(NOTICE, f"changed since {previous.name}: {what}")
    except HookError as error:
        say(INFO, f"what changed since {previous.name} is not known: {error.line()}")
    say(NOTICE, f"to go back: {system.roll_back(state)}")


# --- building a program


def _deep(settings: Config, call: Call) -> int:
    """Build and run a program with the running Go, and tell what comes of it; never a reason to fail a boot."""
    state = _going_back.deployments(image.here(), Deadline(READ_SECONDS))
    mark = f"{VERSION} {state.booted.id if state and state.booted else ''}"
    known = files.read_object(DEEP, 1 << 16)
    if known.get("mark") == mark and not call.dry_run:
        say(INFO, f"no program is built: {known.get('result')} since this deployment was first booted")
        return EXIT_ALLOW
    budget = call.budget if call.budget is not None else settings.get("budget", "deep")
    examination = examine(Subject(), settings, Deadline(budget, ceiling=DEEP_CEILING), depth=Depth(deep=True))
    decision = policy.settle(examination, policy.Case())
    if call.dry_run:
        say(INFO, f"with a program built and run: {decision.verdict.reason}")
        return EXIT_ALLOW
    if examination.verdict.exit_status in (EXIT_TIMEOUT, EXIT_INTERNAL) or examination.not_judged:
        say(WARNING, f"no program could be built and run: {decision.verdict.reason}; [budget] deep gives it more time")
        kept(lambda: _write_deep(mark, "that did not fit into this machine"))
        return EXIT_ALLOW
    publish.publish(examination, GATE, event=record.FOUND, wait=WAIT_SECONDS)
    if examination.verdict.block:
        say(ERR, f"Go is broken: {decision.verdict.reason}")
        say_remedies(examination)
        return EXIT_ALLOW
    say(INFO, f"with a program built and run: {decision.verdict.reason}")
    kept(lambda: _write_deep(mark, "that worked"))
    return EXIT_ALLOW


def _write_deep(mark: str, result: str) -> None:
    files.replace(DEEP, json.dumps({"mark": mark, "result": result, "time": round(time.time())}) + "\n")


# --- greenboot-rs's note


def forget_refused_boot(system: ImageSystem | None) -> int:
    """Remove greenboot-rs's note of the next boot where it names a deployment that was refused and does not run.

    At shutdown greenboot-rs notes whatever is staged, locked or not. Another deployment that boots is then taken for a
    kernel that did not start, and the older deployment is made the default. Returns 0, or 4 where the note stays.
    """
    noted = greenboot.next_deployment()
    if not noted:
        return EXIT_ALLOW
    deadline = Deadline(READ_SECONDS)
    state = _going_back.deployments(system, deadline)
    if not _refused.is_held(noted, state.staged if state else None):
        say(INFO, f"greenboot's note of the next boot is left alone: {clean(noted, 80)}")
        return EXIT_ALLOW
    booted = state.booted if state else None
    if system and booted:
        system.describe(booted, deadline)
    if booted is not None and noted in (booted.checksum, booted.digest):
        return EXIT_ALLOW
    try:
        greenboot.forget_next_deployment(deadline)
    except (HookError, OSError) as error:
        say(ERR, f"greenboot may go back to an older deployment at the next boot: {clean(str(error))}")
        return EXIT_INTERNAL
    say(NOTICE, f"greenboot's note of the next boot named a refused deployment and is removed: {clean(noted, 80)}")
    return EXIT_ALLOW


def wired(view: View) -> Wired:
    """Return whether greenboot, or the unit of our own where there is no greenboot, calls this gate."""
    if not view.image:
        return Wired(NOT_HERE, "no image system")
    off = view.unloaded(BOOT_UNIT, add_to_image("go-health-hook-rpm-ostree"))
    if off:
        return off
    if not view.pulled_in(BOOT_UNIT):
        return Wired(NOT_WIRED, f"no target wants {BOOT_UNIT}", f"systemctl add-wants multi-user.target {BOOT_UNIT}")
    if view.first(*(f"{folder}/{greenboot.UNIT}" for folder in systemd.UNIT_PATH)):
        return _greenboot(view)
    return Wired(WIRED, BOOT_UNIT)


def _greenboot(view: View) -> Wired:
    check = view.first(f"/usr/lib/{greenboot.CHECK}", f"/etc/{greenboot.CHECK}")
    if not check:
        remedy = add_to_image("go-health-hook-greenboot")
        return Wired(NOT_WIRED, f"/usr/lib/{greenboot.CHECK} is missing", remedy)
    if greenboot.is_disabled(view.base):
        how = f"{greenboot.CONF}: {greenboot.KEY} names {greenboot.SCRIPT}"
        return Wired(NOT_WIRED, how, "take it out there")
    state = view.load_state(greenboot.UNIT)
    if state != "loaded" or not view.pulled_in(greenboot.UNIT):
        remedy = f"systemctl {'unmask' if state == 'masked' else 'enable'} {greenboot.UNIT}"
        return Wired(NOT_WIRED, f"{greenboot.UNIT} is {'not enabled' if state == 'loaded' else state}", remedy)
    return Wired(WIRED, f"greenboot, {check}")
