# SPDX-License-Identifier: GPL-2.0-or-later
"""--deep: a program that does a TLS handshake is built and run, which finds what the quick checks cannot."""

from __future__ import annotations

from pathlib import Path

from tests.toolchains.trees import Hook, copy, real, replace


def stdlib(report: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return next(r for r in report["results"] if r["check"] == "stdlib")


def test_a_sound_toolchain_builds_and_shakes_hands(hook: Hook) -> None:
    status, report = hook.judge(real("1.27.3"), "--deep")
    assert status == 0, report
    assert "handshake ok" in stdlib(report)["summary"]


def test_a_source_that_parses_and_does_not_compile_is_found(hook: Hook, workshop: Path) -> None:
    goroot = copy("1.27.3", workshop)
    source = goroot / "src/crypto/x509/x509.go"
    replace(source, source.read_bytes() + b'\nvar wrong int = "not a number"\n', 0o644)
    assert hook.judge(goroot)[0] == 0
    status, report = hook.judge(goroot, "--deep")
    assert status == 1, report
    assert stdlib(report)["status"] == "fail"
    assert stdlib(report)["remedy"]
