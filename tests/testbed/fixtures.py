# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual machines for tests. A failing test's report ends with what its machines wrote on their consoles."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Callable

import pytest

from tests.testbed import disks, vm
from tests.testbed import ostree_vm as ostree


def awake(caught: Callable[[], disks.Caught], name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.VM]:
    reason = vm.why_not()
    if reason:
        pytest.skip(reason)
    with caught().wake(tmp_path_factory.mktemp("vm"), name) as machine:
        yield machine


@pytest.fixture(scope="module")
def plain_vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.VM]:
    """A virtual machine with 8 CPUs, freshly booted, for all tests of a file."""
    yield from awake(disks.plain, "plain", tmp_path_factory)


@pytest.fixture
def fresh_vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.VM]:
    """The same for one test alone, which may do with it what it wants."""
    yield from awake(disks.plain, "plain", tmp_path_factory)


@pytest.fixture
def ostree_vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vm.VM]:
    """A virtual machine that has just booted debian/main, with this tree in it, for one test alone."""
    yield from awake(ostree.caught, "ostree", tmp_path_factory)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, None]:
    report = (yield).get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, vm.VM):
                report.sections.append((f"console of {name}", value.console()))
