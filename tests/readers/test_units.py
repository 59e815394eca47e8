# SPDX-License-Identifier: GPL-2.0-or-later
"""Our services as systemd reads them: valid, and as confined as docs/SECURITY.md says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
UNITS = TREE / "conf/usr/lib/systemd/system"
ANALYZE = Path("/usr/bin/systemd-analyze")
# The exposure of each service at most; docs/SECURITY.md has the reasons for those above 3.0.
BOUNDS = {
    "boot": 4.8,
    "boot-counting": 2.0,
    "deep": 4.8,
    "greenboot": 4.8,
    "guard": 4.8,
    "look": 3.3,
    "offline": 3.3,
    "staged": 4.8,
    "status": 4.8,
}

pytestmark = pytest.mark.skipif(not ANALYZE.exists(), reason="systemd-analyze is not installed")


def services() -> list[str]:
    return sorted(
        path.name[len("go-health-hook-") : -len(".service")] for path in UNITS.glob("go-health-hook-?*.service")
    )


def test_services_all_have_a_bound() -> None:
    assert services() == sorted(BOUNDS)


# What ostree and bootc use when they are asked for deployments and to discard one (docs/SECURITY.md).
NEEDED = {
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
}


def test_services_of_image_systems_keep_what_ostree_and_bootc_need() -> None:
    lines = (UNITS / "go-health-hook-.service.d/confined.conf").read_text().splitlines()
    denied = [line.partition("=~")[2].split() for line in lines if line.startswith("CapabilityBoundingSet=~")]
    assert denied
    assert not NEEDED & set().union(*denied)


def test_no_service_that_runs_toolchains_loses_openat2() -> None:
    # RestrictSUIDSGID= makes openat2(2) fail with ENOSYS, without which bubblewrap 0.13 makes no view.
    alone = {"go-health-hook-boot-counting.service"}
    closed = [
        unit.name for unit in UNITS.glob("**/*.*") if unit.is_file() and "RestrictSUIDSGID=yes" in unit.read_text()
    ]
    assert set(closed) <= alone


def test_no_service_has_etc_closed_where_the_message_at_login_is() -> None:
    # ReadWritePaths=/etc does not open it again everywhere: systemd 252 does, 262 does not.
    closed = re.compile(r"^ProtectSystem=(full|strict)$", re.MULTILINE)
    assert [unit.name for unit in UNITS.glob("**/*.*") if unit.is_file() and closed.search(unit.read_text())] == []


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_service_exposure_is_bounded(name: str) -> None:
    unit = UNITS / f"go-health-hook-{name}.service"
    said = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True, check=True
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", said.stdout)
    assert found, said.stdout + said.stderr
    assert float(found[1]) <= BOUNDS[name]
    assert "Unknown" not in said.stderr
