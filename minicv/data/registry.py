"""Open data sets by name, as the command line does."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import suggest
from .errors import DataError, DataWarning
from .generated.cells import Cells
from .generated.dataset import SPLITS
from .generated.shape_boxes import ShapeBoxes
from .generated.shape_images import ShapeImages
from .generated.street_scenes import StreetScenes
from .readers.camvid import CamVid
from .readers.cityscapes import Cityscapes
from .readers.coco import CocoDetection
from .readers.dsb2018 import DSB2018
from .readers.isbi import ISBI2012
from .readers.panoptic import CocoPanoptic
from .readers.segmentation import SegmentationReader
from .readers.voc_detection import BLOOD_CELLS, VOCDetection
from .readers.voc_segmentation import VOCSegmentation


def open_dataset(spec: str, split: str = "train", **options):
    """Open a data set by its spec, NAME or NAME:PATH, the form of the command line's --data.

    Generated: "cells" (Cells), "street-scenes" (StreetScenes), "shape-boxes" (ShapeBoxes, with boxes) and "shapes"
    (ShapeImages, one class each); options: count, size, seed and those of the class. From a folder, segmentation:
    "isbi2012:PATH" (ISBI2012), "camvid:PATH" (CamVid), "voc:PATH" (VOCSegmentation), "cityscapes:PATH" (Cityscapes);
    boxes: "voc-detection:PATH" and "bccd:PATH" (VOCDetection), "coco:PATH" (CocoDetection), "dsb2018:PATH" (DSB2018);
    segments: "coco-panoptic:PATH" (CocoPanoptic).

    split: "train", "val" or "test", which share no image; some readers have more. The public test images of voc,
    cityscapes, coco, dsb2018 and coco-panoptic have no labels: if the folder has no labeled "test", "val" is read
    instead, with a DataWarning, and the data set's ``split`` is "val". Raises ``ValueError`` for an unknown spec or
    split, ``DataError`` for unusable files.
    """
    name, _, path = spec.partition(":")
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; {suggest(name, available().split(', '))}")
    opener, needs_path = DATASETS[name]
    if needs_path and not path:
        raise ValueError(f"{name} needs a path, as in {name}:DIR{download_hint(name, 'DIR')}")
    if path and not needs_path:
        raise ValueError(f"{name} is generated and takes no path, got {spec!r}; available: {available()}")
    try:
        return opener(path, split, **options)
    except DataError as error:
        if needs_path and not Path(path).exists() and (hint := download_hint(name, path)):
            raise DataError(f"{error}{hint}") from None
        raise


def download_hint(name: str, root: str) -> str:
    """Return the command that downloads a data set, as the end of an error message; "" if it has no manifest."""
    known = (Path(__file__).parent / "manifests" / f"{name}.tsv").is_file()
    return f"; minicv data download {name} --root {root} downloads it" if known else ""


VAL = 1 << 62  # the first seed of validation images, beyond all others


def _generated(dataset: Any, count: int) -> Callable:
    """Return an opener of a generated data set, by default with ``count`` images.

    Where the class itself has no splits, the seeds differ: they are even for training, odd for test, and from VAL on
    for validation images.
    """
    def opener(path: str, split: str, seed: int = 0, **options):
        if split not in SPLITS:
            raise ValueError(f"{dataset.__name__}: split must be one of {', '.join(SPLITS)}, got {split!r}")
        if split in dataset.splits:
            options["split"] = split
        else:
            seed = VAL + seed if split == "val" else 2 * seed + (split == "test")
        return dataset(**{"count": count, "seed": seed, **options})
    return opener


def _val_if_no_test(reader: Callable, has_test: Callable[[Path], bool]) -> Callable:
    """Return an opener that warns and reads "val" if there is no labeled "test"; ``split`` names the one read."""
    def opener(path: str, split: str, **options):
        if split == "test" and not has_test(Path(path)):
            warnings.warn(f"{path}: no labeled test split; reading val instead", DataWarning, stacklevel=3)
            split = "val"
        return reader(path, split, **options)
    return opener


def _has_json(kind: str) -> Callable[[Path], bool]:
    return lambda root: any((root / "annotations").glob(f"{kind}_test*.json"))


def _has_labels(reader: type[SegmentationReader]) -> Callable[[Path], bool]:
    return lambda root: "test" in reader.splits_of(root)


DATASETS: dict[str, tuple[Callable, bool]] = {  # name -> opener, does it need a path?
    "cells": (_generated(Cells, 30), False),
    "isbi2012": (ISBI2012, True),
    "camvid": (CamVid, True),
    "voc": (_val_if_no_test(VOCSegmentation, _has_labels(VOCSegmentation)), True),
    "cityscapes": (_val_if_no_test(Cityscapes, _has_labels(Cityscapes)), True),
    "street-scenes": (_generated(StreetScenes, 200), False),
    "shape-boxes": (_generated(ShapeBoxes, 100), False),
    "voc-detection": (VOCDetection, True),
    "bccd": (functools.partial(VOCDetection, class_names=BLOOD_CELLS), True),
    "coco": (_val_if_no_test(CocoDetection, _has_json("instances")), True),
    "dsb2018": (_val_if_no_test(DSB2018, lambda root: (root / "test.txt").is_file()), True),
    "coco-panoptic": (_val_if_no_test(CocoPanoptic, _has_json("panoptic")), True),
    "shapes": (_generated(ShapeImages, 1000), False),
}


def available() -> str:
    """Return all specs."""
    return ", ".join(f"{name}:PATH" if needs_path else name for name, (_, needs_path) in DATASETS.items())
