# SPDX-License-Identifier: GPL-2.0-or-later
"""The real journal in a machine: start it, then read what was said. It hears nothing of the host's kernel."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.testbed.machine import Machine

CONF = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n"


def start(machine: Machine) -> None:
    """Starts journald in the machine and waits until it says that it is ready."""
    machine.write("/etc/systemd/journald.conf.d/testbed.conf", CONF)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(machine.path("/run/ready")))
        ready.settimeout(60)
        machine.start(
            "exec /usr/lib/systemd/systemd-journald",
            env={"NOTIFY_SOCKET": "/run/ready"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while b"READY=1" not in ready.recv(4096):
            pass
    machine.run("ln -sf /run/systemd/journal/dev-log /dev/log; rm /run/ready")


def entries(machine: Machine, *matches: str) -> list[dict[str, Any]]:
    """What was said so far, oldest first; matches as journalctl takes them (PRIORITY=3)."""
    machine.run("journalctl --sync")
    return [json.loads(line) for line in machine.run(["journalctl", "-o", "json", *matches]).stdout.splitlines()]
