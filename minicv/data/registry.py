"""Open data sets by name, as the command line does."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

from ..errors import suggest
from .errors import DataError, DataWarning
from .generated.cells import Cells
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


def _generated_seed(name: str, split: str, seed: int) -> int:
    """Return the seed of a split: even for training, odd for test, from VAL on for validation images."""
    if split not in ("train", "val", "test"):
        raise ValueError(f'{name} has the splits "train", "val" and "test", got {split!r}')
    return VAL + seed if split == "val" else 2 * seed + (split == "test")


def _open_cells(path: str, split: str, count: int = 30, size=(256, 256), seed: int = 0, **options) -> Cells:
    return Cells(count, size, _generated_seed("cells", split, seed), **options)


def _open_street_scenes(path: str, split: str, count: int = 200, size=(96, 128), seed: int = 0,
                        **options) -> StreetScenes:
    return StreetScenes(count, size, _generated_seed("street-scenes", split, seed), **options)


def _open_isbi2012(path: str, split: str, **options) -> ISBI2012:
    return ISBI2012(path, split=split, **options)


def _open_shape_boxes(path: str, split: str, count: int = 100, **options) -> ShapeBoxes:
    return ShapeBoxes(count, split=split, **options)


def _open_shapes(path: str, split: str, count: int = 1000, **options) -> ShapeImages:
    return ShapeImages(count, split=split, **options)


def _or_val(reader: Callable, has_test: Callable[[Path], bool]) -> Callable:
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
    "cells": (_open_cells, False),
    "isbi2012": (_open_isbi2012, True),
    "camvid": (CamVid, True),
    "voc": (_or_val(VOCSegmentation, _has_labels(VOCSegmentation)), True),
    "cityscapes": (_or_val(Cityscapes, _has_labels(Cityscapes)), True),
    "street-scenes": (_open_street_scenes, False),
    "shape-boxes": (_open_shape_boxes, False),
    "voc-detection": (VOCDetection, True),
    "bccd": (functools.partial(VOCDetection, class_names=BLOOD_CELLS), True),
    "coco": (_or_val(CocoDetection, _has_json("instances")), True),
    "dsb2018": (_or_val(DSB2018, lambda root: (root / "test.txt").is_file()), True),
    "coco-panoptic": (_or_val(CocoPanoptic, _has_json("panoptic")), True),
    "shapes": (_open_shapes, False),
}


def available() -> str:
    """Return all specs."""
    return ", ".join(f"{name}:PATH" if needs_path else name for name, (_, needs_path) in DATASETS.items())
