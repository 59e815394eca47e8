# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion for bash, zsh and fish, generated from the program's own parsers."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

# What an option's value can be, by its metavar: words to offer, or one of the kinds below.
VALUES: dict[str, tuple[str, ...]] = {
    "SECONDS": ("5", "10", "60", "120"),
    "SPAN": ("30m", "2h", "8h", "1d", "7d"),
    "PERCENT": ("50", "100", "150", "200"),
    "N": ("1", "2", "4", "8"),
    "MS": ("10", "100", "1000"),
    "TEXT": (),
    "DIR": ("@directories",),
    "FILE": ("@files",),
    "PID": ("@pids",),
    "UNIT": ("@units",),
    "NAME": ("@settings",),
}
# How each shell lists a kind. A setting of tune is a file of the tune folder.
SETTINGS = "/usr/lib/go-health-hook/tune"
UNITS = "systemctl list-units --all --no-legend --plain --full"
BASH = {
    "@directories": 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur")',
    "@files": 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur")',
    "@pids": "_go_health_hook_words \"$(cd /proc && printf '%s\\n' [0-9]*)\"",
    "@units": f"_go_health_hook_words \"$({UNITS} 2>/dev/null | cut -d' ' -f1)\"",
    "@settings": f"_go_health_hook_words \"$(cd {SETTINGS} 2>/dev/null && printf '%s\\n' * | sed 's/\\.conf$//')\"",
}
ZSH = {
    "@directories": "_files -/",
    "@files": "_files",
    "@pids": "_pids",
    "@units": "_go_health_hook_units",
    "@settings": "_go_health_hook_settings",
}
FISH = {
    "@directories": "(__fish_complete_directories)",
    "@files": "(__fish_complete_path)",
    "@pids": "(__fish_complete_pids)",
    "@units": f"({UNITS} 2>/dev/null | string split -f1 ' ')",
    "@settings": f"(path basename {SETTINGS}/*.conf | string replace -r '\\.conf$' '')",
}
GO = (
    *("bug", "build", "clean", "doc", "env", "fix", "fmt", "generate", "get", "help", "install", "list", "mod", "run"),
    *("telemetry", "test", "tool", "version", "vet", "work"),
)

# bash-completion loads one file a command.
BASH_WRAPPER = """# bash completion for go-build-wrapper                       -*- shell-script -*-
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck source=/dev/null
. "${BASH_SOURCE[0]%/*}/go-health-hook"
"""


class Option(NamedTuple):
    """An option: its flags, one line of help, and the words or the kind that its value can be (None: no value)."""

    flags: tuple[str, ...]
    help: str
    values: tuple[str, ...] | None


class Command(NamedTuple):
    """A command: one line of help, its options, the words it takes, and whether it runs another command."""

    help: str
    options: list[Option]
    words: tuple[str, ...]
    runs: bool


def option(action: argparse.Action) -> Option:
    """The option of an argparse action; an unknown metavar offers nothing."""
    values = tuple(map(str, action.choices)) if action.choices else VALUES.get(str(action.metavar), ())
    takes_value = action.nargs != 0
    return Option(tuple(action.option_strings), " ".join((action.help or "").split()), values if takes_value else None)


def bash(main: list[Option], commands: Mapping[str, Command], wrapper: list[Option]) -> str:
    """The bash completion of go-health-hook and go-build-wrapper."""
    cases = {}
    for found in (*main, *(o for command in commands.values() for o in command.options)):
        if found.values is not None:
            cases[" | ".join(found.flags)] = _bash_values(found.values)
    values = "\n".join(f"    {flags}) {code} ;;" for flags, code in cases.items())
    listed = "\n".join(
        f"    {name}) words={shlex.quote(' '.join([*_flags(command.options), *command.words]))} ;;"
        for name, command in commands.items()
    )
    runs = " | ".join(name for name, command in commands.items() if command.runs)
    with_value = " | ".join(flag for o in main if o.values is not None for flag in o.flags)
    own_value = " | ".join(flag for o in wrapper if o.values is not None for flag in o.flags)
    return f"""# bash completion for go-health-hook and go-build-wrapper   -*- shell-script -*-
# SPDX-License-Identifier: GPL-2.0-or-later
_go_health_hook_words() {{
    local IFS=$' \\t\\n'
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}}

# Completes the value of the option before the cursor; fails where that takes none.
_go_health_hook_value() {{
    case $prev in
{values}
    *) return 1 ;;
    esac
}}

# Sets cur and prev; bash takes --option=value for three words.
_go_health_hook_cursor() {{
    cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
}}

_go_health_hook_command() {{
    if declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    else
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
    fi
}}

_go_health_hook() {{
    local cur prev command='' i words
    _go_health_hook_cursor
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
        {with_value}) i=$((i + 1)) ;;
        --)
            case $command in
            {runs}) _go_health_hook_command $((i + 1)) ;;
            esac
            return
            ;;
        -*) ;;
        *) [[ $command ]] || command=${{COMP_WORDS[i]}} ;;
        esac
    done
    if _go_health_hook_value; then return; fi
    case $command in
    '')
        words={shlex.quote(" ".join(_flags(main)))}
        [[ $cur == -* ]] || words={shlex.quote(" ".join(commands))}
        ;;
{listed}
    *) return ;;
    esac
    _go_health_hook_words "$words"
}}

_go_build_wrapper() {{
    local cur prev i
    _go_health_hook_cursor
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
        {own_value}) i=$((i + 1)) ;;
        -*) ;;
        *)
            # The go command's own words.
            compopt -o default
            return
            ;;
        esac
    done
    if _go_health_hook_value; then return; fi
    if [[ $cur == -* ]]; then
        _go_health_hook_words {shlex.quote(" ".join(_flags(wrapper)))}
    else
        _go_health_hook_words {shlex.quote(" ".join(GO))}
    fi
}}

complete -F _go_health_hook go-health-hook
complete -F _go_build_wrapper go-build-wrapper
"""


def zsh(main: list[Option], commands: Mapping[str, Command], wrapper: list[Option]) -> str:
    """The zsh completion of go-health-hook and go-build-wrapper."""
    described = "\n".join(f"        {_quoted(f'{name}:{command.help}')}" for name, command in commands.items())
    cases = []
    for name, command in commands.items():
        specs = [_zsh_option(o) for o in command.options]
        if command.words:
            specs.append(_quoted(f"1:name:({' '.join(command.words)})"))
        if command.runs:
            specs += ["'(-)1:command:_command_names -e'", "'*::arguments:_normal'"]
        cases.append(f"    {name})\n        _arguments -S -s {_lines(specs)}\n        ;;")
    return f"""#compdef go-health-hook go-build-wrapper
# SPDX-License-Identifier: GPL-2.0-or-later
_go_health_hook() {{
    local curcontext=$curcontext state line ret=1
    local -a commands=(
{described}
    )
    _arguments -C -S -s {_lines([_zsh_option(o) for o in main])} \\
        '1:command:->command' \\
        '*::argument:->argument' && ret=0
    case $state in
    command) _describe -t commands command commands && ret=0 ;;
    argument)
        curcontext="${{curcontext%:*:*}}:go-health-hook-$line[1]:"
        _go_health_hook_of "$line[1]" && ret=0
        ;;
    esac
    return ret
}}

_go_health_hook_units() {{
    local -a units
    units=(${{(f)"$({UNITS} 2>/dev/null | cut -d' ' -f1)"}})
    _describe -t units unit units
}}

_go_health_hook_settings() {{
    local -a settings
    settings=({SETTINGS}/*.conf(N:t:r))
    _describe -t settings setting settings
}}

_go_health_hook_of() {{
    case $1 in
{chr(10).join(cases)}
    esac
}}

_go_build_wrapper() {{
    _arguments -S {_lines([_zsh_option(o) for o in wrapper])} \\
        '1:go command:({" ".join(GO)})' \\
        '*:argument:_files'
}}

case $service in
go-build-wrapper) _go_build_wrapper "$@" ;;
*) _go_health_hook "$@" ;;
esac
"""


def fish(main: list[Option], commands: Mapping[str, Command], wrapper: list[Option]) -> dict[str, str]:
    """The fish completions by command, since fish loads one file a command."""
    head = "# SPDX-License-Identifier: GPL-2.0-or-later\n"
    first = "__fish_use_subcommand"
    lines = ["complete -c go-health-hook -f"]
    lines += [f"complete -c go-health-hook -n {first} {_fish_option(o)}" for o in main]
    for name, command in commands.items():
        lines.append(f"complete -c go-health-hook -n {first} -a {name} -d {_fish(command.help)}")
        seen = _fish(f"__fish_seen_subcommand_from {name}")
        lines += [f"complete -c go-health-hook -n {seen} {_fish_option(o)}" for o in command.options]
        if command.words:
            lines.append(f"complete -c go-health-hook -n {seen} -a {_fish(' '.join(command.words))}")
        if command.runs:
            lines.append(f"complete -c go-health-hook -n {seen} -a '(__fish_complete_subcommand)'")
    own = [f"complete -c go-build-wrapper {_fish_option(o)}" for o in wrapper]
    own.append(f"complete -c go-build-wrapper -n __fish_is_first_arg -a {_fish(' '.join(GO))}")
    return {"go-health-hook": head + "\n".join(lines) + "\n", "go-build-wrapper": head + "\n".join(own) + "\n"}


def _flags(options: Iterable[Option]) -> list[str]:
    return [flag for o in options for flag in o.flags]


def _bash_values(values: tuple[str, ...]) -> str:
    if not values:
        return ":"
    return BASH[values[0]] if values[0] in BASH else f"_go_health_hook_words {shlex.quote(' '.join(values))}"


def _lines(specs: list[str]) -> str:
    return " \\\n        ".join(specs)


def _quoted(text: str) -> str:
    return shlex.quote(text) if "'" in text or not text else f"'{text}'"


def _zsh_option(o: Option) -> str:
    """A specification of _arguments: '(-v --verbose)'{-v,--verbose}'[help]' or '--for[help]:value:(words)'."""
    text = o.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    value = ""
    if o.values is not None:
        action = ZSH.get(o.values[0], f"({' '.join(o.values)})") if o.values else ""
        value = f":value:{action}"
    tail = _quoted(f"[{text}]{value}")
    if len(o.flags) == 1:
        return f"{o.flags[0]}{tail}"
    return f"'({' '.join(o.flags)})'{{{','.join(o.flags)}}}{tail}"


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(o: Option) -> str:
    words = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in o.flags]
    if o.values is not None:
        offered = FISH.get(o.values[0], " ".join(o.values)) if o.values else ""
        words.append(f"-x -a {_fish(offered)}")
    return " ".join([*words, "-d", _fish(o.help)])
