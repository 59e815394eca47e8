#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stand-in for bootc 1.16.9 on its composefs backend, which is not packaged where the tests run.

Its answers have the keys of the recorded ones. It keeps what a boot loader would read in /boot/loader/{entries,
entries.staged}: one file each, the id of a deployment a line, the default first. Commands: `status --json`,
`stage ID [--download-only]` (in place of upgrade and switch), `upgrade --from-downloaded`, `composefs-finalize-staged`,
`delete-deployment ID`, `rollback`, `internals prep-soft-reboot [ID | --reset]`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

STAGED = "/run/composefs/staged-deployment"
ENTRIES, ENTRIES_STAGED = "/boot/loader/entries", "/boot/loader/entries.staged"


def main(words: list[str]) -> None:
    now = staged()
    if words[:2] == ["status", "--json"]:
        print(json.dumps(status(), separators=(",", ":"), sort_keys=True))
    elif words[0] == "stage":
        os.makedirs(os.path.dirname(STAGED), 0o755, exist_ok=True)
        write(ENTRIES_STAGED, "\n".join([words[1], *(i for i in entries() if i != words[1])]) + "\n")
        stage(words[1], "--download-only" in words)
    elif words == ["upgrade", "--from-downloaded"] and now:
        stage(now["depl_id"], False)
    elif words == ["composefs-finalize-staged"]:
        finalize()
    elif words[0] == "delete-deployment":
        if not now or now["depl_id"] != words[1]:
            sys.exit(f"error: Deployment {words[1]} not found")
        os.unlink(STAGED)
        os.unlink(ENTRIES_STAGED)
    elif words == ["rollback"]:
        ids = entries()
        write(ENTRIES, "\n".join([ids[1], ids[0], *ids[2:]]) + "\n")
    elif words[:2] == ["internals", "prep-soft-reboot"]:
        soft_reboot(words[2])
    else:
        sys.exit(f"error: unrecognized subcommand '{' '.join(words)}'")


def stage(depl_id: str, locked: bool) -> None:
    write(STAGED, json.dumps({"depl_id": depl_id, "finalization_locked": locked}, separators=(",", ":")))


def finalize() -> None:
    now = staged()
    if not now:
        print("No staged deployment found")
    elif now["finalization_locked"]:
        print("Staged deployment is marked download only. Won't finalize")
    else:
        os.rename(ENTRIES_STAGED, ENTRIES)


def soft_reboot(word: str) -> None:
    """Mounts and unmounts in the mount namespace of PID 1, one mount at a time."""
    inside = ["nsenter", "--mount=/proc/1/ns/mnt", "--"]
    if word == "--reset":
        subprocess.run([*inside, "umount", "--lazy", "/run/nextroot"], check=True)
        return
    subprocess.run([*inside, "mkdir", "-p", "/run/nextroot"], check=True)
    what = ["-o", "ro,lowerdir=/usr:/etc", f"composefs:{word}", "/run/nextroot"]
    subprocess.run([*inside, "mount", "-t", "overlay", *what], check=True)


def status() -> dict[str, Any]:
    ids = entries()
    now = staged()
    running = booted()
    host: dict[str, Any] = {"booted": entry(running), "rollback": None, "staged": None, "rollbackQueued": False}
    if now:
        host["staged"] = {
            **entry(now["depl_id"]),
            "downloadOnly": now["finalization_locked"],
            "softRebootCapable": True,
        }
    others = [i for i in ids if i != running and not (now and i == now["depl_id"])]
    if others:
        host["rollback"] = entry(others[0])
    host["rollbackQueued"] = ids[0] != running
    host.update({"readOnly": False, "type": None, "usrOverlay": None})
    spec = {"bootOrder": "rollback" if host["rollbackQueued"] else "default", "image": host["booted"]["image"]["image"]}
    kind = {"apiVersion": "org.containers.bootc/v1", "kind": "BootcHost", "metadata": {"name": "host"}}
    return {**kind, "spec": spec, "status": host}


def entry(depl_id: str) -> dict[str, Any]:
    with open(f"/sysroot/state/deploy/{depl_id}/{depl_id}.origin") as file:
        name = next(line.split("/")[-1].strip() for line in file if line.startswith("container-image-reference"))
    backend = {"bootDigest": "4d" * 32, "bootType": "Bls", "bootloader": "systemd", "missingVerityAllowed": True}
    image = {
        "architecture": "amd64",
        "image": {"image": f"example.com/{name}", "transport": "registry"},
        "imageDigest": f"sha256:{depl_id[:64]}",
        "timestamp": "2026-11-26T00:00:00Z",
        "version": None,
    }
    return {
        "cachedUpdate": None,
        "composefs": {**backend, "verity": depl_id},
        "downloadOnly": False,
        "image": image,
        "incompatible": False,
        "ostree": None,
        "pinned": False,
        "softRebootCapable": False,
        "store": None,
    }


def entries() -> list[str]:
    with open(ENTRIES) as file:
        return file.read().split()


def booted() -> str:
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    return [w[w.index("-") + 2].partition(":")[2] for w in lines if w[4] == "/"][-1]


def staged() -> dict[str, Any] | None:
    try:
        with open(STAGED) as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return None


def write(path: str, text: str) -> None:
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.rename(f"{path}.new", path)


main(sys.argv[1:] or [""])
