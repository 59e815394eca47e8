# SPDX-License-Identifier: GPL-2.0-or-later
"""The module at hand, as the go command would find it: its go line and its GODEBUG settings decide what `go run` gives.

Rules: go.dev/ref/mod (go.mod, go.work), cmd/go/internal/modload/init.go, cmd/go/internal/load/godebug.go.
"""

from __future__ import annotations

import os

from go_health_hook import files
from go_health_hook.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FILE_MAX = 1 << 20
_SOURCES_MAX = 200  # files of one package that are looked at for //go:debug lines
_HEAD_MAX = 64 << 10


class Module(Record):
    """What decides how programs built here start.

    file        the go.work or go.mod that was found, or an empty string
    go_line     its go line, "" where it has none or modules are switched off, None outside any module
    directives  its godebug settings, as "key=value,…"
    toolchain   its toolchain line, or an empty string
    """

    file: str
    go_line: str | None
    directives: str = ""
    toolchain: str = ""


# The flags of go build, run, test and vet whose value may be a word of its own; what others there are take none.
_VALUED = frozenset((
    "C", "asmflags", "bench", "benchtime", "blockprofile", "blockprofilerate", "buildmode", "compiler", "count",
    "covermode", "coverpkg", "coverprofile", "cpu", "cpuprofile", "exec", "fuzz", "fuzzminimizetime", "fuzztime",
    "gccgoflags", "gcflags", "installsuffix", "ldflags", "list", "memprofile", "memprofilerate", "mod", "modfile",
    "mutexprofile", "mutexprofilefraction", "o", "outputdir", "overlay", "p", "parallel", "pgo", "pkgdir", "run",
    "shuffle", "skip", "tags", "timeout", "toolexec", "trace", "vet", "vettool",
))  # fmt: skip


def chdir(words: Sequence[str]) -> tuple[str, list[str]]:
    """The directory that a go command goes to first, and its words without that; no directory where it stays.

    The flag -C stands first, before or behind the verb: cmd/go/main.go, handleChdirFlag.
    """
    at = 0 if words and words[0].startswith("-") else 1
    name, equals, value = words[at].partition("=") if at < len(words) else ("", "", "")
    if name not in ("-C", "--C"):
        return "", list(words)
    behind = at + 1 if equals else at + 2
    return value if equals else "".join(words[at + 1 : behind]), [*words[:at], *words[behind:]]


def arguments(verb: str, words: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The flags that a go command's verb is given, and what it is to work on: packages, files, a tool.

    What follows is the started program's own: cmd/go/internal/run/run.go, cmd/go/internal/test/testflag.go.
    """
    flags: dict[str, str] = {}
    targets: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-args", "--args") or (word == "--" and verb == "test"):
            break
        if word.startswith("-") and len(word) > 1:
            name, equals, value = word.lstrip("-").partition("=")
            flags[name] = value if equals or name not in _VALUED or not rest else rest.pop(0)
        elif verb in ("test", "vet"):
            targets.append(word)
        else:
            files = verb == "run" and word.endswith(".go")
            targets.append(word)
            while files and rest and rest[0].endswith(".go"):
                targets.append(rest.pop(0))
            break
    return flags, targets


def at_hand(directory: str, env: Mapping[str, str], modfile: str = "") -> Module:
    """The module of a directory, for a go command with those settings; `modfile` is read in place of its go.mod."""
    if env.get("GO111MODULE") == "off":
        return Module("", "")
    work = env.get("GOWORK", "")
    file = "" if work == "off" else (work or _above(directory, "go.work"))
    if not file:
        file = _above(directory, "go.mod")
        if file and modfile:
            file = os.path.join(directory, modfile)
    if not file:
        return Module("", None)
    return _read(file)


def source_directives(directory: str, names: Iterable[str], *, tests: bool = False) -> str:
    """The //go:debug lines of a main package, or of a package's tests, as "key=value,…".

    `names` are the arguments of go run or go test: directories of one package, or its files. Others, as a package of
    the network or "./...", are not looked at.
    """
    found: list[str] = []
    for name in names:
        path = os.path.join(directory, name)
        if name.endswith(".go"):
            files = [path]
        elif os.path.isdir(path) and (name in (".", "..") or name.startswith(("./", "../", "/"))):
            suffix = "_test.go" if tests else ".go"
            files = [f"{path}/{n}" for n in sorted(os.listdir(path))[:_SOURCES_MAX] if n.endswith(suffix)]
        else:
            continue
        for file in files:
            if tests == file.endswith("_test.go"):
                found += _debug_lines(_head(file, _HEAD_MAX))
    return ",".join(found)


def _debug_lines(text: str) -> list[str]:
    """The //go:debug lines; only those before the package clause count."""
    found = []
    for line in text.splitlines():
        if line.startswith("package "):
            break
        if line.startswith("//go:debug "):
            found.append(line[len("//go:debug ") :].strip())
    return found


def _above(directory: str, name: str) -> str:
    """The file of that name in a directory or the nearest one above it, or an empty string."""
    while True:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path
        above = os.path.dirname(directory)
        if above == directory:
            return ""
        directory = above


def _read(file: str) -> Module:
    go_line, toolchain, directives, block = "", "", [], ""
    for raw in _head(file, _FILE_MAX).splitlines():
        words = raw.partition("//")[0].split()
        if not words:
            continue
        if block:
            if words[0] == ")":
                block = ""
            elif block == "godebug":
                directives.append(words[0])
        elif words[-1] == "(":
            block = words[0]
        elif words[0] == "go" and len(words) == 2:
            go_line = words[1]
        elif words[0] == "toolchain" and len(words) == 2:
            toolchain = words[1]
        elif words[0] == "godebug" and len(words) == 2:
            directives.append(words[1])
    return Module(file, go_line, ",".join(directives), toolchain)


def _head(path: str, limit: int) -> str:
    return files.head(path, limit).decode("utf-8", "replace")
