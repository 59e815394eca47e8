# SPDX-License-Identifier: GPL-2.0-or-later
"""Real toolchains, whole and broken in every way we know: allowed, or blocked by the right check with a remedy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.leftovers import left_behind
from tests.toolchains.trees import VERSIONS, Hook, copy, real, replace

BROKEN_VERSIONS = ["1.24.11", "1.27.3"]


def finding(report: dict[str, Any], check: str) -> dict[str, Any]:
    return next(r for r in report["results"] if r["check"] == check)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_healthy_toolchain_is_allowed(hook: Hook, version: str) -> None:
    status, report = hook.judge(real(version))
    assert status == 0, report
    assert report["verdict"] == "allow"
    assert report["toolchain"]["version"] == f"go{version}"
    assert {r["check"]: r["status"] for r in report["results"] if r["severity"] != "advisory"} == dict.fromkeys(
        ["goroot", "version", "stdlib", "cgroup", "gomaxprocs"], "pass"
    )
    assert report["cpu"]["actual_gomaxprocs"] == report["cpu"]["expected_gomaxprocs"]


@pytest.mark.parametrize("version", VERSIONS)
def test_any_package_of_a_healthy_standard_library_may_be_a_key_module(
    hook: Hook, tmp_path: Path, version: str
) -> None:
    """Those that import nothing, come in variants for every platform, or use what the compiler lets no other do."""
    conf = tmp_path / "modules.conf"
    conf.write_text("[toolchain]\nmodules = errors math/bits net os/user runtime sync/atomic syscall unsafe\n")
    status, report = hook.judge(real(version), "--config", str(conf))
    assert status == 0, report
    assert finding(report, "stdlib")["status"] == "pass"


def test_flags_that_an_admin_set_in_go_env_do_not_count(hook: Hook, workshop: Path) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "go.env", b"GOPROXY=direct\nGOTOOLCHAIN=local\nGOFLAGS=-race -modfile=/tmp/x.mod\n", 0o644)
    status, report = hook.judge(goroot)
    assert status == 0, report


def test_a_gofmt_that_cannot_run_is_worth_a_word(hook: Hook, workshop: Path) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/gofmt", b"")
    status, report = hook.judge(goroot)
    assert status == 0, report
    assert finding(report, "goroot")["status"] == "warn"
    assert "gofmt is empty" in finding(report, "goroot")["summary"]


@pytest.mark.parametrize("script", ["exit 1", "exit 2", "kill -SEGV $$", "echo 'not go' >&2; exit 2"])
def test_a_gofmt_that_fails_is_no_source_that_does_not_parse(hook: Hook, workshop: Path, script: str) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/gofmt", f"#!/bin/sh\n{script}\n".encode())
    status, report = hook.judge(goroot)
    assert status == 0, report
    assert "gofmt does not work" in finding(report, "goroot")["summary"]
    assert finding(report, "stdlib")["status"] == "warn"
    assert "were not parsed" in finding(report, "stdlib")["summary"]
    assert finding(report, "gomaxprocs")["status"] == "pass"


@pytest.mark.parametrize("version", BROKEN_VERSIONS)
@pytest.mark.parametrize("name", ["vet", "cgo", "cover"])
def test_a_missing_tool_is_worth_a_word_and_nothing_is_built(
    hook: Hook, workshop: Path, version: str, name: str
) -> None:
    goroot = copy(version, workshop)
    tool(goroot, name).unlink()
    status, report = hook.judge(goroot)
    assert status == 0, report
    assert finding(report, "goroot")["summary"] == f"tools missing: {name}"


def test_without_a_version_file_go_env_still_tells_which_go_it_is(hook: Hook, workshop: Path) -> None:
    goroot = copy("1.27.3", workshop)
    (goroot / "VERSION").unlink()
    replace(goroot / "go.env", b"GOTOOLCHAIN=go1.27.3\n", 0o644)
    status, report = hook.judge(goroot)
    assert status == 0, report
    replace(goroot / "go.env", b"GOTOOLCHAIN=go1.27.2\n", 0o644)
    assert "another toolchain" in finding(hook.judge(goroot)[1], "goroot")["summary"]
    replace(goroot / "go.env", b"GOTOOLCHAIN=go1.27.3+local\n", 0o644)
    assert "that go does not take" in finding(hook.judge(goroot)[1], "goroot")["summary"]


@pytest.mark.parametrize("name", ["x" * 250 + "/" + "y" * 250, "right\u202eleft", "a\udcffb", "two  blanks", "quote's"])
def test_the_name_of_a_goroot_does_not_matter(hook: Hook, workshop: Path, name: str) -> None:
    place = workshop / name
    place.mkdir(parents=True)
    status, report = hook.judge(copy("1.27.3", place))
    assert status == 0, report


@pytest.mark.parametrize(
    ("name", "finds_itself"), [("pkg/tool", True), ("src", True), ("bin/go", False), ("bin", False)]
)
def test_a_goroot_may_lead_elsewhere(hook: Hook, workshop: Path, name: str, finds_itself: bool) -> None:
    """Where go itself lies elsewhere it does not find its GOROOT, whoever starts it: that is what is to be said."""
    goroot = copy("1.27.3", workshop)
    (workshop / "elsewhere").mkdir()
    (goroot / name).rename(workshop / "elsewhere/moved")
    (goroot / name).symlink_to(workshop / "elsewhere/moved")
    status, report = hook.judge(goroot)
    assert status == (0 if finds_itself else 1), report
    assert finds_itself or "cannot find GOROOT" in finding(report, "goroot")["summary"]


def test_memory_is_bounded_before_the_machine_is_in_need(hook: Hook, workshop: Path, badgo: Path) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text("eats memory")
    status, report = hook.judge(goroot, "--budget", "600")
    assert status == 1, report
    assert "out of memory" in finding(report, "version")["summary"]


def tool(goroot: Path, name: str) -> Path:
    return next(goroot.glob(f"pkg/tool/linux_*/{name}"))


def other(version: str) -> str:
    return "1.27.3" if version != "1.27.3" else "1.24.11"


def no_go(goroot: Path, version: str) -> None:
    (goroot / "bin/go").unlink()


def not_executable(goroot: Path, version: str) -> None:
    replace(goroot / "bin/go", (goroot / "bin/go").read_bytes(), 0o644)


def truncated(goroot: Path, version: str) -> None:
    data = (goroot / "bin/go").read_bytes()
    replace(goroot / "bin/go", data[: len(data) // 2])


def other_architecture(goroot: Path, version: str) -> None:
    data = bytearray((goroot / "bin/go").read_bytes())
    data[18:20] = (0xF7).to_bytes(2, "little")  # EM_BPF: no machine runs it
    replace(goroot / "bin/go", bytes(data))


def text_file(goroot: Path, version: str) -> None:
    replace(goroot / "bin/go", b"go is not here\n")


def other_version_file(goroot: Path, version: str) -> None:
    replace(goroot / "VERSION", f"go{other(version)}\n".encode(), 0o644)


def other_compile(goroot: Path, version: str) -> None:
    replace(tool(goroot, "compile"), tool(real(other(version)), "compile").read_bytes())


def other_link(goroot: Path, version: str) -> None:
    replace(tool(goroot, "link"), tool(real(other(version)), "link").read_bytes())


def other_asm(goroot: Path, version: str) -> None:
    replace(tool(goroot, "asm"), tool(real(other(version)), "asm").read_bytes())


def other_gofmt(goroot: Path, version: str) -> None:
    replace(goroot / "bin/gofmt", (real(other(version)) / "bin/gofmt").read_bytes())


def no_asm(goroot: Path, version: str) -> None:
    tool(goroot, "asm").unlink()


def no_link(goroot: Path, version: str) -> None:
    tool(goroot, "link").unlink()


def no_tls(goroot: Path, version: str) -> None:
    shutil.rmtree(goroot / "src/crypto/tls")


def no_dependency(goroot: Path, version: str) -> None:
    shutil.rmtree(goroot / "src/crypto/x509")


def syntax_error(goroot: Path, version: str) -> None:
    path = goroot / "src/crypto/tls/conn.go"
    replace(path, path.read_bytes() + b"\nfunc broken( {\n", 0o644)


def src_empty(goroot: Path, version: str) -> None:
    shutil.rmtree(goroot / "src")
    (goroot / "src").mkdir()


def env_elsewhere(goroot: Path, version: str) -> None:
    replace(goroot / "go.env", b"GOPROXY=off\nGOTOOLCHAIN=go1.22.1\n", 0o644)


BREAKAGES: list[tuple[Callable[[Path, str], None], str]] = [
    (no_go, "goroot"),
    (not_executable, "goroot"),
    (truncated, "goroot"),
    (other_architecture, "goroot"),
    (text_file, "goroot"),
    (other_version_file, "version"),
    (other_compile, "version"),
    (other_link, "version"),
    (other_asm, "version"),
    (other_gofmt, "version"),
    (no_link, "goroot"),
    (no_asm, "goroot"),
    (no_tls, "goroot"),
    (no_dependency, "stdlib"),
    (syntax_error, "stdlib"),
    (src_empty, "goroot"),
    (env_elsewhere, "goroot"),
]


@pytest.mark.parametrize("version", BROKEN_VERSIONS)
@pytest.mark.parametrize(("breakage", "check"), BREAKAGES, ids=[b[0].__name__ for b in BREAKAGES])
def test_a_broken_toolchain_is_blocked(
    hook: Hook, workshop: Path, version: str, breakage: Callable[[Path, str], None], check: str
) -> None:
    goroot = copy(version, workshop)
    breakage(goroot, version)
    status, report = hook.judge(goroot)
    assert status == 1, report
    assert report["verdict"] == "block"
    found = finding(report, check)
    assert found["status"] == "fail"
    assert found["remedy"]
    assert check in report["reason"]
    if breakage is no_dependency:
        assert f" {goroot}/src/crypto/tls/" in found["summary"]


def dangling(workshop: Path) -> Path:
    (workshop / "link").symlink_to(workshop / "nowhere")
    return workshop / "link"


def loop(workshop: Path) -> Path:
    (workshop / "a").symlink_to("b")
    (workshop / "b").symlink_to("a")
    return workshop / "a"


def a_file(workshop: Path) -> Path:
    (workshop / "file").write_text("not a directory\n")
    return workshop / "file"


@pytest.mark.parametrize("program", ["bin/go", "pkg/tool/linux_amd64/compile", "pkg/tool/linux_amd64/link"])
@pytest.mark.parametrize("version", BROKEN_VERSIONS)
def test_a_file_cut_anywhere_is_seen_without_running_it(hook: Hook, workshop: Path, version: str, program: str) -> None:
    goroot = copy(version, workshop)
    data = (goroot / program).read_bytes()
    for size in (0, 20, len(data) * 7 // 10):
        replace(goroot / program, data[:size])
        status, report = hook.judge(goroot)
        assert status == 1
        summary = finding(report, "goroot")["summary"]
        assert "cut short" in summary or "is empty" in summary, (size, summary)


@pytest.mark.parametrize(("make", "words"), [(dangling, "does not exist"), (loop, "loop"), (a_file, "is a file")])
def test_a_goroot_that_is_none_is_blocked(hook: Hook, workshop: Path, make: Callable[[Path], Path], words: str) -> None:
    status, report = hook.judge(make(workshop))
    assert status == 1, report
    assert words in finding(report, "goroot")["summary"]
    assert finding(report, "goroot")["remedy"]


@pytest.mark.parametrize("version", BROKEN_VERSIONS)
@pytest.mark.parametrize("writable", ["", "bin", "pkg/tool", "src/runtime", "go.env"])
def test_root_does_not_execute_what_others_can_write(hook: Hook, workshop: Path, version: str, writable: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has somebody to distrust: run as root")
    goroot = copy(version, workshop)
    if (goroot / writable).is_file():
        replace(goroot / writable, (goroot / writable).read_bytes())
    (goroot / writable).chmod(0o777)
    status, report = hook.judge(goroot)
    assert status == 0
    assert "nor executed as root" in finding(report, "goroot")["summary"]
    assert finding(report, "goroot")["ground"] == "not-judged"
    assert finding(report, "version")["status"] == "skip"


def test_a_sticky_directory_of_roots_is_safe(hook: Hook, workshop: Path) -> None:
    (workshop / "sticky").mkdir()
    (workshop / "sticky").chmod(0o1777)
    status, report = hook.judge(copy("1.27.3", workshop / "sticky"))
    assert status == 0, report


SCRIPTS = {
    "exec sleep 1000": 3,
    "trap '' TERM INT HUP; while :; do sleep 1000; done": 3,
    "echo go version go1.27.3 linux/amd64": 1,
    "exit 7": 1,
    "kill -SEGV $$": 1,
    'exec yes "go version"': 1,
    "setsid sleep 1000 & echo go version go1.27.3 linux/amd64": 1,
}


@pytest.mark.parametrize(("script", "expected"), SCRIPTS.items(), ids=list(SCRIPTS))
def test_a_script_in_gos_place_is_judged_by_what_it_does(
    hook: Hook, workshop: Path, script: str, expected: int
) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", f"#!/bin/sh\n# {workshop}\n{script}\n".encode())
    status, report = hook.judge(goroot, "--budget", "2")
    # A slow machine may run out of time before the misbehaviour shows.
    assert status in (expected, 3), report
    assert all(r["remedy"] for r in report["results"] if r["status"] in ("fail", "timeout"))
    assert left_behind(str(workshop)) == []


def test_a_script_that_runs_the_real_go_is_as_good(hook: Hook, workshop: Path) -> None:
    goroot = copy("1.27.3", workshop)
    (goroot / "bin/go").rename(goroot / "bin/go.real")
    replace(goroot / "bin/go", b'#!/bin/sh\nexec "${0%/*}/go.real" "$@"\n')
    status, report = hook.judge(goroot)
    assert status == 0, report


def test_a_go_that_takes_another_tree_for_its_own_is_blocked(hook: Hook, workshop: Path, badgo: Path) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text("lives elsewhere")
    _, report = hook.judge(goroot)
    assert finding(report, "goroot")["status"] == "fail"
    assert "takes /elsewhere for GOROOT" in finding(report, "goroot")["summary"]


def test_time_that_runs_out_names_the_checks(hook: Hook, workshop: Path, badgo: Path) -> None:
    goroot = copy("1.27.3", workshop)
    replace(goroot / "bin/go", badgo.read_bytes())
    (goroot / "mode").write_text("hangs")
    status, report = hook.judge(goroot, "--budget", "1")
    assert status == 3
    assert finding(report, "version")["status"] == "timeout"
    assert finding(report, "cgroup")["status"] == "pass"
    assert "version" in report["reason"] and "cgroup" not in report["reason"]


def test_a_dry_run_says_the_same_and_exits_with_0(hook: Hook, workshop: Path) -> None:
    goroot = copy("1.27.3", workshop)
    no_link(goroot, "1.27.3")
    done = hook("--dry-run", "--goroot", goroot)
    assert done.returncode == 0
    assert "would be blocked" in done.stdout
    assert "exit status 1" in done.stdout
    assert "go-health-hook override" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80 + len(str(goroot))
