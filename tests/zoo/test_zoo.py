# SPDX-License-Identifier: GPL-2.0-or-later
"""Every case of the zoo is as it says: whether Go works there, what the hook says of it, whether updates go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.zoo.case import BROKEN, Case, collected
from tests.zoo.runner import Result, install, remove, run_all, wrong

pytestmark = pytest.mark.root
ALL = [(case, version) for case in collected().values() for version in case.releases]


@pytest.fixture(scope="module")
def results() -> Iterator[dict[tuple[str, str], Result]]:
    """All cases, run side by side."""
    program = install()
    try:
        yield {(case.name, version): result for case, version, result in run_all(program, ALL)}
    finally:
        remove(program)


@pytest.mark.parametrize(("case", "version"), [pytest.param(c, v, id=f"{c.name}-{v}") for c, v in ALL])
def test_zoo_case_is_as_it_says(case: Case, version: str, results: dict[tuple[str, str], Result]) -> None:
    assert not wrong(case, results[case.name, version])


def test_zoo_no_machine_is_held_back_where_go_works() -> None:
    assert not [case.name for case in collected().values() if case.works and case.expected == BROKEN]


def test_zoo_has_a_source_for_each_case() -> None:
    assert not [case.name for case in collected().values() if not case.source]
