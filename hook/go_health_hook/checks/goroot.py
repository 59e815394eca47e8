# SPDX-License-Identifier: GPL-2.0-or-later
"""The toolchain is there, whole, and nobody but root can change what root is asked to run."""

from __future__ import annotations

import os

from go_health_hook.checks import Context
from go_health_hook.checks._answers import ENV_NAMES, answers, own_version
from go_health_hook.checks._remedies import reinstall
from go_health_hook.go.versions import parse_version
from go_health_hook.text import clean
from go_health_hook.verdict import FAIL, PASS, TIMEOUT, WARN, Finding

SEVERITY = "required"
ORDER = 10

# Without these three as files no Go release builds anything.
ALWAYS = ("compile", "link", "asm")
# Those that go vet, cgo and tests run: where one is no file, they say "no such tool", in 1.27 too, which builds others.
WANTED = ("vet", "cgo", "cover")


def check(context: Context) -> Finding:
    """Whether GOROOT is complete, trusted, and what the go command itself takes for GOROOT."""
    toolchain = context.toolchain
    evidence: dict[str, object] = {"goroot": toolchain.goroot, "found": toolchain.via}
    if toolchain.problem:
        return Finding(FAIL, toolchain.problem, _where(context), evidence)
    if toolchain.untrusted:
        return Finding(
            FAIL,
            f"not executed as root: {toolchain.untrusted}",
            f"make it root's alone (chown -R root:root, chmod -R go-w, on {clean(toolchain.goroot)} and its parents), "
            "or name another toolchain in [toolchain] goroot",
            evidence,
        )
    broken = toolchain.broken(toolchain.go) or _incomplete(context)
    if broken:
        return Finding(FAIL, broken, reinstall(context), evidence)
    elsewhere = _goes_elsewhere(context)
    if elsewhere:
        return Finding(FAIL, elsewhere, f"set GOTOOLCHAIN=local in {clean(toolchain.goroot)}/go.env", evidence)
    return _agrees(context, evidence)


def _where(context: Context) -> str:
    if context.config.get("toolchain", "goroot") != "auto":
        return "mend [toolchain] goroot in /etc/go-health-hook.conf, or install Go there"
    return "point it at a GOROOT, or remove it if Go is no longer wanted: dnf install golang puts one in place"


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


def _goes_elsewhere(context: Context) -> str:
    """What go.env says of GOTOOLCHAIN, where that names another toolchain (go.dev/doc/toolchain)."""
    text = context.toolchain.read("go.env") or ""
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        if name != "GOTOOLCHAIN":
            continue
        first, plus, rest = value.strip().partition("+")
        if plus and rest not in ("auto", "path"):
            return f"go.env has a GOTOOLCHAIN that go does not take: {clean(value.strip(), 60)}"
        if first in ("", "local", "auto", "path"):
            return ""
        try:
            if parse_version(first) == own_version(context):
                return ""
        except ValueError:
            pass
        return f"go.env sends every command to another toolchain: GOTOOLCHAIN={clean(value.strip(), 60)}"
    return ""


def _agrees(context: Context, evidence: dict[str, object]) -> Finding:
    toolchain = context.toolchain
    answer = answers(context).env
    evidence["sandbox"] = answer.sandbox
    if answer.timed_out:
        return Finding(TIMEOUT, f"go env {answer.why()}", "run it by hand: go env GOROOT", evidence)
    lines = os.fsdecode(answer.stdout).rstrip("\n").split("\n")
    if not answer.ok or len(lines) != len(ENV_NAMES):
        return Finding(FAIL, f"go env {answer.why()}", reinstall(context), evidence)
    said, version, tools = lines
    evidence.update({"go env GOROOT": said, "go env GOVERSION": version, "go env GOTOOLDIR": tools})
    try:
        same = context.subject.realpath(said) == toolchain.goroot
    except OSError:
        same = False
    if not same:
        return Finding(
            FAIL,
            f"the go command takes {clean(said) or 'nothing'} for GOROOT, not {clean(toolchain.goroot)}",
            "remove GOROOT from go.env, or reinstall: this go was built for another place",
            evidence,
        )
    missing = [t for t in WANTED if not context.subject.exists(toolchain.tool(t))]
    if missing:
        return Finding(WARN, f"tools missing: {', '.join(missing)}", reinstall(context), evidence)
    unformatting = toolchain.broken(toolchain.gofmt) or answers(context).formatter
    if unformatting:
        return Finding(WARN, unformatting, reinstall(context), evidence)
    absent = [n for n in ("VERSION", "go.env") if not context.subject.exists(f"{toolchain.goroot}/{n}")]
    if "go.env" in absent and _has_go_env(version):
        return Finding(
            WARN,
            f"{clean(toolchain.goroot)}/go.env is missing: Go falls back to its defaults",
            reinstall(context),
            evidence,
        )
    note = " (no VERSION file: installed without documentation)" if "VERSION" in absent else ""
    return Finding(PASS, f"{clean(toolchain.goroot)} is complete{note}", "", evidence)


def _has_go_env(version: str) -> bool:
    try:
        return parse_version(version).at_least(1, 21)
    except ValueError:
        return False
