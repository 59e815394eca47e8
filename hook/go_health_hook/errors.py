# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends a run early, each with the exit status it gives (the table in go-health-hook(8))."""

from __future__ import annotations

EXIT_ALLOW = 0
EXIT_BLOCK = 1
EXIT_USAGE = 2
EXIT_TIMEOUT = 3
EXIT_INTERNAL = 4
# A veto of a gate that only-veto calls: no shell, timeout(1), interpreter or systemd ends a program with it.
EXIT_VETO = 93
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class HookError(Exception):
    """Ends the run with one line on stderr.

    `hint` is what to do about it, without a leading capital or a final stop.
    """

    exit_status = EXIT_INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def line(self) -> str:
        """The whole of it in one line."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class BadInput(HookError):
    """Arguments, configuration, protocol or a file in /proc that says something unusable: exit status 2."""

    exit_status = EXIT_USAGE


class NotJudged(HookError):
    """The machine lacks what it takes to look at a toolchain: that says nothing about the toolchain."""
