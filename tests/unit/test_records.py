# SPDX-License-Identifier: GPL-2.0-or-later
"""Records: fields in order or by name, defaults of their own for each instance, compared and shown by value."""

from __future__ import annotations

import pytest

from go_health_hook.records import Record


class Point(Record):
    x: int
    y: int = 2
    notes: list[str] = []

    def __post_init__(self) -> None:
        self.sum = self.x + self.y


@pytest.mark.parametrize("point", [Point(1), Point(1, 2), Point(1, y=2, notes=[]), Point(y=2, x=1)])
def test_record_is_made_in_order_or_by_name(point: Point) -> None:
    assert point == Point(1)
    assert (point.x, point.y, point.sum) == (1, 2, 3)
    assert repr(point) == "Point(x=1, y=2, notes=[])"


def test_record_default_list_is_its_own() -> None:
    Point(1).notes.append("a")
    assert Point(1).notes == []


def test_record_of_other_value_or_class_differs() -> None:
    class Other(Point):
        x: int

    assert Point(1) != Point(2)
    assert Point(1) != Other(1)


@pytest.mark.parametrize(("values", "named"), [((), {}), ((1, 2, [], 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1})])
def test_record_wrong_fields_raise(values: tuple, named: dict) -> None:
    with pytest.raises(TypeError):
        Point(*values, **named)


def test_record_of_hashable_fields_is_hashed_by_value() -> None:
    class Key(Record):
        name: str

    assert {Key("a"), Key("a")} == {Key("a")}
