# SPDX-License-Identifier: GPL-2.0-or-later
"""A vendor that moves part of its Go to a package of another name and version: the parts are judged together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.dnf.machines import SUITES, assert_done, assert_vetoed, without_go
from tests.testbed import extras, golang, repository, rpmbuild
from tests.testbed.updaters import dnf

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root
TOOLS = """
%package -n acme-tools
Version: 7
Summary: The tools of Go as another vendor packs it
Requires: acme-go
AutoReqProv: no
%description -n acme-tools
The tools of Go as another vendor packs it.
"""
OLD_COMPILE = "cp /go/1.25.5/pkg/tool/linux_amd64/compile %{buildroot}/usr/local/go/pkg/tool/linux_amd64/compile"


def split(number: int, spoil: str = "") -> list[Path]:
    """Packages acme-go 1.27.3 without its tools, and acme-tools 7 with them."""
    spec = extras.ACME.format(version="1.27.3", number=number, spoil=spoil, files="\n%exclude /usr/local/go/pkg")
    spec = spec.replace("AutoReqProv: no\n", "AutoReqProv: no\nRequires: acme-tools\n", 1)
    spec = spec.replace("%install", f"{TOOLS}\n%install") + "%files -n acme-tools\n/usr/local/go/pkg\n"
    return list(rpmbuild.packages(f"acme-split-{number}", spec, trees=golang.toolchains()).values())


@pytest.mark.parametrize("suite", SUITES)
def test_split_go_is_judged_with_all_its_parts(suite: str) -> None:
    with without_go(suite) as m:
        repository.offer(m, [extras.acme_go("1.25.5")])
        assert_done(dnf(m, "install", "acme-go"))
        repository.offer(m, split(9, OLD_COMPILE), http=True)
        assert_vetoed(dnf(m, "upgrade"), "the Go that this transaction would leave is broken", "acme-go,acme-tools")
        repository.offer(m, [*split(8), extras.hello(2)], http=True)
        assert_done(dnf(m, "upgrade"))
        assert m.run("/usr/local/go/bin/go version").stdout == "go version go1.27.3 linux/amd64\n"
        assert m.run("rpm -q acme-tools").stdout.startswith("acme-tools-7-")
        assert m.run("go-health-hook status", check=False).returncode == 0


LINKED_TOOLS = """mkdir -p %{buildroot}/usr/libexec/acme-go
mv %{buildroot}/usr/local/go/pkg/tool/linux_amd64/* %{buildroot}/usr/libexec/acme-go
rmdir %{buildroot}/usr/local/go/pkg/tool/linux_amd64
ln -s ../../../../libexec/acme-go %{buildroot}/usr/local/go/pkg/tool/linux_amd64
"""


@pytest.mark.parametrize("spoil", ["", "truncate -s 5M %{buildroot}/usr/local/go/bin/go"])
def test_go_with_tools_behind_a_link_is_no_broken_go_for_that(spoil: str) -> None:
    spec = extras.ACME.format(
        version="1.27.3", number=20 + bool(spoil), spoil=LINKED_TOOLS + spoil, files="\n/usr/libexec/acme-go"
    )
    packages = rpmbuild.packages(f"acme-linked-tools-{bool(spoil)}", spec, trees=golang.toolchains()).values()
    with without_go("forky") as m:
        repository.offer(m, packages)
        done = dnf(m, "install", "acme-go")
        if spoil:
            assert_vetoed(done, "/usr/local/go/bin/go is cut short")
        else:
            assert_done(done)
            assert m.run("/usr/local/go/bin/go version").stdout == "go version go1.27.3 linux/amd64\n"
