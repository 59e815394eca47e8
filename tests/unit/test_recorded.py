# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers that real rpm-ostree, bootc and ostree gave (tests/unit/data/recorded): read as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from go_health_hook.linux import rpm_ostree
from go_health_hook.linux.deployments import (
    KEY,
    State,
    parse_bootc,
    parse_ostree,
    parse_rpm_ostree,
    waiting_digests,
)

DATA = Path(__file__).parent / "data/recorded"
STATES = ("booted-alone", "update-known", "staged", "staged-locked")
RUNNING = "d0d37bdd30f9ac465a5cb697eb16969d958714002d4318c69d860e06de275bff"
WAITING = "5fe6a1e943f92e88f776397c09b3c1dc7c85d676b9de648758c547579acca2db"


def recorded(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DATA / name).read_text())
    return data


def plain(value: Any) -> Any:
    """busctl's JSON without its types, as linux/bus.py gives answers."""
    if isinstance(value, dict) and set(value) == {"type", "data"}:
        return plain(value["data"])
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", STATES)
def test_rpm_ostree_deployments_agree_on_every_way(name: str) -> None:
    data = recorded(f"rpm-ostree-{name}.json")
    bus = parse_rpm_ostree(plain(data["Sysroot.Deployments"]))
    text = parse_rpm_ostree(data["status"]["deployments"])
    ostree = parse_ostree("\n".join(data["ostree admin status and /run/ostree"]))
    ids = [(d.id, d.staged, d.booted, d.version) for d in bus]
    assert ids == [(d.id, d.staged, d.booted, d.version) for d in text]
    assert ids == [(d.id, d.staged, d.booted, d.version) for d in ostree]
    assert [d.marks for d in ostree if d.staged] == [{KEY} if name == "staged-locked" else set()] * ("staged" in name)


@pytest.mark.parametrize(("name", "waiting"), [(n, [] if n == "booted-alone" else [WAITING]) for n in STATES])
def test_rpm_ostree_update_names_each_package_once(name: str, waiting: list[str]) -> None:
    data = recorded(f"rpm-ostree-{name}.json")
    diff = plain(data["GetDeploymentsRpmDiff"]) or []
    diff = diff[0] if diff and diff[0] and isinstance(diff[0][0], list) else diff
    update = rpm_ostree.update_of(plain(data["Sysroot.Deployments"]), diff, plain(data["OS.CachedUpdate"]))
    packages = ["golang", "golang-bin", "golang-src"] if waiting else []
    assert [str(c) for c in update.changes] == [f"{p} 1.25.5-1.fc45 -> 1.27.3-1.fc45" for p in packages]
    assert update.checksum == "".join(waiting)
    assert list(dict.fromkeys(rpm_ostree.waiting_commits(data["status"]))) == waiting
    assert update.state.booted and update.state.booted.checksum == RUNNING


def test_bootc_finalized_update_boots_next() -> None:
    data = recorded("bootc-ostree-finalized.json")
    state = State(parse_bootc(data))
    assert [(d.version, d.booted) for d in state.deployments] == [("good", False), ("main", True)]
    assert state.deployments[0].digest.startswith("sha256:20e943d50b60")
    assert state.staged is None
    assert state.going_back
    assert waiting_digests(data) == ["sha256:6230fd4d0b44772e51aea0344aa1b6fa0e69e9a6ed08790af552c5f61554e8cf"]
