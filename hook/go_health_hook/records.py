# SPDX-License-Identifier: GPL-2.0-or-later
"""Classes that are their fields: what dataclasses give, without what importing them costs an updater that waits."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from typing_extensions import dataclass_transform
else:

    def dataclass_transform():
        return lambda cls: cls


@dataclass_transform()
class Record:
    """A class whose annotations are its fields, in order; a value in the class is the default of that name.

    A default that is a list, dict or set is copied for each instance. Compared and shown by value. `__post_init__` is
    called when all fields are set, as in dataclasses.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(cls.__annotations__)

    def __init__(self, *values: Any, **named: Any) -> None:
        """Take the fields in order or by name. Raises TypeError for too many, unknown or missing ones."""
        if len(values) == len(self._fields) and not named:
            self.__dict__.update(zip(self._fields, values))  # thousands are made so while an updater waits
            self.__post_init__()
            return
        given = {**dict(zip(self._fields, values)), **named}
        if len(given) != len(values) + len(named) or not given.keys() <= set(self._fields):
            raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields)}, each once")
        for name in self._fields:
            if name in given:
                value = given[name]
            elif hasattr(type(self), name):
                value = getattr(type(self), name)
                value = value.copy() if isinstance(value, (list, dict, set)) else value
            else:
                raise TypeError(f"{type(self).__name__} is made without {name}")
            setattr(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Nothing to do here: for classes that check their fields or bring them into form."""

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self._fields))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"
