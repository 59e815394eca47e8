# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a CPU limit bites: throttling so far (cpu.stat) and pressure (cpu.pressure) of a cgroup."""

from __future__ import annotations

import errno
import os

from go_health_hook.linux.kernel_files import DIRECTORY, Malformed, number, read_in
from go_health_hook.records import Record
from go_health_hook.text import clean


class Stat(Record):
    """cpu.stat of a cgroup: how often and how long its quota held it back. None where the kernel does not say.

    usage_us      CPU time used, microseconds
    periods       of enforcement in which it had something to run
    throttled     how many of them ended with the quota used up
    throttled_us  how long its runnable tasks waited for that, microseconds
    """

    usage_us: int | None
    periods: int | None
    throttled: int | None
    throttled_us: int | None


class Pressure(Record):
    """cpu.pressure of a cgroup: the share of time in which some task of it waited for a CPU.

    avg10, avg60, avg300   percent over as many seconds
    total_us               microseconds since the cgroup was made
    """

    avg10: float
    avg60: float
    avg300: float
    total_us: int


def read_stat(directory: str) -> Stat | None:
    """Read the throttling so far of the cgroup seen at `directory`, or None where it keeps no account.

    Raises OSError where it cannot be read, Malformed where it makes no sense.
    """
    data = _read(directory, "cpu.stat")
    return None if data is None else parse_stat(data)


def read_pressure(directory: str) -> Pressure | None:
    """Read the CPU pressure of the cgroup seen at `directory`, or None where the kernel keeps no account of it.

    Raises OSError where it cannot be read, Malformed where it makes no sense.
    """
    try:
        data = _read(directory, "cpu.pressure")
    except OSError as e:
        if e.errno == errno.EOPNOTSUPP:  # a kernel started with psi=0
            return None
        raise
    return None if data is None else parse_pressure(data)


def parse_stat(data: bytes) -> Stat:
    """Read cpu.stat of v2, or of v1, which counts nanoseconds and leaves the usage to cpuacct. Raises Malformed."""
    values: dict[str, int] = {}
    for line in data.decode("ascii", "replace").split("\n"):
        if line:
            name, _, value = line.partition(" ")
            values[name] = number(value)
    throttled_us = values.get("throttled_usec")
    if throttled_us is None and "throttled_time" in values:
        throttled_us = values["throttled_time"] // 1000
    return Stat(values.get("usage_usec"), values.get("nr_periods"), values.get("nr_throttled"), throttled_us)


def parse_pressure(data: bytes) -> Pressure:
    """Read the line "some avg10=… avg60=… avg300=… total=…" of cpu.pressure. Raises Malformed."""
    for line in data.decode("ascii", "replace").split("\n"):
        if line.startswith("some "):
            values = dict(field.partition("=")[::2] for field in line.split()[1:])
            avg10, avg60, avg300 = (_percent(values.get(name, "")) for name in ("avg10", "avg60", "avg300"))
            return Pressure(avg10, avg60, avg300, number(values.get("total", "")))
    raise Malformed(f"not a line of pressure: {clean(data, 100)!r}")


def _percent(text: str) -> float:
    whole, _, hundredths = text.partition(".")
    number(hundredths)
    return float(f"{number(whole)}.{hundredths}")


def _read(directory: str, name: str) -> bytes | None:
    fd = os.open(directory, DIRECTORY)
    try:
        return read_in(fd, name)
    finally:
        os.close(fd)
