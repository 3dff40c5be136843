"""PASCAL VOC, segmentation (Everingham et al., IJCV 2010): 20 classes of objects, and background.

Layout, for example in VOCdevkit/VOC2012: JPEGImages/NAME.jpg, SegmentationClass/NAME.png (VOC's palette, its colors as
RGB, or gray: 0 background, 1 to 20 objects, 255 void, a strip along the objects' borders), and
ImageSets/Segmentation/train.txt, val.txt and trainval.txt with one NAME per line. The labels of the test images are not
public.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ..sample import IGNORE
from .segmentation import ImageAndLabel, SegmentationReader, check_split, read_names, require_folder, translate

CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
           "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
EXPECTED = "VOC is expected as JPEGImages, SegmentationClass and ImageSets/Segmentation"


def palette(size: int = 256) -> np.ndarray:
    """Return VOC's colors, uint8 (size, 3): the bits of k, lowest first, fill R, G, B, R, ... from the top bit."""
    k = np.arange(size)
    bits = k[:, None] >> np.arange(8) & 1  # (size, 8)
    return np.stack([sum(bits[:, 3 * i + channel] << 7 - i for i in range(3) if 3 * i + channel < 8)
                     for channel in range(3)], axis=1).astype(np.uint8)


COLORS = {tuple(color): k for k, color in enumerate(palette()[:len(CLASSES)].tolist())} | {(224, 224, 192): IGNORE}


class VOCSegmentation(SegmentationReader):
    """PASCAL VOC in 21 classes; split: "train", "val", "trainval" (both), or "test" if it has labels."""

    class_names = CLASSES
    colors = palette()[:len(CLASSES)]
    splits = ("train", "val", "trainval")

    @classmethod
    def splits_of(cls, root: Path) -> tuple[str, ...]:
        test = root / "ImageSets" / "Segmentation" / "test.txt"
        public = test.is_file() and any((root / "SegmentationClass" / f"{name}.png").is_file()
                                        for name in read_names(test))
        return (*cls.splits, "test") if public else cls.splits

    @classmethod
    def find_pairs(cls, root: Path, split: str) -> list[ImageAndLabel]:
        if split != "test" or "test" not in cls.splits_of(root):
            check_split(cls, split)
        images, labels = (require_folder(root / name, EXPECTED) for name in ("JPEGImages", "SegmentationClass"))
        names = read_names(require_folder(root / "ImageSets" / "Segmentation", EXPECTED) / f"{split}.txt")
        return [ImageAndLabel(name, images / f"{name}.jpg", labels / f"{name}.png") for name in names]

    @classmethod
    def read_label(cls, path: Path) -> np.ndarray:
        return translate(path, {k: k for k in range(len(CLASSES))} | {255: IGNORE}, COLORS)
