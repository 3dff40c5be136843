"""Images with numbered objects: images/NAME.* and masks/NAME.*, 0 for background and a number for each object.

The files are those of ``image_masks``: equal names or a suffix, TIFF stacks. The numbers may have 16 bits and gaps. In
a mask with colors, each color but black is an object. All objects are of one class: the line of classes.txt, or
"object".
"""
from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files.decode import require_files
from .detection import Read, Record, SplitReader, boxes_of_masks
from .folders import Shares, find_classes, resolve
from .image_masks import find_mask_pairs
from .legend import Stored
from .segmentation import ImageAndLabel

MOST = 5000
"""The most objects of an image: more are colors of a photo, or edges that were smoothed."""


class Instances(SplitReader):
    """The images of a split with a box and a mask for each object."""

    @staticmethod
    def find_records(root: Path, split: str, shares: Shares | None = None) -> tuple[tuple[str, ...], list[Read]]:
        pairs = find_mask_pairs(root, split, shares)
        names = find_classes(root, ["object"])
        if len(names) != 1:
            raise DataError(f"{resolve(root / 'classes.txt')}: has {len(names)} classes, but numbered objects are of "
                            "one; if the numbers are classes, use masks:DIR")
        return names, [functools.partial(read_objects, pair) for pair in pairs]


def read_objects(pair: ImageAndLabel, problems: list[str]) -> Record:
    """Read the mask of one image."""
    require_files([pair.image, pair.label])
    numbers = objects_of(pair)
    masks = functools.partial(_masks, numbers)
    boxes = boxes_of_masks(masks())
    return Record(pair.name, pair.image, numbers.shape, boxes, np.zeros(len(boxes), np.int64), masks=masks,
                  page=pair.page)


def objects_of(pair: ImageAndLabel) -> np.ndarray:
    """Return the objects of a mask, numbered 1, 2, ... without gaps, uint16 (H, W)."""
    stored = Stored.of(pair.label, pair.page)
    values = stored.values.astype(np.int64) @ (65536, 256, 1) if stored.colored else stored.values
    found, where = np.unique(values, return_inverse=True)
    if len(found) > MOST:
        raise DataError(f"{pair.label}: has {len(found)} different values; is it an image? A mask has a number for "
                        "each object, and no smoothed edges")
    numbers = where.reshape(values.shape) + (found[0] != 0)
    return numbers.astype(np.uint16)


def _masks(numbers: np.ndarray) -> np.ndarray:
    return numbers[None] == np.arange(1, numbers.max(initial=0) + 1, dtype=numbers.dtype)[:, None, None]
