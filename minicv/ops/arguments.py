"""Checks of arguments that several operations share; their errors name the function and the argument."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor

Pair = tuple[int, int]  # (height, width)
MAX_SIZE = 1 << 20  # of a size, stride or padding: an image with such a side fills the memory


def pair(value: Any, where: str, least: int) -> Pair:
    """(height, width) from one integer, or a sequence of one or two, each at least ``least``; else ``ValueError``."""
    try:
        both: tuple = (value, value) if isinstance(value, int | np.integer) else tuple(value)
    except TypeError:  # None, 2.0
        both = ()
    both = both * 2 if len(both) == 1 else both
    if len(both) != 2 or any(not isinstance(v, int | np.integer) or v < least for v in both):
        raise ValueError(f"{where} must be an integer of at least {least}, or a pair of them; got {value!r}")
    if max(both) > MAX_SIZE:
        raise ValueError(f"{where} must be at most {MAX_SIZE:,}, got {value!r}")
    return int(both[0]), int(both[1])


def as_number(value: float, where: str) -> float:
    """A Python number. NumPy's have a width of their own, and would turn float32 into float64."""
    value = value.item() if isinstance(value, np.number) else value
    if not isinstance(value, int | float):
        raise TypeError(f"{where} must be a number, got {value!r}")
    return value


def check_floats(name: str, **tensors: Tensor | None) -> None:
    """Raise ``TypeError`` unless each is a Tensor of floats, or None."""
    for argument, x in tensors.items():
        if x is not None and not isinstance(x, Tensor):
            raise TypeError(f"{name}: {argument} is of type {type(x).__name__}; wrap it in minicv.Tensor")
        if x is not None and x.dtype.kind != "f":
            raise TypeError(f"{name}: {argument} must be floats, got {x.dtype}; convert with .astype('float32')")
