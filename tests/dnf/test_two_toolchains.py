# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with two Gos: each one that a transaction touches is judged."""

from __future__ import annotations

import pytest

from tests.dnf.machines import SUITES, assert_done, assert_nothing_left, assert_vetoed, go, machine
from tests.testbed import extras, repository
from tests.testbed.updaters import dnf

pytestmark = pytest.mark.root
HOMES = {"rpm's own": ("truncated", "1.27.3"), "another vendor's": ("1.27.3", "truncated")}


@pytest.mark.parametrize("suite", SUITES)
def test_two_toolchains_bad_one_is_stopped_whichever_it_is(suite: str) -> None:
    """Installed: rpm's Go and a vendor's in /usr/local/go, which is found first. Both in one transaction, one bad."""
    with machine(suite) as m:
        repository.offer(m, [extras.acme_go("1.25.5")])
        assert_done(dnf(m, "install", "acme-go"))
        m.run("ln -sfn /usr/local/go/bin/go /usr/local/bin/go")
        for golang, acme in HOMES.values():
            repository.offer(m, [*go(suite, golang), extras.acme_go(acme)])
            home = "/usr/lib/golang" if golang == "truncated" else "/usr/local/go"
            assert_vetoed(dnf(m, "upgrade"), f"{home}/bin/go is cut short")
        repository.offer(m, go(suite, "truncated"))
        assert_vetoed(dnf(m, "upgrade"), "/usr/lib/golang/bin/go is cut short")
        repository.offer(m, [*go(suite, "1.27.3"), extras.acme_go("1.27.3")])
        assert_done(dnf(m, "upgrade"))
        for home in ("/usr/lib/golang", "/usr/local/go"):
            assert m.run(f"{home}/bin/go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert_nothing_left(m)
