# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which a machine is updated, each as its updater is really run: UPDATERS[name](machine)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from tests.testbed.machine import Machine

    Updater = Callable[[Machine], "subprocess.CompletedProcess[str]"]

# What dnf5-automatic.service and dnf-automatic-install.timer would read.
AUTOMATIC_CONF = """\
[commands]
upgrade_type = default
random_sleep = 0
network_online_timeout = 0
download_updates = yes
apply_updates = yes
reboot = never

[emitters]
emit_via = stdio

[base]
debuglevel = 1
"""

# As a program that uses the library (PackageKit, Ansible's module) does it.
LIBDNF5 = """
import sys
import libdnf5

base = libdnf5.base.Base()
base.load_config()
base.setup()
sack = base.get_repo_sack()
sack.create_repos_from_system_configuration()
sack.load_repos()
goal = libdnf5.base.Goal(base)
goal.add_rpm_upgrade()
transaction = goal.resolve()
for problem in transaction.get_resolve_logs_as_strings():
    print(problem, file=sys.stderr)
if transaction.get_problems() != libdnf5.base.GoalProblem_NO_PROBLEM:
    sys.exit(2)
transaction.download()
result = transaction.run()
print(transaction.transaction_result_to_string(result))
for problem in transaction.get_transaction_problems():
    print(problem, file=sys.stderr)
sys.exit(result != libdnf5.base.Transaction.TransactionRunResult_SUCCESS)
"""

DNF4_AUTOMATIC = "import sys, dnf.automatic.main as m; sys.exit(m.main(sys.argv[1:]))\n"


def dnf(machine: Machine, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """The machine's own dnf as a person calls it, answering yes; the status is for the caller to judge."""
    program = "dnf5" if machine.path("/usr/bin/dnf5").exists() else "dnf"
    return machine.run([program, "-y", *arguments], check=False, timeout=timeout)


def run(machine: Machine, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return machine.run(words, check=False)


def dnf5_upgrade(machine: Machine) -> subprocess.CompletedProcess[str]:
    return run(machine, ["dnf5", "upgrade", "-y"])


def dnf5_automatic(machine: Machine) -> subprocess.CompletedProcess[str]:
    """As dnf5-automatic.service starts it, but for the timer's delay."""
    machine.write("/etc/dnf/automatic.conf", AUTOMATIC_CONF)
    return run(machine, ["dnf5", "automatic", "--installupdates"])


def libdnf5_upgrade(machine: Machine) -> subprocess.CompletedProcess[str]:
    machine.write("/root/upgrade.py", LIBDNF5)
    return run(machine, ["python3", "/root/upgrade.py"])


def dnf4_upgrade(machine: Machine) -> subprocess.CompletedProcess[str]:
    return run(machine, ["dnf", "-y", "upgrade"])


def dnf4_automatic(machine: Machine) -> subprocess.CompletedProcess[str]:
    """dnf-automatic's own code; Debian packs it without the command."""
    machine.write("/etc/dnf/automatic.conf", AUTOMATIC_CONF)
    machine.write("/root/dnf-automatic.py", DNF4_AUTOMATIC)
    return run(machine, ["python3", "/root/dnf-automatic.py", "/etc/dnf/automatic.conf", "--installupdates"])


# By the root they are found in.
UPDATERS: dict[str, dict[str, Updater]] = {
    "forky": {"dnf5 upgrade": dnf5_upgrade, "dnf5 automatic": dnf5_automatic, "libdnf5": libdnf5_upgrade},
    "bookworm": {"dnf upgrade": dnf4_upgrade, "dnf-automatic": dnf4_automatic},
}
