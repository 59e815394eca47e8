# SPDX-License-Identifier: GPL-2.0-or-later
"""The standard library can be loaded and the compiler compiles; with --deep, a program is built and run."""

from __future__ import annotations

import re
import threading

from go_health_hook.checks import Context
from go_health_hook.checks._answers import answers, is_own_formatter, own_version, settings_of, unparsed
from go_health_hook.checks._remedies import SILENCE, broken, excuse, failed, foreign, late, not_judged, reinstall
from go_health_hook.go import goenv, sources, trust
from go_health_hook.go.cache import build_cache, discard
from go_health_hook.linux import memory
from go_health_hook.run.result import Result
from go_health_hook.text import clean, first_line, shell_quote
from go_health_hook.verdict import PASS, SKIP, WARN, Finding

# Below this many bytes a program is built by one compiler at a time.
LITTLE_MEMORY = 1 << 30

TYPE_CHECKING = False
if TYPE_CHECKING:
    from go_health_hook.deadline import Deadline
    from go_health_hook.run.process import Running

# The part of the time that is left for what uses a cache that lasts, before the same is tried without.
PATIENCE = 0.4
DEEP_PATIENCE = 0.6
SEVERITY = "required"
ORDER = 30

# How many packages with signs of several releases are compiled: signs that prove false cost time.
MAX_PROOFS = 3
# How many packages are compiled where src is of another release, and what the compiler says of a later one's.
MAX_READ = 100
REFUSED = b" is not allowed in the standard library"
# What go list says of a package whose directory it cannot read (modload/import.go).
NOT_IN_STD = r"is not in (?:std|GOROOT) \((/[^()]+)\)"
# What it says of a file that is missing or was cut short, whatever the package imports (types2, syntax).
PARTIAL = (": syntax error: ", ": invalid NUL character")
# What it says of a name that two files declare (types2: redeclared objects, methods).
REDECLARED = ("redeclared in this block", "already declared")


def check(context: Context) -> Finding:
    """Return whether the key modules resolve, the sources are of one release, and the compiler compiles."""
    toolchain = context.toolchain
    if not toolchain.runnable:
        return Finding(SKIP, "go is not run: see goroot")
    modules = context.config.get("toolchain", "modules")
    listing = _Listing(context, modules)
    try:
        given = answers(context)
    finally:
        listed = listing.result()
    evidence: dict[str, object] = {"modules": " ".join(modules)}
    packages = sources.parse_listing(listed.out)
    evidence["packages"] = len(packages)
    context.closure = [path for path, _ in packages]
    wrong = _unlisted(context, listed)
    if listed.timed_out:
        return late(context, f"go list -deps {wrong}", f"go list -deps {' '.join(modules)}", evidence)
    if wrong:
        return _unresolved(context, wrong, listed, evidence)
    for module, answer in given.parsed.items():
        if answer.timed_out:
            return late(context, f"parsing {module} {answer.why()}", f"go vet {module}", evidence)
        said = unparsed(answer)
        if said and (is_own_formatter(context) or _is_refused_by_compiler(context, module, packages)):
            return broken(context, f"{module} does not parse: {said}", evidence)
    compiled = given.compiled
    if compiled is not None and not compiled.ok:
        return failed(context, "the compiler does not compile:", compiled, "go build std", evidence)
    mixed = _mixed(context, packages, evidence)
    if mixed is not None:
        return mixed
    if context.deep:
        return _deep(context, evidence)
    if compiled is None:
        return Finding(SKIP, "the compiler is not run: see goroot", "", evidence)
    said = f"{' '.join(modules) or 'no module'} loads, the compiler compiles"
    if modules and (given.formatter or not given.parsed):
        return broken(context, f"{said}, but its sources were not parsed: see goroot on gofmt", evidence, WARN)
    return Finding(PASS, said, "", evidence)


class _Listing:
    """`go list` with the cache that lasts, and without it where that fails or takes too long.

    A full disk or a damaged cache is not the toolchain's fault. One that made a listing hang is thrown away.
    """

    def __init__(self, context: Context, modules: list[str]) -> None:
        self.context = context
        self.modules = modules
        self.cache = build_cache(context.toolchain)
        self.patience = context.deadline.within(context.deadline.remaining() * PATIENCE)
        self.first: Running | None = None
        self.answer: Result | None = None
        self.error: Exception | None = None
        # A program belongs to the thread that started it, and this check's thread may have to start a second one.
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.first = _list(self.context, self.modules, self.cache)
            self.answer = self.first.wait()
        except Exception as error:
            self.error = error

    def result(self) -> Result:
        """Return what `go list` answered. Raises Unsandboxed."""
        while self.thread.is_alive() and not (self.cache and self.patience.expired):
            self.thread.join(self.patience.remaining() if self.cache else None)
        first = self.answer
        if self.error is not None:
            raise self.error
        if first is not None and not (self.cache and _unlisted(self.context, first)):
            return first
        second = _list(self.context, self.modules, "").wait()
        if self.first is not None and self.answer is None:
            self.first.stop()
        if not _unlisted(self.context, second):
            discard(self.cache)
        elif second.timed_out and first is not None:
            return first
        return second


def _list(context: Context, modules: list[str], cache: str) -> Running:
    toolchain = context.toolchain
    # An index of all packages pays only where it is kept: to make one reads twice as much as to do without. Collecting
    # garbage costs half of the CPU time, and the command is gone before it would need that memory.
    fast = {"GOGC": "400"} if cache else {"GOGC": "off", "GODEBUG": "goindex=0"}
    env = {**fast, **toolchain.cache_environment(cache)}
    sandbox = toolchain.sandbox(writable=cache, own_settings=goenv.unusual(settings_of(context)))
    argv = [toolchain.go, "list", "-deps", "-f", sources.FORMAT, "runtime", *modules]
    return toolchain.start(argv, context.deadline, env=env, sandbox=sandbox)


def _unlisted(context: Context, answer: Result) -> str:
    if not answer.ok:
        return (_said(context, answer) if answer.status == 1 else "") or answer.why()
    modules = context.config.get("toolchain", "modules")
    listed = {path for path, _ in sources.parse_listing(answer.out)}
    missing = [m for m in ("runtime", *modules) if m not in listed]
    return f"go list does not name {', '.join(missing)}" if missing else ""


def _unresolved(context: Context, wrong: str, answer: Result, evidence: dict[str, object]) -> Finding:
    """Return that the standard library does not resolve, or that this could not be told."""
    summary = f"the standard library does not resolve: {wrong}"
    if "GOCACHEPROG" in summary:
        # Without a view go.env cannot be kept out, and the helper that it names may be users' alone.
        remedy = f"install bubblewrap, by which go.env is kept out of the check; else {SILENCE.format(check='stdlib')}"
        return not_judged(summary, remedy, "setting", evidence)
    shut = trust.closed_below(context.subject, f"{context.toolchain.goroot}/src")
    if shut:
        # go list says that a package is not there where it may not look.
        remedy = f"where others are to use it: chmod -R o+rX {shell_quote(context.toolchain.goroot)}"
        return not_judged(
            f"{summary}; {shut.text}", f"{remedy}; else {SILENCE.format(check='stdlib')}", "chmod", evidence
        )
    hidden = re.search(NOT_IN_STD, wrong)
    if hidden and _has_sources(context, hidden[1]):
        # As with an access list, or a security module: the user whom go runs as does not see what root sees.
        remedy = f"see what closes it: getfacl {shell_quote(hidden[1])}; ausearch -m avc"
        return not_judged(f"{summary}; it is there for root", remedy, "machine", evidence)
    return excuse(context, summary, answer, evidence) or broken(context, summary, evidence)


def _has_sources(context: Context, directory: str) -> bool:
    try:
        return any(name.endswith(".go") for name in context.subject.listdir(directory))
    except OSError:
        return False


def _mixed(context: Context, packages: list[tuple[str, list[str]]], evidence: dict[str, object]) -> Finding | None:
    """Return that sources of several releases lie in src, or that others can change them, or None.

    What is read gives a sign only; the compiler has the word.
    """
    toolchain = context.toolchain
    signs = sources.read_signs(context.subject, toolchain.goroot, packages, "runtime", context.deadline)
    if signs.foreign:
        # Not proof of anything, and whoever can change them could hold updates back: no word on what was found.
        return foreign(context, "stdlib", signs.foreign, evidence)
    files = dict(packages)
    for package, sign in list(signs.twice.items())[:MAX_PROOFS]:
        evidence[f"sign in {package}"] = sign
        answer = _compile(context, package, files[package])
        said = next((line for line in answer.stdout.splitlines() if any(w.encode() in line for w in REDECLARED)), b"")
        if answer.timed_out:
            return _unproven(context, sign, evidence)
        if said:
            return _several(context, clean(said.strip()), evidence)
    for package, (name, sign) in list(signs.partial.items())[:MAX_PROOFS]:
        evidence[f"sign in {package}"] = sign
        answer = _compile(context, package, files[package])
        # Other names are undefined where what the package imports is not there, as in this compilation.
        words = (*PARTIAL, *([f": undefined: {name}"] if name else []))
        why = next((line for line in answer.out.splitlines() if line.endswith(words) or words[0] in line), "")
        if why and not answer.timed_out:
            return broken(context, f"src is not whole: {clean(why.strip())}", evidence)
    package = next(iter(signs.missing), "")
    sign = signs.missing.get(package, "")
    other = "" if sign else _other_release(context)
    if other:
        package, sign = "runtime", other
        refused = _refused(context, packages)
        if refused:
            return _several(context, refused, evidence)
    if not sign:
        return None
    evidence[f"sign in {package}"] = sign
    built = _build(context, package)
    if built.timed_out:
        return _unproven(context, sign, evidence)
    if built.ok:
        return None
    said = next((line for line in built.stderr.splitlines() if line.strip() and not line.startswith(b"#")), b"")
    return excuse(context, sign, built, evidence) or _several(context, clean(said.strip()), evidence)


def _build(context: Context, package: str) -> Result:
    """Build a package with the cache that lasts; a failure counts only without it, since what lies there may be bad."""
    toolchain = context.toolchain
    argv = [toolchain.go, "build", package]
    for cache in dict.fromkeys((build_cache(toolchain), "")):
        env, sandbox = toolchain.cache_environment(cache), toolchain.sandbox(writable=cache)
        built = toolchain.start(argv, context.deadline, env=env, sandbox=sandbox).wait()
        if built.ok or built.timed_out:
            break
    return built


def _compile(context: Context, package: str, files: list[str]) -> Result:
    """Have the compiler read one package without what it imports: it still says which names are declared twice."""
    return context.toolchain.start(_compilation(context, package, files), context.deadline).wait()


def _is_refused_by_compiler(context: Context, package: str, packages: list[tuple[str, list[str]]]) -> bool:
    return PARTIAL[0] in _compile(context, package, dict(packages).get(package, [])).out


def _compilation(context: Context, package: str, files: list[str]) -> list[str]:
    toolchain = context.toolchain
    directory = f"{toolchain.goroot}/src/{package}"
    argv = [toolchain.tool("compile"), "-e", "-std", "-+", "-p", package, "-o", "/dev/null"]
    return [*argv, *(f"{directory}/{name}" for name in files)]


def _other_release(context: Context) -> str:
    """Return, in one line, that src is of another release than the go command, or an empty string."""
    own, release = own_version(context), sources.release_of(context.subject, context.toolchain.goroot)
    if own is None or own.minor is None or release is None or release == own.minor:
        return ""
    return f"src is of Go 1.{release}, the go command of {own.name}"


def _refused(context: Context, packages: list[tuple[str, list[str]]]) -> str:
    """Return what the compiler refuses in sources of a later release, whatever they import, or an empty string."""
    toolchain = context.toolchain
    commands = [_compilation(context, path, files) for path, files in packages[:MAX_READ] if files]
    for answer in toolchain.series(commands, context.deadline):
        for line in answer.stdout.splitlines():
            if line.endswith(REFUSED):
                return clean(line.strip())
    return ""


def _several(context: Context, said: str, evidence: dict[str, object]) -> Finding:
    return broken(context, f"src has files of several releases: {said}", evidence)


def _unproven(context: Context, sign: str, evidence: dict[str, object]) -> Finding:
    """Return that there is a sign of several releases, which there was no time to have compiled."""
    remedy = f"see whether it builds: go build std; if not, {reinstall(context)[0]}"
    return not_judged(f"src may have files of several releases: {sign}", remedy, "time", evidence)


def _said(context: Context, answer: Result) -> str:
    """The first line of its errors; go cuts what its directory, the root, and a path have in common, the slash."""
    line = first_line(answer.stderr)
    return f"/{line}" if line.startswith(f"{context.toolchain.goroot[1:]}/") else line


def _deep(context: Context, evidence: dict[str, object]) -> Finding:
    """Build a program that does a TLS handshake with itself and run it, with a build cache that lasts."""
    cache = build_cache(context.toolchain)
    patience = context.deadline.within(context.deadline.remaining() * DEEP_PATIENCE) if cache else context.deadline
    answer = _handshake(context, cache, patience)
    if cache and _unshaken(answer):
        # As with the listing: what lies in a cache that lasts may be damaged.
        again = _handshake(context, "", context.deadline)
        if not _unshaken(again):
            discard(cache)
        answer = answer if again.timed_out and not answer.timed_out else again
    evidence["handshake"] = first_line(answer.stdout) or first_line(answer.stderr)
    evidence["build cache"] = cache or "none that lasts"
    by_hand = "go build crypto/tls && go vet crypto/tls"
    if answer.timed_out:
        return late(context, f"building and running a TLS handshake {answer.why()}", by_hand, evidence)
    if _unshaken(answer):
        # The first line of a compiler's errors is a heading.
        said = next((line for line in answer.stderr.splitlines() if line.strip() and not line.startswith(b"#")), b"")
        summary = f"a TLS handshake built with it does not work: {clean(said.strip()) or answer.why()}"
        return excuse(context, summary, answer, evidence) or broken(context, summary, evidence)
    return Finding(PASS, f"{clean(answer.out)}: a program that uses crypto/tls was built and run", "", evidence)


def _handshake(context: Context, cache: str, deadline: Deadline) -> Result:
    toolchain = context.toolchain
    few = ["-p", "1"] if 0 < memory.limit() < LITTLE_MEMORY else []
    argv = [toolchain.go, "run", *few, toolchain.probe("handshake.go")]
    env = toolchain.cache_environment(cache)
    return toolchain.start(argv, deadline, env=env, sandbox=toolchain.sandbox(writable=cache)).wait()


def _unshaken(answer: Result) -> bool:
    return not answer.ok or answer.out != "handshake ok"
