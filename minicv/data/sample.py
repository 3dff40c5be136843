"""The items of data sets: an image with its ground truth."""
from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Sized
from typing import Any

import numpy as np

IGNORE = 255
"""The label of void pixels in every data set; readers translate the files' own numbers."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image with its ground truth; `dataclasses.replace` makes changed copies.

    image: float32 (C, H, W) in [0, 1]. label: int64 (H, W), the class of each pixel, or IGNORE. instances: int32 (H,
    W), 0 background, 1..n objects, or None if the data set does not separate objects. weight: float32 (H, W), the loss
    weight of each pixel, or None for equal weights.
    """

    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray | None
    name: str
    weight: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class DetectionSample:
    """One image with its R >= 0 objects; `dataclasses.replace` makes changed copies.

    image: float32 (3, H, W) in [0, 1]. boxes: float32 (R, 4), (x1, y1, x2, y2) in pixels, continuous (see
    minicv.detection.boxes). labels: int64 (R,), 0 to num_classes - 1; background is not a class. masks: bool (R, H, W),
    or None. difficult: bool (R,), objects that count as neither right nor wrong (VOC) and are not trained on. crowd:
    bool (R,), regions of many objects (COCO's iscrowd), treated likewise. area: float32 (R,), the object's own area in
    square pixels (COCO), or None.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    name: str
    masks: np.ndarray | None = None
    difficult: np.ndarray | None = None
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None

    def __post_init__(self):
        R = len(self.boxes)
        for name in ("difficult", "crowd"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(R, bool))
        if self.boxes.shape != (R, 4) or any(
                part is not None and len(part) != R
                for part in (self.labels, self.masks, self.difficult, self.crowd, self.area)):
            raise ValueError(f"DetectionSample: {self.name} has boxes {self.boxes.shape}, labels {self.labels.shape} "
                             "and further parts that do not fit together")

    def select(self, index: np.ndarray) -> DetectionSample:
        """Return the sample with the objects of an index: a mask (R,) or indices."""
        parts: dict[str, Any] = {name: None if getattr(self, name) is None else getattr(self, name)[index]
                 for name in ("boxes", "labels", "masks", "difficult", "crowd", "area")}
        return dataclasses.replace(self, **parts)

    def for_training(self) -> DetectionSample:
        """Return the sample without difficult objects and crowds."""
        assert self.difficult is not None and self.crowd is not None  # __post_init__ makes them
        return self.select(~(self.difficult | self.crowd))


class Cache(dict):
    """``cache[i]`` is ``make(i)``, computed once and kept; computed at every access if not ``keep``."""

    def __init__(self, make: Callable[[int], Any], keep: bool = True):
        self.make, self.keep = make, keep

    def __missing__(self, index: int) -> Any:
        value = self.make(index)
        if self.keep:
            self[index] = value
        return value


class Subset:
    """The items of a data set at ``indices``, in that order. All other attributes are the data set's.

    Each item is read once, changed by ``transform`` if given, and cached.
    """

    def __init__(self, dataset: Any, indices: Iterable[int], transform: Callable[[Any], Any] | None = None):
        self.dataset, self.indices, self.transform = dataset, list(indices), transform
        self._items = Cache(self._read)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self._items[item_index(self, index)]

    def _read(self, index: int) -> Any:
        item = self.dataset[self.indices[index]]
        return self.transform(item) if self.transform else item

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not set yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.dataset, name)


def item_index(dataset: Sized, index: Any) -> int:
    """Return the position 0, 1, ... of ``dataset[index]``; -1 is the last.

    Raises ``IndexError`` beyond the ends, which ends a ``for`` loop, and ``TypeError`` unless the index is a whole
    number.
    """
    name, count = type(dataset).__name__, len(dataset)
    try:
        number = operator.index(index)
    except TypeError:
        raise TypeError(f"{name}: an index is one whole number, got {index!r}; for several items use "
                        "[dataset[i] for i in ...]") from None
    if not -count <= number < count:
        raise IndexError(f"{name}: index {number} is out of range for {count} images")
    return number % count
