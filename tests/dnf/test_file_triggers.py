# SPDX-License-Identifier: GPL-2.0-or-later
"""The look at Go that rpm's file triggers of our package start after any rpm transaction.

No systemd runs in these machines: a stand-in for systemctl notes what it is asked, the test runs the unit's command.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dnf.machines import SUITES, Done, assert_done, go, machine, recorded
from tests.testbed import extras, repository
from tests.testbed.updaters import dnf

if TYPE_CHECKING:
    from tests.testbed.machine import Machine

pytestmark = pytest.mark.root
# A stand-in for systemctl, which has no systemd to talk to here.
SYSTEMCTL = '#!/bin/sh\necho "$*" >>/root/asked\n'
START = "start --no-block go-health-hook-look.service"
LOOK = "/usr/libexec/go-health-hook/gate look"
MOTD = "/etc/motd.d/go-health-hook"


def prepared(m: Machine) -> None:
    m.run("mkdir -p /run/systemd/system /root/pk && rm -f /usr/bin/systemctl")
    m.write("/usr/bin/systemctl", SYSTEMCTL, 0o755)


def put(m: Machine, paths: list[Path]) -> None:
    m.run("rm -rf /root/pk && mkdir /root/pk")
    for path in paths:
        if not path.name.startswith("go-toolset"):
            shutil.copy(path, m.path("/root/pk"))


def said(done: Done[str]) -> str:
    """What rpm printed, but for Debian's advice not to use it and rpm's own warning about another root."""
    lines = (done.stdout + done.stderr).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("rpm: ", "warning: private mounts")))


def asked(m: Machine) -> list[str]:
    """What systemctl was asked since the last call."""
    path = m.path("/root/asked")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line for line in lines if "go-health-hook-look" in line]


@pytest.mark.parametrize("suite", SUITES)
def test_look_after_rpm_announces_a_bad_go_and_clears_a_repaired_one(suite: str) -> None:
    with machine(suite) as m:
        prepared(m)
        put(m, go(suite, "truncated"))
        assert said(m.run("rpm -U /root/pk/*.rpm")) == ""
        assert START in asked(m)
        assert m.run(LOOK, check=False).returncode == 1
        assert m.run("go-health-hook status", check=False).returncode == 1
        assert "Go toolchain on this machine is broken" in m.read(MOTD)
        put(m, go(suite, "repair"))
        m.run("rpm -U --oldpackage /root/pk/*.rpm")
        assert START in asked(m)
        assert m.run(LOOK).returncode == 0
        assert recorded(m)["broken"] is None
        assert not m.path(MOTD).exists()


@pytest.mark.parametrize("suite", SUITES)
def test_look_is_not_started_where_dnf_looks_itself_or_go_is_untouched(suite: str) -> None:
    with machine(suite) as m:
        prepared(m)
        repository.offer(m, [extras.hello(2), *go(suite, "1.27.3")])
        assert_done(dnf(m, "upgrade", "hello"))
        assert_done(dnf(m, "upgrade", "golang*"))
        assert asked(m) == []
        off = "--noplugins" if suite == "bookworm" else "--no-plugins"
        repository.offer(m, go(suite, "1.25.5"))
        assert_done(dnf(m, off, "downgrade", "golang", "golang-bin", "golang-src"))
        assert START in asked(m)


@pytest.mark.parametrize("suite", SUITES)
def test_look_is_started_for_others_though_a_killed_gate_left_its_file(suite: str) -> None:
    with machine(suite) as m:
        prepared(m)
        m.write("/run/go-health-hook/before", "4194304\n\nunfinished")
        repository.offer(m, go(suite, "1.27.3"))
        off = "--noplugins" if suite == "bookworm" else "--no-plugins"
        assert_done(dnf(m, off, "upgrade", "golang*"))
        assert START in asked(m)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("how", ["another root", "no systemd", "gate gone", "systemctl fails"])
def test_look_trigger_is_silent_where_there_is_nothing_to_start(suite: str, how: str) -> None:
    with machine(suite) as m:
        prepared(m)
        put(m, go(suite, "1.27.3"))
        command = "rpm -U /root/pk/*.rpm"
        if how == "another root":
            m.run(
                "rm /root/asked; mkdir /other && mount --bind / /other && mount -t tmpfs none /other/run", check=False
            )
            command = "rpm --root /other -U /root/pk/*.rpm"
        elif how == "no systemd":
            m.run("rmdir /run/systemd/system")
        elif how == "gate gone":
            m.run("rm -r /usr/libexec/go-health-hook/gate /usr/lib/go-health-hook")
        else:
            m.write("/usr/bin/systemctl", "#!/bin/sh\necho no >&2\nexit 1\n", 0o755)
        assert said(m.run(command)) == ""
        assert asked(m) == []
