# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that is slow, and a hook whose process dies, hold no update back."""

from __future__ import annotations

import pytest

from tests.dnf.machines import assert_done, assert_nothing_left, go, hello, machine, recorded, said
from tests.testbed import extras, quota, repository
from tests.testbed.updaters import dnf

pytestmark = pytest.mark.root
# As librpm does on some damaged databases.
CRASHES = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"


def test_starved_machine_takes_a_sound_new_go() -> None:
    with quota.cpu_quota(0.25) as group, machine("forky") as m:
        repository.offer(m, go("forky", "1.27.3"))
        assert_done(m.run(["dnf5", "-y", "upgrade"], check=False, cgroup=group))
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert_nothing_left(m)


def test_crashed_worker_lets_the_update_go_on_and_is_recorded() -> None:
    with machine("forky") as m:
        rpm = m.run("python3 -c 'import rpm; print(rpm.__file__)'").stdout.strip()
        m.write(rpm, CRASHES)
        repository.offer(m, [extras.hello(2)])
        done = dnf(m, "upgrade")
        assert_done(done)
        assert hello(m) == "2"
        assert "was killed by SIGSEGV" in said(done)
        assert recorded(m)["unjudged"]
        assert_nothing_left(m)
