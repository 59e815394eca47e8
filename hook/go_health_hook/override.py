# SPDX-License-Identifier: GPL-2.0-or-later
"""Letting updates through for a while, on the record: who said so, why, and until when. It ends by itself."""

from __future__ import annotations

import json
import os
import time

from go_health_hook import files
from go_health_hook.errors import BadInput, HookError
from go_health_hook.records import Record
from go_health_hook.text import clean, duration, when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "/var/lib/go-health-hook"
FILE = f"{STATE}/override.json"
MAX_SECONDS = 30 * 86400.0
MAX_BYTES = 65536
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Override(Record):
    """One that is in force: seconds left, why, who set it and when (seconds since 1970)."""

    left: float
    reason: str
    by: str
    since: float
    until: float

    def line(self) -> str:
        """One line that says it all, for reports."""
        end = when(time.time() + self.left)
        return f"overridden by {self.by} until {end} ({duration(self.left)} left): {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON reports."""
        return {
            "reason": self.reason,
            "by": self.by,
            "since": round(self.since),
            "until": round(self.until),
            "left_s": round(self.left),
        }


def parse_duration(text: str) -> float:
    """Seconds of a time span as 90m, 2h, 1d or 1h30m. Raises BadInput."""
    total, number = 0.0, ""
    for char in text.strip().lower().replace(" ", ""):
        if char.isascii() and char.isdigit():
            number += char
        elif char in UNITS and 0 < len(number) < 10:
            total += int(number) * UNITS[char]
            number = ""
        else:
            number = "?"
            break
    if number or not 0 < total <= MAX_SECONDS:
        raise BadInput(
            f"{clean(text)!r} is no time to override for", hint="it takes a span up to 30 days, as 2h, 90m or 1d"
        )
    return total


def _boot() -> str:
    return files.head("/proc/sys/kernel/random/boot_id").decode("ascii", "replace").strip()


def _clock() -> float:
    """Seconds since the boot, time asleep included: it cannot be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write(seconds: float, reason: str, by: str) -> Override:
    """Put an override in force. Raises HookError where the record cannot be written."""
    now = time.time()
    reason, by = clean(reason), clean(by)
    record = {
        "schema": 1,
        "reason": reason,
        "by": by,
        "set": now,
        "seconds": seconds,
        "boot": _boot(),
        "clock": _clock(),
    }
    try:
        files.make_directory(STATE)
        files.replace(FILE, json.dumps(record))
    except OSError as error:
        raise HookError(f"{FILE}: cannot be written: {error.strerror}", hint="nothing was changed") from None
    return Override(seconds, reason, by, now, now + seconds)


def clear() -> bool:
    """End the override; whether there was a record of one. Raises HookError."""
    try:
        os.unlink(FILE)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HookError(f"{FILE}: cannot be removed: {error.strerror}") from None
    return True


def in_force(path: str = "") -> Override | None:
    """The override in force, or None. Raises BadInput for a record that cannot be read or trusted: none is in force.

    Within the boot that it was set in, it is measured by a clock that nobody can set. After a reboot only the wall
    clock is left. A clock set back to before the override began ends it. Only a clock set back into the override's own
    time makes it last longer.
    """
    path = path or FILE
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0) as file:
            info = os.fstat(file.fileno())
            if info.st_uid != 0 or info.st_mode & 0o022:
                raise BadInput(f"{path}: not used: it is not root's alone", hint=f"remove it: rm {path}")
            record = json.loads(files.read_fd(file.fileno(), path, MAX_BYTES))
        since, seconds, clock = float(record["set"]), float(record["seconds"]), float(record["clock"])
        reason, by, boot = str(record["reason"]), str(record["by"]), str(record["boot"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}", hint=f"remove it: rm {path}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise BadInput(f"{path}: not used: it is damaged", hint=f"remove it: rm {path}") from None
    elapsed = _clock() - clock if boot and boot == _boot() else time.time() - since
    left = seconds - elapsed
    if not 0 < left <= seconds <= MAX_SECONDS:
        return None
    return Override(left, clean(reason), clean(by), since, since + seconds)
