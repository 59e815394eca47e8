# SPDX-License-Identifier: GPL-2.0-or-later
"""Charts of figures over time: lines of blocks for a terminal, and SVG for a page."""

from __future__ import annotations

import math

from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
DIGITS = " 123456789"

# One colour each on white, told apart by people who see red and green alike (Okabe and Ito's palette).
COLOURS = {"used": "#0072b2", "procs": "#d55e00", "limit": "#000000", "queue": "#cc79a7", "idle": "#009e73",
           "throttled": "#e69f00"}  # fmt: skip
WIDTH, LEFT, RIGHT = 860, 64, 24
PANEL, GAP, TOP = 150, 52, 78


def resample(points: Sequence[tuple[float, float]], seconds: float, count: int) -> list[float | None]:
    """`count` values over equal parts of the time: the mean of what falls into each, else the last value before it."""
    sums: list[list[float]] = [[] for _ in range(count)]
    for at, value in points:
        sums[max(0, min(count - 1, int(at / seconds * count) if seconds > 0 else 0))].append(value)
    values: list[float | None] = []
    last: float | None = None
    for part in sums:
        if part:
            last = sum(part) / len(part)
        values.append(last)
    return values


def spark(values: Sequence[float | None], top: float, ticks: bool) -> str:
    """The values as one line of blocks, or of digits, `top` being full height."""
    marks = BLOCKS if ticks else DIGITS
    line = ""
    for value in values:
        if value is None or value <= 0 or top <= 0:
            line += " " if value is None else marks[1] if value > 0 else " "
        else:
            line += marks[max(1, min(len(marks) - 1, round(value / top * (len(marks) - 1))))]
    return line


class Panel(Record):
    """One set of axes: `lines` are (label, colour's name, points, whether it is drawn in steps); `areas` are filled."""

    title: str
    unit: str
    lines: list[tuple[str, str, Sequence[tuple[float, float]], bool]] = []
    areas: list[tuple[str, str, Sequence[tuple[float, float]]]] = []
    level: tuple[str, float] | None = None

    def top(self) -> float:
        """The upper end of its axis: a round number above all its values."""
        values = [v for _, _, points, _ in self.lines for _, v in points]
        values += [v for _, _, points in self.areas for _, v in points]
        values += [self.level[1]] if self.level else []
        most = max(values, default=1.0) or 1.0
        step = round_step(most, 4)
        return step * -(-most // step)


def round_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 5, 10, 20 … (and tenths of them …) of which at most `count` make up the span."""
    step = 1e-3
    while span / step > count:
        digit = round(step / 10 ** math.floor(math.log10(step) + 1e-9))
        step *= 2.5 if digit == 2 else 2
    return step


def svg(title: str, subtitle: str, panels: Sequence[Panel], seconds: float) -> str:
    """The panels one below the other over the same time."""
    height = TOP + len(panels) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="bold">{_escape(title)}</text>',
        f'<text x="{LEFT}" y="46" fill="#555">{_escape(subtitle)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, TOP + number * (PANEL + GAP), seconds)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, y: float, seconds: float) -> list[str]:
    top = panel.top()
    width = WIDTH - LEFT - RIGHT

    def x_of(at: float) -> float:
        return LEFT + width * (min(at, seconds) / seconds if seconds > 0 else 0)

    def y_of(value: float) -> float:
        return y + PANEL - PANEL * value / top

    parts = [f'<text x="{LEFT}" y="{y - 10}" font-weight="bold">{_escape(panel.title)}</text>']
    step = round_step(top, 4)
    for i in range(round(top / step) + 1):
        value = step * i
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(value):.1f}" y2="{y_of(value):.1f}" stroke="#ddd"/>'
        )
        parts.append(
            f'<text x="{LEFT - 8}" y="{y_of(value) + 4:.1f}" text-anchor="end" fill="#555">{value:g}{panel.unit}</text>'
        )
    step = round_step(seconds or 1.0, 8)
    for i in range(int((seconds or 1.0) / step) + 1):
        x = x_of(step * i)
        parts.append(f'<text x="{x:.1f}" y="{y + PANEL + 16}" text-anchor="middle" fill="#555">{step * i:g} s</text>')
    legend: list[tuple[str, str, bool]] = []
    for label, colour, points in panel.areas:
        path = " ".join(f"{x_of(at):.1f},{y_of(v):.1f}" for at, v in points)
        if points:
            first, end = x_of(points[0][0]), x_of(points[-1][0])
            path = f"{first:.1f},{y + PANEL} {path} {end:.1f},{y + PANEL}"
            parts.append(
                f'<polygon points="{path}" fill="{COLOURS[colour]}" fill-opacity="0.35" stroke="{COLOURS[colour]}"/>'
            )
        legend.append((label, COLOURS[colour], False))
    if panel.level:
        label, value = panel.level
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(value):.1f}" y2="{y_of(value):.1f}" '
                     f'stroke="{COLOURS["limit"]}" stroke-width="2" stroke-dasharray="7 4"/>')  # fmt: skip
        legend.append((label, COLOURS["limit"], True))
    for label, colour, points, steps in panel.lines:
        corners: list[str] = []
        before = None
        for at, value in points:
            if steps and before is not None:
                corners.append(f"{x_of(at):.1f},{y_of(before):.1f}")
            corners.append(f"{x_of(at):.1f},{y_of(value):.1f}")
            before = value
        if steps and before is not None:
            corners.append(f"{x_of(seconds):.1f},{y_of(before):.1f}")
        parts.append(
            f'<polyline points="{" ".join(corners)}" fill="none" stroke="{COLOURS[colour]}" stroke-width="2"/>'
        )
        legend.append((label, COLOURS[colour], False))
    return parts + _legend(legend, y)


def _legend(legend: list[tuple[str, str, bool]], y: float) -> list[str]:
    """The names of a panel's lines, from its right edge: label, colour and whether it is dashed."""
    parts = []
    x = float(WIDTH - RIGHT) + 14
    for label, colour, dashed in reversed(legend):
        x -= 7.2 * len(label) + 44
        dash = ' stroke-dasharray="5 3"' if dashed else ""
        mark = f'<line x1="{x:.0f}" x2="{x + 20:.0f}" y1="{y - 14}" y2="{y - 14}" stroke="{colour}"'
        parts.append(f'{mark} stroke-width="3"{dash}/>')
        parts.append(f'<text x="{x + 25:.0f}" y="{y - 10}">{_escape(label)}</text>')
    return parts


def _escape(text: str) -> str:
    for raw, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(raw, escaped)
    return text
