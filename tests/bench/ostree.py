# SPDX-License-Identifier: GPL-2.0-or-later
"""What judging a staged root costs, against judging the running one with the same Go; and how soon it is locked."""

from __future__ import annotations

import os
import statistics
import time

from tests.bench import measure
from tests.testbed import baseline, cache
from tests.testbed.machine import Machine

ROUNDS = 9
AIM = 2.0
# From the start of the gate to the lock file, while another process holds the lock on the sysroot (seconds). The
# verdict may take 1.5 of them, and the lock 0.2.
LOCK_AIM = 1.7
# Is told when the lock file is made.
WATCH = """
import ctypes, os
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
libc.inotify_add_watch(fd, b"/run/ostree", 0x100)  # IN_CREATE
print("watching", flush=True)
while b"staged-deployment-locked" not in os.read(fd, 4096):
    pass
print("locked", flush=True)
"""


def main() -> None:
    """Print the ratio of the two, taken in turn in one machine."""
    if os.geteuid() != 0:
        print("ostree: not measured, since only root can make a machine")
        return
    with Machine(baseline.with_hook("forky")) as machine:
        machine.run("mkdir /staged && mount --bind / /staged && mount -o remount,bind,ro /staged")

        def seconds(*options: str) -> float:
            started = time.perf_counter()
            machine.run(["go-health-hook", "--dry-run", *options])
            return time.perf_counter() - started

        assert "go1." in machine.run("go-health-hook --dry-run --root /staged").stdout
        seconds()
        pairs = [(seconds("--root", "/staged"), seconds()) for _ in range(ROUNDS)]
    with Machine(baseline.with_hook("forky")) as machine:
        locked = statistics.median(_lock(machine, number) for number in range(ROUNDS))
    measure.row("a staged root", statistics.median(a for a, _ in pairs), "s")
    measure.row("the running root", statistics.median(b for _, b in pairs), "s")
    measure.row("staged / running", statistics.median(a / b for a, b in pairs), "x", AIM)
    measure.row("a broken staged Go: lock file, sysroot busy", locked, "s", LOCK_AIM)
    print(measure.quiet())


def _lock(machine: Machine, number: int) -> float:
    """The seconds from the gate's start to the lock file, while ostree's own command waits for a transaction."""
    if number == 0:
        machine.write("/run/ostree-booted", "")
        machine.write("/usr/bin/ostree", (cache.TREE / "tests/ostree/ostree.sh").read_text(), 0o755)
        machine.run("mkdir -p /run/ostree /run/stumble && cp -r /usr/lib/golang /run/golang")
        machine.run("truncate -s 5M /run/golang/bin/go")
        machine.write("/run/stumble/lock", "exec sleep 1000\n")
    root = f"/ostree/deploy/debian/deploy/{number:064x}.0"
    machine.run(f"mkdir -p {root} && mount --bind / {root} && mount --bind /run/golang {root}/usr/lib/golang")
    machine.run(f"rm -f /run/key /run/ostree/staged-deployment-locked; echo {number:064x} >/run/staged")
    watch = machine.start(["python3", "-c", WATCH])
    assert watch.stdout
    assert watch.stdout.readline() == "watching\n"
    started = time.perf_counter()
    gate = machine.start(["/usr/libexec/go-health-hook/gate", "staged"])
    assert watch.stdout.readline() == "locked\n"
    taken = time.perf_counter() - started
    gate.terminate()
    gate.wait()
    watch.wait()
    return taken


if __name__ == "__main__":
    main()
