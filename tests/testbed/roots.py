# SPDX-License-Identifier: GPL-2.0-or-later
"""The roots: Debian forky, which has dnf5 and rpm 6, and Debian bookworm, whose dnf is EL 9's.

Their own software is Debian's, so the rpm database knows nothing of it: stub packages stand for what is really there,
by the names that Fedora gives it. The roots use repositories in folders; there is no network in a machine.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from tests.testbed import cache
from tests.testbed.machine import Machine, Root

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMON = [
    *("rpm", "python3-rpm", "createrepo-c", "bubblewrap", "util-linux", "mount", "systemd", "systemd-sysv", "dbus"),
    *("python3", "python3-dbus-next", "python3-prometheus-client", "python3-psutil", "python3-pyelftools"),
    *("python3-rich", "python3-systemd", "python3-pytest", "python3-hypothesis", "make"),
]
PACKAGES = {
    "forky": [*COMMON, "dnf5", "python3-libdnf5", "python3-libdnf5-python-plugins-loader", "ostree", "composefs"],
    "bookworm": [*COMMON, "dnf", "python3-dnf"],
}
# A testing suite's index may be older than it says it should be; its signature is checked all the same.
OPTIONS = [
    "--variant=apt",
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
]
FILES = {
    "etc/hostname": "testbed\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/resolv.conf": "",
    "etc/yum.repos.d/.keep": "",
    # As on Fedora and EL, where the versions differ.
    "etc/rpm/macros": "%_dbpath /var/lib/rpm\n%_pkgverify_level digest\n",
    "etc/dnf/dnf.conf": "[main]\ngpgcheck=True\ninstallonly_limit=3\nclean_requirements_on_remove=True\nbest=False\n"
    "skip_if_unavailable=True\n",
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
}


def debian(suite: str, packages: Iterable[str] = ()) -> Root:
    """A root of that Debian suite with the packages that the updaters and the hook need, and more if wanted."""
    return made(f"debian-{suite}", suite, [*PACKAGES[suite], *packages])


def builder(suite: str, packages: Iterable[str]) -> Root:
    """A root of that Debian suite with rpm, mount and these packages alone, as a build system makes it."""
    return made(f"builder-{suite}", suite, ["rpm", "mount", *packages])


def made(name: str, suite: str, wanted: Iterable[str]) -> Root:
    """A root made by mmdebstrap; raises CalledProcessError where that fails."""
    command = ["mmdebstrap", *OPTIONS, f"--include={','.join(wanted)}", "--quiet", suite]

    def build(new: Path) -> None:
        subprocess.run([*command, str(new / "root"), *mirror()], check=True)
        for file, text in FILES.items():
            path = new / "root" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(text)
        (new / "root/usr/sbin/policy-rc.d").chmod(0o755)

    recipe = [*command, *(f"{name}={text}" for name, text in FILES.items())]
    return Root(suite, (cache.built(name, recipe, build) / "root",))


def mirror() -> list[str]:
    """Where this machine's own apt has its packages from, if it is a Debian; else what mmdebstrap takes by itself."""
    if not shutil.which("apt-get"):
        return []
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    return listed[:1]


def derived(name: str, parent: Root, recipe: Iterable[str | Path], change: Callable[[Machine], object]) -> Root:
    """The parent with what `change(machine)` wrote in it as one more layer."""

    def build(new: Path) -> None:
        with Machine(parent, changes=new) as machine:
            change(machine)
        cache.remove(new / "work")

    folder = cache.built(name, [parent.key(), *recipe], build)
    return Root(name, (folder / "upper", *parent.layers))
