# SPDX-License-Identifier: GPL-2.0-or-later
"""Which unit a cgroup is, and which of its files set a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from go_health_hook.linux.systemd import CPUS, QUOTA, group_of, load_state, setter, unit_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/", ("", None)),
        ("/user.slice/user-1000.slice", ("user-1000.slice", None)),
        ("/user.slice/user-1000.slice/session-3.scope", ("session-3.scope", None)),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope", ("a.scope", 1000)),
        ("/user.slice/user-1000.slice/user@1000.service", ("user@1000.service", None)),
        ("/system.slice/x.service/payload", ("", None)),
        ("/system.slice/_cpu.service", ("cpu.service", None)),
        ("/user@evil.service/a.scope", ("a.scope", None)),
        ("/kubepods/pod1", ("", None)),
    ],
)
def test_units_by_their_cgroups(path: str, unit: tuple[str, int | None]) -> None:
    assert unit_of(path) == unit


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("1000", ("/user.slice/user-1000.slice", True)),
        ("root", ("/user.slice/user-0.slice", True)),
        ("no-such-user-here", ("/system.slice/no-such-user-here.service", False)),
        ("x.service", ("/system.slice/x.service", False)),
        ("a-b.slice", ("/a.slice/a-b.slice", True)),
        ("/kubepods/pod1", ("/kubepods/pod1", False)),
    ],
)
def test_cgroups_by_what_people_call_them(name: str, group: tuple[str, bool]) -> None:
    assert group_of(name) == group


def test_the_last_file_that_sets_it_counts(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.slice", "10.conf", "20.conf", "30.conf")]
    files[0].write_text("[Slice]\nCPUQuota=100%\n")
    files[1].write_text("[Slice]\n#CPUQuota=300%\n CPUQuota = 200%\n")
    files[2].write_text("[Slice]\nCPUWeight=50\nAllowedCPUs=0-3\n")
    names = [str(f) for f in files[:3]]
    assert setter(names, QUOTA) == names[1]
    assert setter(names, CPUS) == names[2]
    files[3].write_text("[Slice]\nCPUQuota=\n")
    assert setter([*names, str(files[3])], QUOTA) == ""
    assert setter(["/nonexistent", str(tmp_path)], QUOTA) == ""


def test_load_state_passes_over_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    """As an image leaves one in /etc that no longer brings the unit, or has it elsewhere."""
    for folder in ("etc", "usr/lib"):
        (tmp_path / folder / "systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/a.service").symlink_to(tmp_path / "gone")
    assert load_state("a.service", str(tmp_path)) == "not installed"
    (tmp_path / "usr/lib/systemd/system/a.service").write_text("[Service]\n")
    assert load_state("a.service", str(tmp_path)) == "loaded"
