# SPDX-License-Identifier: GPL-2.0-or-later
"""Real dnf5 and dnf 4 transactions on a machine that something goes wrong with, over and over, and what came of each.

The machine's Go is sound, so no transaction may be held back, whatever fails. Arguments: seconds (900), seed (random).
The counts are printed; the exit status is 1 where one of those that must be 0 is not.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.dnf.machines import machine
from tests.testbed import extras, repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.testbed.machine import Machine

STATE = "/var/lib/go-health-hook/state.json"
LEDGER = "/var/cache/go-health-hook/healthy"
VETO = "nothing is installed, since "
PLACES = ("/var/cache/go-health-hook", "/var/lib/go-health-hook", "/run/go-health-hook", "/tmp", "/etc/motd.d")
CEILING = 61.0  # [budget] ceiling and a second
HELPERS = ("bwrap", "setpriv", "sh", "unshare", "timeout")
FULL = ("/var/cache/go-health-hook", "/var/lib/go-health-hook", "/run/go-health-hook", "/tmp")
LIMITS = ("-v 400000", "-f 16", "-n 20", "-u 40", "-t 2", "-s 64", "-d 60000")


class Trial:
    """One transaction with one fault: the command that runs it, and what ends the fault."""

    def __init__(self, m: Machine, program: str, target: str, chance: random.Random) -> None:
        self.m = m
        self.chance = chance
        self.command = f"{program} -y {target}"
        self.undo: list[str] = []
        self.replaced = ""
        self.kill: Callable[[], bool] | None = None

    def killed(self, words: tuple[str, ...]) -> None:
        """A process of the hook, or the updater itself, is killed at a random moment."""
        wait = self.chance.uniform(0.0, self.chance.choice([0.2, 0.6, 2.0]))

        def strike() -> bool:
            end = time.monotonic() + wait
            victims: list[int] = []
            while time.monotonic() < end + 3.0 and not (victims and time.monotonic() > end):
                now = self.m.processes()
                victims = [pid for pid, command in now.items() if any(word in command for word in words)]
                if not now:
                    return False
            for pid in self.chance.sample(victims, min(len(victims), self.chance.choice([1, 1, 2]))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, self.chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
            return bool(victims)

        self.kill = strike

    def damaged(self) -> None:
        """A helper is empty, cut short, exits with 0, or is no program."""
        helper = self.chance.choice(HELPERS[:2] if self.chance.random() < 0.7 else HELPERS)
        how = self.chance.choice(
            [": >/tmp/damaged", f"head -c 5000 /usr/bin/{helper} >/tmp/damaged", "cp /bin/true /tmp/damaged"]
        )
        if helper in {"sh", "timeout"}:
            how = "cp /bin/false /tmp/damaged" if helper == "timeout" else "cp /bin/true /tmp/damaged"
        self.m.run(f"{how}; chmod 755 /tmp/damaged; mount --bind /tmp/damaged /usr/bin/{helper}", check=False)
        # Not by the machine's shell, which may be what is damaged.
        self.undo.append(f"/usr/bin/{helper}")

    def full(self) -> None:
        """A file system is full, or cannot be written."""
        place = self.chance.choice(FULL)
        if self.chance.random() < 0.3:
            self.m.run(f"mkdir -p {place}; mount --bind {place} {place}; mount -o remount,bind,ro {place}", check=False)
        else:
            fill = f"head -c 8M /dev/zero >{place}/full 2>/dev/null"
            mode = "1777" if place == "/tmp" else "755"
            self.m.run(f"mkdir -p {place}; mount -t tmpfs -o size=64k,mode={mode} full {place}; {fill}", check=False)
        self.undo.append(place)

    def limited(self) -> None:
        """The updater runs with a limit of its caller's."""
        self.command = f"ulimit {self.chance.choice(LIMITS)}; {self.command}"

    def odd_files(self) -> None:
        """A FIFO, a directory or rubbish stands where a file of the hook's should be."""
        path = self.chance.choice([STATE, "/var/lib/go-health-hook/override.json", "/etc/go-health-hook.conf.d/x.conf"])
        what = self.chance.choice([f"mkfifo {path}", f"head -c 300 /dev/urandom >{path}", f"ln -s /dev/zero {path}"])
        self.m.run(f"mkdir -p $(dirname {path}); mv {path} {path}.kept 2>/dev/null; {what}", check=False)
        self.replaced = path

    def end(self) -> None:
        """Undo the fault."""
        for place in self.undo:
            subprocess.run(
                ["nsenter", "--target", str(self.m.pid), "--mount", "--pid", "umount", "-l", place],
                capture_output=True,
                check=True,  # else all that follows has this fault as well
            )
        path = self.replaced
        if path:
            self.m.run(f"rm -rf {path}; mv {path}.kept {path} 2>/dev/null; true", check=False)


FAULTS: dict[str, Callable[[Trial], None]] = {
    "hook killed": lambda trial: trial.killed(("go-health",)),
    "toolchain killed": lambda trial: trial.killed(("bwrap", "/usr/lib/golang")),
    "updater killed": lambda trial: trial.killed(("dnf",)),
    "helper damaged": Trial.damaged,
    "file system full": Trial.full,
    "limit": Trial.limited,
    "odd file": Trial.odd_files,
}


@contextlib.contextmanager
def machines() -> Iterator[list[tuple[Machine, str]]]:
    with contextlib.ExitStack() as stack:
        found = []
        for suite, program in (("forky", "dnf5"), ("bookworm", "dnf")):
            m = stack.enter_context(machine(suite))
            repository.offer(m, [extras.hello(1), extras.hello(2)])
            m.write("/etc/go-health-hook.conf.d/00-all.conf", "[dnf]\ntransactions = all\n")
            m.run([program, "makecache"], check=False)
            found.append((m, program))
        yield found


def state_is_whole(m: Machine) -> bool:
    try:
        return bool(json.loads(m.read(STATE))["schema"] == 1)
    except FileNotFoundError:
        return True
    except (ValueError, KeyError, OSError):
        return False


def leftovers(m: Machine) -> list[str]:
    found = []
    for place in PLACES:
        if m.path(place).is_dir():
            found += [
                str(p) for p in m.path(place).iterdir() if "go-health-hook-" in p.name or p.name.startswith(".go-")
            ]
    return found


MISSED = "missed"  # no fault: the transaction was over before a process could be killed


def one(m: Machine, program: str, fault: str, chance: random.Random) -> list[str]:
    """Run a transaction with a fault and one without; return what went wrong, by its name."""
    wrong = []
    if chance.random() < 0.6:
        m.run(["rm", "-f", LEDGER], check=False)  # else most transactions run nothing of Go's
    version = m.run("rpm -q --qf %{version} hello", check=False).stdout
    trial = Trial(m, program, "downgrade hello" if version == "2" else "upgrade hello", chance)
    FAULTS[fault](trial)
    begun = time.monotonic()
    process = m.start(trial.command)
    if trial.kill and not trial.kill():
        wrong.append(MISSED)
    try:
        out, err = process.communicate(timeout=CEILING + 30)
    except subprocess.TimeoutExpired:
        wrong.append("hung")
        m.kill_all()
        out, err = process.communicate()
    trial.end()
    if VETO in out + err:
        wrong.append("vetoed")
    if time.monotonic() - begun > CEILING and "hung" not in wrong:
        wrong.append("late")
    if fault != "odd file" and not state_is_whole(m):
        wrong.append("state lost")
    m.run("rm -f /usr/lib/sysimage/rpm/.rpm.lock /var/lib/rpm/.rpm.lock; rpm --rebuilddb", check=False)
    after = m.run([program, "-y", "reinstall", "hello"], check=False, timeout=300)
    m.run(["go-health-hook", "--json"], check=False)
    if VETO in after.stdout + after.stderr:
        wrong.append("vetoed afterwards")
    left = leftovers(m)
    if left:
        wrong.append("leftovers")
        print(f"  left: {left}", flush=True)
    if set(wrong) - {MISSED}:
        print(f"{program}, {fault}, `{trial.command}`, {trial.undo}: {wrong}\n{(out + err)[-1500:]}", flush=True)
    return wrong


def main() -> int:
    """Run the campaign and print its counts."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 900.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    done: collections.Counter[str] = collections.Counter()
    wrong: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds

    def repeat(m: Machine, program: str) -> None:
        chance = random.Random(f"{seed} {program}")
        while time.monotonic() < end:
            fault = chance.choice(list(FAULTS))
            found_wrong = one(m, program, fault, chance)
            done[fault] += MISSED not in found_wrong
            wrong.update(found_wrong)

    with machines() as found, ThreadPoolExecutor(len(found)) as pool:
        for future in [pool.submit(repeat, m, program) for m, program in found]:
            future.result()
    print(f"{sum(done.values())} faults: " + ", ".join(f"{fault} {count}" for fault, count in sorted(done.items())))
    kinds = ("vetoed", "vetoed afterwards", "hung", "late", "state lost", "leftovers")
    print(", ".join(f"{kind}: {wrong[kind]}" for kind in kinds) + f" ({wrong[MISSED]} more came too late to hit)")
    return 1 if any(wrong[kind] for kind in kinds) else 0


if __name__ == "__main__":
    sys.exit(main())
