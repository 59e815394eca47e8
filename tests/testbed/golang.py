# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of real Go toolchains in the layout of Fedora (fc45) and EL 9 (el9): sound ones, and ones that are not.

What Fedora's own have and these lack: docs, tests, the race detector, and the sources of the commands.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.testbed import cache, rpmbuild

if TYPE_CHECKING:
    from pathlib import Path

GOROOT = "/usr/lib/golang"


class Release(NamedTuple):
    """One release of the packages. `spoil` is shell, run in the new GOROOT; /go/VERSION are whole toolchains."""

    version: str
    number: int = 1
    epoch: int = 0
    spoil: str = ""
    requires_src: bool = True


RELEASES = {
    "1.25.5": Release("1.25.5"),
    "1.27.3": Release("1.27.3"),
    "truncated": Release("1.27.3", 2, spoil="truncate -s 5M bin/go"),
    "other-go": Release("1.27.3", 3, spoil="cp /go/1.25.5/bin/go bin/go"),
    # The number of the machine in an ELF header, two bytes from the 18th on: 183 is aarch64.
    "other-arch": Release("1.27.3", 4, spoil=r"printf '\267\000' | dd of=bin/go bs=1 seek=18 conv=notrunc status=none"),
    "other-compile": Release(
        "1.27.3", 5, spoil="cp /go/1.25.5/pkg/tool/linux_amd64/compile pkg/tool/linux_amd64/compile"
    ),
    "no-crypto-tls": Release("1.27.3", 6, spoil="rm -r src/crypto/tls"),
    # To be offered without its golang-src, which then stays at the old release.
    "without-src": Release("1.27.3", 7, requires_src=False),
    "hangs": Release("1.27.3", 8, spoil=r"printf '#!/bin/sh\ntrap \"\" TERM\nwhile :; do sleep 1000; done\n' >bin/go"),
    # Linked dynamically, as EL's is: a program that needs a library of its own (here the C library by another name)
    # runs before the go command. The package libn has that library.
    "new-library": Release(
        "1.27.3",
        9,
        spoil=r"""mv bin/go bin/go.real
sed 's/libc\.so\.6/libn.so.6/' /usr/bin/true >bin/needs
printf '#!/bin/sh\n/usr/lib/golang/bin/needs && exec /usr/lib/golang/bin/go.real "$@"\n' >bin/go
chmod 0755 bin/needs bin/go""",
    ),
    "repair": Release("1.25.5", 2),
    "1.24.11": Release("1.24.11"),
    # Newer to the package manager, but the older Go: the last that knows nothing of CPU quotas.
    "back-to-1.24": Release("1.24.11", epoch=1),
}
DISTS = {"forky": "fc45", "bookworm": "el9"}

SPEC = r"""
Name: golang
{epoch_line}
Version: {version}
Release: {number}.{dist}
Summary: The Go Programming Language
License: BSD-3-Clause
Provides: go = {evr}
Requires: golang-bin = {evr}
{requires_src}
AutoReqProv: no
%description
The Go Programming Language.

%package bin
Summary: Golang core compiler tools
Provides: golang-go = {evr}
Requires: go = {evr}
Requires: glibc
Requires: gcc
{alternatives_requires}
AutoReqProv: no
%description bin
Golang core compiler tools.

%package src
Summary: Golang compiler source tree
BuildArch: noarch
AutoReqProv: no
%description src
Golang compiler source tree.

%package -n go-toolset
Summary: Package that installs go-toolset
Requires: golang = {evr}
AutoReqProv: no
%description -n go-toolset
This is the main package for go-toolset.

%install
goroot=%{{buildroot}}{goroot}
mkdir -p $goroot/bin/linux_amd64 %{{buildroot}}%{{_bindir}}
cd /go/{version}
cp -a VERSION bin lib pkg go.env $goroot
tar -c --exclude='*_test.go' --exclude=testdata --exclude='*.syso' --exclude=src/cmd src | tar -x -C $goroot
sed -i 's/^GOTOOLCHAIN=.*/GOTOOLCHAIN=local/' $goroot/go.env
ln -s {goroot}/bin/go $goroot/bin/linux_amd64/go
ln -s {goroot}/bin/gofmt $goroot/bin/linux_amd64/gofmt
ln -s {go_link} %{{buildroot}}%{{_bindir}}/go
ln -s {gofmt_link} %{{buildroot}}%{{_bindir}}/gofmt
cd $goroot
{spoil}

%files
%doc {goroot}/VERSION
%dir {goroot}
{goroot}/lib

%files bin
{goroot}/bin
{goroot}/pkg
{goroot}/go.env
%{{_bindir}}/go
%{{_bindir}}/gofmt

%files src
{goroot}/src

%files -n go-toolset
"""
ALTERNATIVES = """
%post bin
/usr/sbin/update-alternatives --install %{{_bindir}}/go go {goroot}/bin/go 90 \\
    --slave %{{_bindir}}/gofmt gofmt {goroot}/bin/gofmt

%preun bin
if [ $1 = 0 ]; then
    /usr/sbin/update-alternatives --remove go {goroot}/bin/go
fi
"""


def packages(label: str, dist: str = "fc45") -> dict[str, Path]:
    """The packages of a release by name: golang, golang-bin, golang-src, go-toolset."""
    release = RELEASES[label]
    fedora = dist.startswith("fc")
    evr = (f"{release.epoch}:" if release.epoch else "") + "%{version}-%{release}"
    spec = (SPEC + (ALTERNATIVES if fedora else "")).format(
        epoch_line=f"Epoch: {release.epoch}" if release.epoch else "",
        evr=evr,
        version=release.version,
        number=release.number,
        dist=dist,
        goroot=GOROOT,
        spoil=release.spoil,
        requires_src=f"Requires: golang-src = {evr}" if release.requires_src else "",
        alternatives_requires="Requires(post): /usr/sbin/update-alternatives" if fedora else "",
        go_link="/etc/alternatives/go" if fedora else "../lib/golang/bin/go",
        gofmt_link="/etc/alternatives/gofmt" if fedora else "../lib/golang/bin/gofmt",
    )
    return rpmbuild.packages(f"golang-{label}.{dist}", spec, trees=toolchains())


def toolchains() -> dict[str, Path]:
    """The real Go trees that the releases are made of, fetched when they are not in the cache yet."""
    versions = sorted({release.version for release in RELEASES.values()})
    fetch: list[str | Path] = [cache.TREE / "packaging/dev/fetch-go", sys.executable, cache.home(), *versions]
    subprocess.run(fetch, check=True)
    return {f"go/{version}": cache.home() / "go" / version for version in versions}
