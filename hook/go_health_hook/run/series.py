# SPDX-License-Identifier: GPL-2.0-or-later
"""Several short programs, run one after another in one sandbox."""

from __future__ import annotations

import os
from functools import partial

from go_health_hook.records import Record
from go_health_hook.run import log
from go_health_hook.run.process import run, run_wider
from go_health_hook.run.result import Result
from go_health_hook.run.sandbox import Sandbox, host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from go_health_hook.deadline import Deadline


class Held(Record):
    """A command that comes last and whose standard input is held open until that is true of what was said.

    `env` is laid over the environment of the others.
    """

    argv: Sequence[str]
    env: dict[str, str]
    until: Callable[[bytes], bool]


def run_series(
    commands: Sequence[Sequence[str]],
    deadline: Deadline,
    *,
    env: dict[str, str],
    sandbox: Sandbox,
    held: Held | None = None,
) -> list[Result]:
    """Run commands one after another in one sandbox; return a Result for each, that of `held` last.

    Setting up a view costs more than a short command does, and views set up at the same time wait for each other in the
    kernel. A command of the form ["-NAME NAME", …] is run without these in its environment. What comes after one that
    hangs or writes too much has not run, and is reported as it is.
    """
    mark = os.urandom(16).hex()
    script = ""
    for command in commands:
        unset = "unset " + command[0][1:] + ";" if command[0].startswith("-") else ""
        words = " ".join(_quoted(word) for word in command if word is not command[0] or not unset)
        script += _step(f"{unset} exec {words} </dev/null", mark)
    alone = [partial(_run_alone, command, deadline, env, sandbox) for command in commands]
    again = [partial(_run_alone, command, deadline, env, sandbox, runner=run_wider) for command in commands]
    if held is not None:
        exports = " ".join(f"export {name}={_quoted(value)};" for name, value in held.env.items())
        script += _step(f"{exports} exec {' '.join(_quoted(word) for word in held.argv)}", mark)
        commands = [*commands, held.argv]
        last = (held.argv, deadline, {**env, **held.env}, sandbox, held.until)
        alone.append(partial(_run_alone, *last))
        again.append(partial(_run_alone, *last, runner=run_wider))
    whole = run(["/bin/sh", "-c", script], deadline, env=env, sandbox=sandbox, until=held.until if held else None)
    if not whole.timed_out and not whole.overflow and mark.encode() not in whole.stdout:
        # No shell in that root: one by one, then.
        return [each() for each in alone]
    out, err = _parted(whole.stdout, mark), _parted(whole.stderr, mark)
    results: list[Result] = []
    for i, command in enumerate(commands):
        result = Result(command)
        result.repeat = again[i]
        result.sandbox, result.elapsed_s = whole.sandbox, whole.elapsed_s
        result.stdout = out[i][0] if i < len(out) else b""
        result.stderr = err[i][0] if i < len(err) else b""
        status = out[i][1] if i < len(out) else None
        if status is None:
            result.timed_out, result.overflow = whole.timed_out, whole.overflow
            if whole.timed_out and not any(earlier.timed_out for earlier in results):
                log.unanswered(f"{' '.join(command)} did not answer, of several that run in turn")
            if not whole.timed_out and not whole.overflow:
                result.error = f"was cut off: the shell that ran it {whole.why()}"
        elif status > 128:
            result.signal = status - 128
            host().struck = True
        else:
            result.status = status
        results.append(result)
    return results


def _step(command: str, mark: str) -> str:
    """Return a line of the script: the command in a shell of its own, its status on the first stream, then a mark."""
    return f"( {command} ); s=$?; printf '\\n{mark} %s\\n' $s; printf '\\n{mark} 0\\n' >&2\n"


def _run_alone(
    command: Sequence[str],
    deadline: Deadline,
    env: dict[str, str],
    sandbox: Sandbox,
    until: Callable[[bytes], bool] | None = None,
    runner: Callable[..., Result] = run,
) -> Result:
    if not command[0].startswith("-"):
        return runner(command, deadline, env=env, sandbox=sandbox, until=until)
    unset = command[0][1:].split()
    return runner(command[1:], deadline, env={k: v for k, v in env.items() if k not in unset}, sandbox=sandbox)


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _parted(stream: bytes, mark: str) -> list[tuple[bytes, int | None]]:
    """What stands before each mark, with the number behind it; what follows the last one has none.

    A program can read the mark on its shell's command line. One that writes it itself only spoils its own answers.
    """
    parts = stream.split(f"\n{mark} ".encode())
    found: list[tuple[bytes, int | None]] = []
    body = parts[0]
    for part in parts[1:]:
        number, newline, rest = part.partition(b"\n")
        if newline and number.isdigit() and len(number) <= 3:
            found.append((body, int(number)))
            body = rest
        else:
            body += part
    found.append((body, None))
    return found
