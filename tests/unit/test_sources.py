# SPDX-License-Identifier: GPL-2.0-or-later
"""Signs that sources are of several releases, found by reading them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from go_health_hook.deadline import Deadline
from go_health_hook.go import goenv, sources, trust
from go_health_hook.go.versions import parse_version
from go_health_hook.subject import Subject

ABI = """package abi

// func Old() is gone.
/*
func Comment() {}
*/
const (
\tA, B = 1, 2
\t_ = 3
)

type T[P any] struct{}

func (t *T[P]) M() {}
func (T[P]) _() {}
func init() {}
func _() {}
var text = "x"
"""
RUNTIME = """package runtime

import (
\t"internal/abi"
\tother "math"
)

func f() { abi.A; x.abi.Z(); other.Q } // abi.Gone
"""


def signs(tmp_path: Path, **packages: dict[str, str]) -> sources.Signs:
    listing = []
    for name, files in packages.items():
        path = name.replace("_", "/")
        for file, text in files.items():
            place = tmp_path / "src" / path / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        listing.append((path, list(files)))
    return sources.read_signs(Subject("root", str(tmp_path)), "", listing, "runtime", Deadline(60))


def test_sources_of_one_release_show_no_sign(tmp_path: Path) -> None:
    more = "package abi\nfunc init() {}\nfunc _() {}\ntype U int\nfunc (u U) M() {}\n"
    found = signs(tmp_path, internal_abi={"a.go": ABI, "b.go": more}, runtime={"r.go": RUNTIME})
    assert (found.twice, found.missing, found.complete) == ({}, {}, True)


@pytest.mark.parametrize(
    ("again", "name"),
    [
        ("func (t *T[Q]) M() {}", "T.M"),
        ("var B int", "B"),
        ("const (\n\tC = 1\n\tA = 2\n)", "A"),
        ("type T int", "T"),
        ("func text() {}", "text"),
    ],
)
def test_sources_name_declared_twice_is_a_sign(tmp_path: Path, again: str, name: str) -> None:
    found = signs(tmp_path, internal_abi={"a.go": ABI, "old.go": f"package abi\n\n{again}\n"})
    assert found.twice == {"internal/abi": f"{name} is declared in a.go and in old.go"}


def test_sources_name_that_is_gone_is_a_sign(tmp_path: Path) -> None:
    found = signs(tmp_path, internal_abi={"a.go": ABI}, runtime={"r.go": RUNTIME.replace("abi.A;", "abi.Gone;")})
    assert found.missing == {"runtime": "r.go uses Gone of internal/abi, which does not have it"}


@pytest.mark.root
def test_sources_that_others_can_change_are_named(tmp_path: Path) -> None:
    signs(tmp_path, internal_abi={"a.go": ABI})
    tmp_path.chmod(0o755)
    (tmp_path / "src/internal/abi/a.go").chmod(0o666)
    found = signs(tmp_path, internal_abi={"a.go": ABI}).foreign
    assert found and "a.go is writable by everybody" in found.text
    assert found.kind == trust.WRITABLE
    os.chown(tmp_path / "src/internal/abi", 1000, 1000)
    found = signs(tmp_path, internal_abi={"a.go": ABI}).foreign
    assert found and "internal/abi belongs to user 1000" in found.text
    assert found.kind == trust.FOREIGN


def test_sources_that_time_runs_out_for_are_not_complete(tmp_path: Path) -> None:
    listing = [("internal/abi", ["a.go"])]
    assert not sources.read_signs(Subject("root", str(tmp_path)), "", listing, "runtime", Deadline(0)).complete


def test_goenv_is_read_as_go_reads_it() -> None:
    text = "# A=1\n A=2\nA=3 \nA=4\nB\n=C\nb=5\nGOFLAGS=-x=y\r\n"
    assert goenv.parse(text) == {"A": "3 ", "GOFLAGS": "-x=y\r"}


@pytest.mark.parametrize("value", ["local", "auto", "path", "local+auto", ""])
def test_goenv_own_toolchain_is_usual(value: str) -> None:
    settings = {"GOTOOLCHAIN": value, "GOPROXY": "direct", "GOSUMDB": "off"}
    assert not goenv.unusual(settings)
    assert not goenv.elsewhere(settings, parse_version("go1.27.3"))


@pytest.mark.parametrize("value", ["auto\r", '"local"', "default", "local ", " local", "go1.27.3\r", "1.22", "local+x"])
def test_goenv_what_go_refuses_is_asked_of_go(value: str) -> None:
    assert goenv.unusual({"GOTOOLCHAIN": value})
    assert not goenv.elsewhere({"GOTOOLCHAIN": value}, parse_version("go1.27.3"))


@pytest.mark.parametrize("value", ["go1.22.1", "go1.22.1+auto", "go1.27.2+path", "go1.27rc1"])
def test_goenv_another_toolchain_is_elsewhere(value: str) -> None:
    assert goenv.elsewhere({"GOTOOLCHAIN": value}, parse_version("go1.27.3")) == value


def test_goenv_its_own_version_is_not_elsewhere() -> None:
    assert not goenv.elsewhere({"GOTOOLCHAIN": "go1.27.3+auto"}, parse_version("go1.27.3"))


SYSLIST = 'var KnownArch = map[string]bool{\n\t"amd64":   true,\n\t"arm64": true,\n}\nvar KnownOS = {"linux": true}\n'


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"GOARCH": "arm64", "GOOS": "linux"}, ""),
        ({"GOARCH": ""}, ""),
        ({"GOARCH": "amd64\r"}, "GOARCH=amd64\r"),
        ({"GOOS": "Linux"}, "GOOS=Linux"),
    ],
)
def test_goenv_unknown_platform_is_named(settings: dict[str, str], expected: str) -> None:
    assert goenv.unknown_platform(settings, SYSLIST) == expected


def test_goenv_platform_without_a_list_is_not_judged() -> None:
    assert not goenv.unknown_platform({"GOARCH": "amd64\r"}, "")


@pytest.mark.parametrize(("path", "expected"), [("/srv/go", False), ("$HOME/go", True), ("~/go", True)])
def test_goenv_gopath_that_is_not_absolute_is_asked_of_go(path: str, expected: bool) -> None:
    assert goenv.unusual({"GOPATH": path}) is expected


WHOLE = {
    "a.go": "package fmt\n\nfunc print() string { return pad(1) }\n\nvar p = &Printer{}\n",
    "b.go": "package fmt\n\ntype Printer struct {\n\tConn net.Conn\n}\n\nfunc pad(n int) string { return f(n) }\n",
    "c.go": "package fmt\n\nfunc f(do func() int) int { return do() } // see *Gone\n",
}


def partial(tmp_path: Path, files: dict[str, str]) -> dict[str, tuple[str, str]]:
    return signs(tmp_path, runtime={"r.go": "package runtime\n"}, fmt=files).partial


def test_sources_whole_package_shows_no_sign(tmp_path: Path) -> None:
    assert not partial(tmp_path, WHOLE)


def test_sources_missing_file_is_a_sign(tmp_path: Path) -> None:
    found = partial(tmp_path, {name: text for name, text in WHOLE.items() if name != "b.go"})
    assert found["fmt"][0] in ("Printer", "pad")


def test_sources_missing_type_that_a_field_is_called_is_a_sign(tmp_path: Path) -> None:
    text = "package tls\n\ntype Info struct {\n\tConn net.Conn\n}\n\nfunc (c *Conn) Close() {}\n"
    assert partial(tmp_path, {"a.go": text})["fmt"][0] == "Conn"


@pytest.mark.parametrize("text", ["package fmt\n\nfunc f() {\n\tret", "package fmt\n\n\0\0\n"])
def test_sources_file_cut_short_is_a_sign(tmp_path: Path, text: str) -> None:
    assert partial(tmp_path, {"a.go": text})["fmt"] == ("", "a.go ends within a line")


@pytest.mark.parametrize(
    "text",
    [
        'import . "errors"\n\nfunc f() error { return lost(1) }\n',
        "func f(lost func(int) int) int { return lost(1) }\n",
        "func f() { lost := func() {}; if lost() {} }\n",
        "func f[Lost any](v *Lost) Lost { return *v }\n",
        "// return lost(1) and *Lost\nvar text = 1 /* := lost( */\n",
    ],
)
def test_sources_name_that_is_declared_otherwise_is_no_sign(tmp_path: Path, text: str) -> None:
    assert not partial(tmp_path, {"a.go": f"package fmt\n\n{text}"})
