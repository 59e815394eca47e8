# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed tree, as `make install` makes it, for whoever reads what is in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("installed")
    subprocess.run([TREE / "packaging/dev/install-tree", root], check=True)
    return root
