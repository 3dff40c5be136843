"""The options of the networks: their names, and the values that they take."""
from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any

from ..nn import Module

MAX_VALUE = 1_000_000  # of an option: more layers, channels or classes would only fill the memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The base of all configs. Integers must be at least 1; subclasses add checks of their own in ``__post_init__``."""

    def __post_init__(self) -> None:
        small = [f"{field.name}={getattr(self, field.name)}" for field in dataclasses.fields(self)
                 if field.type == "int" and getattr(self, field.name) < 1]
        if small:
            self.refuse(", ".join(small), "each must be at least 1")

    def refuse(self, options: str, reason: str) -> None:
        raise ValueError(f"{type(self).__name__}({options}): {reason}")


def model_options(cls: Any) -> Mapping[str, inspect.Parameter]:
    """Return the options of a network's class by name: its arguments, or the fields of its ``Config``."""
    return inspect.signature(getattr(cls, "Config", cls)).parameters


def check_options(owner: str, cls: type[Module], options: dict[str, Any]) -> None:
    """Raise ``ValueError``, in the name of ``owner``, for an unknown option or a value of the wrong type or size."""
    known = model_options(cls)
    if unknown := sorted(options.keys() - known.keys()):
        raise ValueError(f"{owner}: no option {', '.join(unknown)}; it has {', '.join(known)}")
    for option, value in options.items():
        if not matches_type(value, kind := known[option].annotation):
            raise ValueError(f"{owner}: {option}={value!r}; it must be {kind}")
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(n, int) and n > MAX_VALUE for n in values):
            raise ValueError(f"{owner}: {option}={value}; no option may exceed {MAX_VALUE:,}")


def matches_type(value: Any, kind: str) -> bool:
    """Return whether a value has the type that an annotation names. A float may be an integer, but not NaN."""
    kind, _, none = kind.partition(" | ")
    if none and value is None:
        return True
    if "[" in kind and not kind.startswith("dict"):  # Sequence[int], tuple[int, int]
        inner = kind[kind.index("[") + 1:-1].split(", ")
        return isinstance(value, list | tuple) and (len(inner) == 1 or len(inner) == len(value)) and all(
            matches_type(v, inner[0]) for v in value)
    if kind in ("int", "float"):
        number = numbers.Integral if kind == "int" else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool) and not math.isnan(value)
    return isinstance(value, {"str": str, "bool": bool}.get(kind, dict))
