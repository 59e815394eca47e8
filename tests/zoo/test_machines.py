# SPDX-License-Identifier: GPL-2.0-or-later
"""Updates of another package pass, or do not, on machines that differ, through real dnf5 and dnf 4."""

from __future__ import annotations

import pytest

from tests.dnf.machines import assert_done, assert_nothing_left, assert_vetoed, hello, machine, said, update
from tests.testbed import extras, quota, repository
from tests.zoo.machines import CASES, Case, start

pytestmark = [pytest.mark.root, pytest.mark.machine]
AUTOMATIC = pytest.mark.parametrize(("suite", "updater"), [("forky", "dnf5 automatic"), ("bookworm", "dnf-automatic")])


@AUTOMATIC
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_zoo_update_passes_unless_go_is_broken(case: Case, suite: str, updater: str) -> None:
    with start(case, suite) as m:
        m.write("/etc/go-health-hook.conf.d/slow.conf", "[budget]\ndnf = 30\n")
        m.run(case.prepare)
        repository.offer(m, [extras.hello(2)])
        done = update(m, suite, updater)
        if case.blocked:
            assert_vetoed(done, case.blocked)
        else:
            assert_done(done)
        assert hello(m) == ("1" if case.blocked else "2")
        assert not [word for word in case.never if word in said(done)]
        assert_nothing_left(m)


@pytest.mark.parametrize(("suite", "program"), [("forky", "dnf5"), ("bookworm", "dnf")])
def test_zoo_update_in_a_network_namespace_passes(suite: str, program: str) -> None:
    """`ip netns exec` mounts /sys again, without the cgroups (iproute2, lib/namespace.c)."""
    with quota.service() as group, machine(suite) as m:
        repository.offer(m, [extras.hello(2)])
        again = "mount --make-rslave /; umount -l /sys; mount -t sysfs x /sys"
        command = ["unshare", "-n", "-m", "sh", "-c", f"{again}; exec {program} -y upgrade"]
        done = m.run(command, check=False, cgroup=group)
        assert_done(done)
        assert "is broken" not in said(done)
        assert hello(m) == "2"
