# SPDX-License-Identifier: GPL-2.0-or-later
"""What a gate takes where its answer cannot be announced: no journal, /var read-only or full, no metrics directory."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.measure import quiet, row
from tests.testbed import baseline
from tests.testbed.machine import Machine

ROUNDS = 15
AIM = 0.05
STATE = "/var/lib/go-health-hook"
JOURNAL = "/run/systemd/journal/socket"
# A journal that takes everything: what is measured is the gate, and the machine has no systemd.
RECEIVER = f"import socket; s = socket.socket(1, 2); s.bind({JOURNAL!r})\nwhile True: s.recv(1 << 20)"
UPGRADE = {"name": "hello", "evr": "2-1", "arch": "noarch", "full": "hello-0:2-1.noarch", "action": "U", "coming": True,
           "path": "", "go": False}  # fmt: skip
# What is done before the gate is asked, and undone afterwards.
PLACES = {
    "everything is there": ("true", "true"),
    "the journal is down": (f"mv {JOURNAL} {JOURNAL}.away", f"mv {JOURNAL}.away {JOURNAL}"),
    "/var is read-only": ("mount --bind /var /var && mount -o remount,bind,ro /var", "umount --lazy /var"),
    "/var is full": (
        f"mount -t tmpfs -o size=8k full {STATE} && head -c 64k /dev/zero >{STATE}/fill; true",
        f"umount --lazy {STATE}",
    ),
    "the metrics directory is gone": ("mv /srv/prom /srv/away", "mv /srv/away /srv/prom"),
}


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine whose Go is cut short, so that its gate refuses every update."""
    with Machine(baseline.with_hook("forky")) as made:
        made.run(
            "truncate -s 5000000 /usr/lib/golang/bin/go; mkdir -p /srv/prom /run/systemd/system /run/systemd/journal"
        )
        made.write("/etc/go-health-hook.conf", "[announce]\nmetrics-directory = /srv/prom\n[budget]\ndnf = 60\n")
        made.write("/root/upgrade", json.dumps({"packages": [UPGRADE]}))
        made.write("/root/receiver", RECEIVER)
        made.run(f"python3 /root/receiver >/dev/null 2>&1 & until test -S {JOURNAL}; do :; done")
        yield made


def main() -> None:
    """Print how much longer or shorter the gate takes in each case than with everything there."""
    if os.geteuid() != 0:
        print("announce: not measured, since only root can make a machine")
        return
    print(quiet())
    took: dict[str, list[float]] = {name: [] for name in PLACES}
    with machine() as made:
        for number in range(ROUNDS + 1):
            for name, (do, undo) in PLACES.items():
                made.run(do)
                started = time.perf_counter()
                done = made.run("/usr/libexec/go-health-hook/gate dnf4 before $$ </root/upgrade", check=False)
                seconds = time.perf_counter() - started
                made.run(undo)
                assert done.returncode == 1, f"{name}: {done.stdout}{done.stderr}"
                if number:  # the first round warms the caches
                    took[name].append(seconds)
    usual = took["everything is there"]
    row("the gate's veto, everything is there", statistics.median(usual), "s")
    for name, times in took.items():
        if times is not usual:
            row(f"{name}: difference", statistics.median(a - b for a, b in zip(times, usual)), "s", AIM)
