# SPDX-License-Identifier: GPL-2.0-or-later
"""`go version` answers, and everything that bears a version bears the same one."""

from __future__ import annotations

from go_health_hook.checks import Context
from go_health_hook.checks._answers import answers, formatter, is_own_formatter
from go_health_hook.checks._owners import owners
from go_health_hook.checks._remedies import broken, excuse, failed
from go_health_hook.go.versions import Version, parse_version, parse_version_output
from go_health_hook.text import clean, first_line
from go_health_hook.verdict import PASS, SKIP, WARN, Finding

SEVERITY = "required"
ORDER = 20


def check(context: Context) -> Finding:
    """Whether go, compile, link, the VERSION file and the package agree on one version."""
    toolchain = context.toolchain
    if not toolchain.runnable:
        return Finding(SKIP, "go is not run: see goroot")
    given = answers(context)
    answer = given.version
    evidence: dict[str, object] = {"go version": first_line(answer.stdout) or first_line(answer.stderr)}
    if not answer.ok:
        return failed(context, "go version", answer, "go version", evidence)
    if b"cannot find GOROOT" in answer.stderr:
        # A distribution's go without /proc prints its error and still exits 0. A wrapper may print a notice.
        printed = f"go version prints an error with its version: {first_line(answer.stderr, 200)}"
        return excuse(context, printed, answer, evidence) or broken(context, printed, evidence)
    try:
        version, platform = parse_version_output(first_line(answer.stdout, 1000))
    except ValueError as error:
        return broken(context, f"go version says something else: {error}", evidence)
    evidence["platform"] = platform
    context.facts["version"] = version.name
    for name, tool in given.tools.items():
        evidence[f"{name} -V=full"] = first_line(tool.stdout) or first_line(tool.stderr)
        if not tool.ok:
            return failed(context, f"{name} -V=full", tool, f"go tool {name} -V=full", evidence)
        wrong = _differs(version, first_line(tool.stdout, 1000).removeprefix(f"{name} version ").split(" buildID=")[0])
        if wrong:
            # The words of cmd/go's own error (golang/go#57685).
            mixed = f"mixed GOROOT: {name} version {wrong} does not match go tool version {version}"
            return broken(context, mixed, evidence)
    for name, release in given.built.items():
        evidence[f"{name}, built with"] = release
        wrong = _differs(version, release)
        if wrong:
            mixed = f"mixed GOROOT: {name} was built with {wrong}, which does not match go tool version {version}"
            return broken(context, mixed, evidence)
    formatter = _gofmt(context)
    evidence["gofmt, built with"] = formatter
    wrong = _differs(version, formatter) if formatter else ""
    if wrong:
        return broken(context, f"mixed GOROOT: gofmt is of {wrong}, go of {version}", evidence)
    return _files_agree(context, version, evidence)


def _gofmt(context: Context) -> str:
    """The Go version that gofmt was built with, as it stands in the file; an empty string where none does.

    Empty also for another program in its place, as gofumpt: that is of whatever release it was built with.
    """
    built = formatter(context)
    if built is None or context.toolchain.broken(context.toolchain.gofmt) or not is_own_formatter(context):
        return ""
    return built.version


def _files_agree(context: Context, version: Version, evidence: dict[str, object]) -> Finding:
    unreadable = ""
    try:
        text = context.toolchain.read("VERSION")
    except OSError as error:
        text, unreadable = None, f"the VERSION file cannot be read: {error.strerror}"
    if text is not None:
        line = clean(text.split("\n", 1)[0].strip(), 120)
        evidence["VERSION"] = line
        wrong = _differs(version, line)
        if wrong and not _is_release(line):
            unreadable = f"the VERSION file names no release: {wrong}"
        elif wrong:
            return broken(context, f"the VERSION file says {wrong}, go version says {version}", evidence)
    owner = owners(context).go
    if owner is not None:
        evidence["package"] = owner.nevra
        packed = _packed(owner.version)
        if packed is not None and not version.devel and packed != version:
            return broken(context, f"{owner.nevra} has brought go {packed.name}, go version says {version}", evidence)
    if unreadable:
        # No command of go's reads that file: they are built with their version (runtime/extern.go, Version).
        return broken(context, unreadable, evidence, WARN)
    return Finding(PASS, f"{version.name}, and its tools agree", "", evidence)


def _is_release(text: str) -> bool:
    try:
        return bool(parse_version(text))
    except ValueError:
        return False


def _packed(version: str) -> Version | None:
    """The Go version that a package's version names, as 1.27.3 or 1.27~rc2; None for a numbering of its own."""
    try:
        parsed = parse_version("go" + version.replace("~", "").partition("^")[0].partition("+")[0])
    except ValueError:
        return None
    return parsed if parsed.at_least(1, 10) and not parsed.at_least(2, 0) else None


def _differs(version: Version, other: str) -> str:
    """The other version, where it is not the same release; a vendor's mark may stand at one of them only."""
    try:
        parsed = parse_version(other)
    except ValueError:
        return clean(other, 120) or "nothing"
    if parsed.devel or version.devel:
        same = parsed.devel and version.devel and parsed.name.split("-")[0] == version.name.split("-")[0]
        return "" if same else parsed.name
    return "" if parsed == version else parsed.name
