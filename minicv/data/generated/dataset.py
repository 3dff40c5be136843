"""What the generated data sets share: their arguments, their random numbers, and a cache."""
from __future__ import annotations

import abc
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import suggest
from ..sample import Cache, item_index

SPLITS = "train", "test", "val"  # the index of each is part of its images' seed


class GeneratedDataset(abc.ABC):
    """A data set of drawn images. Item i depends only on seed, split and i, in any order of access.

    count: number of images. size: (H, W), or one number for both. split: one of ``splits``, which share no image.
    keep: cache the items; the arrays of cached items are read-only. options: keyword arguments of ``function``.

    A subclass names its ``function``, which draws one image, and makes an item of that in ``draw``.
    """

    function: Callable[..., tuple]
    splits: tuple[str, ...] = ("",)  # by default one, without a name
    generated = True  # no files to check

    def __init__(self, count: int, size: int | tuple[int, int], seed: int = 0, split: str = "", *, keep: bool = False,
                 **options):
        name, known = type(self).__name__, inspect.getfullargspec(self.function).kwonlyargs
        if count < 0 or seed < 0:
            raise ValueError(f"{name}: count and seed must not be negative, got {count} and {seed}")
        if split not in self.splits:
            raise ValueError(f"{name}: split must be one of {', '.join(self.splits)}, got {split!r}")
        if unknown := [option for option in options if option not in known]:
            raise TypeError(f"{name}: unexpected keyword argument {unknown[0]!r}; {suggest(unknown[0], known)}")
        self.count, self.size, self.seed, self.split = count, tuple(np.broadcast_to(size, 2).tolist()), seed, split
        self.keep, self.options = keep, options
        self._items = Cache(self._draw, keep)

    @abc.abstractmethod
    def draw(self, index: int, rng: np.random.Generator) -> Any:
        """Return item ``index``, drawn with these random numbers."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self._items[item_index(self, index)]

    def _draw(self, index: int) -> Any:
        part = [self.splits.index(self.split)] if self.split else []
        item = self.draw(index, np.random.default_rng([self.seed, *part, index]))
        for array in vars(item).values():
            if self.keep and isinstance(array, np.ndarray):
                array.flags.writeable = False
        return item
