# SPDX-License-Identifier: GPL-2.0-or-later
"""What a toolchain's short commands answer: asked once a run, in one sandbox, for every check that wants to know."""

from __future__ import annotations

import os
import re

from go_health_hook.go import buildinfo, elf, goenv, probe
from go_health_hook.go.versions import Version, parse_version
from go_health_hook.text import first_line
from go_health_hook.verdict import OFF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.checks import Context
    from go_health_hook.run.result import Result

ENV_NAMES = ("GOROOT", "GOVERSION", "GOTOOLDIR")
# What go.env may set and a clean environment overrides (see series.run_series).
HEEDING = "-GOTOOLCHAIN GOFLAGS GOPATH"
VERSIONED = ("compile", "link", "asm")  # every build runs all three


class Answers:
    """The results of `go env`, `go version`, each tool's -V=full, compiling a small source and parsing the key modules.

    A tool that cannot run on this machine is not asked: `tools` and `parsed` leave it out, `compiled` is then None.
    `built` has the release of those that are not asked, since their files tell it and are not in memory. `as_users` are
    commands that read go.env, run only where it has settings that matter. `gomaxprocs` is the run of a program that
    tells its own, in the same sandbox where the ledger knows the toolchain to be sound, else None: a program that hangs
    is then not to keep the others from answering. `env` is None where the ledger knows it and nothing else needs it.
    """

    def __init__(self, context: Context) -> None:
        toolchain = context.toolchain
        # Where the ledger knows the compiler to compile, it is one tool among others; go env says the same again.
        light = context.known is not None
        commands = [[toolchain.go, "version"]]
        asks_env = not light or not _is_described(context)
        if asks_env:
            commands.append(["-GOROOT", toolchain.go, "env", *ENV_NAMES])
        self.built = {name: _release_on_disk(context, name) for name in VERSIONED if light or name != "compile"}
        self.built = {name: release for name, release in self.built.items() if release}
        asked = [n for n in VERSIONED if n not in self.built and not toolchain.broken(toolchain.tool(n))]
        commands += [[toolchain.tool(name), "-V=full"] for name in asked]
        compiled = "compile" in asked and not light
        if compiled:
            commands.append([toolchain.tool("compile"), "-o", "/dev/null", "-p", "probe", toolchain.probe("answer.go")])
        modules = {}
        if not light and not toolchain.broken(toolchain.gofmt):
            # It parses, and judges nothing else: no build constraint, no import, no wording of the compiler's.
            modules = {module: _sources(context, module) for module in context.config.get("toolchain", "modules")}
            modules = {module: files for module, files in modules.items() if files}
            commands += [[toolchain.gofmt, "-l", *files] for files in modules.values()]
        heeding = goenv.unusual(settings_of(context))
        if heeding:
            commands += [[HEEDING, toolchain.go, "version"], [HEEDING, toolchain.go, "env", "GOVERSION"]]
        held = probe.held(toolchain) if light and context.config.get("checks", "gomaxprocs") != OFF else None
        all_results = toolchain.series(commands, context.deadline, held)
        self.gomaxprocs: Result | None = all_results.pop() if held else None
        results = iter(all_results)
        self.version: Result = next(results)
        self.env: Result | None = next(results) if asks_env else None
        self.tools: dict[str, Result] = {name: next(results) for name in asked}
        self.compiled: Result | None = next(results) if compiled else None
        self.parsed: dict[str, Result] = {module: next(results) for module in modules}
        self.as_users: list[Result] = list(results)

    @property
    def formatter(self) -> str:
        """Why gofmt does not work, in one line, or an empty string: it works where it says what does not parse."""
        for module, answer in self.parsed.items():
            if not answer.ok and not answer.timed_out and not unparsed(answer):
                return f"gofmt does not work, asked for {module}: {answer.why()}"
        return ""


def unparsed(answer: Result) -> str:
    """What gofmt could not parse, "FILE:LINE:COLUMN: …", or an empty string (cmd/gofmt/gofmt.go: status 2)."""
    said = first_line(answer.stderr)
    return said if answer.status == 2 and re.search(r":\d+:\d+: ", said) else ""


def formatter(context: Context) -> buildinfo.BuildInfo | None:
    """Return how gofmt was built, as its file has it, or None where that does not tell."""

    def read() -> buildinfo.BuildInfo | None:
        try:
            with open(context.subject.open(context.toolchain.gofmt), "rb") as file:
                return buildinfo.read_fd(file.fileno())
        except (OSError, buildinfo.NotGo):
            return None

    built: buildinfo.BuildInfo | None = context.shared("formatter", read)
    return built


def is_own_formatter(context: Context) -> bool:
    """Whether gofmt is Go's own: another program in its place, as gofumpt, may not know the syntax of this release."""
    built = formatter(context)
    return built is None or built.path in ("", "cmd/gofmt")


def answers(context: Context) -> Answers:
    """The answers, asked for by whoever comes first."""
    given: Answers = context.shared("answers", lambda: Answers(context))
    return given


def own_version(context: Context) -> Version | None:
    """What the toolchain calls itself: by its VERSION file, else (installed without documentation) by go env."""
    try:
        text = context.toolchain.read("VERSION")
        if text is None:
            env = answers(context).env
            line = env.out.split("\n")[1:2] if env is not None else []
        else:
            line = text.split("\n", 1)[:1]
        return parse_version(line[0] if line else "")
    except (OSError, ValueError):
        return None


def _is_described(context: Context) -> bool:
    """Whether the toolchain's own files say what `go env` would be asked for besides GOROOT."""
    try:
        return all(context.toolchain.read(name) is not None for name in ("VERSION", "go.env"))
    except OSError:
        return False


def settings_of(context: Context) -> dict[str, str]:
    """Return what go.env sets, read once a run; empty where it cannot be read, as for the go command itself."""

    def read() -> dict[str, str]:
        try:
            return goenv.parse(context.toolchain.read("go.env") or "")
        except OSError:
            return {}

    settings: dict[str, str] = context.shared("go.env", read)
    return settings


def _release_on_disk(context: Context, name: str) -> str:
    """Return the Go release that a tool was built with, where that is in its file and most of the file is on disk only.

    To run such a tool means to read all of it from the disk. Empty where it has to be run: what is in memory costs
    nothing, and what is linked dynamically may find no library.
    """
    toolchain = context.toolchain
    if toolchain.broken(toolchain.tool(name)):
        return ""
    try:
        with open(context.subject.open(toolchain.tool(name)), "rb", buffering=0) as file:
            if _in_memory(file.fileno()):
                return ""
            executable = buildinfo.open_elf(file.fileno())
            if any(segment.kind == elf.INTERPRETER for segment in executable.segments()):
                return ""
            return buildinfo.of_elf(executable).version
    except (OSError, buildinfo.NotGo, elf.NotElf):
        return ""


def _in_memory(fd: int) -> bool:
    """Return whether a file is in the page cache, by samples of it; true where the file system cannot tell."""
    size = os.fstat(fd).st_size
    try:
        for part in (1, 2, 3):
            os.preadv(fd, [bytearray(1)], size * part // 4, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        pass
    return True


def _sources(context: Context, module: str) -> list[str]:
    """The module's own source files, tests left aside."""
    path = f"{context.toolchain.goroot}/src/{module}"
    try:
        names = context.subject.listdir(path)
    except OSError:
        return []
    return [f"{path}/{n}" for n in sorted(names) if n.endswith(".go") and not n.endswith("_test.go")]
