#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Stands for zincati, which Debian does not have: the order in which it stages, looks, finalizes and gives up.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""zincati.py: releases come from /run/graph, names of debian/NAME, the newest last. One step at a line of /run/ticks.

Written from what its source does. `rpm-ostree deploy --lock-finalization` is ostree's own command here. The reboot of
`rpm-ostree finalize-deployment` is the stop of ostree-finalize-staged.service, and a new start of this program. What is
done is printed, a line each.
"""

import os
import socket
import subprocess
import sys

TRIES = 12


def run(*words, check=True):
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=check).stdout


def status(text):
    """sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(address)
            channel.send(f"READY=1\nSTATUS={text}".encode())


def say(line):
    print(line, flush=True)


def deployments():
    """Checksum and marks of each deployment, the staged one first."""
    lines = [line for line in run("ostree", "admin", "status").splitlines() if line[:3].strip() and line[2:3] != " "]
    return [(line[2:].split()[1].split(".")[0], line) for line in lines]


def is_staged(checksum):
    first = deployments()[0]
    return first[0] == checksum and ("(staged)" in first[1] or "(finalization locked)" in first[1])


def newest(given_up):
    with open("/run/graph") as file:
        for name in file.read().split()[::-1]:
            checksum = run("ostree", "rev-parse", f"debian/{name}").strip()
            if checksum not in given_up:
                return name, checksum
    return "", ""


def main():
    status("initializing")
    given_up = {c for c, line in deployments() if "(staged)" not in line and "(finalization locked)" not in line}
    state, target, failed = "steady", ("", ""), 0
    with open("/run/ticks") as ticks:
        for _ in ticks:
            name, checksum = target
            if state == "steady":
                status("periodically polling for updates")
                target = newest(given_up)
                state, failed = ("found" if target[0] else "steady"), 0
            elif state == "found":
                status(f"found update on remote: {name}")
                say(f"deploy {name}")
                run("ostree", "admin", "deploy", "--stage", "--lock-finalization", f"debian/{name}", check=False)
                if is_staged(checksum):
                    state = "staged"
                    status(f"update staged: {name}; reboot pending due to update strategy")
                else:
                    failed += 1
                    if failed >= TRIES:
                        say(f"given up {name}")
                        given_up.add(checksum)
                        state = "steady"
            elif not is_staged(checksum):
                say(f"no pending staged deployment {name}")
            elif "(finalization locked)" in deployments()[0][1]:
                run("ostree", "admin", "lock-finalization", "--unlock", check=False)
                say("reboot")
                run("systemctl", "stop", "ostree-finalize-staged.service", check=False)
                return os.execv(sys.executable, [sys.executable, __file__])
            else:
                say(f"not locked {name}")
    return 0


sys.exit(main())
