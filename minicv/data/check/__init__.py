"""Check a data set on disk: read everything, and name every fault with its file.

A new kind of data set adds a line to CHECKS.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DataError, NoSplit
from ..own import is_own, open_own
from ..readers import coco, dsb2018, voc_detection
from ..readers.camvid import CamVid
from ..readers.cityscapes import Cityscapes
from ..readers.image_masks import ImageMasks
from ..readers.instances import Instances
from ..readers.labelme import LabelMe
from ..readers.voc_detection import BLOOD_CELLS
from ..readers.voc_segmentation import VOCSegmentation
from ..readers.yolo import YoloDetection
from ..registry import DATASETS, reader_options, unknown_name
from ..sample import DetectionSample, Sample
from ..spec import Spec, parse_spec
from .labels import check_isbi2012, check_pairs
from .objects import check_detection, check_panoptic
from .report import Report, count_table, describe_sizes

SPLITS = "train", "val", "test"


def check(spec: str) -> Report:
    """Check the data set of a spec, NAME:PATH or MODULE:FUNCTION. Raise ``ValueError`` for a name that has no check."""
    parts = parse_spec(spec)
    if parts.name not in DATASETS and parts.name:
        if is_own(parts):
            return check_own(parts)
        raise unknown_name(parts)
    if parts.name and not DATASETS[parts.name].needs_path:
        raise ValueError(f"{parts.name} is generated: nothing to check")
    if not parts.path or not parts.name:
        raise ValueError(f"check: needs NAME:PATH with one of {', '.join(CHECKS)}, got {spec!r}")
    return CHECKS[parts.name](Path(parts.path), **reader_options(parts))


def check_readable(dataset: Sequence, quiet: bool = False) -> list[str]:
    """Read every sample of a data set. Return one line, with the file, for each that cannot be read.

    dataset: needs ``len()`` and ``[i]``; generated ones have no files and are skipped. quiet: no progress bar.
    """
    faults = []
    if not getattr(dataset, "generated", False):
        for i in tqdm(range(len(dataset)), desc="checking", unit="image", leave=False, disable=quiet or None):
            try:
                dataset[i]
            except DataError as error:
                faults.append(str(error))
    return list(dict.fromkeys(faults))


def check_own(spec: Spec) -> Report:
    """Check a data set of the user's: every item of every split, and that the splits have the same classes."""
    report, tables, names = Report(), {}, {}
    for split in SPLITS:
        try:
            dataset = open_own(spec, split)
        except NoSplit as error:
            report.contents.append(f"{split}: missing ({error})")
            continue
        except DataError as error:
            report.faults.append(str(error))
            continue
        names[split], sizes = dataset.class_names, set()
        counts: Counter[int] = Counter()
        for i in tqdm(range(len(dataset)), desc=split, unit="image", leave=False, disable=None):
            try:
                item = dataset[i]
            except DataError as error:
                report.faults.append(str(error))
                continue
            sizes.add(item.image.shape[:0:-1])
            counts.update(classes_of(item))
        report.contents.append(f"{split}: {len(dataset)} images, {describe_sizes(sizes)}")
        tables[split] = {name: counts[k] for k, name in enumerate(dataset.class_names)}
    report.contents += count_table("objects, or images with the class", tables) if tables else []
    if len(set(names.values())) > 1:
        report.faults.append(f"{spec.name}:{spec.path}: the splits have different classes: {names}")
    if not tables and not report.faults:
        report.faults.append(f"{spec.name}:{spec.path}: has no split")
    return report


def classes_of(item: Sample | DetectionSample) -> list[int]:
    """Return the class of each object, or each class that a label map has."""
    return item.labels.tolist() if isinstance(item, DetectionSample) else np.unique(item.label).tolist()


def _records_of_bccd(root: Path, split: str) -> Any:
    return voc_detection.find_records(root, split, class_names=BLOOD_CELLS)


CHECKS: dict[str, Callable[..., Report]] = {
    "camvid": check_pairs(CamVid, SPLITS), "masks": check_pairs(ImageMasks, SPLITS),
    "voc": check_pairs(VOCSegmentation, ("train", "val", "trainval", "test")),
    "cityscapes": check_pairs(Cityscapes, SPLITS), "isbi2012": check_isbi2012,
    "voc-detection": check_detection(voc_detection.find_records), "bccd": check_detection(_records_of_bccd),
    "yolo": check_detection(YoloDetection.find_records), "coco": check_detection(coco.find_records),
    "labelme": check_detection(LabelMe.find_records), "instances": check_detection(Instances.find_records),
    "coco-panoptic": check_panoptic, "dsb2018": check_detection(dsb2018.find_records)}
