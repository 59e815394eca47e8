# SPDX-License-Identifier: GPL-2.0-or-later
"""Laying out packages: nothing is written outside the private directory, whatever the names in them say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dnf_gate import settings, transaction

from go_health_hook.deadline import Clock, Deadline
from go_health_hook.gates import _dnf_incoming
from go_health_hook.gates._dnf_judge import Answer, Survey, Task
from go_health_hook.go import incoming, unpack
from go_health_hook.linux import rpmfile
from go_health_hook.linux.rpmdb import Owner, Ownership

HOME = "/usr/lib/golang"


def writer(tmp_path: Path) -> unpack.Writer:
    return unpack.Writer(str(tmp_path / "root"), HOME, [])


def everything(top: Path) -> list[str]:
    return sorted(str(p.relative_to(top)) for p in top.rglob("*"))


@pytest.mark.parametrize(
    "name", ["/../up", "/bin/../../up", "/./bin/go", "//bin/go", "/bin/", "/bin/a\0b", "/" + "x" * 300]
)
def test_names_that_climb_are_left_out(tmp_path: Path, name: str) -> None:
    w = writer(tmp_path)
    assert w.open(HOME + name, 0o755, 1) == -1
    assert w.notes
    assert everything(tmp_path) == ["root"] or everything(tmp_path) == ["root", "root/bin"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    w = writer(tmp_path)
    w.link(f"{HOME}/src", f"{HOME}/pkg")
    assert w.open(f"{HOME}/src/evil", 0o644, 1) == -1
    w.link(f"{HOME}/bin/go", f"{HOME}/bin/other")
    assert w.open(f"{HOME}/bin/go", 0o755, 1) == -1
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc", "/usr/lib", "/usr/lib/golang-other/x", "../../x"])
def test_links_that_lead_out_are_left_out(tmp_path: Path, target: str) -> None:
    w = writer(tmp_path)
    w.link(f"{HOME}/bin/go", target)
    assert "leads out" in w.notes[0]
    assert not [p for p in (tmp_path / "root").rglob("*") if p.is_symlink()]


def test_links_inside_lead_where_they_will(tmp_path: Path) -> None:
    w = writer(tmp_path)
    fd = w.open(f"{HOME}/bin/go", 0o4755, 2)
    os.write(fd, b"go")
    os.close(fd)
    w.link(f"{HOME}/bin/linux_amd64/go", f"{HOME}/bin/go")
    assert (tmp_path / "root/bin/linux_amd64/go").read_text() == "go"
    assert (tmp_path / "root/bin/go").stat().st_mode & 0o7777 == 0o755, "no set-user-id bit"


@given(st.lists(st.sampled_from(["..", ".", "", "bin", "src", "a\0", "x" * 256, "é"]), max_size=6))
def test_whatever_the_name_it_stays_inside(parts: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        w = writer(Path(folder))
        name = "/".join([HOME, *parts])
        fd = w.open(name, 0o644, 1)
        if fd >= 0:
            os.close(fd)
        assert {p.name for p in Path(folder).iterdir()} == {"root"}


def test_more_than_can_be_is_refused(tmp_path: Path) -> None:
    w = writer(tmp_path)
    with pytest.raises(unpack.CannotLook, match="MiB"):
        w.open(f"{HOME}/bin/go", 0o755, unpack.MAX_BYTES + 1)
    w.count = unpack.MAX_FILES
    with pytest.raises(unpack.CannotLook, match="files"):
        w.directory(f"{HOME}/src")


@pytest.mark.parametrize(
    ("files", "home"),
    [
        (["/usr/lib/golang/bin/go", "/usr/lib/golang/pkg/tool/linux_amd64/compile"], "/usr/lib/golang"),
        (["/opt/x/bin/go", "/usr/bin/go", "/opt/acme/go1.27/VERSION", "/opt/acme/go1.27/bin/go"], "/opt/acme/go1.27"),
        (["/usr/local/go/src/runtime/proc.go", "/usr/local/go/bin/go"], "/usr/local/go"),
        (["/usr/bin/go", "/usr/local/bin/go", "/bin/go", "/usr/bin/gofmt", "/usr/VERSION"], ""),
        (["/opt/gotool/bin/go", "/opt/gotool/lib/helper.py", "/opt/gotools/VERSION"], ""),
    ],
)
def test_a_go_command_is_known_by_its_place_and_what_is_beside_it(files: list[str], home: str) -> None:
    assert incoming.brings_go(files) == home


def owner(name: str, evr: str, source: str = "golang") -> Owner:
    return Owner(name, f"{name}-{evr}.x86_64", evr, evr.split("-", maxsplit=1)[0], f"{source}-{evr}.src.rpm")


def test_one_release_is_asked_of_one_source_only() -> None:
    given_ = Ownership()
    given_.packages = [
        owner("golang-bin", "1.27.3-1"),
        owner("golang-src", "1.27.3-1"),
        owner("vim-go", "1-1", "vim-go"),
    ]
    given_.go = given_.packages[0]
    assert given_.mixed() == ""
    given_.packages.append(owner("golang-race", "1.27.2-1"))
    assert given_.mixed() == (
        "not of one release: golang-bin-1.27.3-1.x86_64, golang-race-1.27.2-1.x86_64, golang-src-1.27.3-1.x86_64"
    )


def test_homes_of_two_toolchains_are_both_named() -> None:
    files = [
        "/usr/lib/golang/bin/go",
        "/usr/lib/golang/VERSION",
        "/opt/x/bin/go",
        "/usr/local/go/bin/go",
        "/usr/local/go/go.env",
    ]
    assert list(incoming.homes(files)) == ["/usr/lib/golang", "/usr/local/go"]


def test_incoming_without_a_view_is_judged_where_it_lies() -> None:
    plan = incoming.Incoming(HOME, Ownership())
    plan.directory, plan.stays = "/var/cache/x", ["src"]
    subject, goroot = plan.subject(in_a_view=False)
    assert (goroot, subject.binds) == ("/var/cache/x/root", [])


def test_reaches_counts_folders_as_a_whole() -> None:
    folders = [HOME, "/usr/share/golang/src"]
    for directory, reached in (
        (f"{HOME}/", True),
        (f"{HOME}/pkg/tool/linux_amd64/", True),
        ("/usr/share/golang/src/runtime/", True),
        ("/usr/lib/golang-other/", False),
        ("/usr/share/golang/", False),
        ("/usr/bin/", False),
    ):
        assert incoming.reaches({"dirnames": ["/usr/share/doc/", directory]}, folders) is reached, directory
    assert not incoming.reaches({"dirnames": None}, folders)


@pytest.mark.parametrize(("more", "rounds"), [([], 1), (["/x/acme-tools.rpm"], 2)])
def test_veto_is_judged_again_with_parts_of_other_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str], rounds: int
) -> None:
    seen: list[list[str]] = []

    def of_all(task: object, files: list[str], *more: object) -> tuple[list[Answer], set[str]]:
        seen.append(files)
        return [Answer(1, "broken") if len(seen) == 1 else Answer()], {HOME}

    monkeypatch.setattr(_dnf_incoming, "_files", lambda task: {"acme-go": "/x/acme-go.rpm"})
    monkeypatch.setattr(_dnf_incoming, "_can_view", lambda deadline: True)
    monkeypatch.setattr(_dnf_incoming, "_of_all", of_all)
    monkeypatch.setattr(_dnf_incoming, "_parts", lambda task, known, folders: more)
    stages: list[str] = []
    task = Task(transaction({}), Survey(), set(), True, False)
    deadline = Deadline(5, ceiling=60)
    answers = _dnf_incoming.judge(task, settings(tmp_path), deadline, Clock(), lambda name, *_: stages.append(name))
    assert [a.message for a in answers] == ([""] if more else ["broken"])
    assert len(seen) == rounds and stages[0] == "searching"
    assert seen[-1] == ["/x/acme-go.rpm", *more]


class Twin(rpmfile.Package):
    """A package of one architecture without a file behind it."""

    def __init__(self, files: list[str], colours: list[int]) -> None:
        self.header = {"filenames": files, "filecolors": colours}
        self.files = list(files)
        self.aliases: dict[str, str] = {}
        self.left_out: set[str] = set()


GO, ONLY_32 = f"{HOME}/bin/go", f"{HOME}/bin/go32"


def test_twin_of_32_bits_gives_way_to_64_bits_that_come_or_stay() -> None:
    """The colours: 0 no ELF file, 1 one of 32 bits, 2 one of 64 bits."""
    old, new = Twin([GO, ONLY_32, f"{HOME}/VERSION"], [1, 1, 0]), Twin([GO, f"{HOME}/VERSION"], [2, 0])
    incoming._give_way([old, new], [])
    assert old.files == ["", ONLY_32, f"{HOME}/VERSION"] and old.seen(GO) == ""
    assert new.files == [GO, f"{HOME}/VERSION"] and not new.left_out
    old = Twin([GO], [1])
    incoming._give_way([old], [{"filenames": [GO], "filecolors": [2]}])
    assert old.files == [""]
    old, other = Twin([GO], [1]), Twin([ONLY_32], [1])
    incoming._give_way([old, other], [{"filenames": [GO], "filecolors": None}])
    assert (old.files, other.files) == ([GO], [ONLY_32])


def test_link_of_a_program_to_what_is_there_keeps_it_from_being_judged(tmp_path: Path) -> None:
    w = writer(tmp_path)
    w.link(f"{HOME}/lib/time", "/usr/share")
    w.link(f"{HOME}/bin/gofmt", "/nonexistent/gofmt")
    w.link(f"{HOME}/pkg/tool/linux_amd64", "../../../../libexec/golang")
    coming = {"/usr/libexec/golang/compile"}
    assert incoming._elsewhere(w.led_out, HOME, set()) == []
    assert incoming._elsewhere(w.led_out, HOME, coming) == [(f"{HOME}/pkg/tool/linux_amd64", "/usr/libexec/golang")]


def test_link_of_the_folder_of_programs_counts_as_theirs(tmp_path: Path) -> None:
    w = writer(tmp_path)
    w.link(f"{HOME}/pkg/tool", "/usr/share")
    w.link(f"{HOME}/pkg/tools", "/usr/share")
    assert incoming._elsewhere(w.led_out, HOME, set()) == [(f"{HOME}/pkg/tool", "/usr/share")]


@pytest.mark.parametrize(
    ("link", "summary", "excuses"),
    [
        ("bin/go", "bin/go: No such file or directory", True),
        ("bin/gofmt", "bin/go is cut short: 5 bytes of at least 9", False),
        ("bin/go", "bin/gofmt is empty", False),
        ("pkg/tool", "pkg/tool/linux_unknown/compile: No such file or directory", True),
        ("pkg/tool/linux_amd64", "pkg/tool/linux_unknown/compile: No such file or directory", True),
        ("pkg/tool/linux_amd64/asm", "pkg/tool/linux_amd64/compile is cut short: 5 bytes of at least 9", False),
        ("pkg/tool/linux_amd64/asm", "pkg/tool/linux_amd64/asm: No such file or directory", True),
    ],
)
def test_link_out_of_goroot_excuses_what_it_has_missing_alone(link: str, summary: str, excuses: bool) -> None:
    first = (f"{HOME}/pkg/tool/linux_amd64/cgo", "/usr/libexec/cgo")
    laid = incoming.Incoming(HOME, Ownership(), elsewhere=[first, (f"{HOME}/{link}", "/usr/libexec/go")])
    found = _dnf_incoming._missing_link(laid, f"{HOME}/{summary}")
    assert found == ((f"{HOME}/{link}", "/usr/libexec/go") if excuses else ("", ""))


def test_package_file_is_seen_where_a_link_of_goroot_has_it() -> None:
    package = Twin(["/usr/share/golang/VERSION", "/usr/share/golang/src/a.go", "/usr/share/golang/srcs"], [0, 0, 0])
    package.see_as({"/usr/share/golang/VERSION": f"{HOME}/VERSION", "/usr/share/golang/src": f"{HOME}/src"})
    assert package.files == [f"{HOME}/VERSION", f"{HOME}/src/a.go", "/usr/share/golang/srcs"]


def test_worst_answer_is_the_one_that_is_recorded() -> None:
    sound, other = Answer(entry={"not_judged": []}), Answer(entry={"not_judged": ["stdlib"]})
    fault, veto = Answer(4, entry={"not_judged": []}), Answer(1, "broken", entry={"not_judged": []})
    assert _dnf_incoming.worst([sound, other]) is other
    assert _dnf_incoming.worst([sound, other, fault]) is fault
    assert _dnf_incoming.worst([sound, other, fault, veto]) is veto
    assert _dnf_incoming.worst([sound]) is sound
