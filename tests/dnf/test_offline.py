# SPDX-License-Identifier: GPL-2.0-or-later
"""Updates that wait for a reboot: judged when they are prepared, and again when the boot applies them.

No systemd runs in these machines: the tests call what its units start.
"""

from __future__ import annotations

import re

import pytest

from tests.dnf.machines import (
    Done,
    assert_done,
    assert_nothing_left,
    assert_vetoed,
    go,
    hello,
    machine,
    recorded,
    said,
    truncate_go,
)
from tests.testbed import extras, journal, repository
from tests.testbed.machine import Machine

pytestmark = pytest.mark.root
STORE = "/usr/lib/sysimage/libdnf5/offline"
LOOK = "/usr/libexec/go-health-hook/gate offline"
MOTD = "/etc/motd.d/go-health-hook"
REFUSED = "the update prepared for the next reboot would be refused"


def boot(m: Machine) -> Done[str]:
    """What dnf5-offline-transaction.service runs, after what `dnf5 offline reboot` prepares."""
    m.run(f"sed -i s/download-complete/ready/ {STORE}/*.toml && ln -s {STORE} /system-update")
    return m.run("dnf5 offline _execute", check=False, env={"DNF_SYSTEM_UPGRADE_NO_REBOOT": "1"})


def printed(text: str, before: str = r"-> [^:]*: ") -> str:
    """The command after an arrow, without the reboot."""
    command = re.search(f"{before}(dnf5 .*?) && dnf5 offline reboot", text)
    assert command, text
    return command[1]


def stored(m: Machine) -> list[str]:
    folder = m.path("/var/lib/dnf/offline/packages")
    return sorted(path.name for path in folder.glob("*.rpm")) if folder.exists() else []


@pytest.mark.parametrize(
    "command", ["upgrade --offline", "distro-sync --offline", "system-upgrade download --releasever=46"]
)
def test_offline_broken_installed_go_stops_the_download(command: str) -> None:
    with machine("forky") as m:
        truncate_go(m)
        repository.offer(m, [extras.hello(2)], http=True)
        assert_vetoed(m.run(f"dnf5 -y {command}", check=False), "the Go installed here is broken")
        assert stored(m) == []
        assert_done(m.run("dnf5 -y upgrade --downloadonly", check=False))
        assert_nothing_left(m)


def test_offline_bad_go_is_announced_before_the_reboot_and_refused_by_it() -> None:
    with machine("forky") as m:
        journal.start(m)
        m.run("mkdir -p /run/systemd/system")
        repository.offer(m, [extras.hello(2), *go("forky", "truncated")], http=True)
        assert_done(m.run("dnf5 -y upgrade --offline", check=False))
        look = m.run(LOOK, check=False)
        assert look.returncode == 1
        assert REFUSED in look.stdout
        status = m.run("go-health-hook status", check=False)
        assert status.returncode == 1
        assert REFUSED in " ".join(status.stdout.split())
        assert REFUSED in " ".join(m.read(MOTD).split())
        assert [e for e in journal.entries(m, "GO_HEALTH_GATE=offline") if REFUSED in e["MESSAGE"]]
        # Rebooted all the same.
        done = boot(m)
        assert_vetoed(done, "is cut short", "&& dnf5 -y upgrade --offline && dnf5 offline reboot")
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert not m.path("/system-update").is_symlink(), "no reboot loop"
        assert m.run(LOOK, check=False).returncode == 0, "it does not wait any more"
        assert set(recorded(m)["blocks"]) == {"dnf5"}
        # As it is printed, without the reboot.
        assert_done(m.run(printed(said(done)), check=False))
        assert m.run(LOOK, check=False).returncode == 0
        assert_done(boot(m))
        assert hello(m) == "2"
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"
        assert m.run("go-health-hook status", check=False).returncode == 0
        assert not m.path(MOTD).exists()
        assert_nothing_left(m)


def test_offline_announcement_ends_with_the_printed_command_or_the_update() -> None:
    with machine("forky") as m:
        repository.offer(m, [extras.hello(2), *go("forky", "truncated")], http=True)
        prepare = "dnf5 -y upgrade --offline"
        assert_done(m.run(prepare, check=False))
        text = m.run(LOOK, check=False).stdout
        assert_done(m.run(printed(text), check=False))
        assert m.run(LOOK).returncode == 0
        assert not recorded(m)["blocks"] and not m.path(MOTD).exists()
        assert_done(m.run(prepare, check=False))
        assert m.run(LOOK, check=False).returncode == 1
        m.run("go-health-hook override --for 2h --reason test")
        assert m.run(LOOK).returncode == 0
        assert not m.path(MOTD).exists()
        m.run("go-health-hook override --clear")
        assert m.run(LOOK, check=False).returncode == 1
        assert_done(m.run("dnf5 -y offline clean", check=False))
        assert m.run(LOOK).returncode == 0
        assert not recorded(m)["blocks"]


def test_offline_release_upgrade_is_prepared_again_without_bad_go() -> None:
    with machine("forky") as m:
        repository.offer(m, [extras.hello(2), *go("forky", "truncated")], http=True)
        assert_done(m.run("dnf5 -y system-upgrade download --releasever=46 --no-downgrade", check=False))
        text = m.run(LOOK, check=False).stdout
        assert re.search(
            r"dnf5 -y system-upgrade download --releasever=46 .*--exclude=golang,golang-bin,golang-src", text
        )
        assert_done(m.run(printed(text), check=False))
        assert m.run(LOOK).returncode == 0


def test_offline_sound_go_passes() -> None:
    with machine("forky") as m:
        repository.offer(m, [extras.hello(2), *go("forky", "1.27.3")], http=True)
        assert_done(m.run("dnf5 -y upgrade --offline", check=False))
        assert m.run(LOOK).returncode == 0
        assert_done(boot(m))
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert not recorded(m)["blocks"]
        assert_nothing_left(m)


def test_offline_store_that_makes_no_sense_is_said_and_holds_nothing() -> None:
    with machine("forky") as m:
        m.write(f"{STORE}/offline-transaction-state.toml", 'status = "ready"\n')
        for text in ("", "nonsense", "[]", '{"rpms": [7]}'):
            m.write(f"{STORE}/transaction.json", text)
            look = m.run(LOOK, check=False)
            assert look.returncode == 4, text
            assert "not judged" in look.stdout
        m.run(f"rm {STORE}/transaction.json && mkfifo {STORE}/transaction.json")
        assert m.run(LOOK, check=False, timeout=60).returncode == 4
