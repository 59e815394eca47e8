# SPDX-License-Identifier: GPL-2.0-or-later
"""A Go linked dynamically whose library comes in the same transaction."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dnf.machines import SUITES, assert_done, assert_vetoed, go, hello, machine, recorded, said
from tests.testbed import extras, repository, rpmbuild
from tests.testbed.updaters import dnf

pytestmark = pytest.mark.root
LIBN = """
Name: libn
Version: 1
Release: 1
Summary: The C library by another name
License: LGPL-2.1-or-later
AutoReqProv: no
%description
The C library by another name.
%install
mkdir -p %{buildroot}/usr/lib
cp /usr/lib/x86_64-linux-gnu/libc.so.6 %{buildroot}/usr/lib/libn.so.6
%files
/usr/lib/libn.so.6
"""
NEEDS = "error while loading shared libraries: libn.so.6"


def libn() -> Path:
    return rpmbuild.packages("libn", LIBN)["libn"]


def test_libraries_coming_with_a_sound_go_let_it_in() -> None:
    with machine("forky") as m:
        repository.offer(m, [extras.hello(2), libn(), *go("forky", "new-library")])
        done = dnf(m, "install", "libn", "golang-1.27.3")
        assert_done(done)
        assert "Go needs libn.so.6, which libn-1-1.x86_64 of this transaction brings" in m.read("/var/log/dnf5.log")
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
        (run,) = recorded(m)["gates"].values()
        assert (run["verdict"], run["subject"]) == ("allow", "running"), "it was looked at again afterwards"
        assert recorded(m)["broken"] is None
        assert m.run("go-health-hook status", check=False).returncode == 0, recorded(m)["unjudged"]


@pytest.mark.parametrize("suite", SUITES)
def test_libraries_that_nobody_brings_keep_a_bad_go_out(suite: str) -> None:
    with machine(suite) as m:
        repository.offer(m, [extras.hello(2), *go(suite, "new-library")])
        assert_vetoed(dnf(m, "upgrade"), NEEDS)
        assert m.run("go version").stdout == "go version go1.25.5 linux/amd64\n"


def test_libraries_of_installed_go_are_repaired_by_an_update() -> None:
    with machine("forky") as m:
        repository.offer(m, [libn(), *go("forky", "new-library")])
        assert_done(dnf(m, "install", "libn", "golang-1.27.3"))
        m.run("rpm -e libn")
        repository.offer(m, [extras.hello(2)])
        assert_vetoed(dnf(m, "upgrade"), NEEDS)
        repository.offer(m, [extras.hello(2), libn()])
        assert_done(m.run("dnf5 -y do --action=upgrade hello --action=install libn", check=False))
        assert hello(m) == "2"
        assert "after this transaction" not in said(dnf(m, "upgrade"))
        assert m.run("go version").stdout == "go version go1.27.3 linux/amd64\n"
