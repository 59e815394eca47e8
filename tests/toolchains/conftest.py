# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed hook, a folder to break toolchains in, and a go that misbehaves."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.installed import install
from tests.toolchains.groups import Groups
from tests.toolchains.trees import CACHE, Hook, build_badgo, real


@pytest.fixture(scope="session")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Hook:
    return Hook(install(tmp_path_factory.mktemp("installed")))


@pytest.fixture
def workshop() -> Iterator[Path]:
    """A folder next to the cache (so that trees can be hard-linked), safe for root."""
    path = CACHE / "scratch" / f"{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir(parents=True)
    yield path
    subprocess.run(["rm", "-rf", "--one-file-system", path], check=False)


@pytest.fixture(scope="session")
def badgo() -> Path:
    """The misbehaving go."""
    real("1.27.3")
    return build_badgo()


@pytest.fixture
def groups() -> Iterator[Groups]:
    """Cgroups of this machine, removed afterwards."""
    made = Groups()
    yield made
    made.close()
