# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that stand for hosts with different updaters, and what an installation may change in them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

from tests.testbed import repository, rpmbuild, rpms, stubs
from tests.testbed.updaters import dnf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.testbed.machine import Machine

NAME = "go-health-hook"
DNF4 = f"python3-dnf-plugin-{NAME}"


class Host(NamedTuple):
    """A kind of host: the packages of updaters that it has, and our packages that these bring along."""

    updaters: tuple[str, ...]
    gates: tuple[str, ...]


DNF5 = ("libdnf5", "libdnf5-plugin-actions")
HOSTS = {
    "dnf5": Host(DNF5, (f"{NAME}-dnf5",)),
    "dnf4": Host(("python3-dnf",), (DNF4,)),
    "dnf5 and dnf4": Host((*DNF5, "python3-dnf"), (f"{NAME}-dnf5", DNF4)),
    "none": Host((), ()),
    "rpm-ostree": Host(("ostree", "rpm-ostree"), (f"{NAME}-rpm-ostree",)),
    "bootc with dnf5": Host((*DNF5, "ostree", "bootc"), (f"{NAME}-dnf5", f"{NAME}-rpm-ostree")),
    "greenboot": Host(("ostree", "rpm-ostree", "greenboot"), (f"{NAME}-rpm-ostree", f"{NAME}-greenboot")),
}
EXTRA = ("python3-dnf", "ostree", "rpm-ostree", "bootc", "greenboot")
# Not installed unless asked for.
OPTIONAL = (f"{NAME}-tuning", f"{NAME}-ansible")
# What dnf, rpm and python themselves write; and the repositories of the tests.
NOT_OURS = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/srv", "/root", "/var/cache/libdnf5", "/var/lib/rpm", "/var/log"),
    *("/var/lib/dnf", "/usr/lib/sysimage", "/etc/yum.repos.d", "/etc/dnf/dnf.conf", "/var/lib/systemd/catalog"),
    # A user that a package made stays, as in Fedora; the programs that add one keep copies.
    *("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/etc/.updated"),
)


# Directories that packages of Fedora own (filesystem, systemd, setup) and the root lacks.
OWNED = (
    *("/usr/share/man/man1", "/usr/share/man/man5", "/usr/share/man/man8", "/usr/share/doc", "/usr/share/licenses"),
    *(
        "/usr/share/bash-completion/completions",
        "/usr/share/zsh/site-functions",
        "/usr/share/fish/vendor_completions.d",
    ),
    *("/usr/lib/systemd/catalog", "/usr/lib/sysusers.d", "/usr/lib/greenboot/check/required.d", "/etc/motd.d"),
    *("/usr/lib/systemd/system/multi-user.target.wants", "/etc/dnf/libdnf5-plugins/actions.d", "/usr/libexec"),
)


def stub(name: str, version: str = "1", provides: Iterable[str] = ()) -> str:
    """The spec of an empty package that has a name of Fedora's."""
    return stubs.HEAD.format(name=name, version=version, provides="".join(f"Provides: {p}\n" for p in provides))


def become(machine: Machine, host: Host) -> None:
    """Make the machine's package database that of such a host."""
    machine.run(["mkdir", "-p", *OWNED])
    known = ("libdnf5", "libdnf5-plugin-actions", "ostree")
    gone = [name for name in known if name not in host.updaters]
    if gone:
        machine.run(["rpm", "-e", "--nodeps", *gone])
    made = rpmbuild.packages("stubs-updaters", stubs.one_spec({name: stub(name) for name in EXTRA}))
    new = [made[name] for name in EXTRA if name in host.updaters and name not in known]
    for path in new:
        shutil.copy(path, machine.path("/tmp"))
    if new:
        machine.run("rpm -i --nodeps /tmp/*.rpm && rm /tmp/*.rpm")


def host(machine: Machine, name: str) -> Host:
    """Make the machine such a host, with our packages in a repository; return what it is."""
    become(machine, HOSTS[name])
    repository.offer(machine, rpms.own_rpms("forky").values(), "hook")
    return HOSTS[name]


def ours(machine: Machine) -> set[str]:
    """The names of our packages that are installed."""
    listed = machine.run(["rpm", "-qa", "--qf", "%{name}\\n", f"*{NAME}*"]).stdout
    return set(listed.split())


def tree(machine: Machine) -> set[str]:
    """Every path of the machine but those that others write."""
    pruned = " -o ".join(f"-path {path}" for path in NOT_OURS)
    listed = machine.run(f"find / -xdev \\( {pruned} -o -name __pycache__ \\) -prune -o -print").stdout
    return set(listed.splitlines())


def install(machine: Machine, *names: str, weak: bool = True) -> None:
    """Install with the machine's own dnf."""
    options = [] if weak else ["--setopt=install_weak_deps=0"]
    done = dnf(machine, *options, "install", *names)
    assert done.returncode == 0, done.stdout + done.stderr
