# SPDX-License-Identifier: GPL-2.0-or-later
"""What tells an image build from a machine, and that nothing is recorded there."""

from __future__ import annotations

from pathlib import Path

import pytest

from go_health_hook.announce import publish
from go_health_hook.deadline import Deadline
from go_health_hook.go import cache
from go_health_hook.go.toolchain import Toolchain
from go_health_hook.linux import container
from go_health_hook.subject import Subject
from go_health_hook.verdict import Examination


def test_is_build_knows_dockers_builder_by_its_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    monkeypatch.delenv("container", raising=False)
    monkeypatch.setattr(container, "MARK", str(tmp_path / "none"))
    monkeypatch.setattr(container, "SYSTEMD", str(tmp_path / "none"))
    monkeypatch.setattr(container, "MOUNTS", str(mounts))
    mounts.write_text("9 8 0:1 / / rw - overlay overlay rw\n")
    assert not container.is_build()
    mounts.write_text("9 8 254:1 /docker/buildkit/executor/hosts.x /etc/hosts rw - ext4 /dev/vda1 rw\n")
    assert container.is_build()


@pytest.mark.parametrize(
    ("environment", "marked", "systemd", "is_build"),
    [("", False, False, False), ("oci", False, False, True), ("", True, False, True), ("oci", True, True, False)],
)
def test_is_build_is_a_container_without_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, marked: bool, systemd: bool, is_build: bool
) -> None:
    monkeypatch.setenv("container", environment)
    monkeypatch.setattr(container, "MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(container, "SYSTEMD", str(tmp_path / "systemd"))
    for path, there in (("mark", marked), ("systemd", systemd)):
        if there:
            (tmp_path / path).mkdir()
    assert container.is_build() == is_build


def test_publish_records_nothing_in_an_image_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "is_build", lambda: True)
    monkeypatch.setattr(publish.os, "geteuid", lambda: 0)
    monkeypatch.setattr(publish.record, "DIRECTORY", str(tmp_path / "state"))
    publish.publish(Examination(Subject(), Deadline(1)), "dnf5", wait=5)
    assert list(tmp_path.iterdir()) == []


def test_build_cache_is_none_in_an_image_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "is_build", lambda: True)
    monkeypatch.setattr(cache.os, "geteuid", lambda: 0)
    monkeypatch.setattr(cache, "SYSTEM", str(tmp_path / "cache"))
    toolchain = Toolchain(Subject(), "/usr/lib/golang", "")
    toolchain.lasting = True
    assert cache.build_cache(toolchain) == ""
    assert not (tmp_path / "cache").exists()
