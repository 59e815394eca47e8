# SPDX-License-Identifier: GPL-2.0-or-later
"""The toolchain is there, whole, and nobody but root can change what root is asked to run."""

from __future__ import annotations

import os

from go_health_hook.checks import Context
from go_health_hook.checks._answers import ENV_NAMES, answers
from go_health_hook.checks._remedies import reinstall
from go_health_hook.go.versions import parse_version
from go_health_hook.text import clean
from go_health_hook.verdict import FAIL, PASS, TIMEOUT, WARN, Finding

SEVERITY = "required"
ORDER = 10

# Without these three as files no Go release builds anything; others are built on demand since 1.25 (cmd/dist/build.go).
ALWAYS = ("compile", "link", "asm")
ASKED = ("vet", "cgo", "cover")


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
            names = os.listdir(context.subject.host_path(path))
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
        first = value.strip().partition("+")[0]
        if first in ("", "local", "auto", "path"):
            return ""
        try:
            own = parse_version((context.toolchain.read("VERSION") or "").split("\n", 1)[0])
            if parse_version(first) == own:
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
    lines = answer.out.split("\n")
    if not answer.ok or len(lines) != len(ENV_NAMES):
        return Finding(FAIL, f"go env {answer.why()}", reinstall(context), evidence)
    said, version, tools = (clean(line.strip()) for line in lines)
    evidence.update({"go env GOROOT": said, "go env GOVERSION": version, "go env GOTOOLDIR": tools})
    try:
        same = context.subject.realpath(said) == toolchain.goroot
    except OSError:
        same = False
    if not same:
        return Finding(
            FAIL,
            f"the go command takes {said or 'nothing'} for GOROOT, not {clean(toolchain.goroot)}",
            "remove GOROOT from go.env, or reinstall: this go was built for another place",
            evidence,
        )
    missing = [t for t in ASKED if not context.subject.exists(toolchain.tool(t)) and not _builds(context, t)]
    if missing:
        return Finding(WARN, f"tools missing: {', '.join(missing)}", reinstall(context), evidence)
    unformatting = toolchain.broken(toolchain.gofmt)
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


def _builds(context: Context, tool: str) -> bool:
    """Whether the go command knows the tool although no file of it is there: since 1.25 it builds some on demand."""
    toolchain = context.toolchain
    return toolchain.start([toolchain.go, "tool", "-n", tool], context.deadline).wait().ok


def _has_go_env(version: str) -> bool:
    try:
        return parse_version(version).at_least(1, 21)
    except ValueError:
        return False
