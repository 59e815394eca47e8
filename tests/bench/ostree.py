# SPDX-License-Identifier: GPL-2.0-or-later
"""What judging a staged root costs, against judging the running one with the same Go; and what a silent bus costs."""

from __future__ import annotations

import os
import statistics
import time

from tests.bench import measure
from tests.testbed import baseline
from tests.testbed.machine import Machine

ROUNDS = 9
AIM = 2.0
# Before an automatic update: the budget, and the time in addition in which the gate reads the deployments from the
# disk and announces (seconds).
BUDGET, MORE = 3.0, 1.0
# Takes every connection and says nothing.
SILENT = """
import socket
bus = socket.socket(socket.AF_UNIX)
bus.bind("/run/dbus/system_bus_socket")
bus.listen()
print("listening", flush=True)
kept = [bus.accept() for _ in iter(int, 1)]
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
        late = max(_silent_bus(machine) - BUDGET for _ in range(3))
    measure.row("a staged root", statistics.median(a for a, _ in pairs), "s")
    measure.row("the running root", statistics.median(b for _, b in pairs), "s")
    measure.row("staged / running", statistics.median(a / b for a, b in pairs), "x", AIM)
    measure.row(f"a bus that never answers: time over the {BUDGET:g} s, worst of 3", late, "s", MORE)
    print(measure.quiet())


def _silent_bus(machine: Machine) -> float:
    """The seconds that the gate before an automatic update takes where Go is broken and the bus says nothing."""
    machine.write("/run/ostree-booted", "")
    machine.run("truncate -s 5M /usr/lib/golang/bin/go; mkdir -p /run/dbus; rm -f /run/dbus/system_bus_socket")
    bus = machine.start(["python3", "-c", SILENT])
    assert bus.stdout
    assert bus.stdout.readline() == "listening\n"
    started = time.perf_counter()
    answer = machine.run(["/usr/libexec/go-health-hook/gate", "rpm-ostree"], check=False)
    taken = time.perf_counter() - started
    assert answer.returncode == 1, answer
    assert "rpm-ostree was not asked" in answer.stdout
    bus.kill()
    return taken


if __name__ == "__main__":
    main()
