# SPDX-License-Identifier: GPL-2.0-or-later
"""Run CMD with GOMAXPROCS set to what fits the CPU limit, where Go's runtime would get it wrong; else as it is.

Nothing of this command is left once CMD runs: its exit status and signals are its own.
"""

from __future__ import annotations

import errno
import os
import signal
import sys

from go_health_hook.errors import BadInput
from go_health_hook.linux import cgroup
from go_health_hook.linux.cgroup_chain import in_words
from go_health_hook.records import Record
from go_health_hook.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any, NoReturn

    from go_health_hook.config import Config
    from go_health_hook.cpu._modules import Module
    from go_health_hook.go.versions import Version
    from go_health_hook.linux.cgroup_chain import Chain

PLAIN = True
RUNS_COMMAND = True
FLOOR = 2  # go/maxprocs.py has it too; loading that is left for when there is a limit
SLICE = "build.slice"
SEARCH = "/usr/local/bin:/usr/bin:/bin"
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it
# What the go command builds and then starts itself.
STARTS = ("run", "test", "tool", "generate", "vet", "fix")


class Decision(Record):
    """What becomes of GOMAXPROCS: `value` is what it is set to, or None where it is left as it is; `why` in words."""

    value: int | None
    expected: int
    why: str

    def line(self) -> str:
        """The whole of it in one line."""
        done = "GOMAXPROCS left as it is" if self.value is None else f"GOMAXPROCS={self.value}"
        return f"{done}: {self.why}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options, then CMD after `--`."""
    parser.usage = "go-health-hook exec [--floor N] [--force] [--slice] [--explain] -- CMD [ARG ...]"
    parser.add_argument("--floor", metavar="N", type=int, default=FLOOR, help="never set fewer than N (default 2)")
    parser.add_argument("--force", action="store_true", help="lower a GOMAXPROCS that is set and exceeds the limit")
    parser.add_argument("--slice", action="store_true", help=f"run CMD in {SLICE} (see go-health-hook tune)")
    parser.add_argument("--explain", action="store_true", help="explain the decision on stderr")
    parser.add_argument("cmd", nargs="...", metavar="CMD", help="the command to run, and its arguments")


def quick(words: list[str]) -> int | None:
    """Run CMD without the command line's own machinery, whose loading takes as long as all the rest of it."""
    options: dict[str, Any] = {"floor": FLOOR, "force": False, "slice": False, "explain": False, "json": False}
    i = 0
    while i < len(words) and words[i] != "--":
        name = words[i][2:]
        if words[i] in ("--force", "--slice", "--explain", "--json"):
            options[name] = True
        elif words[i] == "--floor" and i + 1 < len(words) and words[i + 1].isdecimal():
            i += 1
            options["floor"] = int(words[i])
        elif words[i][:1] != "-":
            break
        else:
            return None
        i += 1
    command = words[i + 1 :] if words[i : i + 1] == ["--"] else words[i:]
    return _start(command, **options) if command else None


def run(args: argparse.Namespace, _settings: Config | None) -> int:
    """Reached where the words could not be read at once: usage errors and --help, mostly."""
    if not args.cmd:
        raise BadInput("no command to run", hint="go-health-hook exec -- CMD [ARG ...]")
    return _start(args.cmd, args.floor, args.force, args.slice, args.explain, args.json)


def _start(command: list[str], floor: int, force: bool, slice: bool, explain: bool, json: bool) -> int:
    if floor < 1:
        raise BadInput(f"--floor {floor}: is below 1", hint="a program needs a processor")
    env = environment()
    if slice:
        passed = [f"--{name}" for name, said in (("force", force), ("explain", explain), ("json", json)) if said]
        return _in_slice(command, ["--floor", str(floor), *passed], env)
    decision = decide(command, env, floor=floor, force=force)
    if json:
        import json as writer

        facts = {"gomaxprocs": decision.value, "expected_gomaxprocs": decision.expected, "why": decision.why}
        print(writer.dumps(facts), file=sys.stderr)
    elif explain:
        print(f"go-health-hook: {decision.line()}", file=sys.stderr)
    if decision.value is not None:
        env["GOMAXPROCS"] = str(decision.value)
    return _exec(command, env)


def environment() -> dict[str, str]:
    """The environment this process was started with: Python itself adds LC_CTYPE to one without a locale."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [os.fsdecode(p).partition("=") for p in file.read().split(b"\0")]
        return {key: value for key, equals, value in pairs if equals}
    except OSError:
        return dict(os.environ)


def decide(
    command: list[str],
    env: Mapping[str, str],
    *,
    floor: int = FLOOR,
    force: bool = False,
    cwd: str = ".",
    affinity: int | None = None,
) -> Decision:
    """What GOMAXPROCS to give a command that is started here and now. Never raises for what CMD is or is not.

    `affinity` is the number of CPUs it may run on, ours unless another is given.
    """
    chain, affinity = cgroup.read_chain(), cgroup.affinity() if affinity is None else affinity
    quota = chain.quota_cpus
    if "GOMAXPROCS" not in env and (quota is None or quota > affinity - 1):
        # The affinity is all that counts, and every runtime reads that.
        unsure = "" if chain.certain else f", though not all could be read: {chain.problems[0]}"
        why = f"no quota is below the {in_words(affinity)} it may run on{unsure}"
        return Decision(None, affinity, why)
    from go_health_hook.go import maxprocs

    wanted = maxprocs.expected(affinity, chain, floor=floor)
    runtimes, what = _judge(find_program(command[0], env), command, env, cwd)
    newest = max((version for version, _ in runtimes), default=None) or _newest()
    already = maxprocs.environment_count(env.get("GOMAXPROCS"), newest)
    if already is not None:
        if already <= wanted or not force:
            said = "fits" if already <= wanted else f"exceeds the {wanted} that fit; --force lowers it"
            return Decision(None, wanted, f"{already} is set already and {said}")
        return Decision(wanted, wanted, f"{already} was set, {_limit(chain)} allows {wanted}")
    if not runtimes:
        if wanted == affinity and floor <= maxprocs.FLOOR:
            return Decision(None, wanted, f"{_limit(chain)}; every Go takes the {wanted} it may run on, which fit")
        return Decision(wanted, wanted, f"{_limit(chain)}; {what}")
    godebug = env.get("GODEBUG")
    follows = True
    for version, recorded in runtimes:
        predicted = maxprocs.predict(
            version,
            affinity,
            chain,
            gate=maxprocs.reads_quota(recorded, godebug, version),
            updates=maxprocs.follows_changes(recorded, godebug, version),
        )
        if predicted.value != wanted:
            return Decision(wanted, wanted, f"{_limit(chain)}; {what} would take {predicted.value} ({predicted.why})")
        follows = follows and predicted.follows_quota
    return Decision(None, wanted, f"{what} takes {wanted} by itself" + (", and follows changes" if follows else ""))


def _limit(chain: Chain) -> str:
    tightest = chain.tightest
    return f"{in_words(tightest.cpus or 0)}, by {clean(tightest.path)}" if tightest else "no quota"


def _newest() -> Version:
    from go_health_hook.go.versions import parse_version

    return parse_version("go1.27")


def _judge(program: str, command: list[str], env: Mapping[str, str], cwd: str) -> tuple[list[tuple[Version, str]], str]:
    """The runtimes that CMD brings into play, each with its DefaultGODEBUG, and what they are of, in words.

    No runtimes: nothing is known of them. A script, make, env or timeout may start any Go, and a program of unknown
    version may be any Go. Some Go gets every limit below its CPUs wrong.
    """
    from go_health_hook.go import buildinfo
    from go_health_hook.go.versions import parse_version

    name = clean(os.path.basename(command[0]))
    try:
        info = buildinfo.read(program)
    except (buildinfo.NotGo, OSError):
        return [], f"{name} is no Go program, and what it starts is not known"
    try:
        version = parse_version(info.version)
    except ValueError:
        return [], f"the Go version of {name} is not known"
    if info.path == "cmd/go":
        return _judge_go(program, version, command[1:], env, cwd)
    return [(version, info.godebug)], f"{name} ({version})"


def _judge_go(
    go: str, version: Version, words: list[str], env: Mapping[str, str], cwd: str
) -> tuple[list[tuple[Version, str]], str]:
    """The go command: itself, and for what it starts the go line of the module at hand."""
    from go_health_hook.cpu import _modules, _settings
    from go_health_hook.go import maxprocs

    known = _settings.effective(env, go)
    there, words = _modules.chdir(words)
    directory = os.path.join(os.path.abspath(cwd), there)
    verb, rest = (words[0], words[1:]) if words else ("", [])
    flags, targets = _modules.arguments(verb, [*_settings.split(known.get("GOFLAGS", "")), *rest])
    module = _modules.at_hand(directory, known, flags.get("modfile", ""))
    versions = _toolchains(version, known.get("GOTOOLCHAIN", ""), module)
    runtimes = [(each, "") for each in versions]
    what = f"{versions[0]} {verb}".strip()
    if verb not in STARTS:
        return runtimes, what
    if verb in ("run", "tool") and any("@" in target for target in targets):
        recorded = maxprocs.default_godebug("")
        what += " of another module, whose go line is not known,"
    else:
        directives = _modules.source_directives(directory, targets or ["."], tests=verb == "test")
        recorded = maxprocs.default_godebug(module.go_line, ",".join(d for d in (module.directives, directives) if d))
        if module.file and module.go_line is not None:
            what += f" with go line {clean(module.go_line, 20) or 'missing'}"
    return [*runtimes, *((each, recorded) for each in versions)], what


def _toolchains(version: Version, setting: str, module: Module) -> list[Version]:
    """The toolchains that a go command may run in its own place, by its GOTOOLCHAIN and the module.

    One that a go line asks for may have to be fetched and be missing, so both are reckoned with. Rules:
    go.dev/doc/toolchain, cmd/go/internal/toolchain/select.go.
    """
    from go_health_hook.go.versions import parse_version

    if not version.at_least(1, 21):
        return [version]
    name, _, suffix = setting.partition("+")
    try:
        version = parse_version(name)
    except ValueError:
        pass  # "local", "auto" or "path"
    versions = [version]
    if "auto" in (name, suffix) or "path" in (name, suffix):
        for line in (module.go_line, module.toolchain) if module.toolchain != "default" else ():
            try:
                other = parse_version(line or "")
            except ValueError:
                continue
            if other > versions[-1]:
                versions.append(other)
    return versions


def find_program(name: str, env: Mapping[str, str]) -> str:
    """Where execvp(3) would find it, or an empty string."""
    if "/" in name:
        return name
    for directory in env.get("PATH", SEARCH).split(":"):
        path = f"{directory or '.'}/{name}"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def _exec(command: list[str], env: dict[str, str]) -> int:
    name = clean(command[0])
    path = find_program(command[0], env)
    if not path:
        print(f"go-health-hook: {name}: no such command on the search path", file=sys.stderr)
        return NOT_FOUND
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these two, and what is ignored stays so in the program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        _replace(path, command, env)
    except OSError as error:
        print(f"go-health-hook: {name}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE


def _replace(path: str, command: list[str], env: dict[str, str]) -> NoReturn:
    try:
        os.execve(path, command, env)  # noqa: S606
    except OSError as error:
        # A script without its first line, which a shell would run.
        if error.errno != errno.ENOEXEC:
            raise
        os.execve("/bin/sh", ["/bin/sh", path, *command[1:]], env)  # noqa: S606


def _in_slice(command: list[str], options: list[str], env: dict[str, str]) -> int:
    """Go into the build slice first, and decide there: it may have limits of its own."""
    systemd = find_program("systemd-run", {"PATH": "/usr/bin:/bin"})
    if not systemd:
        raise BadInput("--slice needs systemd-run", hint="leave --slice out, or install systemd")
    user = [] if os.geteuid() == 0 else ["--user"]
    ours = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "go-health-hook")
    again = [ours if os.path.exists(ours) else "/usr/bin/go-health-hook", "exec", *options]
    scope = [systemd, *user, "--scope", "--quiet", "--collect", f"--slice={SLICE}", "--", *again, "--", *command]
    return _exec(scope, env)
