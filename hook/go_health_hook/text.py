# SPDX-License-Identifier: GPL-2.0-or-later
"""Text for people: untrusted names made safe, times in words, and lines that fit."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def clean(raw: str | bytes, limit: int = 300) -> str:
    """Return `raw` as one printable line of at most `limit` characters.

    Control characters, line breaks, terminal escapes, bidirectional overrides and undecodable bytes become backslash
    escapes. A package or cgroup name can then neither forge a line nor drive a terminal.
    """
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    if len(text) > 4 * limit:
        text = text[: 4 * limit]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def first_line(raw: bytes, limit: int = 300) -> str:
    """Return the first line of a program's output that is not blank, cleaned, or an empty string."""
    for line in raw.splitlines():
        if line.strip():
            return clean(line.strip(), limit)
    return ""


def shell_quote(word: str) -> str:
    """Return an untrusted name as one word for a shell, in a command that a person may paste."""
    import shlex

    return shlex.quote(clean(word))


def assignments(lines: Iterable[str]) -> Iterator[tuple[int, str, str, str]]:
    """Yield number, section, key and value of every line of an INI file that sets something."""
    section = ""
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if bare.startswith("["):
            section = bare[1:].partition("]")[0]
            continue
        key, equals, value = bare.partition("=")
        if equals and key[:1] not in ("#", ";"):
            yield number, section, key.strip(), value.strip()


def when(seconds: float) -> str:
    """A moment (seconds since 1970) in this machine's time, to the minute."""
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def duration(seconds: float) -> str:
    """A length of time: "0.4 s", "12 s", "3 min", "1 h 30 min", "2 d 3 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    return " ".join(part for part in parts if part)


def span(seconds: float) -> str:
    """A length of time in words of one unit: "3 hours", "8 days"."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def fit(text: str, width: int) -> str:
    """`text` in at most `width` columns, its middle left out where it is longer."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def wrap(text: str, width: int, indent: int, most: int = 0, *, whole: bool = False) -> str:
    """`text` broken into lines of `width` columns, within a word where that is longer than a line.

    Every line but the first is indented by `indent` columns. With `most` it is cut to that many lines. With `whole`
    such a word stays in one piece on the line where it begins: a command with it can be copied.
    """
    room = width - indent
    lines = [""]
    for word in text.split():
        rest = word
        while len(rest) > room and not whole:  # the names of containers' cgroups are such words
            left = room - len(lines[-1]) - 1 if lines[-1] else room
            if left < room // 4:
                lines.append("")
                left = room
            lines[-1] += (" " if lines[-1] else "") + rest[:left]
            rest = rest[left:]
        if lines[-1] and len(rest) <= room < len(lines[-1]) + 1 + len(rest):
            lines.append("")
        lines[-1] += f" {rest}" if lines[-1] else rest
    if most and len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][: room - 1] + "…"]
    return ("\n" + " " * indent).join(lines)
