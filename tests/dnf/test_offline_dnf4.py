# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf 4's offline-upgrade: judged when it is prepared, and by the boot.

Debian's dnf-plugins-core leaves the plugin out: programs with dnf's own code store and replay the transaction as the
plugin does, with its files.
"""

from __future__ import annotations

import re

import pytest

from tests.dnf.machines import Done, assert_nothing_left, go, hello, machine, recorded, said, truncate_go
from tests.testbed import extras, repository
from tests.testbed.machine import Machine

pytestmark = pytest.mark.root
LOOK = "/usr/libexec/go-health-hook/gate offline"
STATE = "/var/lib/dnf/system-upgrade/system-upgrade-state.json"

# A stand-in for the plugin's `download` (plugins/system_upgrade.py in dnf-plugins-core).
DOWNLOAD = """
import json, sys
import dnf, dnf.cli.cli, dnf.transaction_sr

FOLDER = "/var/lib/dnf/system-upgrade"
base = dnf.cli.cli.BaseCli()
base.conf.read()
base.conf.cachedir = FOLDER
base.conf.exclude_pkgs(sys.argv[1:])
base.conf.tsflags += ["test"]
base.conf.assumeyes = True
base.init_plugins()
base.configure_plugins()
base.read_all_repos()
base.fill_sack()
base.upgrade_all()
base.resolve()
base.do_transaction()
data = dnf.transaction_sr.serialize_transaction(base.history.get_current())
with open(FOLDER + "/system-upgrade-transaction.json", "w") as file:
    json.dump(data, file)
state = {"download_status": "complete", "upgrade_command": "offline-upgrade", "target_releasever": "9"}
with open(FOLDER + "/system-upgrade-state.json", "w") as file:
    json.dump({**state, "state_version": 3, "destdir": None}, file)
"""
# Likewise for `dnf offline-upgrade upgrade`, which the boot runs.
UPGRADE = """
import json, os, sys
import dnf, dnf.cli.cli, dnf.transaction_sr

FOLDER = "/var/lib/dnf/system-upgrade"
base = dnf.cli.cli.BaseCli()
base.conf.read()
base.conf.cachedir = FOLDER
base.conf.assumeyes = True
base.conf.clean_requirements_on_remove = False
base.conf.install_weak_deps = False
base.init_plugins()
base.configure_plugins()
base.read_all_repos()
for repo in base.repos.iter_enabled():
    repo._repo.setSyncStrategy(dnf.repo.SYNC_ONLY_CACHE)
base.fill_sack()
replay = dnf.transaction_sr.TransactionReplay(base, FOLDER + "/system-upgrade-transaction.json")
replay.run()
base.resolve()
replay.post_transaction()
try:
    base.do_transaction()
except dnf.exceptions.Error as error:
    sys.exit("Error: %s" % error)
os.unlink(FOLDER + "/system-upgrade-state.json")
"""


def prepare(m: Machine, *excluded: str) -> None:
    m.write("/root/download.py", DOWNLOAD)
    m.run(["mkdir", "-p", "/var/lib/dnf/system-upgrade"])
    m.run(["python3", "/root/download.py", *excluded])


def boot(m: Machine) -> Done[str]:
    """The update as the boot applies it, with the words in its command line by which it is known."""
    m.write("/root/dnf", UPGRADE)
    return m.run(["python3", "/root/dnf", "offline-upgrade", "upgrade"], check=False)


def test_offline_dnf4_bad_go_is_announced_refused_and_left_out() -> None:
    with machine("bookworm") as m:
        repository.offer(m, [extras.hello(2), *go("bookworm", "truncated")], http=True)
        prepare(m)
        look = m.run(LOOK, check=False)
        assert look.returncode == 1 and "is cut short" in look.stdout, look.stdout
        assert "dnf offline-upgrade download --exclude=golang,golang-bin,golang-src" in look.stdout
        done = boot(m)
        assert done.returncode == 1 and "is cut short" in said(done), said(done)
        assert "TEXT && dnf offline-upgrade download && dnf offline-upgrade reboot" in said(done)
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        names = re.findall(r"--exclude=(\S+) && dnf offline-upgrade reboot", said(done))[0]
        prepare(m, *names.split(","))
        assert m.run(LOOK).returncode == 0
        done = boot(m)
        assert done.returncode == 0, said(done)
        assert hello(m) == "2"
        assert not recorded(m)["blocks"]
        assert_nothing_left(m)


def test_offline_dnf4_sound_go_passes_and_broken_installed_go_is_announced() -> None:
    with machine("bookworm") as m:
        repository.offer(m, go("bookworm", "1.27.3"), http=True)
        prepare(m)
        assert m.run(LOOK).returncode == 0
        done = boot(m)
        assert done.returncode == 0, said(done)
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        repository.offer(m, [extras.hello(2)], http=True)
        prepare(m)
        truncate_go(m)
        assert m.run(LOOK, check=False).returncode == 1
        done = boot(m)
        assert done.returncode == 1 and "the Go installed here is broken" in said(done)
        assert hello(m) == "1"
