# SPDX-License-Identifier: GPL-2.0-or-later
"""Before an automatic update of an image system: stopped only where it would install what was refused, and reboot.

Called by drop-ins of rpm-ostreed-automatic.service and bootc-fetch-apply-updates.service. The running Go is judged and
told, but never stops an update: what an update brings is the staged gate's business, and it may be the repair.
"""

from __future__ import annotations

import os
import time

from go_health_hook import policy
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, EXIT_BLOCK, EXIT_INTERNAL, EXIT_VETO, HookError
from go_health_hook.examine import BY_GATE, USUAL, examine
from go_health_hook.gates import _refused
from go_health_hook.gates._unit import (
    ERR,
    INFO,
    NOTICE,
    WARNING,
    overridden,
    own_stream,
    say,
    say_override,
    say_remedies,
)
from go_health_hook.linux import image
from go_health_hook.linux.deployments import parse_json, waiting_digests
from go_health_hook.linux.rpm_ostree import Inquiry, automatic_policy, waiting_commits
from go_health_hook.run import process
from go_health_hook.subject import Subject
from go_health_hook.text import clean
from go_health_hook.verdict import Examination, Verdict
from go_health_hook.wiring import NOT_HERE, NOT_WIRED, VETO_PROGRAM, WIRED, Wired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from go_health_hook.config import Config
    from go_health_hook.gates import Call
    from go_health_hook.wiring import View

GATE = "rpm-ostree"
BUDGET = 3.0
UNITS = ("rpm-ostreed-automatic.service", "bootc-fetch-apply-updates.service")
TIMERS = ("rpm-ostreed-automatic.timer", "bootc-fetch-apply-updates.timer")
UNREAD = (
    ("/etc/rpm-ostreed.conf", "", "HookPost", "rpm-ostree has no hooks; the staged deployment is judged without it"),
)
WORDS = ("bootc",)
# How long the announcement may take (seconds): what the unit's ExecStartPre= leaves behind is killed.
WAIT_SECONDS = 0.5
# To ask the registry or the remote what waits (seconds); asked only where something has been refused.
CHECK_SECONDS = 45.0
# To ask rpm-ostree what waits where the running Go is broken (seconds).
ASK_SECONDS = 15.0
# A refusal that may pass, as of a Go that hung, is tried again after this long (seconds).
AGAIN_SECONDS = 86400.0


def answer(call: Call) -> int:
    """Return EXIT_VETO to stop the automatic update, 0 to let it go on; a fault of our own lets it go on.

    `bootc`: bootc's unit calls, which reboots into whatever it stages; else rpm-ostree's, by its policy.
    """
    call.only(GATE, WORDS)
    own_stream()
    by_bootc = "bootc" in call.arguments
    mode = "apply" if by_bootc else automatic_policy()
    if mode not in ("stage", "apply"):
        say(INFO, f"AutomaticUpdatePolicy = {clean(mode)}: nothing is installed, so nothing is judged")
        return EXIT_ALLOW
    settings = call.settings()
    if mode == "apply" and image.here() is not None:
        refused = _refused_update(by_bootc)
        if refused is not None:
            return _stop(refused, settings, call)
    return _tell_running(settings, call)


def _refused_update(by_bootc: bool) -> dict[str, Any] | None:
    """Return what is kept of the update that waits, if it is one that was refused, else None."""
    held = _refused.held()
    if not held:
        return None
    deadline = Deadline(CHECK_SECONDS)
    # What is known may be out of date: an update that repairs it must not be missed.
    program = "bootc" if by_bootc else "rpm-ostree"
    process.run_host(program, ["upgrade", "--check"], deadline)
    result = process.run_host(program, ["status", "--json"], deadline)
    if not result.ok:
        say(INFO, f"{program} was not asked what waits: {result.why()}")
        return None
    try:
        status = parse_json(result.stdout.decode("utf-8", "replace"))
        names = waiting_digests(status) if by_bootc else waiting_commits(status)
    except HookError as error:
        say(INFO, f"{program} was not understood: {error.line()}")
        return None
    return match(names, held, time.time())


def match(names: Sequence[str], held: Sequence[dict[str, Any]], now: float) -> dict[str, Any] | None:
    """Return the refused entry that the update that waits is, or None.

    `names` are checksums or digests of what waits, the newest first: only that one is installed next.
    """
    for entry in held:
        known = (entry["checksum"], entry["digest"], entry["base"])
        if names and names[0] and names[0] in known:
            return entry if entry["lasting"] or now - entry["time"] < AGAIN_SECONDS else None
    return None


def _stop(refused: dict[str, Any], settings: Config, call: Call) -> int:
    """Tell that the automatic update would install what was refused; return the gate's exit status."""
    name, reason = clean(refused["name"], 120), clean(refused["reason"], 600)
    override = overridden()
    verdict = Verdict(EXIT_BLOCK, f"{name} was refused and is all that waits: {reason}")
    examination = Examination(Subject("staged", "/"), Deadline(BUDGET), verdict, settings.announce)
    if not call.dry_run:
        event = record.OVERRIDE if override else record.VERDICT
        publish.publish(examination, GATE, event=event, wait=WAIT_SECONDS)
    if override is not None:
        say(WARNING, f"the update goes on although {examination.verdict.reason}: {override.line()}")
        return EXIT_ALLOW
    say(ERR, f"the automatic update is stopped, it would reboot for nothing: {examination.verdict.reason}")
    say(NOTICE, "it goes on by itself as soon as another update is there")
    say_override("to let automatic updates go on once anyway")
    return EXIT_ALLOW if call.dry_run else EXIT_VETO


def _tell_running(settings: Config, call: Call) -> int:
    """Judge the running Go and tell; the update goes on whatever it is."""
    budget = call.seconds(settings, __name__, BUDGET)
    deadline = Deadline(budget, ceiling=ceiling_of(settings.get("budget", "ceiling"), person=os.isatty(2)))
    examination = examine(Subject(), settings, deadline, depth=USUAL if call.dry_run else BY_GATE)
    decision = policy.settle(examination, policy.Case(powerless="what waits may repair it"))
    verdict = decision.verdict
    if not call.dry_run:
        event = record.WARNED if verdict.block else record.VERDICT
        publish.publish(examination, GATE, event=event, wait=WAIT_SECONDS)
    if verdict.exit_status == EXIT_INTERNAL:
        say(ERR, f"{verdict.reason}; the update goes on")
    elif verdict.block:
        say(WARNING, f"the running Go is broken: {verdict.reason}")
        say_remedies(examination)
        if "bootc" not in call.arguments:
            _tell_waiting()
        say(NOTICE, "the update goes on: what it brings is judged before it is installed")
    else:
        say(INFO, f"the running Go: {verdict.reason}; the update goes on")
    return EXIT_ALLOW


def _tell_waiting() -> None:
    """Say what rpm-ostree knows of an update of Go, and of one that was applied to the running system already."""
    try:
        update = Inquiry(Deadline(ASK_SECONDS)).answer()
    except HookError as error:
        say(INFO, f"rpm-ostree was not asked what waits: {error.line()}")
        return
    if update.changes:
        say(NOTICE, f"an update waits that changes Go ({', '.join(str(c) for c in update.changes[:4])})")
    booted = update.state.booted
    if booted is not None and booted.live:
        refused = _refused.find(booted.live)
        what = f"{refused['name']}, which was refused," if refused else f"commit {clean(booted.live, 12)}"
        say(WARNING, f"rpm-ostree apply-live has put {what} into the running system")


def wired(view: View) -> Wired:
    """Return whether the units of the automatic updaters call this gate before they begin."""
    if not view.image:
        return Wired(NOT_HERE, "no image system")
    here = [unit for unit in UNITS if unit in view.units or view.first(f"/usr/lib/systemd/system/{unit}")]
    if not here:
        return Wired(NOT_HERE, "no automatic updater's unit")
    for unit in here:
        if not any(VETO_PROGRAM in command for command in view.values(unit, "Service", "ExecStartPre")):
            remedy = view.drop_in_remedy(unit, "go-health-hook-rpm-ostree")
            return Wired(NOT_WIRED, f"{unit} does not call the gate before it begins", remedy)
    return Wired(WIRED, f"drop-in of {', '.join(here)}")
