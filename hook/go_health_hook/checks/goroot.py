# SPDX-License-Identifier: GPL-2.0-or-later
"""The toolchain is there and whole; it is not judged where others can change it, or only some may use it."""

from __future__ import annotations

import contextlib
import os
import stat

from go_health_hook.checks import Context
from go_health_hook.checks._answers import ENV_NAMES, answers, own_version, settings_of
from go_health_hook.checks._remedies import SILENCE, broken, failed, foreign, install, not_judged, reinstall
from go_health_hook.go import goenv
from go_health_hook.go.toolchain import PACKAGED, SEARCH
from go_health_hook.go.versions import parse_version
from go_health_hook.subject import Subject
from go_health_hook.text import clean, first_line, shell_quote
from go_health_hook.verdict import FAIL, PASS, WARN, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEVERITY = "required"
ORDER = 10

# Without these three as files no Go release builds anything.
ALWAYS = ("compile", "link", "asm")
# Words of errors that are not about go.env: a go.mod above us, a helper or a network that the view does not show.
BYSTANDERS = ("go.mod", "GOCACHEPROG", "toolchain not available")
# Those that go vet, cgo and tests run: where one is no file, they say "no such tool", in 1.27 too, which builds others.
WANTED = ("vet", "cgo", "cover")


def check(context: Context) -> Finding:
    """Return whether GOROOT is complete, open to all, and what the go command itself takes for GOROOT."""
    toolchain = context.toolchain
    evidence: dict[str, object] = {"goroot": toolchain.goroot, "found": toolchain.via}
    if toolchain.problem:
        return Finding(FAIL, toolchain.problem, _where(context), evidence, remedy_key="setting")
    if toolchain.foreign:
        return foreign(context, "goroot", toolchain.foreign, evidence)
    shut = toolchain.closed
    damage = "" if shut and not shut.readable else toolchain.broken(toolchain.go) or _incomplete(context)
    if damage:
        return broken(context, damage, evidence)
    if shut:
        goroot = shell_quote(toolchain.goroot)
        remedy = f"where others are to use it: chmod -R o+rX {goroot}; else {SILENCE.format(check='goroot')}"
        return not_judged(f"not judged: {shut.text}", remedy, "chmod", evidence)
    if toolchain.lost:
        # What alternatives(8) or a package set up is gone: typing "go" finds nothing.
        return broken(context, f"Go is in {clean(toolchain.goroot)}, but {toolchain.lost}", evidence)
    return _settings(context, evidence) or _agrees(context, evidence)


def _where(context: Context) -> str:
    if context.config.get("toolchain", "goroot") != "auto":
        return "correct [toolchain] goroot in /etc/go-health-hook.conf, or install Go there"
    return f"point it at a GOROOT, or remove it if Go is no longer wanted; to put one in place: {install('golang')}"


def _incomplete(context: Context) -> str:
    toolchain = context.toolchain
    for tool in ALWAYS:
        why = toolchain.broken(toolchain.tool(tool))
        if why:
            return why
    wanted = ["src/runtime", *(f"src/{m}" for m in context.config.get("toolchain", "modules"))]
    for directory in wanted:
        path = f"{toolchain.goroot}/{directory}"
        try:
            names = context.subject.listdir(path)
        except OSError as error:
            return f"{clean(path)}: {error.strerror}"
        if not any(name.endswith(".go") for name in names):
            return f"{clean(path)} has no Go sources"
    return ""


def _settings(context: Context, evidence: dict[str, object]) -> Finding | None:
    """Return what is wrong with go.env, or None: it sends commands elsewhere, or the go command refuses it."""
    path = f"{context.toolchain.goroot}/go.env"
    settings = settings_of(context)
    other = goenv.elsewhere(settings, own_version(context))
    if other and not _is_here(context, other.partition("+")[0], settings):
        return Finding(
            FAIL,
            f"go.env sends every command to another toolchain: GOTOOLCHAIN={other}",
            f"set GOTOOLCHAIN=local in {clean(path)}",
            evidence,
            remedy_key="setting",
        )
    unknown = goenv.unknown_platform(settings, _syslist(context))
    if unknown:
        return Finding(
            FAIL,
            f"go.env has a setting that go does not take: {unknown!r}",
            f"correct that line of {clean(path)}; carriage returns: sed -i 's/\\r$//' {shell_quote(path)}",
            evidence,
            remedy_key="setting",
        )
    for answer in () if other else answers(context).as_users:
        said = first_line(answer.stderr)
        # A user's own module, or a helper that the view does not show, says nothing about go.env.
        if answer.ok or answer.timed_out or not said.startswith("go: ") or any(word in said for word in BYSTANDERS):
            continue
        return Finding(
            FAIL,
            f"go.env has a setting that go does not take: {said[4:]}",
            f"correct that line of {clean(path)}; carriage returns: sed -i 's/\\r$//' {shell_quote(path)}",
            evidence,
            remedy_key="setting",
        )
    return None


def _is_here(context: Context, name: str, settings: Mapping[str, str]) -> bool:
    """Whether the toolchain that go.env names is on the search path, or in the module cache of go.env or of a user.

    Those are where the go command looks before it asks the network (cmd/go/internal/toolchain/select.go, Exec). One
    that a user has fetched works for that user.
    """
    cache = settings.get("GOMODCACHE") or f"{settings.get('GOPATH', '').partition(':')[0]}/pkg/mod"
    platform = os.path.basename(context.toolchain.tools).replace("_", "-")

    def has(subject: Subject, search: Sequence[str]) -> bool:
        homes = ["/root"]
        with contextlib.suppress(OSError):
            homes += [f"/home/{user}" for user in subject.listdir("/home")]
        caches = [cache, *(f"{home}/go/pkg/mod" for home in homes)]
        places = [f"{directory}/{name}" for directory in search]
        places += [f"{directory}/golang.org/toolchain@v0.0.1-{name}.{platform}/bin/go" for directory in caches]
        return any(_is_program(subject, place) for place in places)

    if has(context.subject, SEARCH):
        return True
    # Of a staged deployment, what is not packaged may be in the machine's /var.
    return context.subject.kind == "staged" and has(Subject(), [d for d in SEARCH if d not in PACKAGED])


def _is_program(subject: Subject, path: str) -> bool:
    try:
        mode = subject.stat(path).st_mode if path.startswith("/") else 0
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _syslist(context: Context) -> str:
    """Return the toolchain's list of systems and processors, or an empty string."""
    for name in ("src/internal/syslist/syslist.go", "src/go/build/syslist.go"):
        with contextlib.suppress(OSError):
            text = context.toolchain.read(name)
            if text:
                return text
    return ""


def _agrees(context: Context, evidence: dict[str, object]) -> Finding:
    toolchain = context.toolchain
    answer = answers(context).env
    version = ""
    if answer is not None:
        evidence["sandbox"] = answer.sandbox
        lines = os.fsdecode(answer.stdout).rstrip("\n").split("\n")
        if not answer.ok or len(lines) != len(ENV_NAMES):
            return failed(context, "go env", answer, "go env GOROOT", evidence)
        said, version, tools = lines
        evidence.update({"go env GOROOT": said, "go env GOVERSION": version, "go env GOTOOLDIR": tools})
        if not _is_goroot(context, said):
            return Finding(
                FAIL,
                f"the go command takes {clean(said) or 'nothing'} for GOROOT, not {clean(toolchain.goroot)}",
                f"put it where it was built for, or {reinstall(context)[0]}",
                evidence,
                remedy_key=reinstall(context)[1],
            )
    missing = [t for t in WANTED if not context.subject.exists(toolchain.tool(t))]
    if missing:
        return broken(context, f"tools missing: {', '.join(missing)}", evidence, WARN)
    unformatting = toolchain.broken(toolchain.gofmt) or answers(context).formatter
    if unformatting:
        return broken(context, unformatting, evidence, WARN)
    temporary = settings_of(context).get("GOTMPDIR", "")
    if temporary.startswith("/") and not context.subject.exists(temporary):
        summary = f"go.env has builds use a directory that is not there: GOTMPDIR={clean(temporary)}"
        return Finding(WARN, summary, f"mkdir -m 1777 {shell_quote(temporary)}", evidence, remedy_key="setting")
    absent = [n for n in ("VERSION", "go.env") if not context.subject.exists(f"{toolchain.goroot}/{n}")]
    if "go.env" in absent and _has_go_env(version):
        missing_env = f"{clean(toolchain.goroot)}/go.env is missing: Go falls back to its defaults"
        return broken(context, missing_env, evidence, WARN)
    note = " (no VERSION file: installed without documentation)" if "VERSION" in absent else ""
    return Finding(PASS, f"{clean(toolchain.goroot)} is complete{note}", "", evidence)


def _is_goroot(context: Context, said: str) -> bool:
    try:
        return context.subject.realpath(said) == context.toolchain.goroot
    except OSError:
        return False


def _has_go_env(version: str) -> bool:
    try:
        return parse_version(version).at_least(1, 21)
    except ValueError:
        return False
