# SPDX-License-Identifier: GPL-2.0-or-later
"""A sound Go, and an updater that was started in an unusual way: by what stands before the hook's own command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.zoo.case import BY_HAND, HEALTHY, MOUNTED, NOT_JUDGED, case
from tests.zoo.world import run

if TYPE_CHECKING:
    from tests.zoo.world import World

IGNORING = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


def covered(mount: str) -> tuple[str, ...]:
    """Start the hook in a mount namespace of its own, after `mount`."""
    return ("unshare", "--mount", "sh", "-ec", f'{mount}; exec "$0" "$@"')


@case("https://man7.org/linux/man-pages/man8/setarch.8.html: `linux32 dnf upgrade`", HEALTHY, True,
      by=("setarch", "i686"))  # fmt: skip
def started_as_on_a_32_bit_machine(world: World) -> None:
    world.unpack()


@case("https://bugs.python.org/issue15756: a caller that ignores SIGCHLD", HEALTHY, True,
      by=("python3", "-c", IGNORING))  # fmt: skip
def started_with_sigchld_ignored(world: World) -> None:
    world.unpack()


@case("LimitAS= in an updater's unit, `ulimit -v` in a script", NOT_JUDGED, True, never=("is broken",), cure=BY_HAND,
      by=("sh", "-ec", 'ulimit -v 500000; exec "$0" "$@"'))  # fmt: skip
def started_with_little_address_space(world: World) -> None:
    world.unpack()


@case("a chroot in which nothing was mounted", NOT_JUDGED, True, says=("/proc is not mounted",),
      by=covered("mount -t tmpfs zoo /proc"))  # fmt: skip
def started_without_proc(world: World) -> None:
    world.unpack()


@case("https://man7.org/linux/man-pages/man7/pid_namespaces.7.html: /proc of another one", NOT_JUDGED, True,
      says=("another PID namespace",), by=("unshare", "--pid", "--fork"))  # fmt: skip
def started_in_a_pid_namespace_with_the_old_proc(world: World) -> None:
    world.unpack()


@case("a chroot with an empty /dev", NOT_JUDGED, True, by=covered("mount -t tmpfs zoo /dev"))
def started_without_devices(world: World) -> None:
    world.unpack()


@case("https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html: no mount in it", NOT_JUDGED,
      True, never=("is broken",), cure=MOUNTED, by=("unshare", "--cgroup"))  # fmt: skip
def started_in_a_cgroup_namespace_without_a_mount(world: World) -> None:
    world.unpack()
    run("umount", "-l", "-R", "/sys/fs/cgroup", check=True)
    run("mount", "-t", "tmpfs", "zoo", "/sys/fs/cgroup", check=True)


@case("https://www.kernel.org/doc/html/latest/filesystems/proc.html: hidepid", HEALTHY, True,
      by=covered("mount -o remount,hidepid=2 /proc"))  # fmt: skip
def started_where_processes_are_hidden(world: World) -> None:
    world.unpack()


@case("containers with Docker's capabilities: no view can be made", HEALTHY, True,
      by=("setpriv", "--bounding-set=-sys_admin,-sys_ptrace,-sys_resource", "--inh-caps=-all"))  # fmt: skip
def started_without_cap_sys_admin(world: World) -> None:
    world.unpack()


@case("https://github.com/containers/bubblewrap is not installed", HEALTHY, True,
      by=covered("mount --bind /dev/null /usr/bin/bwrap"))  # fmt: skip
def started_without_bubblewrap(world: World) -> None:
    world.unpack()


@case("hardened services: nothing but the hook's own directories can be written", HEALTHY, True, by=covered(
      "for i in /tmp /run /var /etc; do mount --bind $i $i; mount -o remount,bind,ro $i; done"))  # fmt: skip
def started_where_nothing_can_be_written(world: World) -> None:
    world.unpack()
