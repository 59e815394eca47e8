# SPDX-License-Identifier: GPL-2.0-or-later
"""The module at hand: what the go command's own rules make of go.mod, go.work and the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from go_health_hook.cpu import _settings
from go_health_hook.cpu._modules import arguments, at_hand, chdir, source_directives
from go_health_hook.go.maxprocs import gate

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


def test_another_file_in_place_of_go_mod(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "go.mod").write_text("module m\ngo 1.27\n")
    (tmp_path / "in/old.mod").write_text("module m\ngo 1.21\n")
    assert at_hand(str(tmp_path / "in"), {}, "old.mod").go_line == "1.21"
    assert at_hand(str(tmp_path / "in"), {}, str(tmp_path / "in/old.mod")).go_line == "1.21"
    (tmp_path / "go.mod").unlink()
    assert at_hand(str(tmp_path / "in"), {}, "old.mod").go_line is None


@pytest.mark.parametrize(
    ("words", "there", "rest"),
    [
        (["run", "-C", "d", "."], "d", ["run", "."]),
        (["run", "--C=d", "."], "d", ["run", "."]),
        (["-C=d", "run", "."], "d", ["run", "."]),
        (["-C", "d", "run", "."], "d", ["run", "."]),
        (["run", "-v", "-C", "d", "."], "", ["run", "-v", "-C", "d", "."]),
        (["run", "-Cd"], "", ["run", "-Cd"]),
        (["run", "-C"], "", ["run"]),
        ([], "", []),
    ],
)
def test_where_a_go_command_goes_first(words: list[str], there: str, rest: list[str]) -> None:
    assert chdir(words) == (there, rest)


@pytest.mark.parametrize(
    ("words", "flags", "targets"),
    [
        ("run -race -tags a,b . -modfile=theirs user@host", {"race": "", "tags": "a,b"}, ["."]),
        ("run -modfile x.mod a.go b.go c", {"modfile": "x.mod"}, ["a.go", "b.go"]),
        ("run --exec=x y@v1 z", {"exec": "x"}, ["y@v1"]),
        ("test -v ./... -run X ./b -args ./c", {"v": "", "run": "X"}, ["./...", "./b"]),
        ("tool -n stringer -type=T", {"n": ""}, ["stringer"]),
        ("test -timeout", {"timeout": ""}, []),
    ],
)
def test_a_go_command_s_flags_end_where_the_program_s_own_begin(
    words: str, flags: dict[str, str], targets: list[str]
) -> None:
    verb, *rest = words.split()
    assert arguments(verb, rest) == (flags, targets)


def test_settings_of_the_environment_the_user_and_goroot(tmp_path: Path) -> None:
    """In that order; what is empty in the environment is not said there (cmd/go/internal/cfg, Getenv)."""
    goroot, home = tmp_path / "go", tmp_path / "home"
    (goroot / "bin").mkdir(parents=True)
    (goroot / "bin/go").touch()
    (goroot / "go.env").write_text("# GOFLAGS=-x\nGOTOOLCHAIN=auto\nGOPROXY=a,b\nGOSUMDB=off\n")
    (home / ".config/go").mkdir(parents=True)
    (home / ".config/go/env").write_text("GOTOOLCHAIN=go1.24.11\nGOFLAGS=-mod=mod -v\nlower=1\nGOSUMDB=\n\n=x\n")
    (tmp_path / "other").write_text("GOPROXY=other\n")
    go = str(goroot / "bin/go")

    def said(**env: str) -> list[str]:
        found = _settings.effective({"HOME": str(home), **env}, go)
        return [found.get(key, "-") for key in ("GOTOOLCHAIN", "GOFLAGS", "GOPROXY", "GOSUMDB", "lower")]

    assert said() == ["go1.24.11", "-mod=mod -v", "a,b", "", "-"]
    assert said(GOTOOLCHAIN="local", GOFLAGS="") == ["local", "-mod=mod -v", "a,b", "", "-"]
    assert said(GOENV="off") == ["auto", "-", "a,b", "off", "-"]
    assert said(GOENV=str(tmp_path / "other")) == ["auto", "-", "other", "off", "-"]
    assert said(XDG_CONFIG_HOME=str(home / ".config"), HOME="/nonexistent")[0] == "go1.24.11"
    assert said(XDG_CONFIG_HOME="relative")[0] == "auto"
    assert _settings.effective({"GOENV": "/nonexistent"}) == {"GOENV": "/nonexistent"}


def test_goflags_are_parted_and_put_together_as_go_does() -> None:
    for text, words in ((" -v\t'-ldflags=-s -w' \"-exec=a 'b'\"", ["-v", "-ldflags=-s -w", "-exec=a 'b'"]),
                        ("", []), ("''", [""]), ("-x=a'b", ["-x=a'b"])):  # fmt: skip
        assert _settings.split(text) == words
        assert _settings.split(_settings.join(words)) == words
    with pytest.raises(ValueError, match="both kinds"):
        _settings.join(["'\""])
