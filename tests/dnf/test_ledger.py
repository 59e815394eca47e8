# SPDX-License-Identifier: GPL-2.0-or-later
"""What was judged healthy is not judged again, until anything about it changes: then it is blocked as ever."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.dnf.machines import SUITES, assert_done, assert_vetoed, go, machine
from tests.testbed import extras, golang, repository
from tests.testbed.updaters import dnf

if TYPE_CHECKING:
    from tests.testbed.machine import Machine

pytestmark = pytest.mark.root
LEDGER = "/var/cache/go-health-hook/healthy"
G = golang.GOROOT
TLS = f"{G}/src/crypto/tls"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# A shell command each, after a healthy judgement.
BREAKAGES = {
    "truncate go": f"truncate -s 5M {G}/bin/go",
    "truncate a source": f"truncate -s 0 {TLS}/conn.go",
    "cp over the compiler": f"cp /bin/true {G}/pkg/tool/linux_amd64/compile",
    "cp over go": f"head -c 5M {G}/bin/go >/go && touch -r {G}/bin/go /go && cp -p /go {G}/bin/go",
    "tar over a source": f"cd / && echo 'package tls(' >conn.go && tar cf x.tar conn.go && tar xf x.tar -C {TLS}",
    "chmod the compiler": f"chmod 0644 {G}/pkg/tool/linux_amd64/compile",
    "chmod go": f"chmod 0644 {G}/bin/go",
    "rm a package": f"rm -r {TLS}",
    "mv the sources": f"mv {G}/src/runtime {G}/src/elsewhere",
    "bind mount over the sources": f"mkdir /empty && mount --bind /empty {TLS}",
    "bind mount over the linker": f"touch /nothing && mount --bind /nothing {G}/pkg/tool/linux_amd64/link",
    "power cut": f"truncate -s 0 {TLS}/conn.go && echo new >/id && mount --bind /id {BOOT_ID}",
}


def judged_healthy(m: Machine) -> int:
    """Have an update judged; return the inode of the ledger, which every full run writes again."""
    repository.offer(m, [extras.hello(2)])
    assert_done(dnf(m, "upgrade"))
    return m.path(LEDGER).stat().st_ino


def next_update(m: Machine) -> None:
    """Have something to update again."""
    shutil.copy(extras.hello(1), m.path("/root"))
    m.run(["rpm", "--upgrade", "--oldpackage", f"/root/{extras.hello(1).name}"])


@pytest.mark.parametrize("suite", SUITES)
def test_ledger_unchanged_go_is_judged_once(suite: str) -> None:
    with machine(suite) as m:
        ledger = judged_healthy(m)
        next_update(m)
        assert_done(dnf(m, "upgrade"))
        assert m.path(LEDGER).stat().st_ino == ledger


@pytest.mark.parametrize("how", BREAKAGES)
def test_ledger_go_broken_after_it_was_judged_is_blocked(how: str) -> None:
    with machine("forky") as m:
        judged_healthy(m)
        next_update(m)
        m.run(BREAKAGES[how])
        assert_vetoed(dnf(m, "upgrade"))


@pytest.mark.parametrize("suite", SUITES)
def test_ledger_transaction_with_go_drops_it(suite: str) -> None:
    with machine(suite) as m:
        ledger = judged_healthy(m)
        repository.offer(m, go(suite, "1.27.3"))
        assert_done(dnf(m, "upgrade"))
        assert not m.path(LEDGER).exists() or m.path(LEDGER).stat().st_ino != ledger
