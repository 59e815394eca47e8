# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what ostree, rpm-ostree and bootc say of the deployments: their real shapes, and shapes that are none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_health_hook.linux import deployments, ostree, rpm_ostree
from go_health_hook.linux.deployments import Deployment, State, Unreadable

A, B, C = ("a" * 64, "b" * 64, "c" * 64)

# As ostree 2026.4 prints it in a machine (tests/vm/test_ostree.py), with an rpm-ostree system's other lines.
STAGED = f"""\
  debian {B}.0 (staged)
    Version: 42.20261101.0
    origin refspec: debian/next
* debian {A}.0
    Version: 42.20261020.0
    Pinned: yes
    origin: <unknown origin type>
    `- Fedora Silverblue
    Unlocked: development
  debian {C}.1 (rollback)
    origin refspec: debian/main
"""


def test_ostree_status_of_a_staged_deployment() -> None:
    found = State(deployments.parse_ostree(STAGED))
    assert found.staged and found.booted and found.previous
    assert (found.staged.checksum, found.staged.locked, found.staged.version) == (B, False, "42.20261101.0")
    assert found.staged.root == f"/ostree/deploy/debian/deploy/{B}.0"
    assert found.booted.id == f"debian-{A}.0"
    assert (found.previous.checksum, found.previous.serial) == (C, 1)


def test_a_locked_deployment_is_a_staged_one() -> None:
    found = deployments.parse_ostree(STAGED.replace("(staged)", "(finalization locked)"))
    assert found[0].staged
    assert found[0].locked


def test_further_marks_do_not_hide_the_first() -> None:
    found = deployments.parse_ostree(f"  debian {B}.0 (staged) (soft-reboot)\n* debian {A}.0\n")
    assert [(d.staged, d.soft) for d in found] == [(True, True), (False, False)]


def test_nothing_is_staged() -> None:
    found = State(deployments.parse_ostree(f"* fedora-coreos {A}.0\n    origin refspec: fedora:x\n"))
    assert found.booted is not None
    assert found.staged is None
    assert found.previous is None


def test_no_deployments_is_an_answer() -> None:
    assert deployments.parse_ostree("No deployments.\n") == []


@pytest.mark.parametrize("text", ["", "error: opendir", "* debian 1234.0\n", "\0\0", "\udcff"])
def test_ostree_status_without_any_deployment_is_not_understood(text: str) -> None:
    with pytest.raises(Unreadable):
        deployments.parse_ostree(text)


@pytest.mark.parametrize("line", [f"* .. {A}.0", f"  debian {C}.{'9' * 5000}", f"* debian {C}.-1"])
def test_a_version_that_looks_like_a_deployment_hides_none(line: str) -> None:
    found = deployments.parse_ostree(STAGED.replace("42.20261101.0", f"1\n{line}"))
    assert [d.checksum for d in found] == [B, A, C]


@pytest.mark.parametrize(
    ("others", "index"),
    [("", 1), (f"  debian {B}.0 (staged)\n", 2), (f"  fedora {B}.0\n", 2)],
)
def test_the_way_back_is_counted_as_ostree_lists_it(monkeypatch: pytest.MonkeyPatch, others: str, index: int) -> None:
    monkeypatch.setattr(ostree, "driver", lambda: "ostree")
    text = f"{others}* debian {A}.0\n  debian {C}.1 (rollback)\n"
    state = State(deployments.parse_ostree(text))
    assert ostree.Ostree().roll_back(state) == f"ostree admin set-default {index} && systemctl reboot"
    assert "set-default INDEX" in ostree.Ostree().roll_back(None)


def test_a_state_root_cannot_lead_elsewhere() -> None:
    with pytest.raises(Unreadable):
        deployments.parse_ostree(f"* .. {A}.0\n")
    with pytest.raises(Unreadable):
        deployments.parse_rpm_ostree([{"osname": "a/../..", "checksum": A, "serial": 0}])


# What rpm-ostree's daemon puts into each deployment (rust/src/daemon.rs).
RPM_OSTREE = [
    {"id": f"fedora-{B}.0", "osname": "fedora", "checksum": B, "serial": 0, "booted": False, "staged": True,
     "finalization-locked": True, "pinned": False, "unlocked": "none", "version": "42.1", "timestamp": 1760000000},
    {"id": f"fedora-{A}.0", "osname": "fedora", "checksum": A, "serial": 0, "booted": True, "staged": False,
     "pinned": False, "unlocked": "none", "version": "42.0", "timestamp": 1750000000},
]  # fmt: skip


def test_rpm_ostree() -> None:
    found = deployments.parse_rpm_ostree(RPM_OSTREE)
    assert [(d.id, d.booted, d.staged, d.locked, d.version) for d in found] == [
        # "finalization-locked" is what the daemon saw once, so nothing is concluded from it.
        (f"fedora-{B}.0", False, True, False, "42.1"),
        (f"fedora-{A}.0", True, False, False, "42.0"),
    ]


# As crates/lib/src/fixtures of bootc have it.
BOOTC = {
    "apiVersion": "org.containers.bootc/v1",
    "kind": "BootcHost",
    "metadata": {"name": "host"},
    "spec": {"image": {"image": "quay.io/example/someimage:latest", "transport": "registry"}},
    "status": {
        "staged": {
            "image": {
                "image": {"image": "x", "transport": "registry"},
                "version": "nightly",
                "imageDigest": "sha256:0",
            },
            "cachedUpdate": None,
            "incompatible": False,
            "pinned": False,
            "downloadOnly": True,
            "ostree": {"checksum": B, "deploySerial": 0, "stateroot": "default"},
        },
        "booted": {"image": None, "incompatible": False, "ostree": {"checksum": A, "deploySerial": 2}},
        "rollback": None,
        "rollbackQueued": False,
        "type": "bootcHost",
    },
}


def test_bootc() -> None:
    found = deployments.parse_bootc(BOOTC)
    assert [(d.id, d.booted, d.staged, d.locked, d.version) for d in found] == [
        (f"default-{B}.0", False, True, True, "nightly"),
        (f"default-{A}.2", True, False, False, ""),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"status": None},
        {"status": {}},
        {"status": {"booted": 3}},
        {"status": {"booted": {"ostree": {"checksum": "short", "deploySerial": 0, "stateroot": "a"}}}},
        {"status": {"booted": {"ostree": {"checksum": A, "deploySerial": True, "stateroot": "a"}}}},
        {"status": {"booted": {"composefs": {"verity": A}}}},
    ],
)
def test_bootc_answers_that_are_none(answer: object) -> None:
    with pytest.raises(Unreadable):
        deployments.parse_bootc(answer)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(ANY_JSON)
def test_whatever_a_program_prints_is_read_or_refused(answer: object) -> None:
    readers = (
        deployments.parse_bootc,
        deployments.parse_rpm_ostree,
        rpm_ostree.diff_changes,
        rpm_ostree.cached_changes,
    )
    for read in readers:
        try:
            assert isinstance(read(answer), list)
        except Unreadable as error:
            assert error.line().isprintable()


@given(st.sampled_from(RPM_OSTREE), st.sampled_from(["osname", "checksum", "serial", "booted", "version"]), ANY_JSON)
def test_a_field_of_another_type_is_refused_or_harmless(entry: dict[str, object], key: str, value: object) -> None:
    try:
        found = deployments.parse_rpm_ostree([{**entry, key: value}])
    except Unreadable:
        return
    root = found[0].root
    assert root.startswith("/ostree/deploy/")
    assert root.count("/") == 5


@given(st.text())
def test_ostree_status_is_read_line_by_line(noise: str) -> None:
    try:
        found = deployments.parse_ostree(STAGED + noise)
    except Unreadable:
        return
    assert [d.checksum for d in found[:3]] == [B, A, C]


def test_json_is_not_trusted_to_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "{", "[" * 100_000, "nan"):
        with pytest.raises(Unreadable):
            deployments.parse_rpm_ostree_text(text)
    assert deployments.parse_rpm_ostree_text(json.dumps({"deployments": RPM_OSTREE}))[0].checksum == B


def test_the_packages_between_two_deployments() -> None:
    diff = [
        ["golang", 0, {"PreviousPackage": ["golang", "1.25.5-1.fc45", "x86_64"], "NewPackage": ["golang", "2", "x"]}],
        ["golang-src", 1, {"NewPackage": ["golang-src", "1.27.3-1.fc45", "noarch"]}],
        ["vim\x1b[31m", 2, {"PreviousPackage": ["vim", "9", "x86_64"]}],
    ]
    assert [str(c) for c in rpm_ostree.diff_changes(diff)] == [
        "golang 1.25.5-1.fc45 -> 2",
        "golang-src 1.27.3-1.fc45 added",
        "vim\\x1b[31m 9 removed",
    ]


def test_the_packages_of_a_cached_update() -> None:
    cached = {
        "rpm-diff": {
            "upgraded": [[0, "golang-bin", ["1.25.5-1", "x86_64"], ["1.27.3-1", "x86_64"]]],
            "downgraded": [],
            "added": [[1, "go-toolset", "1.27.3-1", "x86_64"]],
            "removed": [[0, "golang-race", "1.25.5-1", "x86_64"]],
        }
    }
    assert [str(c) for c in rpm_ostree.cached_changes(cached)] == [
        "golang-bin 1.25.5-1 -> 1.27.3-1",
        "go-toolset 1.27.3-1 added",
        "golang-race 1.25.5-1 removed",
    ]
    assert rpm_ostree.cached_changes({}) == []


@pytest.mark.parametrize(
    ("name", "is_go"),
    [("golang", True), ("golang-bin", True), ("go-toolset", True), ("golang-github-gorilla-mux-devel", False),
     ("gopls", False), ("golang-x-sys-devel", False), ("argo", False)],
)  # fmt: skip
def test_what_counts_as_go(name: str, is_go: bool) -> None:
    assert bool(deployments.GO_PACKAGES.match(name)) == is_go


def test_what_people_call_a_deployment() -> None:
    assert Deployment("debian", A, 0).name == "debian aaaaaaaaaaaa.0"
    assert Deployment("debian", A, 0, version="42\n1").name == "42\\n1 (debian aaaaaaaaaaaa.0)"
