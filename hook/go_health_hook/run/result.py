# SPDX-License-Identifier: GPL-2.0-or-later
"""How a program ended, as the runner reports it."""

from __future__ import annotations

import signal

from go_health_hook.records import Record
from go_health_hook.text import first_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_OUTPUT = 1 << 20


def signal_name(number: int) -> str:
    """Return "SIGKILL" and the like; a real-time signal has its number for a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Result(Record):
    """How a program ended. `status` is its exit status, or None when it was killed, cut off or never started.

    `repeat` runs a toolchain's program once more, in a view of more of the machine; None for other programs.
    """

    argv: Sequence[str]
    status: int | None = None
    signal: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    timed_out: bool = False
    overflow: bool = False
    error: str = ""
    sandbox: str = ""
    elapsed_s: float = 0.0
    repeat: Callable[[], Result] | None = None

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit status 0."""
        return self.status == 0

    @property
    def out(self) -> str:
        """Standard output as text, undecodable bytes as backslash escapes, without blanks around it."""
        return self.stdout.decode("utf-8", "backslashreplace").strip()

    def why(self) -> str:
        """One line on why it is not `ok`: signal, time, status, and the first line it wrote to stderr."""
        said = first_line(self.stderr) or first_line(self.stdout)
        if self.error:
            return self.error
        if self.timed_out:
            return f"did not answer within {self.elapsed_s:.1f} s"
        if self.overflow:
            return f"wrote more than {MAX_OUTPUT >> 10} KiB and was stopped"
        if self.signal is not None:
            return f"was killed by {signal_name(self.signal)}" + (f": {said}" if said else "")
        return f"exited with status {self.status}" + (f": {said}" if said else "")
