# SPDX-License-Identifier: GPL-2.0-or-later
"""The module at hand: what the go command's own rules make of go.mod, go.work and the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from go_health_hook.go.maxprocs import gate
from go_health_hook.go.modules import at_hand, source_directives

if TYPE_CHECKING:
    from pathlib import Path


def test_the_nearest_go_mod_counts_and_outside_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "outer/inner/deep").mkdir(parents=True)
    (tmp_path / "outer/go.mod").write_text("module outer\ngo 1.27\n")
    (tmp_path / "outer/inner/go.mod").write_text(
        "module inner // go 1.27\n\ngo 1.24.1 // go 1.26\ntoolchain go1.25.5\n"
    )
    module = at_hand(str(tmp_path / "outer/inner/deep"), {})
    assert (module.go_line, module.toolchain) == ("1.24.1", "go1.25.5")
    assert at_hand(str(tmp_path / "outer"), {}).go_line == "1.27"
    assert at_hand(str(tmp_path), {}).go_line is None


def test_a_workspace_goes_before_its_modules(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/go.mod").write_text("module m\ngo 1.21\n")
    (tmp_path / "go.work").write_text("go 1.27\nuse (\n\t./m\n)\n")
    (tmp_path / "other.work").write_text("go 1.22\nuse ./m\n")
    here = str(tmp_path / "m")
    assert at_hand(here, {}).go_line == "1.27"
    assert at_hand(here, {"GOWORK": "off"}).go_line == "1.21"
    assert at_hand(here, {"GOWORK": str(tmp_path / "other.work")}).go_line == "1.22"
    assert at_hand(here, {"GO111MODULE": "off"}).go_line == ""


@pytest.mark.parametrize(
    ("text", "line", "directives", "reads"),
    [
        ("module m\n", "", "", False),
        ("module m\ngo 1.24\ngodebug default=go1.25\n", "1.24", "default=go1.25", True),
        ("go 1.27\ngodebug (\n\tx=1\n\tcontainermaxprocs=0 // y\n)\n", "1.27", "x=1,containermaxprocs=0", False),
        ("module m\nrequire (\n\tgo 1.20\n)\ngo 1.27\n", "1.27", "", True),
        ("\x00\xff(\n(\n)\ngo\n", "", "", False),
    ],
)  # fmt: skip
def test_go_mod(tmp_path: Path, text: str, line: str, directives: str, reads: bool) -> None:
    (tmp_path / "go.mod").write_text(text, encoding="latin-1")
    module = at_hand(str(tmp_path), {})
    assert (module.go_line, module.directives) == (line, directives)
    assert gate(module.go_line, directives=module.directives) is reads


def test_debug_lines_of_a_main_package_and_of_its_tests(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("//go:debug containermaxprocs=1\npackage main\n//go:debug late=1\n")
    (tmp_path / "main_test.go").write_text("//go:debug panicnil=1\n\npackage main\n")
    assert source_directives(str(tmp_path), ["."]) == "containermaxprocs=1"
    assert source_directives(str(tmp_path), ["main.go"]) == "containermaxprocs=1"
    assert source_directives(str(tmp_path), ["."], tests=True) == "panicnil=1"
    assert source_directives(str(tmp_path), ["./...", "example.com/x", "./nothing"]) == ""
