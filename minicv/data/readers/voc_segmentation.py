"""PASCAL VOC, segmentation (Everingham et al., IJCV 2010), and data sets with other classes in its layout.

Layout, for example in VOCdevkit/VOC2012: JPEGImages/NAME.jpg, SegmentationClass/NAME.png (VOC's palette, its colors as
RGB, or gray: 0 background, 1 to 20 objects, 255 void, a strip along the objects' borders), and
ImageSets/Segmentation/train.txt, val.txt and trainval.txt with one NAME per line. The labels of the test images are not
public. Without these lists, the images are split by share. Other classes than VOC's are those of legend.txt, CVAT's
labelmap.txt or classes.txt (see ``legend``). Images may be of any format.
"""
from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import NoSplit
from ..files.decode import image_endings
from ..sample import IGNORE
from .folders import Shares, by_name, list_files, require_split, split_by_share
from .legend import read_legend
from .segmentation import ImageAndLabel, SegmentationReader, read_names, require_folder, translate

CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
           "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
EXPECTED = "VOC is expected as JPEGImages, SegmentationClass and ImageSets/Segmentation"


def palette(size: int = 256) -> np.ndarray:
    """Return VOC's colors, uint8 (size, 3): the bits of k, lowest first, fill R, G, B, R, ... from the top bit."""
    k = np.arange(size)
    bits = k[:, None] >> np.arange(8) & 1  # (size, 8)
    return np.stack([sum(bits[:, 3 * i + channel] << 7 - i for i in range(3) if 3 * i + channel < 8)
                     for channel in range(3)], axis=1).astype(np.uint8)


COLORS: dict[tuple[int, int, int], int] = {
    tuple(color): k for k, color in enumerate(palette()[:len(CLASSES)].tolist())} | {(224, 224, 192): IGNORE}


class VOCSegmentation(SegmentationReader):
    """The images of a split: "train", "val", "trainval" (both), or "test" if it has labels.

    shares: of a data set without lists.
    """

    class_names: tuple[str, ...] = CLASSES
    colors = palette()[:len(CLASSES)]
    splits = ("train", "val", "trainval")

    def __init__(self, root: str | os.PathLike, split: str = "train", keep: bool = False, *, require: bool = True,
                 shares: Shares | None = None):
        self.legend, self.shares = read_legend(Path(root)), shares
        if self.legend:
            self.class_names = self.legend.names
        super().__init__(root, split, keep, require=require)

    def find_pairs(self, root: Path, split: str) -> list[ImageAndLabel]:
        images, labels = (require_folder(root / name, EXPECTED) for name in ("JPEGImages", "SegmentationClass"))
        found = by_name(list_files(images, image_endings()))
        lists = root / "ImageSets" / "Segmentation"
        names = read_split(lists, split, self.shares, (path.stem for path in labels.glob("*.png")))
        if split == "test" and not any((labels / f"{name}.png").is_file() for name in names):
            raise NoSplit(f"VOCSegmentation: split must be one of {', '.join(self.splits)}, got 'test', whose images "
                          f"have no label in {labels}")
        return [ImageAndLabel(name, found.get(name, images / f"{name}.jpg"), labels / f"{name}.png") for name in names]

    def read_label(self, path: Path, page: int | None = None) -> np.ndarray:
        return self.legend.read(path, page) if self.legend else read_voc_label(path)


def read_voc_label(path: Path) -> np.ndarray:
    """Read a label file of VOC's own classes as uint8 (H, W)."""
    return translate(path, {k: k for k in range(len(CLASSES))} | {255: IGNORE}, COLORS)


def read_split(lists: Path, split: str, shares: Shares | None, names: Iterable[str]) -> list[str]:
    """Return the names of a split by VOC's lists, SPLIT.txt, or by share of all ``names`` if there are none."""
    own = [name for name in ("train", "val", "trainval", "test") if (lists / f"{name}.txt").is_file()]
    if split_by_share(own, shares, lists):
        return (shares or Shares()).select(read_names(lists / "train.txt") if own else names, split, lists.parents[1])
    require_split(split, own, lists)
    return read_names(lists / f"{split}.txt")
