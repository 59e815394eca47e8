# SPDX-License-Identifier: GPL-2.0-or-later
"""The spec, built under the conditions of each distribution."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.packaging import builds
from tests.testbed import rpmbuild

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root
EVERY_CONDITION = pytest.mark.parametrize("condition", builds.CONDITIONS)


def asked(package: Path, what: str) -> list[str]:
    """What rpm says of a package file, line by line."""
    command: list[str | Path] = ["rpm", "-qp", "--nosignature", f"--{what}", package]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("condition", [name for name, c in builds.CONDITIONS.items() if c.check])
def test_check_section_declared_requirements_passes(condition: str) -> None:
    log = (builds.build(condition) / "rpmbuild.log").read_text()
    passed = re.findall(r"(\d+) passed", log)
    assert passed and int(passed[-1]) > 1000
    assert not re.search(r"\d+ (failed|error)", log)
    for line in re.findall(r"^SKIPPED.*", log, re.M):
        assert re.search(r": \S+.*", line.partition("] ")[2]), f"skipped without a reason: {line}"


@EVERY_CONDITION
def test_packages_requires_tie_to_no_python(condition: str) -> None:
    for name, package in rpmbuild.found(builds.build(condition)).items():
        assert not [line for line in asked(package, "requires") if line.startswith("python(abi)")], name


@EVERY_CONDITION
def test_packages_weak_dependencies_exist_there(condition: str) -> None:
    built = rpmbuild.found(builds.build(condition))
    weak = [line.split()[0] for package in built.values() for line in asked(package, "recommends")]
    assert ("python3-dbus-next" in weak) == condition.startswith("fedora"), "EL and EPEL have no dbus-next"
    assert ("go-health-hook-dnf5" in built) == (condition != "rhel 9")
    lines = [line for p in built.values() for kind in ("recommends", "requires") for line in asked(p, kind)]
    wanted = {line.strip("(").split()[0] for line in lines}
    ours = {name for name in wanted if "go-health-hook" in name and not name.startswith(("/", "config("))}
    assert ours <= set(built), "what a package asks for is built"
