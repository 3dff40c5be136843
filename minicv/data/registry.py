"""Data sets by name, as the command line takes them."""
from __future__ import annotations

from .camvid import CamVid
from .cells import Cells
from .cityscapes import Cityscapes
from .coco import CocoDetection
from .dsb2018 import DSB2018
from .isbi import ISBI2012
from .pairs import LabelledPictures
from .panoptic import CocoPanoptic
from .pictures import Pictures
from .scenes import Scenes
from .scenes_boxes import BoxScenes
from .voc import VOCSegmentation
from .voc_boxes import BLOOD_CELLS, VOCDetection


def open_dataset(spec: str, split: str = "train", **options):
    """Open a data set by its spec, NAME or NAME:PATH, as the command line's --data takes it.

    Generated, so that "train" and "test" never share a picture; options count, size, seed and the class's:
    "cells" (see Cells) and "scenes" (Scenes). From a folder: "isbi2012:PATH" (ISBI2012, splits "train", "test", "all"),
    "camvid:PATH" (CamVid, "train", "val", "test"), "voc:PATH" (VOCSegmentation) and "cityscapes:PATH" (Cityscapes),
    both with "train", "val" and, since the labels of their test pictures are not public, "test" for "val" again.
    ``ValueError`` for a spec or split that does not exist, DataError for files that cannot be used.

    With boxes: generated "boxes" (BoxScenes; also "val"); "voc-detection:PATH" and "bccd:PATH" (VOCDetection, the
    splits that have a list), "coco:PATH" (CocoDetection), "dsb2018:PATH" (DSB2018; also "all"). Pictures whose pixels
    are all told apart: "coco-panoptic:PATH" (CocoPanoptic). The last three have "val" for "test", too.

    With one class per picture: generated "pictures" (Pictures).
    """
    name, _, path = spec.partition(":")
    if name not in DATASETS:
        raise ValueError(f"open_dataset: no data set {name!r}; available: {available()}")
    opener, needs_path = DATASETS[name]
    if needs_path != bool(path):
        problem = "needs a path" if needs_path else "is generated and takes no path"
        raise ValueError(f"open_dataset: {name} {problem}, got {spec!r}; available: {available()}")
    return opener(path, split, **options)


def _generated_seed(name: str, split: str, seed: int) -> int:
    if split not in ("train", "test"):
        raise ValueError(f'open_dataset: {name} has the splits "train" and "test", got {split!r}')
    return 2 * seed + (split == "test")  # even seeds draw training pictures, odd ones test pictures


def _open_cells(path: str, split: str, count: int = 30, size=(256, 256), seed: int = 0, **options) -> Cells:
    return Cells(count, size, _generated_seed("cells", split, seed), **options)


def _open_scenes(path: str, split: str, count: int = 200, size=(96, 128), seed: int = 0, **options) -> Scenes:
    return Scenes(count, size, _generated_seed("scenes", split, seed), **options)


def _open_isbi2012(path: str, split: str, **options) -> ISBI2012:
    return ISBI2012(path, split=split, **options)


def _open_boxes(path: str, split: str, count: int = 100, **options) -> BoxScenes:
    return BoxScenes(count, split=split, **options)


def _open_pictures(path: str, split: str, count: int = 1000, **options) -> Pictures:
    return Pictures(count, split=split, **options)


def _open_bccd(path: str, split: str, **options) -> VOCDetection:
    return VOCDetection(path, split, BLOOD_CELLS, **options)


def _without_test(reader: type[LabelledPictures]):
    return lambda path, split, **options: reader(path, "val" if split == "test" else split, **options)


DATASETS = {  # name -> opener, does it need a path?
    "cells": (_open_cells, False),
    "isbi2012": (_open_isbi2012, True),
    "camvid": (CamVid, True),
    "voc": (_without_test(VOCSegmentation), True),
    "cityscapes": (_without_test(Cityscapes), True),
    "scenes": (_open_scenes, False),
    "boxes": (_open_boxes, False),
    "voc-detection": (VOCDetection, True),
    "bccd": (_open_bccd, True),
    "coco": (_without_test(CocoDetection), True),
    "dsb2018": (_without_test(DSB2018), True),
    "coco-panoptic": (_without_test(CocoPanoptic), True),
    "pictures": (_open_pictures, False),
}


def available() -> str:
    """The specs that there are."""
    return ", ".join(f"{name}:PATH" if needs_path else name for name, (_, needs_path) in DATASETS.items())
