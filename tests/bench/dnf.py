# SPDX-License-Identifier: GPL-2.0-or-later
"""What the gate costs dnf5: the same small upgrade with it, with an action that runs /bin/true, and with none.

"full" is the gate where no earlier judgement is remembered.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from typing import TYPE_CHECKING

from tests.testbed import baseline, extras, golang, repository
from tests.testbed.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.testbed.machine import Root

ROUNDS = 7
ACTIONS = "/etc/dnf/libdnf5-plugins/actions.d/go-health-hook.actions"
LEDGER = "/var/cache/go-health-hook/healthy"
TRUE = "pre_transaction:::enabled=host-only raise_error=0:/bin/true\n"
TRUE += TRUE.replace("pre_", "post_")


def upgrades(root: Root, offered: Iterable[Path], back: Iterable[Path], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of the upgrade to `offered`, by what is called, side by side; `back` undoes it."""
    with Machine(root) as machine:
        gate = machine.read(ACTIONS)
        variants = {"gate": gate, "full": gate, "/bin/true": TRUE, "none": ""}
        took: dict[str, list[float]] = {name: [] for name in variants}
        repository.offer(machine, offered)
        names = []
        for path in back:
            shutil.copy(path, machine.path("/root"))
            names.append(f"/root/{path.name}")
        for number in range(rounds + 1):
            for name, actions in variants.items():
                machine.write(ACTIONS, actions)
                if name == "full":
                    machine.run(["rm", "-f", LEDGER])
                started = time.perf_counter()
                machine.run(["dnf5", "-y", "upgrade"])
                if number:  # the first round warms the caches
                    took[name].append(time.perf_counter() - started)
                machine.run(["rpm", "--upgrade", "--oldpackage", *names])
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def line(title: str, took: dict[str, float], aim: float, which: str = "gate") -> None:
    added = took[which] - took["/bin/true"]
    figures = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in took.items())
    print(
        f"{title:<34} {figures}; {which} - /bin/true = {added:.3f} s (aim <= {aim} s)" + "   MISSED" * (added > aim),
        flush=True,
    )


def main() -> None:
    """Print the figures of the upgrades that the gate is held to."""
    if os.geteuid() != 0:
        print("dnf: not measured, since only root can make a machine")
        return
    hello = [extras.hello(2)], [extras.hello(1)]
    took = upgrades(baseline.with_hook("forky"), *hello)
    line("hello, Go installed", took, 0.15)
    line("hello, nothing remembered", took, 0.25, "full")
    bare = baseline.with_hook("forky", baseline.without_go("forky"))
    line("hello, no Go", upgrades(bare, *hello), 0.05)
    new = golang.packages("1.27.3").values()
    old = golang.packages("1.25.5")
    line(
        "golang, of 90 MB",
        upgrades(baseline.with_hook("forky"), new, [old[n] for n in ("golang", "golang-bin", "golang-src")], 3),
        1.5,
    )


if __name__ == "__main__":
    main()
