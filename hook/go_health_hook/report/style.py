# SPDX-License-Identifier: GPL-2.0-or-later
"""How to write to the terminal at hand: colour, marks, width."""

from __future__ import annotations

import os
import sys


class Style:
    """Whether to colour, and how wide to write: a terminal's width up to 100 columns, else 80."""

    def __init__(self) -> None:
        tty = sys.stdout.isatty()
        self.colour = tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.ticks = tty and (sys.stdout.encoding or "").lower().startswith("utf")
        try:
            self.width = max(60, min(100, os.get_terminal_size().columns)) if tty else 80
        except OSError:
            self.width = 80

    def paint(self, text: str, code: str) -> str:
        """`text` in a colour (ECMA-48 number), or as it is."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def wrap(self, text: str, indent: int, most: int = 0) -> str:
        """`text` broken at the width, within a word where that is longer than a line.

        Every line but the first is indented by `indent` columns. With `most` it is cut to that many lines.
        """
        room = self.width - indent
        lines = [""]
        for word in text.split():
            rest = word
            while len(rest) > room:  # the names of containers' cgroups are such words
                left = room - len(lines[-1]) - 1 if lines[-1] else room
                if left < room // 4:
                    lines.append("")
                    left = room
                lines[-1] += (" " if lines[-1] else "") + rest[:left]
                rest = rest[left:]
            if lines[-1] and len(lines[-1]) + 1 + len(rest) > room:
                lines.append("")
            lines[-1] += f" {rest}" if lines[-1] else rest
        if most and len(lines) > most:
            lines = [*lines[: most - 1], lines[most - 1][: room - 1] + "…"]
        return ("\n" + " " * indent).join(lines)
