# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd may do to the units of the staged gate: stop the guard early, or lose an event."""

from __future__ import annotations

from pathlib import Path

UNITS = Path(__file__).parents[2] / "conf/usr/lib/systemd/system"


def values(unit: str, key: str) -> list[str]:
    """The words that the unit's lines give the key."""
    lines = (UNITS / f"go-health-hook-{unit}").read_text().splitlines()
    return " ".join(line.partition("=")[2] for line in lines if line.startswith(f"{key}=")).split()


# An automount unmounts an idle /boot, and what requires the mount is stopped with it.
def test_guard_is_ordered_after_boot_and_does_not_require_it() -> None:
    assert "/boot" not in values("guard.service", "RequiresMountsFor")
    assert {"boot.mount", "boot.automount"} <= set(values("guard.service", "After"))


# For a missing path systemd watches its parent, and an event there loses those of the unit's other paths.
def test_path_unit_watches_directories_that_it_makes() -> None:
    assert values("staged.path", "PathChanged") == ["/run/ostree", "/run/composefs"]
    assert values("staged.path", "MakeDirectory") == ["yes"]
