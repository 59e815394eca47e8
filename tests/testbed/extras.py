# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages other than Fedora's Go: small ones that have nothing to do with it, and another vendor's Go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.testbed import golang, rpmbuild

if TYPE_CHECKING:
    from pathlib import Path

HELLO = """
Name: {name}
Version: {version}
Release: 1
Summary: Says hello
License: GPL-2.0-or-later
BuildArch: noarch
%description
Says hello.

%install
mkdir -p %{{buildroot}}%{{_bindir}}
printf '#!/bin/sh\\necho hello from {version}\\n' >%{{buildroot}}%{{_bindir}}/{name}
chmod 0755 %{{buildroot}}%{{_bindir}}/{name}

%files
%{{_bindir}}/{name}
"""

KERNEL = """
Name: kernel
Version: {version}
Release: 1
Summary: Stands beside the kernels before it
License: GPL-2.0-or-later
BuildArch: noarch
%description
Stands beside the kernels before it (installonlypkgs of dnf).

%install
mkdir -p %{{buildroot}}/usr/lib/modules/{version}

%files
/usr/lib/modules/{version}
"""

ACME = """
Name: acme-go
Version: {version}
Release: {number}
Summary: Go as another vendor packs it
License: BSD-3-Clause
AutoReqProv: no
%description
Go as another vendor packs it, in one package and outside the distribution's folders.

%install
mkdir -p %{{buildroot}}/usr/local/go
cd /go/{version}
cp -a VERSION bin lib pkg go.env %{{buildroot}}/usr/local/go
tar -c --exclude='*_test.go' --exclude=testdata --exclude='*.syso' --exclude=src/cmd src |
    tar -x -C %{{buildroot}}/usr/local/go
{spoil}

%files
/usr/local/go{files}
"""
# As a vendor has it that keeps what is not of one architecture elsewhere (openSUSE's packages).
LINKED = """mkdir -p %{buildroot}/usr/share/acme-go
mv %{buildroot}/usr/local/go/src %{buildroot}/usr/share/acme-go
ln -s ../../share/acme-go/src %{buildroot}/usr/local/go/src"""
ACME_RELEASES = {
    "1.25.5": ("1.25.5", 1, ""),
    "1.27.3": ("1.27.3", 1, ""),
    "truncated": ("1.27.3", 2, "truncate -s 5M %{buildroot}/usr/local/go/bin/go"),
    "linked": ("1.27.3", 3, LINKED),
    "linked-broken": ("1.27.3", 4, LINKED + "\nrm -r %{buildroot}/usr/share/acme-go/src/crypto/tls"),
}


def hello(version: int, name: str = "hello") -> Path:
    """A package of one script."""
    return rpmbuild.packages(f"{name}-{version}", HELLO.format(name=name, version=version))[name]


def kernel(version: int) -> Path:
    """A package of which dnf keeps several releases."""
    return rpmbuild.packages(f"kernel-{version}", KERNEL.format(version=version))["kernel"]


def acme_go(label: str) -> Path:
    """All of Go in one package, at /usr/local/go; the release by its label."""
    version, number, spoil = ACME_RELEASES[label]
    files = "\n/usr/share/acme-go" if LINKED in spoil else ""
    spec = ACME.format(version=version, number=number, spoil=spoil, files=files)
    return rpmbuild.packages(f"acme-go-{label}", spec, trees=golang.toolchains())["acme-go"]
