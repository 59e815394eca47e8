# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every unit test: hypothesis judges answers, not speed, and keeps no database of examples."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("unit", deadline=None, database=None)
settings.load_profile("unit")

LINES = pytest.StashKey[list]()


@pytest.fixture
def summary(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are shown at the end of the run, whatever the tests' outcome."""
    return request.config.stash.setdefault(LINES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)
