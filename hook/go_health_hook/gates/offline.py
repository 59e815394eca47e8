# SPDX-License-Identifier: GPL-2.0-or-later
"""The look at an update that waits for a reboot: what the boot would refuse is announced before it.

A path unit starts it when dnf5, dnf5daemon, dnf 4 or PackageKit has stored an update, or has taken one back. It stops
nothing: at the boot the gate of the updater is asked, and answers by the same rules.
"""

from __future__ import annotations

import os

from go_health_hook import files
from go_health_hook.announce import publish, record
from go_health_hook.deadline import Clock, Deadline, ceiling_of
from go_health_hook.errors import EXIT_ALLOW, EXIT_INTERNAL
from go_health_hook.gates import _dnf, _dnf_judge
from go_health_hook.gates._dnf_transaction import Item, Transaction
from go_health_hook.gates._unit import ERR, INFO, WARNING, say
from go_health_hook.go import unpack
from go_health_hook.linux import offline, rpmfile
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.config import Config
    from go_health_hook.gates import Call
    from go_health_hook.gates._dnf_judge import Answer, Survey
    from go_health_hook.linux.offline import Prepared
    from go_health_hook.wiring import View, Wired

GATE = "offline"
PATH_UNIT = "go-health-hook-offline.path"
UNITS = (PATH_UNIT,)
BUDGET = 30.0
# How long the announcement may take (seconds): systemd kills what the unit leaves behind.
TELL_SECONDS = 5.0
CLIENTS = ("/usr/bin/dnf5", "/usr/bin/dnf", "/usr/bin/dnf-3", "/usr/libexec/packagekitd", "/usr/lib*/libdnf5.so.*")
# There while a refusal stands: the unit runs at the next boot too, when the update may be applied or gone.
NOTE = f"{record.DIRECTORY}/prepared"
# systemd starts no second run of the unit for what changes during one: each looks again at its end, so many times.
MAX_ROUNDS = 4


def answer(call: Call) -> int:
    """Judge what is stored and announce what would be refused; return 1 or 3 where something would be, 0 or 4 else."""
    settings = call.settings()
    status = EXIT_ALLOW
    for _ in range(MAX_ROUNDS):
        before = files.looks(offline.STATES)
        status = _judge_all(settings)
        if before == files.looks(offline.STATES):
            break
    return status


def _judge_all(settings: Config) -> int:
    """Judge every update that waits for a reboot; the first one that would be refused is announced."""
    if settings.get("dnf", "transactions") in ("off", "automatic"):
        _release(settings)  # an update that waits for a reboot is a person's
        return EXIT_ALLOW
    try:
        updates = offline.prepared()
    except (OSError, ValueError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        say(ERR, f"an update waits for a reboot and is not judged: {clean(why)}")
        _release(settings)
        return EXIT_INTERNAL
    status = EXIT_ALLOW
    for update in updates:
        answer = _judge(update, settings)
        if answer.entry is not None:
            publish.publish_entry(answer.entry, settings.announce, wait=TELL_SECONDS)
        for line in [*answer.said, *answer.message.splitlines(), *answer.notes]:
            say(WARNING if answer.message else INFO, f"{update.client}: {line}")
        if answer.message:
            _note(update.client)
            return answer.status
        status = answer.status or status
    if not status:
        _release(settings)
    return status


def _judge(update: Prepared, settings: Config) -> Answer:
    """Return the answer that the updater's gate would give at the boot."""
    # A person asked for what waits for a reboot, or is asked before the reboot.
    items = [Item(p.name, p.evr, p.action, p.coming, p.full, list) for p in update.packages]
    transaction = Transaction(GATE, items, False, lambda installed: _go_names(installed, update), offline=update)
    deadline = Deadline(settings.budget(__name__, BUDGET), ceiling=ceiling_of(settings.get("budget", "ceiling")))
    installed = _dnf_judge.Survey(**_dnf_judge.survey(_dnf_judge.find_installed(settings), [], True))
    everything = settings.get("dnf", "transactions") == "all"
    task = _dnf.plan(transaction, installed, transaction.go_names(installed), everything=everything)
    if not update.packages:  # PackageKit does not say what a release upgrade brings
        task = _dnf_judge.Task(transaction, installed, set(), incoming=False, running=True)
    if task is None:
        return _dnf_judge.Answer(notes=["it would be let in, since it is no update and brings no Go"])
    task.places = {p.full: p.places for p in update.packages if p.coming}
    task.last = True
    try:
        return _dnf_judge.judge(task, settings, deadline, Clock(), lambda name, kind, until: None)
    finally:
        unpack.forget(task.token)


def _go_names(installed: Survey, update: Prepared) -> set[str]:
    """Return the names of the packages that own Go's files, and of those that bring a go command."""
    names = set(installed.owners)
    new = {p.full: p for p in update.packages if p.coming and p.name not in names}
    for full, path in rpmfile.locate({full: p.places for full, p in new.items()}).items():
        header = rpmfile.header_of(path)
        if header is not None and any(str(name).endswith("/bin/go") for name in header["filenames"]):
            names.add(new[full].name)
    return names


def _release(settings: Config) -> None:
    """End what was said of an update that is gone, or that would be let in now."""
    try:
        state = record.read()
    except record.StateError as error:
        say(ERR, error.line())
        return
    if GATE in state["blocks"] or GATE in state["unjudged"]:
        publish.release(GATE, settings.announce)
    try:
        os.unlink(NOTE)
    except OSError:
        pass


def _note(client: str) -> None:
    try:
        files.replace(NOTE, f"{client}\n")
    except OSError as error:
        say(ERR, f"{NOTE}: {error.strerror}")


def wired(view: View) -> Wired:
    """Return whether systemd starts this gate when an update is prepared."""
    from go_health_hook.wiring import NOT_HERE, WIRED, Wired

    if view.image:
        return Wired(NOT_HERE, "updates come as images")
    if not view.first(*CLIENTS) or not view.first("/usr/lib/sysimage/rpm/*", "/var/lib/rpm/*"):
        return Wired(NOT_HERE, "nothing that prepares updates for a reboot")
    if not view.base and not view.exists("/run/systemd/system"):
        return Wired(NOT_HERE, "systemd does not run here")
    if view.config.get("dnf", "transactions") == "off":
        return Wired(NOT_HERE, "switched off: [dnf] transactions = off")
    off = view.unloaded(PATH_UNIT, "dnf reinstall go-health-hook") or view.inactive(PATH_UNIT)
    return off or Wired(WIRED, PATH_UNIT)
