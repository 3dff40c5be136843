"""Cityscapes, fine labels (Cordts et al., CVPR 2016): streets of 50 cities; 19 of 34 classes are measured.

Layout: leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png, and gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png or, if that is
missing, NAME_gtFine_labelTrainIds.png, which numbers the 19 classes and has 255 elsewhere. The labels of the test
images are not public: their files are all void.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..sample import IGNORE
from .segmentation import ImageAndLabel, SegmentationReader, check_split, pair_up, require_folder, translate

LABELS = {  # class -> its number in labelIds, its color
    "road": (7, (128, 64, 128)), "sidewalk": (8, (244, 35, 232)), "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)), "fence": (13, (190, 153, 153)), "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)), "traffic sign": (20, (220, 220, 0)), "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)), "sky": (23, (70, 130, 180)), "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)), "car": (26, (0, 0, 142)), "truck": (27, (0, 0, 70)), "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)), "motorcycle": (32, (0, 0, 230)), "bicycle": (33, (119, 11, 32)),
}
EXPECTED = "Cityscapes is expected as leftImg8bit/SPLIT/CITY and gtFine/SPLIT/CITY"
IMAGE, LABEL, TRAIN_LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"


class Cityscapes(SegmentationReader):
    """Cityscapes in its 19 classes; split: "train", "val", or "test" if its first label is not all void."""

    class_names = tuple(LABELS)
    colors = np.array([color for _, color in LABELS.values()], np.uint8)
    splits = ("train", "val")

    @classmethod
    def splits_of(cls, root: Path) -> tuple[str, ...]:
        if not (root / "gtFine" / "test").is_dir():
            return cls.splits
        public = any((cls.read_label(pair.label) != IGNORE).any() for pair in cls._pairs(root, "test")[:1])
        return (*cls.splits, "test") if public else cls.splits

    @classmethod
    def find_pairs(cls, root: Path, split: str) -> list[ImageAndLabel]:
        if split != "test" or "test" not in cls.splits_of(root):
            check_split(cls, split)
        return cls._pairs(root, split)

    @classmethod
    def _pairs(cls, root: Path, split: str) -> list[ImageAndLabel]:
        images, labels = (require_folder(root / name / split, EXPECTED) for name in ("leftImg8bit", "gtFine"))

        def named(top: Path, ending: str) -> dict[str, Path]:  # CITY/NAME -> file
            return {str(path.relative_to(top)).removesuffix(ending): path for path in top.glob(f"*/*{ending}")}

        pairs = pair_up(named(images, IMAGE), named(labels, TRAIN_LABEL) | named(labels, LABEL),
                        (f"{images}/{{}}{IMAGE}", f"{labels}/{{}}{LABEL}"))
        if not pairs:
            raise DataError(f"{images}: contains no images CITY/NAME{IMAGE}")
        return [pair._replace(name=pair.name.split("/")[-1]) for pair in pairs]

    @classmethod
    def read_label(cls, path: Path, page: int | None = None) -> np.ndarray:
        if path.name.endswith(TRAIN_LABEL):
            colors = {color: k for k, (_, color) in enumerate(LABELS.values())} | {(0, 0, 0): IGNORE}
            return translate(path, {k: k for k in range(len(LABELS))} | {255: IGNORE}, colors)
        measured = {number: k for k, (number, _) in enumerate(LABELS.values())}
        return translate(path, dict.fromkeys(range(34), IGNORE) | measured)  # pole and polegroup share a color
