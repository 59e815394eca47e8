# SPDX-License-Identifier: GPL-2.0-or-later
"""Which toolchain of a root is judged, where there is one, where several, and where only traces of one are left."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from go_health_hook.checks import Context, _remedies
from go_health_hook.config import load, severities
from go_health_hook.deadline import Deadline
from go_health_hook.go.toolchain import find
from go_health_hook.linux import ostree
from go_health_hook.subject import Subject


def plant(root: Path, goroot: str) -> None:
    for name in ("bin/go", "pkg/tool/linux_amd64/compile", "src/runtime/proc.go", "VERSION"):
        path = root / goroot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def link(root: Path, name: str, target: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(target)


def found(root: Path) -> str:
    toolchain = find(Subject("root", str(root)))
    return toolchain.goroot if toolchain else ""


@pytest.mark.parametrize("links", ["/etc/alternatives/go", "../lib/golang/bin/go"])
def test_go_is_followed_through_links_inside_its_root(tmp_path: Path, links: str) -> None:
    plant(tmp_path, "usr/lib/golang")
    link(tmp_path, "usr/bin/go", links)
    link(tmp_path, "etc/alternatives/go", "/usr/lib/golang/bin/go")
    assert found(tmp_path) == "/usr/lib/golang"


def test_a_split_tree_as_debian_has_it_is_found(tmp_path: Path) -> None:
    plant(tmp_path, "usr/lib/go-1.24")
    link(tmp_path, "usr/lib/go", "go-1.24")
    link(tmp_path, "usr/bin/go", "../lib/go/bin/go")
    assert found(tmp_path) == "/usr/lib/go-1.24"


def test_a_wrapper_called_go_and_gccs_go_are_no_toolchain(tmp_path: Path) -> None:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/go").write_text("#!/bin/sh\nexec /opt/go/bin/go\n")
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/go.gcc").write_text("")
    link(tmp_path, "usr/bin/go", "/etc/alternatives/go")
    link(tmp_path, "etc/alternatives/go", "/usr/bin/go.gcc")
    assert found(tmp_path) == ""
    plant(tmp_path, "usr/local/go")
    assert found(tmp_path) == "/usr/local/go"


@pytest.mark.parametrize("left", ["usr/lib/golang/pkg/linux_amd64/fmt.a", "usr/local/go/src/runtime/proc.go"])
def test_what_an_uninstalled_go_left_behind_is_no_toolchain(tmp_path: Path, left: str) -> None:
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).write_text("")
    assert found(tmp_path) == ""


def test_a_toolchain_that_lost_its_go_is_one(tmp_path: Path) -> None:
    plant(tmp_path, "usr/local/go")
    (tmp_path / "usr/local/go/bin/go").unlink()
    assert found(tmp_path) == "/usr/local/go"


def test_a_go_that_leads_to_what_is_left_is_judged(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/golang/src").mkdir(parents=True)
    link(tmp_path, "usr/bin/go", "/usr/lib/golang/bin/go")
    assert found(tmp_path) == "/usr/lib/golang"
    toolchain = find(Subject("root", str(tmp_path)))
    assert toolchain and "/usr/bin/go leads to /usr/lib/golang/bin" in toolchain.via


@pytest.mark.parametrize(
    ("goroot", "kind", "on_ostree", "words"),
    [
        ("usr/lib/golang", "running", False, "dnf distro-sync"),
        ("usr/lib/golang", "running", True, "rpm-ostree upgrade"),
        ("usr/lib/golang", "root", True, "dnf distro-sync"),
        ("usr/lib/golang", "staged", True, "rpm-ostree cleanup -p drops this update"),
        ("usr/local/go", "running", False, "remove /usr/local/go first, then unpack"),
        ("usr/local/go", "running", True, "remove /usr/local/go first, then unpack"),
        ("usr/local/go", "staged", True, "wait for a build whose Go is whole"),
    ],
)
def test_the_remedy_is_in_the_words_of_what_installed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goroot: str, kind: str, on_ostree: bool, words: str
) -> None:
    plant(tmp_path, goroot)
    (tmp_path / "ostree-booted").touch()
    monkeypatch.setattr(ostree, "BOOTED", str(tmp_path / ("ostree-booted" if on_ostree else "none")))
    monkeypatch.setattr(ostree, "driver", lambda: "rpm-ostree")
    subject = Subject(kind, str(tmp_path))
    toolchain = find(subject)
    assert toolchain
    context = Context(subject, toolchain, load(severities()), Deadline(1))
    assert words in _remedies.reinstall(context)[0]


def program(path: Path, machine: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + machine.to_bytes(2, "little") + bytes(44))
    path.chmod(0o755)


@pytest.mark.parametrize(("number", "tools"), [(62, "linux_amd64"), (3, "linux_386")])
def test_tools_are_those_of_the_go_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, tools: str
) -> None:
    """As where an archive for amd64 was unpacked over one for 386, whose tools run there too."""
    goroot = tmp_path / "usr/local/go"
    program(goroot / "bin/go", number)
    program(goroot / "pkg/tool/linux_amd64/compile", 62)
    program(goroot / "pkg/tool/linux_386/compile", 3)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    toolchain = find(Subject("root", str(tmp_path)))
    assert toolchain
    assert toolchain.tools == f"/usr/local/go/pkg/tool/{tools}"


@pytest.mark.parametrize("go", ["", "#!/bin/sh\n"])
def test_tools_that_are_damaged_are_judged_beside_others_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: str
) -> None:
    """Go starts those of its own machine, whatever lies next to them; a wrapper is taken to be for this machine."""
    goroot = tmp_path / "usr/local/go"
    program(goroot / "bin/go", 62)
    if go:
        (goroot / "bin/go").write_text(go)
    (goroot / "pkg/tool/linux_amd64").mkdir(parents=True)
    program(goroot / "pkg/tool/linux_386/compile", 3)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    toolchain = find(Subject("root", str(tmp_path)))
    assert toolchain
    assert toolchain.tools == "/usr/local/go/pkg/tool/linux_amd64"


@pytest.mark.parametrize(
    ("machine", "number", "problem"),
    [("x86_64", 62, ""), ("x86_64", 183, "is for arm64"), ("aarch64", 40, ""), ("aarch64", 62, "is for x86-64")],
)
def test_an_executable_is_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, number: int, problem: str
) -> None:
    plant(tmp_path, "usr/local/go")
    program(tmp_path / "usr/local/go/bin/go", number)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    toolchain = find(Subject("root", str(tmp_path)))
    assert toolchain
    assert problem in toolchain.broken(toolchain.go)
    assert bool(problem) == bool(toolchain.broken(toolchain.go))


@pytest.mark.root
def test_root_takes_no_goroot_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "go")
    monkeypatch.setenv("GOROOT", str(tmp_path / "go"))
    toolchain = find(Subject())
    assert toolchain is None or not toolchain.goroot.startswith(str(tmp_path))
