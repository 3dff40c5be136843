"""Images with a label image each: images/NAME.* and masks/NAME.* (see ``folders`` for the layouts, ``legend`` for
classes).

The masks may also have one suffix, such as NAME_mask.png, the same for all. Masks are PNG, TIFF, BMP, GIF or lossless
WebP. If an image is a TIFF stack, its mask is a stack of as many pages, and each page is an image of its own, NAME-0,
NAME-1 and so on. Stacks are split as whole files; the pages of a single stack in blocks, because neighbors look alike:
training first, then val, then test.
"""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files.decode import image_endings, page_count
from .folders import Files, Shares, find_files, find_places, select_files
from .legend import find_legend
from .segmentation import ImageAndLabel, SegmentationReader, pair_up

MASKS = "masks", "mask", "labels", "label"
EXPECTED = "images and masks are expected as images/NAME.* and masks/NAME.*"


class ImageMasks(SegmentationReader):
    """The images of a split with the class of each pixel.

    shares: of a data set without splits. upright: the images have a top and a bottom; otherwise augmentation also turns
    them and deforms them elastically.
    """

    def __init__(self, root: str | os.PathLike, split: str = "train", keep: bool = False, *, require: bool = True,
                 shares: Shares | None = None, upright: bool = True):
        self.shares, self.upright = shares, upright
        self.legend = find_legend(Path(root), list_masks(Path(root)))
        self.class_names = self.legend.names
        super().__init__(root, split, keep, require=require)

    def find_pairs(self, root: Path, split: str) -> list[ImageAndLabel]:
        return find_mask_pairs(root, split, self.shares)

    def read_label(self, path: Path, page: int | None = None) -> np.ndarray:
        return self.legend.read(path, page)


def find_masks(root: Path) -> dict[str, Files]:
    """Return the images and masks of each split."""
    for images, masks in find_places(root, MASKS).values():
        if masks == images:
            raise DataError(f"{images}: no folder of masks; {EXPECTED}")
    return find_files(root, MASKS, image_endings(), without_suffix)


def list_masks(root: Path) -> list[tuple[Path, int | None]]:
    """Return the masks of all splits, (file, page)."""
    return [(path, page) for files in find_masks(root).values() for path in files.annotations.values()
            for page in pages_of(path)]


def without_suffix(images: dict[str, Path], masks: dict[str, Path]) -> dict[str, Path]:
    """Return masks by their images' names: equal, or without the suffix, such as "_mask", that most of them have."""
    suffixes: Counter[str] = Counter()
    for name in masks.keys() - images.keys():
        start = max((n for n in (name[:k] for k in range(1, len(name))) if n in images), key=len, default=name)
        suffixes[name.removeprefix(start)] += 1
    del suffixes[""]
    if not suffixes or len(masks.keys() & images.keys()) >= suffixes.total():
        return masks
    suffix = max(sorted(suffixes), key=suffixes.__getitem__)
    return {name.removesuffix(suffix): path for name, path in masks.items()}


def find_mask_pairs(root: Path, split: str, shares: Shares | None) -> list[ImageAndLabel]:
    """Return the images of a split with their masks, whether or not both exist; a page of a stack is one image."""
    files = find_masks(root)
    alone = files.get("")
    if alone and len(alone.images) == 1 and len(pages := pages_of(*alone.images.values())) > 1:
        chosen: Collection[int | None] = (shares or Shares()).block(len(pages), split, root)
        return [each for pair in pairs_of(alone) for each in slices(pair) if each.page in chosen]
    return [each for pair in pairs_of(select_files(files, split, shares, root)) for each in slices(pair)]


def pairs_of(files: Files) -> list[ImageAndLabel]:
    """Return a pair for every name that has an image or a mask."""
    images, masks = files.folders
    return pair_up(files.images, files.annotations, (f"{images}/{{}}.png", f"{masks}/{{}}.png"))


def slices(pair: ImageAndLabel) -> list[ImageAndLabel]:
    """Return the pair, or a pair for each page if one of its files is a stack."""
    pages = max(pages_of(pair.image), pages_of(pair.label), key=len)
    return [pair] if pages == [None] else [pair._replace(name=f"{pair.name}-{page}", page=page) for page in pages]


def pages_of(path: Path) -> list[int | None]:
    """Return the pages of a TIFF stack; [None] for any other file."""
    count = page_count(path) if path.suffix.lower() in (".tif", ".tiff") else 1
    return [*range(count)] if count > 1 else [None]
