# SPDX-License-Identifier: GPL-2.0-or-later
"""How to write to the terminal at hand: colour, marks, width."""

from __future__ import annotations

import os
import sys

from go_health_hook.text import wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def print_json(facts: Mapping[str, object]) -> None:
    """Print facts for programs, as every --json does."""
    import json

    sys.stdout.write(f"{json.dumps(facts, indent=2)}\n")


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

    def wrap(self, text: str, indent: int, most: int = 0, *, whole: bool = False) -> str:
        """`text` broken at the width: see text.wrap."""
        return wrap(text, self.width, indent, most, whole=whole)
