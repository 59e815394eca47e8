# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: options, commands, exit status. Nothing else parses arguments or prints usage."""

from __future__ import annotations

import importlib
import os
import sys

from go_health_hook import VERSION, gates, start
from go_health_hook.errors import BadInput
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from go_health_hook.config import Config

HERE = os.path.dirname(os.path.abspath(__file__))
ROOMS = ("commands", "cpu")
# The commands of cpu/, which are a package of their own and may be absent.
TOOLS = ("bench", "cpu", "exec", "ps", "trace", "tune")
WITH_VALUE = {"--budget", "--root", "--goroot", "--config"}


def _parser(prog: str, **options: Any) -> argparse.ArgumentParser:
    """argparse at a fixed width (it would load shutil at every start to ask the terminal), with errors of one line.

    Imported here: `exec` answers without it (see `_main`).
    """
    import argparse

    class Help(argparse.HelpFormatter):
        def __init__(self, prog: str) -> None:
            super().__init__(prog, width=80)

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise BadInput(clean(message), hint=f"see {self.prog} --help")

    return Parser(prog=prog, formatter_class=Help, allow_abbrev=False, **options)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        import argparse

        raise argparse.ArgumentTypeError(f"{clean(text)!r} is not a number of seconds from above 0 to 86400")
    return value


def _path(text: str) -> str:
    """A directory or file to look at, absolute. Empty is not meant: a script's variable was not set."""
    import argparse

    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("an empty path, or one with a NUL in it, names nothing")
    try:
        return os.path.abspath(text)
    except OSError:
        raise argparse.ArgumentTypeError(f"{clean(text)!r}: the working directory is gone; name it from /") from None


def main_parser() -> argparse.ArgumentParser:
    """The parser of the options that stand before any command."""
    parser = _parser(
        "go-health-hook",
        description="Check this machine's Go toolchain, as the updaters' gates do before they let an update pass.",
        epilog="Exit status: 0 allowed, 1 blocked by a failed check, 2 usage or configuration error, "
        "3 blocked because time ran out, 4 internal error (gates let the update go on).",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the decision, record nothing, exit 0")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--deep", action="store_true", help="also build and run a program that uses crypto/tls")
    parser.add_argument("--budget", type=_seconds, metavar="SECONDS", help="answer within this time")
    parser.add_argument(
        "--root", metavar="DIR", type=_path, default="/", help="judge the toolchain of the root below DIR"
    )
    parser.add_argument("--goroot", metavar="DIR", type=_path, help="judge this GOROOT")
    parser.add_argument("--config", metavar="FILE", help="read FILE in place of /etc/go-health-hook.conf")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the evidence of every finding")
    parser.add_argument("--debug", action="store_true", help="print every command that is run, its time and its end")
    parser.add_argument("--version", action="version", version=f"go-health-hook {VERSION}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=f"one of: {', '.join(commands())}")
    return parser


def commands(room: str = "") -> list[str]:
    """What may stand in the command's place: one file of commands/ or cpu/ each, and `gate`; with `room` its own."""
    return _modules(room) if room else sorted([*(name for room in ROOMS for name in _modules(room)), "gate"])


def _modules(room: str) -> list[str]:
    try:
        names = os.listdir(f"{HERE}/{room}")
    except OSError:
        return []
    return sorted({n.split(".")[0] for n in names if n.endswith(".py") and n[0] != "_"})


def _split(argv: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """The options before the command, the command, and what follows it."""
    i = 0
    while i < len(argv):
        word = argv[i]
        if word in WITH_VALUE:
            i += 2
        elif word.startswith("-") and word != "--":
            i += 1
        else:
            return list(argv[:i]), word, list(argv[i + 1 :])
    return list(argv), "", []


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status. Prints one line on stderr for an error of the caller's."""
    return start.run(lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(argv: list[str]) -> int:
    if "SYSTEMD_LOG_LEVEL" in os.environ:
        _debug(False)
    if argv and argv[0] in commands() and argv[0] != "gate":
        quick = getattr(command_module(argv[0]), "quick", None)
        status: int | None = quick(argv[1:]) if quick else None
        if status is not None:
            return status
    options, command, rest = _split(argv)
    args = main_parser().parse_args(options)
    args.goroot = args.goroot or ""
    _debug(args.debug)
    if command == "gate":
        return _gate(args, rest)
    if command:
        if command in TOOLS and command not in commands():
            raise BadInput(f"{command} is not installed", hint="dnf install go-health-hook-tools")
        if command not in commands():
            raise BadInput(f"unknown command {clean(command)!r}", hint=f"it is one of: {', '.join(commands())}")
        return _command(command, args, rest)
    from go_health_hook.commands import check

    return check.run(args, configuration(args))


def _debug(asked: bool) -> None:
    from go_health_hook.run import log

    if asked or log.wanted():
        log.enable()


def configuration(args: argparse.Namespace) -> Config:
    """The configuration that the options ask for."""
    from go_health_hook.run import settings

    return settings.load(args.config)


def command_parser(name: str, module: Any) -> argparse.ArgumentParser:
    """The parser of one command: its own options, and those before the command that it shares."""
    import argparse

    parser = _parser(f"go-health-hook {name}", description=module.__doc__)
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for programs")
    module.add_arguments(parser)
    return parser


def _command(name: str, args: argparse.Namespace, rest: list[str]) -> int:
    """Run one command: `run(args, settings)`; one that says `PLAIN = True` reads no configuration and gets None.

    For one that says `RUNS_COMMAND = True`, `args.cmd` is all from the first word that is no option of ours, or what
    follows a `--` in that place; a `--` further on is that command's own.

    A command whose start must be quick also has `quick(words)`, called with what follows its name before anything
    else is imported: it returns the exit status, or None to have the words parsed after all.
    """
    module = command_module(name)
    args = command_parser(name, module).parse_args(rest, args)
    if getattr(module, "RUNS_COMMAND", False) and args.cmd[:1] == ["--"]:
        args.cmd = args.cmd[1:]
    status: int = module.run(args, None if getattr(module, "PLAIN", False) else configuration(args))
    return status


def command_module(name: str) -> Any:
    """The module of a command."""
    room = next(room for room in ROOMS if name in _modules(room))
    return importlib.import_module(f"go_health_hook.{room}.{name}")


def _gate(args: argparse.Namespace, rest: list[str]) -> int:
    """Answer an updater. Its own rules say what an exit status means; a fault of ours is never a veto."""
    import argparse

    parser = _parser("go-health-hook gate", description="Called by the updaters.")
    parser.add_argument("gate", choices=gates.names(), metavar="GATE", help=f"one of: {', '.join(gates.names())}")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the gate")
    args = parser.parse_args(rest, args)
    return gates.answer(args.gate, gates.Call(args.arguments, args.dry_run, args.budget, args.config))
