# SPDX-License-Identifier: GPL-2.0-or-later
"""What the checks on the CPU limit say of the machines in cgroups/: ground, words and remedy."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from tests.unit.cases import CASES, Case

from go_health_hook.checks import Context, _remedies
from go_health_hook.checks import cgroup as cgroup_check
from go_health_hook.checks import gomaxprocs as gomaxprocs_check
from go_health_hook.checks import goroot as goroot_check
from go_health_hook.checks import stdlib as stdlib_check
from go_health_hook.checks._remedies import late
from go_health_hook.config import load, severities
from go_health_hook.deadline import Deadline
from go_health_hook.go import buildinfo
from go_health_hook.go.toolchain import Toolchain
from go_health_hook.go.versions import parse_version
from go_health_hook.linux.cgroup_chain import Chain
from go_health_hook.run import control
from go_health_hook.run.result import Result
from go_health_hook.subject import Subject
from go_health_hook.verdict import FAIL, NOT_JUDGED, PASS, SKIP, TIMEOUT, Outcome

if TYPE_CHECKING:
    from go_health_hook.verdict import Finding


def chain_of_case(name: str, tmp_path: Path) -> Chain:
    return next(case for case in CASES if case.name == name).read(tmp_path)


def context_of(tmp_path: Path, goroot: str = "/") -> Context:
    subject = Subject("root", str(tmp_path))
    return Context(subject, Toolchain(subject, goroot, "given"), load(severities()), Deadline(1))


def judged(chain: Chain, tmp_path: Path) -> Finding:
    context = context_of(tmp_path)
    context.shared("chain", lambda: chain)
    return cgroup_check.check(context)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cgroup_unreadable_limit_is_not_judged(case: Case, tmp_path: Path) -> None:
    chain = chain_of_case(case.name, tmp_path)
    finding = judged(chain, tmp_path)
    if chain.certain:
        assert finding.status is PASS
    else:
        assert (finding.status, finding.ground) == (FAIL, NOT_JUDGED)
        assert finding.remedy_key.startswith("cgroup-")
        assert "cgroup = advisory" in finding.remedy
    for word in ("broken", "reinstall", "golang", "unpack"):
        assert word not in f"{finding.summary} {finding.remedy}"


@pytest.mark.parametrize("name", ["v2-kernel-without-quotas", "v1-kernel-without-quotas"])
def test_cgroup_kernel_without_quotas_passes_and_says_so(name: str, tmp_path: Path) -> None:
    assert "this kernel has no CPU quotas" in judged(chain_of_case(name, tmp_path), tmp_path).summary


def test_cgroup_unmounted_v2_names_its_mount_command(tmp_path: Path) -> None:
    remedy = judged(chain_of_case("v2-unmounted", tmp_path), tmp_path).remedy
    assert "mount -t cgroup2 none /sys/fs/cgroup" in remedy


def test_cgroup_unmounted_v1_names_its_mount_command(tmp_path: Path) -> None:
    remedy = judged(chain_of_case("v1-unmounted", tmp_path), tmp_path).remedy
    assert "mount -t cgroup -o cpu" in remedy


@pytest.mark.parametrize(
    ("version", "taken", "affinity", "unseen"),
    [
        ("go1.27.3", 8, 8, True),
        ("go1.25.5", 8, 8, True),
        ("go1.24.11", 8, 8, False),
        ("go1.27.3", 5, 8, False),
    ],
)
def test_gomaxprocs_quota_read_by_rule_but_not_by_probe(
    version: str, taken: int, affinity: int, unseen: bool, tmp_path: Path
) -> None:
    chain = chain_of_case("v2-service-quota", tmp_path)
    assert chain.quota_cpus and chain.quota_cpus < 5
    assert gomaxprocs_check._unseen(parse_version(version), taken, affinity, chain) is unseen


def test_gomaxprocs_quota_of_a_parent_is_no_blind_probe(tmp_path: Path) -> None:
    chain = chain_of_case("hybrid-parent", tmp_path)
    assert not gomaxprocs_check._unseen(parse_version("go1.27.3"), 8, 8, chain)


@pytest.mark.parametrize(
    ("said", "paths"),
    [
        ("sh: 1: cannot create /var/log/go.log: Directory nonexistent", ["/var/log/go.log"]),
        ("see /etc/house.conf.", ["/etc/house.conf"]),
        ("cat: '/etc/x y'", ["/etc/x"]),
        ("\t/root/go/src/runtime/panic.go:1101 +0x71", []),
        ('x.go:5:3: //go:linkname only allowed in Go files that import "unsafe"', []),
        ("x.go:5:3: misplaced directive, see https://go.dev", []),
    ],
)
def test_excuse_takes_no_position_in_a_trace_for_a_file_that_is_missing(said: str, paths: list[str]) -> None:
    """It names a source of whoever built the program. Nor does it take a directive of the compiler's for one."""
    assert re.findall(_remedies.PATH, said) == paths


@pytest.mark.parametrize(
    ("number", "blamed"),
    [(signal.SIGSEGV, True), (signal.SIGABRT, True), (signal.SIGSYS, False), (signal.SIGXCPU, False)],
)
def test_control_blames_a_program_for_its_own_crash_alone(number: signal.Signals, blamed: bool) -> None:
    """SIGSYS comes from a filter of system calls, as SystemCallArchitectures= has one for a 32-bit Go."""
    assert (control.sent(Result(["go"], signal=number)) == "") is blamed


@pytest.mark.parametrize(
    ("path", "compiler", "status"),
    [
        ("cmd/gofmt", "", FAIL),
        ("mvdan.cc/gofumpt", "", SKIP),
        ("mvdan.cc/gofumpt", "tls.go:5:3: syntax error: unexpected {", FAIL),
    ],
)
def test_stdlib_another_formatter_needs_the_compiler_to_agree(
    path: str, compiler: str, status: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gofumpt built with an older Go does not know the syntax of this one."""
    (tmp_path / "go/bin").mkdir(parents=True)
    (tmp_path / "go/bin/gofmt").write_text("")
    subject = Subject("root", str(tmp_path))
    context = Context(subject, Toolchain(subject, "/go", "given"), load(severities()), Deadline(1))
    said = Result(["gofmt"], status=2, stderr=b"tls.go:5:3: expected type")
    given = SimpleNamespace(parsed={"crypto/tls": said}, compiled=None, formatter="")
    listed = Result(["go"], status=0, stdout=b"runtime a.go\ncrypto/tls tls.go\n")
    monkeypatch.setattr(Toolchain, "runnable", True)
    monkeypatch.setattr(buildinfo, "read_fd", lambda fd: buildinfo.BuildInfo("go1.20", path, "", {}))
    monkeypatch.setattr(stdlib_check, "_Listing", lambda context, modules: SimpleNamespace(result=lambda: listed))
    monkeypatch.setattr(stdlib_check, "answers", lambda context: given)
    monkeypatch.setattr(stdlib_check, "_mixed", lambda context, packages, evidence: None)
    monkeypatch.setattr(stdlib_check, "_compile", lambda *_: Result(["compile"], status=2, stdout=compiler.encode()))
    assert stdlib_check.check(context).status is status


def test_late_answer_names_a_way_out_for_a_slow_machine_and_for_a_go_that_hangs(tmp_path: Path) -> None:
    finding = late(context_of(tmp_path, "/opt/go"), "go version did not answer", "go version", {})
    assert finding.status is TIMEOUT
    assert "by hand: go version; if it does, allow more time in [budget]" in finding.remedy
    assert "if it does not, remove /opt/go first, then unpack" in finding.remedy


@pytest.mark.parametrize("home", ["", "root", "home/alice"])
def test_goroot_other_toolchain_is_no_fault_where_a_user_has_fetched_it(tmp_path: Path, home: str) -> None:
    goroot = tmp_path / "usr/local/go"
    (goroot / "pkg/tool/linux_amd64").mkdir(parents=True)
    (goroot / "VERSION").write_text("go1.27.3\n")
    (goroot / "go.env").write_text("GOTOOLCHAIN=go1.26.1\n")
    if home:
        fetched = tmp_path / home / "go/pkg/mod/golang.org/toolchain@v0.0.1-go1.26.1.linux-amd64/bin/go"
        fetched.parent.mkdir(parents=True)
        fetched.touch(0o755)
    finding = goroot_check._settings(context_of(tmp_path, "/usr/local/go"), {})
    assert finding is None if home else finding is not None and finding.status is FAIL


@pytest.mark.parametrize("place", ["home/alice/go/pkg/mod/golang.org/toolchain@v0.0.1-go1.26.1.linux-amd64/bin/go",
                                   "usr/local/bin/go1.26.1", "usr/bin/go1.26.1"])  # fmt: skip
def test_goroot_homes_of_a_staged_deployment_are_those_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Its own /home and /usr/local are links into an empty /var; its /usr/bin is its own."""
    goroot = tmp_path / "staged/usr/lib/golang"
    (goroot / "pkg/tool/linux_amd64").mkdir(parents=True)
    (goroot / "VERSION").write_text("go1.27.3\n")
    (goroot / "go.env").write_text("GOTOOLCHAIN=go1.26.1\n")
    fetched = tmp_path / "machine" / place
    fetched.parent.mkdir(parents=True)
    fetched.touch(0o755)
    monkeypatch.setattr(goroot_check, "Subject", lambda: Subject("root", str(tmp_path / "machine")))
    context = context_of(tmp_path / "staged", "/usr/lib/golang")
    context.subject.kind = "staged"
    finding = goroot_check._settings(context, {})
    assert (finding is None) is not place.startswith("usr/bin")


def test_goroot_an_empty_file_in_a_home_is_no_toolchain(tmp_path: Path) -> None:
    goroot = tmp_path / "usr/local/go"
    (goroot / "pkg/tool/linux_amd64").mkdir(parents=True)
    (goroot / "VERSION").write_text("go1.27.3\n")
    (goroot / "go.env").write_text("GOTOOLCHAIN=go1.26.1\n")
    fetched = tmp_path / "home/alice/go/pkg/mod/golang.org/toolchain@v0.0.1-go1.26.1.linux-amd64/bin/go"
    fetched.parent.mkdir(parents=True)
    fetched.touch(0o644)
    assert goroot_check._settings(context_of(tmp_path, "/usr/local/go"), {}) is not None
