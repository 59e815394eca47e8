# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every unit test: hypothesis judges answers, not speed, and keeps no database of examples."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("unit", deadline=None, database=None)
settings.load_profile("unit")

LINES: list[str] = []


@pytest.fixture
def summary() -> list[str]:
    """Lines that are shown at the end of the run, whatever the tests' outcome."""
    return LINES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in LINES:
        terminalreporter.write_line(line)
