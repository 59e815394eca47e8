# SPDX-License-Identifier: GPL-2.0-or-later
"""The go command's own settings: the environment, then the user's env file (go env -w), then GOROOT's go.env.

Rules: cmd/go/internal/cfg/cfg.go (Getenv, EnvFile, readEnvFile), cmd/internal/quoted/quoted.go.
"""

from __future__ import annotations

import os

from go_health_hook import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FILE_MAX = 1 << 16
_SPACE = " \t\n\r"  # what parts words


def effective(env: Mapping[str, str], go: str = "") -> dict[str, str]:
    """The settings that a go command (its path, "" where there is none) works with in that environment."""
    # What the user's file says of GOROOT is left out: a go command found by its path goes by where it lies.
    settings = _read(f"{os.path.dirname(os.path.dirname(os.path.realpath(go)))}/go.env") if go else {}
    settings.update(_read(_user_file(env)))
    # What is empty in the environment counts as not said there.
    settings.update((key, value) for key, value in env.items() if value)
    return settings


def split(text: str) -> list[str]:
    """The words of GOFLAGS, or of a flag that takes several; quotes count around a whole word alone."""
    words = []
    text = text.lstrip(_SPACE)
    while text:
        if text[0] in "'\"":
            word, _, text = text[1:].partition(text[0])
        else:
            word = text.split(None, 1)[0]
            text = text[len(word) :]
        words.append(word)
        text = text.lstrip(_SPACE)
    return words


def join(words: Iterable[str]) -> str:
    """The words as `split` reads them. Raises ValueError for one that has quotes of both kinds in it."""
    joined = []
    for word in words:
        if word and not any(c in word for c in _SPACE + "'\""):
            joined.append(word)
            continue
        mark = next((q for q in "'\"" if q not in word), "")
        if not mark:
            raise ValueError(f"quotes of both kinds in one word: {word!r}")
        joined.append(f"{mark}{word}{mark}")
    return " ".join(joined)


def _user_file(env: Mapping[str, str]) -> str:
    """Where go env -w writes, or an empty string: $GOENV, else below os.UserConfigDir()."""
    named = env.get("GOENV", "")
    if named:
        return "" if named == "off" else named
    folder = env.get("XDG_CONFIG_HOME", "")
    if not folder:
        home = env.get("HOME", "")
        folder = f"{home}/.config" if home else ""
    return f"{folder}/go/env" if folder.startswith("/") else ""


def _read(path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    text = os.fsdecode(files.head(path, _FILE_MAX)) if path else ""
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals and "A" <= line[0] <= "Z":
            found[key] = value
    return found
