# SPDX-License-Identifier: GPL-2.0-or-later
"""The look at Go after any rpm transaction: rpm -U, microdnf, PackageKit's other backend, and who else uses librpm.

The file triggers of our package start it as a unit of its own, in the background. It cannot hold anything back: it
announces a Go that has just been broken, and takes back what was said of one that is sound again.
"""

from __future__ import annotations

from go_health_hook import policy
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW
from go_health_hook.examine import examine
from go_health_hook.gates._unit import ERR, INFO, WARNING, say, say_remedies
from go_health_hook.linux import rpmdb
from go_health_hook.subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.config import Config
    from go_health_hook.gates import Call
    from go_health_hook.verdict import Examination
    from go_health_hook.wiring import View, Wired

UNIT = "go-health-hook-look.service"
UNITS = (UNIT,)
BUDGET = 20.0
# How long the announcement may take (seconds): systemd kills what the unit leaves behind.
TELL_SECONDS = 5.0
# systemd starts no second run of the unit for a transaction that ends during one: each looks again at its end, so many
# times.
MAX_ROUNDS = 4


def answer(call: Call) -> int:
    """Judge the running Go and announce it; return the verdict's exit status, 0 where nobody wants to know."""
    settings = call.settings()
    if settings.get("dnf", "transactions") == "off":
        say(INFO, "not looked: [dnf] transactions = off")
        return EXIT_ALLOW
    for _ in range(MAX_ROUNDS):
        before = rpmdb.state()
        examination = _examine(settings, call)
        if before == rpmdb.state():
            break
    if call.dry_run:
        say(INFO, f"would be announced: {examination.verdict.reason}")
        return EXIT_ALLOW
    _tell(examination)
    return examination.verdict.exit_status


def _examine(settings: Config, call: Call) -> Examination:
    budget = call.seconds(settings, __name__, BUDGET)
    deadline = Deadline(budget, ceiling=ceiling_of(settings.get("budget", "ceiling")))
    examination = examine(Subject(), settings, deadline)
    policy.settle(examination, policy.Case(starved_blocks=settings.get("budget", "starved") == "block"))
    return examination


def _tell(examination: Examination) -> None:
    verdict = examination.verdict
    if verdict.block:
        say(ERR, f"after an rpm transaction: {verdict.reason}")
        say_remedies(examination)
    else:
        say(WARNING if examination.not_judged else INFO, f"after an rpm transaction: {verdict.reason}")
    publish.publish(examination, "look", event=record.AFTER, wait=TELL_SECONDS)


def wired(view: View) -> Wired:
    """Return whether the file triggers of our package find the unit that they start."""
    from go_health_hook.wiring import NOT_HERE, WIRED, Wired

    if view.image:
        return Wired(NOT_HERE, "packages come with the image")
    if not view.first("/usr/lib/sysimage/rpm/*", "/var/lib/rpm/*"):
        return Wired(NOT_HERE, "no rpm database")
    if view.exists("/usr/lib/go-health-hook/installed"):
        return Wired(NOT_HERE, "not installed as a package, so rpm has no file triggers of it")
    if not view.base and not view.exists("/run/systemd/system"):
        return Wired(NOT_HERE, "systemd does not run here")
    if view.config.get("dnf", "transactions") == "off":
        return Wired(NOT_HERE, "switched off: [dnf] transactions = off")
    wired = Wired(WIRED, f"rpm's file triggers start {UNIT}")
    return view.unloaded(UNIT, "dnf reinstall go-health-hook") or wired
