"""Open data sets by name, as the command line does."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import suggest
from .errors import DataError, DataWarning, NoSplit
from .generated.cells import Cells
from .generated.dataset import SPLITS
from .generated.shape_boxes import ShapeBoxes
from .generated.shape_images import ShapeImages
from .generated.street_scenes import StreetScenes
from .own import is_own, open_own
from .readers.camvid import CamVid
from .readers.cityscapes import Cityscapes
from .readers.coco import CocoDetection
from .readers.dsb2018 import DSB2018
from .readers.folders import Shares
from .readers.image_masks import ImageMasks
from .readers.instances import Instances
from .readers.isbi import ISBI2012
from .readers.labelme import LabelMe
from .readers.panoptic import CocoPanoptic
from .readers.voc_detection import BLOOD_CELLS, VOCDetection
from .readers.voc_segmentation import VOCSegmentation
from .readers.yolo import YoloDetection
from .spec import Spec, option_values, parse_spec, share, whole, yes_or_no


def open_dataset(spec: str, split: str = "train", **options):
    """Open a data set by its spec, the form of the command line's --data: NAME[:PATH][,option=value ...].

    Generated: "cells" (Cells), "street-scenes" (StreetScenes), "shape-boxes" (ShapeBoxes, with boxes) and "shapes"
    (ShapeImages, one class each); options: count, size, seed and those of the class. From a folder, with a class for
    each pixel: "masks:PATH" (ImageMasks), "voc:PATH" (VOCSegmentation), "isbi2012:PATH" (ISBI2012), "camvid:PATH"
    (CamVid), "cityscapes:PATH" (Cityscapes). With boxes: "voc-detection:PATH" and "bccd:PATH" (VOCDetection),
    "yolo:PATH" (YoloDetection); with boxes and masks: "coco:PATH" (CocoDetection), "labelme:PATH" (LabelMe),
    "instances:PATH" (Instances), "dsb2018:PATH" (DSB2018); segments: "coco-panoptic:PATH" (CocoPanoptic). A function of
    one's own: "MODULE:FUNCTION" (see ``own``).

    split: "train", "val" or "test", which share no image; some readers have more. A data set without splits is split by
    share; its options are val, test and seed (see ``readers.folders.Shares``). If there is no labeled "test", "val" is
    read instead, with a DataWarning, and the data set's ``split`` is "val". Raises ``ValueError`` for an unknown spec,
    option or split, ``DataError`` for unusable files.
    """
    parts = parse_spec(spec)
    if parts.name not in DATASETS:
        if not is_own(parts):
            raise unknown_name(parts)
        return _val_if_no_test(functools.partial(open_own, parts, **options), split, f"{parts.name}:{parts.path}")
    known = DATASETS[parts.name]
    if known.needs_path and not parts.path:
        raise ValueError(f"{parts.name} needs a path, as in {parts.name}:DIR{download_hint(parts.name, 'DIR')}")
    if parts.path and not known.needs_path:
        raise ValueError(f"{parts.name} is generated and takes no path, got {spec!r}; available: {available()}")
    options = reader_options(parts) | options
    opener = functools.partial(known.open, parts.path, **options)
    try:
        return _val_if_no_test(opener, split, parts.path) if known.val_for_test else opener(split=split)
    except DataError as error:
        if known.needs_path and not Path(parts.path).exists():
            comma = "; an option is written as ,NAME=VALUE" if "," in parts.path else ""
            raise DataError(f"{error}{comma}{download_hint(parts.name, parts.path)}") from None
        raise


def _val_if_no_test(opener: Callable, split: str, where: str) -> Any:
    """Open a split; if it is "test" and does not exist, warn and open "val"."""
    try:
        return opener(split=split)
    except NoSplit:
        if split != "test":
            raise
    dataset = opener(split="val")
    warnings.warn(f"{where}: no labeled test split; reading val instead", DataWarning, stacklevel=3)
    return dataset


def reader_options(spec: Spec) -> dict[str, Any]:
    """Return the arguments that the options of a spec are for its reader: ``shares`` of val, test and seed, and others.

    Raises ``ValueError`` for an unknown option or a bad value.
    """
    values = option_values(spec, DATASETS[spec.name].options)
    if DATASETS[spec.name].needs_path and (own := {name: values.pop(name) for name in SHARES if name in values}):
        values["shares"] = Shares(**own)
        if values["shares"].val + values["shares"].test >= 1:
            raise ValueError(f"{spec}: val and test leave no image for training")
    return values


def unknown_name(spec: Spec) -> ValueError:
    """Return the error for a spec whose name is neither that of a data set nor that of a module."""
    folder = spec.name + (f":{spec.path}" if spec.path else "")
    if folder and Path(folder).is_dir():
        return ValueError(f"{folder}: write NAME:{folder}; minicv data check {folder} says which name fits")
    found = suggest(spec.name, DATASETS)
    own = spec.path.isidentifier() and found.startswith("there are")
    return ValueError(f"unknown data set {spec.name!r}; {found}"
                      + "; or MODULE:FUNCTION, a function of a module in this folder" * own)


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
            raise NoSplit(f"{dataset.__name__}: split must be one of {', '.join(SPLITS)}, got {split!r}")
        if split in dataset.splits:
            options["split"] = split
        else:
            seed = VAL + seed if split == "val" else 2 * seed + (split == "test")
        return dataset(**{"count": count, "seed": seed, **options})
    return opener


class Format(NamedTuple):
    """What ``open_dataset`` knows of a name. options: for each option what makes a value of its text."""

    open: Callable
    needs_path: bool = True
    options: Mapping[str, Callable[[str], Any]] = {}
    val_for_test: bool = True  # read "val" if there is no "test"


COUNTS = {"count": whole, "size": whole, "seed": whole}
SHARES = {"val": share, "test": share, "seed": whole}
DATASETS: dict[str, Format] = {
    "cells": Format(_generated(Cells, 30), False, COUNTS),
    "isbi2012": Format(ISBI2012, val_for_test=False),
    "camvid": Format(CamVid, val_for_test=False),
    "masks": Format(ImageMasks, options=SHARES | {"upright": yes_or_no}),
    "voc": Format(VOCSegmentation, options=SHARES),
    "cityscapes": Format(Cityscapes),
    "street-scenes": Format(_generated(StreetScenes, 200), False, COUNTS),
    "shape-boxes": Format(_generated(ShapeBoxes, 100), False, COUNTS),
    "voc-detection": Format(VOCDetection, options=SHARES),
    "bccd": Format(functools.partial(VOCDetection, class_names=BLOOD_CELLS)),
    "yolo": Format(YoloDetection, options=SHARES),
    "coco": Format(CocoDetection, options=SHARES),
    "labelme": Format(LabelMe, options=SHARES),
    "instances": Format(Instances, options=SHARES),
    "dsb2018": Format(DSB2018),
    "coco-panoptic": Format(CocoPanoptic),
    "shapes": Format(_generated(ShapeImages, 1000), False, COUNTS),
}


def available() -> str:
    """Return all specs."""
    return ", ".join(f"{name}:PATH" if known.needs_path else name for name, known in DATASETS.items())
