# SPDX-License-Identifier: GPL-2.0-or-later
"""An update that dnf5 prepares for the next reboot, on a machine with systemd that really reboots into it.

Debian's dnf5 has no units for it: these are stand-ins with what dnf5's own do (dnf5/config/systemd/system).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.testbed import disks, extras, repository, stubs
from tests.testbed.machine import Root
from tests.testbed.vm import BOOTING, VM

TREE = Path(__file__).parents[2]
pytestmark = pytest.mark.root
TRANSACTION = """
[Unit]
ConditionPathExists=/system-update
DefaultDependencies=no
Requires=sysinit.target dbus.socket
After=sysinit.target systemd-journald.socket system-update-pre.target
Before=poweroff.target reboot.target shutdown.target system-update.target
OnFailure=dnf5-offline-transaction-cleanup.service
[Service]
Type=oneshot
StandardOutput=journal+console
ExecStart=/usr/bin/dnf5 offline _execute
"""
CLEANUP = """
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/usr/bin/rm -fv /system-update
ExecStart=/usr/bin/systemctl --no-block reboot
"""
UNITS = "/usr/lib/systemd/system"
REFUSED = "the update prepared for the next reboot would be refused"
PREPARE = "dnf5 -y upgrade --offline"
MOTD = "/etc/motd.d/go-health-hook"


def prepared(vm: VM, tree: Path) -> None:
    """Go and hello from packages, a repository with newer ones, the hook, and dnf5's units."""
    subprocess.run([TREE / "packaging/dev/install-tree", tree], check=True)
    vm.install_tree(tree)
    vm.ok("mkdir -p /var/lib/rpm && rpm --initdb; rm -rf /usr/local/go")
    root = Root("forky", (disks.base(),))
    packages = [*stubs.packages("forky", root), extras.hello(1), extras.acme_go("1.25.5")]
    assert vm.install_rpms(packages).status == 0
    vm.put_tree(repository.repository([extras.hello(2), extras.acme_go("truncated")]), "/srv/updates")
    vm.put("/etc/yum.repos.d/updates.repo", "[updates]\nname=updates\nbaseurl=file:///srv/updates\ngpgcheck=0\n")
    vm.put(f"{UNITS}/dnf5-offline-transaction.service", TRANSACTION)
    vm.put(f"{UNITS}/dnf5-offline-transaction-cleanup.service", CLEANUP)
    vm.put("/etc/go-health-hook.conf.d/slow.conf", "[budget]\ndnf = 100\nboot = 100\noffline = 100\nceiling = 100\n")
    vm.ok(f"""
        rm -f /etc/dnf/libdnf5-plugins/local.conf /usr/lib/*/libdnf5/plugins/local.so
        mkdir -p {UNITS}/system-update.target.wants
        ln -s ../dnf5-offline-transaction.service {UNITS}/system-update.target.wants
        systemctl daemon-reload
        systemctl start go-health-hook-offline.path
    """)


def reboot_into_it(vm: VM) -> VM:
    """Two reboots: into the update, and out of it."""
    vm.start("dnf5 -y offline reboot")
    assert vm.wait_off() == "reboot"
    vm.start_qemu(vm.find_boot(vm.disk), "", "-accel", BOOTING)
    assert vm.wait_off() == "reboot", "the boot for updates ends with a reboot, whatever became of them"
    return vm.boot()


def said_in_journal(vm: VM, words: str) -> None:
    """Wait until the journal has a line of ours with these words."""
    vm.ok('journalctl --follow --lines=all -t go-health-hook | grep -m1 -F "$1"', words)


def test_offline_bad_go_is_announced_refused_once_and_left_out(fresh_vm: VM, tmp_path: Path) -> None:
    vm = fresh_vm
    prepared(vm, tmp_path / "installed")
    vm.ok(PREPARE)
    said_in_journal(vm, REFUSED)
    vm.ok("systemctl start go-health-hook-offline.service")
    status = vm.run("go-health-hook status")
    assert status.status == 1 and REFUSED in " ".join(status.stdout.split())
    assert REFUSED in " ".join(vm.get(MOTD).decode().split())
    boots = vm.boots
    reboot_into_it(vm)
    assert vm.boots == boots + 2, "no loop"
    assert vm.ok("rpm -q hello acme-go").split() == ["hello-1-1.noarch", "acme-go-1.25.5-1.x86_64"]
    assert vm.ok("/usr/local/go/bin/go version").startswith("go version go1.25.5 ")
    lines = "\n".join(str(entry["MESSAGE"]) for entry in vm.journal("-t", "dnf5"))
    command = re.search(r"fixed it: (dnf5 .*?) && dnf5 offline reboot", lines)
    assert command, lines
    vm.ok(command[1])
    reboot_into_it(vm)
    assert vm.ok("rpm -q hello acme-go").split() == ["hello-2-1.noarch", "acme-go-1.25.5-1.x86_64"]
    assert vm.run("go-health-hook status").status == 0
    assert vm.run(f"test -e {MOTD}").status == 1
