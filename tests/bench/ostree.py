# SPDX-License-Identifier: GPL-2.0-or-later
"""What judging a staged root costs, against judging the running one with the same Go."""

from __future__ import annotations

import os
import statistics
import time

from tests.bench import measure
from tests.testbed import baseline
from tests.testbed.machine import Machine

ROUNDS = 9
AIM = 2.0


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
    measure.row("a staged root", statistics.median(a for a, _ in pairs), "s")
    measure.row("the running root", statistics.median(b for _, b in pairs), "s")
    measure.row("staged / running", statistics.median(a / b for a, b in pairs), "x", AIM)
    print(measure.quiet())


if __name__ == "__main__":
    main()
