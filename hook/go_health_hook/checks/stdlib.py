# SPDX-License-Identifier: GPL-2.0-or-later
"""The standard library can be loaded and the compiler compiles; with --deep, a program is built and run."""

from __future__ import annotations

from go_health_hook.checks import Context
from go_health_hook.checks._answers import answers, unparsed
from go_health_hook.checks._remedies import reinstall
from go_health_hook.go.cache import build_cache
from go_health_hook.run.process import Running
from go_health_hook.run.result import Result
from go_health_hook.text import clean, first_line
from go_health_hook.verdict import FAIL, PASS, SKIP, TIMEOUT, WARN, Finding

SEVERITY = "required"
ORDER = 30


def check(context: Context) -> Finding:
    """Whether `go list -deps` resolves the key modules, their sources parse, and the compiler compiles."""
    toolchain = context.toolchain
    if not toolchain.runnable:
        return Finding(SKIP, "go is not run: see goroot")
    modules = context.config.get("toolchain", "modules")
    cache = build_cache()
    listing = _list(context, modules, cache) if modules else None
    try:
        given = answers(context)
    finally:
        listed = listing.wait() if listing else None
    if cache and listed is not None and _unlisted(context, listed) and not listed.timed_out:
        # A full disk or a damaged cache is not the toolchain's fault: ask again with a cache of this run's own.
        listed = _list(context, modules, "").wait()
    evidence: dict[str, object] = {"modules": " ".join(modules)}
    if listed is not None:
        packages = listed.stdout.split()
        evidence["packages"] = len(packages)
        wrong = _unlisted(context, listed)
        if listed.timed_out:
            return Finding(
                TIMEOUT, f"go list -deps {wrong}", f"run it by hand: go list -deps {' '.join(modules)}", evidence
            )
        if wrong:
            return Finding(FAIL, f"the standard library does not resolve: {wrong}", reinstall(context), evidence)
    for module, answer in given.parsed.items():
        if answer.timed_out:
            return Finding(TIMEOUT, f"parsing {module} {answer.why()}", f"run it by hand: go vet {module}", evidence)
        said = unparsed(answer)
        if said:
            return Finding(FAIL, f"{module} does not parse: {said}", reinstall(context), evidence)
    compiled = given.compiled
    if compiled is not None and not compiled.ok:
        status = TIMEOUT if compiled.timed_out else FAIL
        return Finding(status, f"the compiler does not compile: {compiled.why()}", reinstall(context), evidence)
    if context.deep:
        return _deep(context, evidence)
    if compiled is None:
        return Finding(SKIP, "the compiler is not run: see goroot", "", evidence)
    said = f"{' '.join(modules) or 'no module'} loads, the compiler compiles"
    if modules and (given.formatter or not given.parsed):
        return Finding(
            WARN, f"{said}, but its sources were not parsed: see goroot on gofmt", reinstall(context), evidence
        )
    return Finding(PASS, said, "", evidence)


def _list(context: Context, modules: list[str], cache: str) -> Running:
    toolchain = context.toolchain
    env = toolchain.cache_environment(cache)
    sandbox = toolchain.sandbox(writable=cache)
    return toolchain.start([toolchain.go, "list", "-deps", *modules], context.deadline, env=env, sandbox=sandbox)


def _unlisted(context: Context, answer: Result) -> str:
    if not answer.ok:
        return (_said(context, answer) if answer.status == 1 else "") or answer.why()
    if answer.stderr.strip():
        return _said(context, answer)
    modules = context.config.get("toolchain", "modules")
    missing = [m for m in modules if m.encode() not in answer.stdout.split()]
    return f"go list does not name {', '.join(missing)}" if missing else ""


def _said(context: Context, answer: Result) -> str:
    """The first line of its errors; go cuts what its directory, the root, and a path have in common, the slash."""
    line = first_line(answer.stderr)
    return f"/{line}" if line.startswith(f"{context.toolchain.goroot[1:]}/") else line


def _deep(context: Context, evidence: dict[str, object]) -> Finding:
    """Build a program that does a TLS handshake with itself and run it, with a build cache that lasts."""
    cache = build_cache()
    answer = _handshake(context, cache)
    if cache and not answer.timed_out and _unshaken(answer):
        # As with the listing: what lies in a cache that lasts may be damaged.
        again = _handshake(context, "")
        answer = answer if again.timed_out else again
    evidence["handshake"] = first_line(answer.stdout) or first_line(answer.stderr)
    evidence["build cache"] = cache or "none that lasts"
    by_hand = "run it by hand: go build crypto/tls && go vet crypto/tls"
    if answer.timed_out:
        return Finding(TIMEOUT, f"building and running a TLS handshake {answer.why()}", by_hand, evidence)
    if _unshaken(answer):
        return Finding(FAIL, f"a TLS handshake built with it {answer.why()}", by_hand, evidence)
    return Finding(PASS, f"{clean(answer.out)}: a program that uses crypto/tls was built and run", "", evidence)


def _handshake(context: Context, cache: str) -> Result:
    toolchain = context.toolchain
    argv = [toolchain.go, "run", toolchain.probe("handshake.go")]
    env = toolchain.cache_environment(cache)
    return toolchain.start(argv, context.deadline, env=env, sandbox=toolchain.sandbox(writable=cache)).wait()


def _unshaken(answer: Result) -> bool:
    return not answer.ok or answer.out != "handshake ok"
