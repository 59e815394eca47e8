# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every test: those marked `root` are skipped, saying so, where there is no root."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

# By hand: the pytest of EL 9 has no setting for it.
TREE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TREE / "hook"), str(TREE)]
# The package is built with the unit tests alone.
pytest_plugins = ["tests.testbed.fixtures"] if (Path(__file__).parent / "testbed").is_dir() else []


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: it makes a machine's file system and namespaces"))
