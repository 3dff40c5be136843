"""What a segmentation data set hands out."""

import dataclasses
import operator
from collections.abc import Sized
from typing import Any

import numpy as np

IGNORE = 255
"""The label of void pixels in every data set here: whatever a file calls them, its reader translates it."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image with its ground truth; `dataclasses.replace` makes changed copies.

    image: float32 (C, H, W) in [0, 1]. label: int64 (H, W), the class of each pixel, or IGNORE.
    instances: int32 (H, W), 0 background, 1..n objects, or None where the set does not tell objects apart.
    weight: float32 (H, W), the loss weight of each pixel, or None where all count the same.
    """

    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray | None
    name: str
    weight: np.ndarray | None = None


def item_index(dataset: Sized, index: Any) -> int:
    """The place 0, 1, ... of ``dataset[index]``; -1 is the last. ``IndexError`` beyond the ends, which ends a ``for``;
    ``TypeError`` for what is no whole number, such as a slice."""
    name, count = type(dataset).__name__, len(dataset)
    try:
        number = operator.index(index)
    except TypeError:
        raise TypeError(f"{name}: an index is one whole number, got {index!r}; for several items use "
                        "[dataset[i] for i in ...]") from None
    if not -count <= number < count:
        raise IndexError(f"{name}: index {number} is out of range for {count} images")
    return number % count
