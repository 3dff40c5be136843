"""Nuclei: the 2018 Data Science Bowl (Caicedo et al., Nature Methods 2019; BBBC038), and data sets in its layout.

Layout: stage1_train/ID/images/ID.png, stage1_train/ID/masks/*.png with one nucleus each (0 and 255), and the lists
train.txt and val.txt with one ID per line. The split "all" needs no list: it takes every ID.
"""
from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

from ..errors import DataError, NoSplit
from ..files.decode import is_file
from ..files.images import image_size, read_mask
from .detection import DetectionReader, Read, Record, boxes_of_masks
from .segmentation import pngs, read_names, require_folder

EXPECTED = "the nuclei are expected as stage1_train/ID/images/ID.png and stage1_train/ID/masks/*.png"


class DSB2018(DetectionReader):
    """The images of a split, with a box and a mask per nucleus; one class, "nucleus".

    The constructor reads and checks all masks. A pixel of two nuclei stays with the first, and ``problems`` names the
    other. A mask without a pixel is left out and named too.
    """

    class_names = ("nucleus",)

    def __init__(self, root: str | os.PathLike, split: str = "train", keep: bool = False):
        self.split = split
        super().__init__(find_records(Path(root), split)[1], keep)


def find_records(root: Path, split: str) -> tuple[tuple[str, ...], list[Read]]:
    """Return the classes, and for each image of a split a function that reads its masks and adds to its problems."""
    folders = require_folder(root / "stage1_train", EXPECTED)
    if split == "all":
        names = sorted(p.name for p in folders.iterdir() if p.is_dir())
    elif (root / f"{split}.txt").is_file():
        names = read_names(root / f"{split}.txt")
    else:
        raise NoSplit(f"DSB2018: no list {root / f'{split}.txt'}; available: "
                         f"{', '.join([*sorted(repr(p.stem) for p in root.glob('*.txt')), repr('all')])}")
    return DSB2018.class_names, [functools.partial(read_nuclei, folders / name) for name in names]


def read_nuclei(place: Path, problems: list[str]) -> Record:
    """Read the folder of one image. Raise ``DataError`` for masks of another size, or not of two values."""
    image = place / "images" / f"{place.name}.png"
    if not is_file(image):
        raise DataError(f"{image}: no such file; {EXPECTED}")
    sizes = image_size(image), image_size(image, upright=True)
    masks = {path: read_mask(path) for path in pngs(require_folder(place / "masks", EXPECTED))}
    size = next((mask.shape for mask in masks.values()), sizes[0])
    instances, count = np.zeros(size, np.uint16), 0
    for path, mask in masks.items():
        if mask.shape != size or size not in sizes:
            raise DataError(f"{path}: size {mask.shape} differs from the image's {sizes[0]} or another mask's")
        if not mask.any():
            problems.append(f"{path}: no pixel is set; left out")
            continue
        if mask.mean() > 0.5:
            problems.append(f"{path}: set in {100 * mask.mean():.0f}% of the image; is it inverted? A nucleus is white")
        taken = mask & (instances > 0)
        if taken.any():
            problems.append(f"{path}: {taken.sum()} of {mask.sum()} pixels belong to another nucleus, which keeps them")
            mask &= ~taken
            if not mask.any():
                continue
        count += 1
        instances[mask] = count
    unpack = functools.partial(_masks, instances, count)
    return Record(place.name, image, size, boxes_of_masks(unpack()), np.zeros(count, np.int64), masks=unpack)


def _masks(instances: np.ndarray, count: int) -> np.ndarray:
    """Convert instance numbers (H, W), 0 for none, to masks, bool (count, H, W)."""
    return instances[None] == np.arange(1, count + 1, dtype=instances.dtype)[:, None, None]
