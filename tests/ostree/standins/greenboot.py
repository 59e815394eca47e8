#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Stands for greenboot-rs 0.16.3, which Debian does not have: its health check, its rollback trigger, GRUB's counting.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""greenboot.py health-check | set-rollback-trigger | grub: written from what greenboot-rs and GRUB's rules do.

What a red boot would do to the machine (reboot, rollback) is written to /var/lib/testbed/greenboot instead. Going back
to the older deployment because of a note is done.
"""

import glob
import os
import subprocess
import sys

ENV = "/boot/grub2/grubenv"
LOG = "/var/lib/testbed/greenboot"
NEXT = "greenboot_next_deployment_id"
ATTEMPTS = 3


def editenv(*words):
    return subprocess.run(["grub2-editenv", ENV, *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def variables():
    return dict(line.split("=", 1) for line in editenv("list").splitlines() if "=" in line)


def say(line):
    os.makedirs(os.path.dirname(LOG), exist_ok=True)
    with open(LOG, "a") as file:
        file.write(f"{line}\n")
    print(line, flush=True)


def deployments():
    """(mark, checksum, marks) of each deployment."""
    status = subprocess.run(["ostree", "admin", "status"], stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = [line for line in status.splitlines() if len(line) > 2 and line[:2] in ("* ", "  ") and line[2] != " "]
    return [(line[0], line[2:].split()[1].split(".")[0], line) for line in lines]


def set_rollback_trigger():
    for _, checksum, line in deployments():
        if "(staged)" in line or "(finalization locked)" in line:
            editenv("set", f"{NEXT}={checksum}", "fallback=1")
            say(f"noted {checksum}")


def go_back():
    index = next(i for i, (mark, _, _) in enumerate(deployments()) if mark == "*")
    subprocess.run(["ostree", "admin", "set-default", str(index + 1)], check=False)


def health_check():
    noted = variables().get(NEXT)
    booted = next(checksum for mark, checksum, _ in deployments() if mark == "*")
    if noted and noted != booted:
        say(f"rollback: {noted} did not boot")
        go_back()
        editenv("unset", NEXT, "fallback")
    elif noted:
        editenv("unset", NEXT)
    red = False
    for folder in ("/usr/lib/greenboot", "/etc/greenboot"):
        for script in sorted(glob.glob(f"{folder}/check/required.d/*.sh")):
            done = subprocess.run(["bash", "-C", script], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            print(done.stdout + done.stderr, end="", flush=True)
            red = red or done.returncode != 0
    if not red:
        editenv("set", "boot_success=1")
        editenv("unset", "boot_counter")
        say("green")
        return 0
    editenv("set", "boot_success=0")
    counter = variables().get("boot_counter")
    if counter is None:
        editenv("set", f"boot_counter={ATTEMPTS}")
        say("red: reboot")
    elif int(counter) > 0:
        say("red: reboot")
    else:
        say("red: rollback" if variables().get(NEXT) else "red: stays")
    return 1


def grub():
    """What GRUB does with the variables before it boots; prints the entry that is booted."""
    values = variables()
    if values.get("boot_success") == "0" and "boot_counter" in values:
        counter = int(values["boot_counter"])
        if counter > 0:
            editenv("set", f"boot_counter={counter - 1}")
        else:
            print(1)
            return
    print(0)


# As greenboot-rs does, for itself: each command of a unit with PrivateMounts= has mounts of its own.
subprocess.run(["mount", "-o", "remount,bind,rw", "/boot"], check=True)
command = {"health-check": health_check, "set-rollback-trigger": set_rollback_trigger, "grub": grub}[sys.argv[1]]
sys.exit(command())
