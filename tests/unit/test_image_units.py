# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd may do to the units of image systems: stop one early, or lose an event."""

from __future__ import annotations

from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "conf/usr/lib/systemd/system"


def values(unit: str, key: str) -> list[str]:
    """The words that the unit's lines give the key."""
    lines = (UNITS / f"go-health-hook-{unit}").read_text().splitlines()
    return " ".join(line.partition("=")[2] for line in lines if line.startswith(f"{key}=")).split()


# An automount unmounts an idle /boot, and what requires the mount is stopped with it.
@pytest.mark.parametrize("unit", ["guard.service", "greenboot.service"])
def test_what_acts_at_shutdown_is_ordered_after_boot_and_does_not_require_it(unit: str) -> None:
    assert "/boot" not in values(unit, "RequiresMountsFor")
    assert {"boot.mount", "boot.automount"} <= set(values(unit, "After"))


# For a missing path systemd watches its parent, and an event there loses those of the unit's other paths.
def test_path_unit_watches_directories_that_it_makes() -> None:
    assert values("staged.path", "PathChanged") == ["/run/ostree", "/run/composefs"]
    assert values("staged.path", "MakeDirectory") == ["yes"]
