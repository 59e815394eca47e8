# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths inside a subject: links stay inside, and what an unprivileged user could change is seen."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from struct import pack

import pytest

from go_health_hook.subject import Step, Subject


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usr/lib/golang/bin").mkdir(parents=True)
    (tmp_path / "usr/lib/golang/bin/go").write_text("go")
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "usr/bin/go").symlink_to("/etc/alternatives/go")
    (tmp_path / "etc/alternatives/go").symlink_to("../../usr/lib/golang/bin/go")
    return tmp_path


def test_links_are_followed_inside_the_root(root: Path) -> None:
    assert Subject("root", str(root)).realpath("/usr/bin/go") == "/usr/lib/golang/bin/go"


def test_links_and_dots_do_not_lead_out(root: Path) -> None:
    (root / "out").symlink_to("../../../../../../../../etc")
    (root / "abs").symlink_to("/etc")
    subject = Subject("root", str(root))
    assert subject.host_path("/out") == f"{root}/etc"
    assert subject.host_path("/abs") == f"{root}/etc"
    assert subject.host_path("/../../usr/bin/../lib") == f"{root}/usr/lib"


def test_a_directory_that_becomes_a_link_meanwhile_does_not_lead_out(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "go").write_text("a secret")
    subject = Subject("root", str(root))
    real = root / "usr/lib/golang/bin"

    def swap(step: Step, fd: int) -> None:
        # What another process does between two steps: the directory just seen is replaced by a link to the outside.
        if step.path == "/usr/lib/golang/bin" and not real.is_symlink():
            real.rename(root / "moved")
            real.symlink_to(outside)

    fd = subject._resolve("/usr/lib/golang/bin/go", swap)
    with open(f"/proc/self/fd/{fd}") as file:
        assert file.read() == "go"
    os.close(fd)


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_only_regular_files_are_opened(root: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(root / "odd")
    elif kind == "directory":
        (root / "odd").mkdir()
    else:
        (root / "odd").symlink_to("dev-null")
        with contextlib.suppress(PermissionError):
            os.mknod(root / "dev-null", 0o020666, os.makedev(1, 3))
    with pytest.raises(OSError, match=r"not a regular file|No such file"):
        Subject("root", str(root)).open("/odd")


@pytest.mark.root
@pytest.mark.parametrize("closed", ["secret", "directory"])
def test_what_only_root_may_read_is_not_opened_to_be_shown(root: Path, closed: str) -> None:
    (root / "private").mkdir(mode=0o755 if closed == "secret" else 0o700)
    (root / "private/secret").write_text("x")
    (root / "private/secret").chmod(0o600 if closed == "secret" else 0o644)
    (root / "VERSION").symlink_to("/private/secret")
    subject = Subject("root", str(root))
    with pytest.raises(PermissionError):
        subject.open("/VERSION", home="/usr/lib/golang")
    os.close(subject.open("/VERSION"))
    os.close(subject.open("/VERSION", home="/private"))


def test_a_loop_ends(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        Subject("root", str(root)).realpath("/a/x")


def test_a_bind_is_seen_at_its_final_path(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    private = tmp_path_factory.mktemp("incoming")
    (private / "bin").mkdir()
    (private / "bin/go").write_text("incoming")
    subject = Subject("incoming", str(root), [(str(private), "/usr/lib/golang")])
    assert subject.host_path("/usr/bin/go") == f"{private}/bin/go"
    assert subject.exists("/usr/lib/golang/bin/go")
    assert not subject.exists("/usr/lib/golang/bin/gofmt")


@pytest.mark.skipif(os.geteuid() != 0, reason="ownership by root can be made by root only")
class TestTrust:
    def trust(self, root: Path) -> str:
        return Subject("root", str(root)).untrusted("/usr/bin/go")

    def test_roots_own_files_are_trusted(self, root: Path) -> None:
        assert self.trust(root) == ""

    @pytest.mark.parametrize("name", ["usr/lib/golang/bin/go", "usr/lib/golang/bin", "usr/lib/golang", "usr/bin"])
    def test_what_everybody_can_write_is_not(self, root: Path, name: str) -> None:
        (root / name).chmod(0o777)
        assert "writable by everybody" in self.trust(root)

    def test_nor_what_a_group_can_write(self, root: Path) -> None:
        os.chown(root / "usr/lib/golang", 0, 50)
        (root / "usr/lib/golang").chmod(0o775)
        assert "writable by group 50" in self.trust(root)

    def test_nor_what_an_access_list_opens(self, root: Path) -> None:
        bin = root / "usr/lib/golang/bin"
        # posix_acl_xattr.h: version 2, then (tag, permissions, id): owner, user 1000, group, mask, others.
        entries = [(1, 7, -1), (2, 7, 1000), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
        try:
            os.setxattr(bin, "system.posix_acl_access", pack("<I", 2) + b"".join(pack("<HHi", *e) for e in entries))
        except OSError as error:
            pytest.skip(f"the temporary directory's file system keeps no access lists: {error}")
        assert "or an access list" in self.trust(root)

    def test_nor_a_root_that_lies_where_others_can_write(self, root: Path) -> None:
        root.chmod(0o755)
        (root / "below").mkdir()
        (root / "usr").rename(root / "below/usr")
        (root / "etc").rename(root / "below/etc")
        assert self.trust(root / "below") == ""
        root.chmod(0o777)
        assert f"{root} is writable by everybody" in self.trust(root / "below")

    @pytest.mark.parametrize("name", ["etc/alternatives/go", "usr/bin/go", "usr/lib/golang/bin/go", "etc"])
    def test_nor_what_belongs_to_somebody_else(self, root: Path, name: str) -> None:
        os.lchown(root / name, 1000, 0)
        assert "belongs to user 1000" in self.trust(root)

    def test_a_sticky_directory_is_safe(self, root: Path) -> None:
        (root / "usr/lib/golang").chmod(0o1777)
        assert self.trust(root) == ""
