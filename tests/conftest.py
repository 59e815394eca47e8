# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every test: those marked `root` are skipped, saying so, where there is no root."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# By hand: the pytest of EL 9 has no setting for it.
TREE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TREE / "hook"), str(TREE)]
# The package is built with the unit tests alone.
pytest_plugins = ["tests.testbed.fixtures"] if (Path(__file__).parent / "testbed").is_dir() else []


MACHINES = {"plain_vm", "fresh_vm", "ostree_vm"}


def group(item: pytest.Item) -> str:
    """What of the tests one process runs alone: all with virtual machines, else a file and its fixtures."""
    fixtures = set(getattr(item, "fixturenames", ()))
    return "machines" if fixtures & MACHINES or item.path.parent.name == "vm" else str(item.path)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in a hook of the same name
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group(group(item)))
        # What takes longest goes first, or one process would be left with it at the end.
        items.sort(key=lambda item: group(item) != "machines")
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: it makes a machine's file system and namespaces"))
