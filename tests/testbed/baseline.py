# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the tests start from: roots whose package database knows what is in them, with and without Go."""

from __future__ import annotations

import inspect
import shutil
from typing import TYPE_CHECKING

from tests.testbed import extras, golang, repository, roots, rpms, stubs
from tests.testbed.updaters import dnf

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.testbed.machine import Machine, Root


def bare(suite: str) -> Root:
    """A root with its updaters, and stubs for them in its package database. No Go, no repository."""
    root = roots.debian(suite)
    packages = stubs.packages(suite, root)

    def prepare(machine: Machine) -> None:
        for path in packages:
            shutil.copy(path, machine.path("/tmp"))
        machine.run("mkdir -p /var/lib/rpm && rpm --initdb && rpm --install /tmp/*.rpm && rm /tmp/*.rpm")
        # Not part of Fedora's dnf5 unless asked for; it copies every package into a repository of its own.
        machine.run("rm -f /etc/dnf/libdnf5-plugins/local.conf /usr/lib/*/libdnf5/plugins/local.so")
        machine.run("ls /usr/sbin/update-alternatives || ln -s ../bin/update-alternatives /usr/sbin")  # as on Fedora

    recipe = [packages[0].parent.name, inspect.getsource(prepare)]
    return roots.derived(f"{suite}-bare", root, recipe, prepare)


def without_go(suite: str) -> Root:
    """A bare root with hello-1, installed by its own dnf."""
    return installed(f"{suite}-without-go", bare(suite), [extras.hello(1)], ["hello"])


def with_go(suite: str) -> Root:
    """Go 1.25.5 as the distribution packs it, and hello-1, installed by the root's own dnf."""
    packages = [extras.hello(1), *golang.packages("1.25.5", golang.DISTS[suite]).values()]
    return installed(f"{suite}-with-go", bare(suite), packages, ["hello", "golang"])


def with_hook(suite: str, parent: Root | None = None) -> Root:
    """The parent, with_go's if none is named, in which `dnf install go-health-hook` was run."""
    start = parent or with_go(suite)
    return installed(f"{start.name}-with-hook", start, rpms.own_rpms(suite).values(), ["go-health-hook"])


def installed(name: str, parent: Root, packages: Iterable[Path], wanted: Iterable[str]) -> Root:
    """The parent in which its own dnf installed the wanted, out of a repository of these packages.

    The repository is gone again, and so is what was kept of it.
    """
    offered = sorted(packages)

    def install(machine: Machine) -> None:
        repository.offer(machine, offered, "installed")
        done = dnf(machine, "install", *wanted)
        assert done.returncode == 0, done.stdout + done.stderr
        machine.run("rm -r /etc/yum.repos.d/installed.repo /var/log/dnf* && rm -rf /var/cache/*dnf*")

    recipe = [*map(str, offered), *wanted, inspect.getsource(installed)]
    return roots.derived(name, parent, recipe, install)
