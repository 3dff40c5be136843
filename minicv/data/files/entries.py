"""The objects of a JSON file: each value is checked, and a ``DataError`` names the place of a wrong one."""
from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ...files import abbreviate
from ..errors import DataError

LIMIT = 1e9
"""The largest coordinate, side or area of an image."""

UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, halves of UTF-16 pairs
REQUIRED: Any = object()


class Entry:
    """One object of a file. ``entry.whole("height", 1)`` returns its height, or raises a ``DataError`` with the value.

    path, place: the file, and the position in it, such as "images[3]"; ``fail`` puts both into the error. A whole
    number may be written as 30.0, and an identifier as text. true, false and "30" are not numbers.
    """

    __slots__ = ("content", "path", "place")

    def __init__(self, content: Any, path: str | os.PathLike, place: str):
        self.content, self.path, self.place = content, path, place
        if not isinstance(content, dict):
            raise self.fail(f'must be an object {{"name": value, ...}}, got {short_repr(content)}')

    def __str__(self) -> str:
        """Return the entry's position, with its id if it has one: "annotations[3] (id 17)"."""
        known = isinstance(self.content, dict) and isinstance(self.content.get("id"), int | float | str)
        return f"{self.place} (id {short_repr(self.content['id'])})" if known else self.place

    def fail(self, message: str) -> DataError:
        """Return a ``DataError`` with the file, the position and the message."""
        return DataError(f"{self.path}: {self}: {message}")

    def get(self, name: str, default: Any = REQUIRED) -> Any:
        """Return a value as stored, or the default."""
        value = self.content.get(name, default)
        if value is REQUIRED:
            raise self.fail(f"has no {name}; it has {join_reprs(self.content)}")
        return value

    def whole(self, name: str, low: float = -LIMIT, high: float = LIMIT, default: Any = REQUIRED) -> int:
        """Return a whole number from ``low`` to ``high``."""
        value = self.get(name, default)
        number = as_int(value)
        if number is None or not low <= number <= high:
            raise self.fail(f"{name} must be a whole number from {low:.10g} to {high:.10g}, got {short_repr(value)}")
        return number

    def number(self, name: str, default: Any = REQUIRED) -> float:
        """Return a finite number, not negative."""
        value = self.get(name, default)
        if not are_numbers([value]) or value < 0:
            raise self.fail(f"{name} must be a number from 0 to {LIMIT:.0e}, got {short_repr(value)}")
        return value

    def flag(self, name: str, default: Any = REQUIRED) -> bool:
        """Return a bool, stored as 0 or 1, or as false or true."""
        value = self.get(name, default)
        if not isinstance(value, int | float) or value not in (0, 1):
            raise self.fail(f"{name} must be 0 or 1, got {short_repr(value)}")
        return bool(value)

    def text(self, name: str) -> str:
        """Return text that is not empty and can be written to a file or a screen."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > 1000 or UNWRITABLE.search(value):
            raise self.fail(f"{name} must be text of 1 to 1000 characters, none of them a control character, got "
                            f"{short_repr(value)}")
        return value

    def identifier(self, name: str) -> int | str:
        """Return a whole number, or text."""
        value = self.get(name)
        if isinstance(value, str) and value:
            return value
        if (number := as_int(value)) is None:
            raise self.fail(f"{name} must be a whole number, or text, got {short_repr(value)}")
        return number

    def numbers(self, name: str, count: int) -> list[float]:
        """Return a list of ``count`` finite numbers."""
        value = self.get(name)
        if not isinstance(value, list) or len(value) != count or not are_numbers(value):
            raise self.fail(f"{name} must be {count} numbers up to {LIMIT:.0e}, got {short_repr(value)}")
        return value

    def entries(self, name: str) -> list[Entry]:
        """Return a list of objects."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self.fail(f"{name} must be a list of objects, got {short_repr(value)}")
        return [Entry(each, self.path, f"{self}, {name}[{i}]") for i, each in enumerate(value)]


def unique(entries: Iterable[Entry], keys: Iterable[Any], what: str) -> None:
    """Raise ``DataError`` if two entries have the same key; ``what`` names the key."""
    first: dict[Any, Entry] = {}
    for entry, key in zip(entries, keys, strict=True):
        if (other := first.setdefault(key, entry)) is not entry:
            raise entry.fail(f"has the same {what} as {other}, {short_repr(key)}; each needs its own")


def as_int(value: Any) -> int | None:
    """Return a whole number as an int, anything else as None."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def are_numbers(values: Sequence[Any]) -> bool:
    """Return whether all values are finite numbers that can be coordinates: not text, null, true or false."""
    return set(map(type, values)) <= {int, float} and all(-LIMIT <= value <= LIMIT for value in values)


def short_repr(value: Any) -> str:
    """Return the repr of a value for a message, at most 80 characters."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} nested deeply"
    return text if len(text) <= 80 else f"{text[:77]}..."


def join_reprs(values: Iterable[Any]) -> str:
    """Return the reprs of the first five values, and the number of the others."""
    return abbreviate(map(short_repr, values))
