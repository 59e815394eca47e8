# SPDX-License-Identifier: GPL-2.0-or-later
"""Making untrusted names and program output fit to be shown in one line."""

from __future__ import annotations


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
