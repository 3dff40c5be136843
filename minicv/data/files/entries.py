"""The objects of a JSON file, whose values are taken by name, checked, and refused with the place where they stand."""
from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import DataError

LIMIT = 1e9
"""No coordinate, side or area of an image is larger."""

UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, halves of UTF-16 pairs
REQUIRED: Any = object()


class Entry:
    """One object of a file: ``entry.whole("height", 1)`` is its height, or a ``DataError`` that says what stands there.

    path, place: the file, and where in it, as "images[3]"; ``fail`` makes the error of both. A whole number may be
    written as 30.0, an identifier also as text. true and false are no numbers, and "30" is none either.
    """

    __slots__ = ("content", "path", "place")

    def __init__(self, content: Any, path: str | os.PathLike, place: str):
        self.content, self.path, self.place = content, path, place
        if not isinstance(content, dict):
            raise self.fail(f'must be an object {{"name": value, ...}}, got {short_repr(content)}')

    def __str__(self) -> str:
        """Where the entry stands, with its id: "annotations[3] (id 17)"."""
        known = isinstance(self.content, dict) and isinstance(self.content.get("id"), int | float | str)
        return f"{self.place} (id {short_repr(self.content['id'])})" if known else self.place

    def fail(self, message: str) -> DataError:
        """The error to raise."""
        return DataError(f"{self.path}: {self}: {message}")

    def get(self, name: str, default: Any = REQUIRED) -> Any:
        """A value as it stands in the file."""
        value = self.content.get(name, default)
        if value is REQUIRED:
            raise self.fail(f"has no {name}; it has {join_reprs(self.content)}")
        return value

    def whole(self, name: str, low: float = -LIMIT, high: float = LIMIT, default: Any = REQUIRED) -> int:
        """A whole number from ``low`` to ``high``."""
        value = self.get(name, default)
        number = as_int(value)
        if number is None or not low <= number <= high:
            raise self.fail(f"{name} must be a whole number from {low:.10g} to {high:.10g}, got {short_repr(value)}")
        return number

    def number(self, name: str, default: Any = REQUIRED) -> float:
        """A finite number, not negative."""
        value = self.get(name, default)
        if not are_numbers([value]) or value < 0:
            raise self.fail(f"{name} must be a number from 0 to {LIMIT:.0e}, got {short_repr(value)}")
        return value

    def flag(self, name: str, default: Any = REQUIRED) -> bool:
        """0 or 1, or false or true."""
        value = self.get(name, default)
        if not isinstance(value, int | float) or value not in (0, 1):
            raise self.fail(f"{name} must be 0 or 1, got {short_repr(value)}")
        return bool(value)

    def text(self, name: str) -> str:
        """Text that is not empty and can be written to a file or a screen."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > 1000 or UNWRITABLE.search(value):
            raise self.fail(f"{name} must be text without control characters, neither empty nor longer than 1000, got "
                            f"{short_repr(value)}")
        return value

    def identifier(self, name: str) -> int | str:
        """A whole number, or text."""
        value = self.get(name)
        if isinstance(value, str) and value:
            return value
        if (number := as_int(value)) is None:
            raise self.fail(f"{name} must be a whole number, or text, got {short_repr(value)}")
        return number

    def numbers(self, name: str, count: int) -> list[float]:
        """A list of ``count`` finite numbers."""
        value = self.get(name)
        if not isinstance(value, list) or len(value) != count or not are_numbers(value):
            raise self.fail(f"needs a {name} of {count} numbers up to {LIMIT:.0e}, got {short_repr(value)}")
        return value

    def entries(self, name: str) -> list[Entry]:
        """A list of objects."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self.fail(f"{name} must be a list of objects, got {short_repr(value)}")
        return [Entry(each, self.path, f"{self}, {name}[{i}]") for i, each in enumerate(value)]


def unique(entries: Iterable[Entry], keys: Iterable[Any], what: str) -> None:
    """``DataError`` if two entries have one key; ``what`` the keys are."""
    first: dict[Any, Entry] = {}
    for entry, key in zip(entries, keys, strict=True):
        if (other := first.setdefault(key, entry)) is not entry:
            raise entry.fail(f"has the {what} {short_repr(key)}, and so has {other}; each needs its own")


def as_int(value: Any) -> int | None:
    """The number as an int, if it is a whole one."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all are finite numbers that can be coordinates; text, null, true and false are none."""
    return set(map(type, values)) <= {int, float} and all(-LIMIT <= value <= LIMIT for value in values)


def short_repr(value: Any) -> str:
    """A value in a message: as Python writes it, but not longer than a line."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested deeply"
    return text if len(text) <= 80 else f"{text[:77]}..."


def join_reprs(values: Iterable[Any]) -> str:
    """Some of many values in a message."""
    values = list(values)
    return ", ".join(map(short_repr, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
