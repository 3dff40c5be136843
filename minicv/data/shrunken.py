"""Large images, shrunk once and kept in memory: a photo of 12 megapixels takes 0.4 s to decode and resize, at every
step anew, while the network may see 192 x 256 pixels of it.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .augment.detection import resize
from .sample import DetectionSample, item_index

MAX_BYTES = 1 << 30  # of all kept images; the rest is read and shrunk at every access
FULL = 65535  # pixels are kept in 16 bits: an average over many pixels is finer than 8


class Shrunken:
    """The items of a data set with boxes, each image shrunk to ``size_of((H, W))`` unless that is None.

    Boxes, masks and areas are scaled with the image. Shrunk items are read once and kept, up to ``max_bytes``. All
    other attributes are the data set's, such as its records of the original images.
    """

    def __init__(self, dataset: Any, size_of: Callable[[tuple[int, int]], tuple[int, int] | None],
                 max_bytes: int = MAX_BYTES):
        self.dataset, self.size_of, self.max_bytes, self.kept_bytes = dataset, size_of, max_bytes, 0
        self._kept: dict[int, DetectionSample] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> DetectionSample:
        index = item_index(self, index)
        if (kept := self._kept.get(index)) is not None:
            return dataclasses.replace(kept, image=kept.image / np.float32(FULL), boxes=kept.boxes.copy())
        sample = self.dataset[index]
        H, W = sample.image.shape[1:]
        if (size := self.size_of((H, W))) is None:
            return sample
        small = resize(sample, size)
        pixels = np.rint(small.image.clip(0, 1) * FULL).astype(np.uint16)
        nbytes = pixels.nbytes + (0 if small.masks is None else small.masks.nbytes)
        if self.kept_bytes + nbytes <= self.max_bytes:
            self._kept[index] = dataclasses.replace(small, image=pixels)
            self.kept_bytes += nbytes
        return dataclasses.replace(small, image=pixels / np.float32(FULL))

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not set yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.dataset, name)
