# SPDX-License-Identifier: GPL-2.0-or-later
"""Empty packages that tell rpm's database what a Debian root holds, by the names and provides of Fedora and EL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tests.testbed import rpmbuild
from tests.testbed.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.machine import Root


class Stub(NamedTuple):
    """A package of Fedora and EL: by whose version it goes in the root, and what else it provides there."""

    name: str
    debian: str
    provides: tuple[str, ...] = ()


COMMON = [
    Stub("alternatives", "dpkg", ("/usr/sbin/update-alternatives", "/usr/bin/update-alternatives")),
    Stub("bash", "bash", ("/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash")),
    Stub("bubblewrap", "bubblewrap", ("/usr/bin/bwrap",)),
    Stub("coreutils", "coreutils", ("/usr/bin/timeout", "/usr/bin/env")),
    Stub("createrepo_c", "createrepo-c"),
    Stub("dbus", "dbus", ("dbus-broker",)),
    Stub("filesystem", "base-files"),
    Stub("gcc", "base-files"),
    Stub("glibc", "libc6", ("rtld(GNU_HASH)", "libc.so.6()(64bit)")),
    Stub("python3", "python3", ("python(abi) = {short}", "/usr/bin/python3", "/usr/bin/python{short}", "python3-libs")),
    Stub("python3-dbus-next", "python3-dbus-next"),
    Stub("python3-prometheus_client", "python3-prometheus-client"),
    Stub("python3-psutil", "python3-psutil"),
    Stub("python3-pyelftools", "python3-pyelftools"),
    Stub("python3-rich", "python3-rich"),
    Stub("python3-rpm", "python3-rpm"),
    Stub("python3-systemd", "python3-systemd"),
    Stub("rpm", "rpm", ("rpm-libs",)),
    Stub("systemd", "systemd", ("/usr/bin/systemctl", "/usr/lib/systemd/systemd", "systemd-units")),
    Stub("util-linux", "util-linux", ("/usr/bin/setpriv", "/usr/bin/unshare", "util-linux-core")),
]
BY_SUITE = {
    "forky": [
        *COMMON,
        Stub("dnf5", "dnf5", ("dnf = {version}", "yum = {version}", "/usr/bin/dnf5", "/usr/bin/dnf")),
        Stub("dnf5-plugin-automatic", "dnf5", ("dnf-automatic = {version}",)),
        Stub("dnf5-plugins", "dnf5"),
        Stub("libdnf5", "dnf5"),
        Stub("libdnf5-plugin-actions", "dnf5"),
        Stub("python3-libdnf5", "dnf5"),
        Stub("ostree", "ostree", ("/usr/bin/ostree", "ostree-libs")),
    ],
    "bookworm": [
        *COMMON,
        Stub("dnf", "dnf", ("/usr/bin/dnf",)),
        Stub("dnf-automatic", "dnf"),
        Stub("dnf-data", "dnf"),
        Stub("python3-dnf", "dnf"),
        Stub("yum", "dnf"),
    ],
}
# Who says which release of the distribution this is.
RELEASE = {"forky": ("fedora-release", "45"), "bookworm": ("redhat-release", "9")}

HEAD = """\
Name: {name}
Version: {version}
Release: 0.stub
Summary: Stands for what the root has from elsewhere
License: GPL-2.0-or-later
BuildArch: noarch
{provides}
%description
{name} as this root has it from its own distribution.
"""


def packages(suite: str, root: Root) -> list[Path]:
    """The stubs for that root, with the versions of what is in it."""
    with Machine(root) as machine:
        listed = machine.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n"]).stdout
    versions = {name: upstream(version) for name, version in (line.split() for line in listed.splitlines())}
    release, number = RELEASE[suite]
    made = {release: (number, ["system-release", f"system-release(releasever) = {number}"])}
    for stub in BY_SUITE[suite]:
        version = versions[stub.debian]
        short = ".".join(version.split(".")[:2])
        made[stub.name] = (version, [p.format(version=version, short=short) for p in stub.provides])
    built = {}
    for name, (version, provides) in made.items():
        lines = "".join(f"Provides: {p}\n" for p in provides)
        built[name] = HEAD.format(name=name, version=version, provides=lines)
    # One spec for all: the first package is the source package, the rest hang on it.
    return list(rpmbuild.packages(f"stubs-{suite}", one_spec(built)).values())


def one_spec(heads: dict[str, str]) -> str:
    """The packages of several specs, as one."""
    spec = HEAD.format(name="testbed-stubs", version="1", provides="")
    for name, head in heads.items():
        body = (
            head.split("\n", 1)[1].replace("%description", f"%description -n {name}").replace("BuildArch: noarch\n", "")
        )
        spec += f"\n%package -n {name}\n{body}\n%files -n {name}\n"
    return spec


def upstream(version: str) -> str:
    """Debian's version without what Debian added to it."""
    return re.sub(r"(\+(dfsg|ds|deb).*)?(-[^-]*)?$", "", version.split(":", 1)[-1])
