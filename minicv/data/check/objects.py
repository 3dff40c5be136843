"""Check data sets with boxes, masks or segments."""
from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...detection.boxes import box_iou
from ..errors import DataError, DataWarning, NoSplit
from ..readers.detection import Read, Record, boxes_of_masks, read_pixels
from ..readers.panoptic import CocoPanoptic
from .report import Report, compare_classes, count_table, describe_sizes, mixed_floats, overlap

SIDES = "small, below 32 x 32", "medium", "large, from 96 x 96"


def check_detection(find_records: Callable[..., tuple[Sequence[str], list[Read]]],
                    splits: Sequence[str] = ("train", "val", "test")) -> Callable[..., Report]:
    """Return a check of a detection data set.

    Its faults: what a reader refuses or repairs, masks and images that cannot be read, and images in two splits.

    find_records: returns a split's classes, and for each image a function that reads its annotation. A missing split is
    a fault only if no split exists; otherwise the contents mention it.
    """
    def run(root: Path, **options) -> Report:
        report, missing, tables, classes = Report(), {}, {}, {}
        split_of: dict = {}
        floats: dict[Path, bool] = {}
        for split in splits:
            try:
                classes[split], reads = find_records(root, split, **options)
            except DataError as error:
                report.faults.append(str(error))
            except NoSplit as error:
                missing[split] = str(error)
            else:
                tables[split] = _check_split(root, split, classes[split], reads=reads, report=report,
                                             split_of=split_of, floats=floats)
        report.faults += [*mixed_floats(floats), *compare_classes(root, classes)]
        if tables:
            if "train" in missing:
                report.contents.insert(0, f"train: missing, so there is nothing to train on ({missing['train']})")
            report.contents += count_table("objects", tables)
        elif not report.faults:
            report.faults += missing.values()
        report.faults = list(dict.fromkeys(report.faults))
        return report
    return run


def _check_split(root: Path, split: str, names: Sequence[str], *, reads: Sequence[Read], report: Report,
                 split_of: dict, floats: dict[Path, bool]) -> dict[str, int]:
    """Read the images of a split and add to the report. Return the number of objects of each class and size."""
    counts, sizes, used, empty, excused = np.zeros(len(names), np.int64), set(), 0, 0, 0
    sides: list[np.ndarray] = []
    reach = 0.0
    for read in tqdm(reads, desc=split, unit="image", leave=False, disable=None):
        try:
            used += 1
            if (record := read(report.faults)) is None:
                used -= 1
                continue
            report.faults += overlap(split_of, record.image, record.image, split, record.page)
            floats[record.image] = read_pixels(record).dtype == np.float32
            report.faults += [*_boxes_unlike_masks(record), *_repeated_objects(record, names)]
        except DataError as error:
            report.faults.append(str(error))
            continue
        sizes.add(tuple(record.size)[::-1])
        counts += np.bincount(record.labels, minlength=len(names))
        empty += not len(record.labels)
        excused += sum(int(part.sum()) for part in (record.difficult, record.crowd) if part is not None)
        reach = max(reach, record.boxes.max(initial=0))
        sides.append(np.sqrt((record.boxes[:, 2:] - record.boxes[:, :2]).prod(axis=1)))
    side = np.concatenate([*sides, np.zeros(0)])
    if len(side) and reach <= 1:
        report.faults.append(f"{root}: all boxes of {split} lie within 1 x 1 pixel; are their numbers relative to the "
                             "image's sides? They must be in pixels")
    report.contents.append(f"{split}: {used} images, {describe_sizes(sizes)}, {empty} without objects")
    if len(sides) == used and counts.sum() <= excused:
        which = "that is neither difficult nor a crowd " if counts.any() else ""
        report.faults.append(f"{root}: no object {which}in any image of {split}, so there is nothing to learn or find")
    return dict(zip([*names, *SIDES], [*counts, *np.histogram(side, [0, 32, 96, np.inf])[0]], strict=True))


def _boxes_unlike_masks(record: Record) -> list[str]:
    """Return a fault for each object whose mask is mostly outside its box, or whose box was written as two corners."""
    faults, masks = [], None if record.masks is None else record.masks()
    if masks is None or not len(masks):
        return []
    around = boxes_of_masks(masks)
    corners = np.concatenate([record.boxes[:, :2], record.boxes[:, 2:] - record.boxes[:, :2]], axis=1)
    fits, as_corners = (np.diag(box_iou(boxes, around)) for boxes in (record.boxes, np.maximum(corners, 0)))
    for r, (mask, box) in enumerate(zip(masks, record.boxes, strict=True)):
        (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        what = f"{record.image}: the mask of the object in box {_rounded(box)}"
        if mask[y1:y2, x1:x2].sum() < mask.sum() / 5:
            faults.append(f"{what} lies mostly outside it, in {_rounded(around[r])}")
        elif as_corners[r] > 0.8 > fits[r]:
            faults.append(f"{what} fits {_rounded(corners[r])}; were x1, y1, x2, y2 written as x, y, width, height?")
    return faults


def _repeated_objects(record: Record, names: Sequence[str]) -> list[str]:
    """Return a fault for each object that an annotation repeats: training and measures would count it twice."""
    R = len(record.labels)
    counts = ~np.any([np.zeros(R, bool), *(part for part in (record.difficult, record.crowd) if part is not None)], 0)
    masks = [b""] * R if record.masks is None else [mask.tobytes() for mask in record.masks()]
    objects = Counter((record.labels[r], tuple(record.boxes[r].tolist()), masks[r]) for r in np.flatnonzero(counts))
    return [f"{record.image}: the {names[k]} in box {_rounded(box)} occurs {count} times in its annotation"
            for (k, box, _), count in objects.items() if count > 1]


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(float(v), 2) for v in box]


def check_panoptic(root: Path) -> Report:
    """Check that images and PNGs can be read and fit together, and that every segment has a class and pixels."""
    report, missing, tables, classes = Report(), [], {}, {}
    split_of: dict = {}
    for split in ("train", "val", "test"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # its problems become faults
                panoptic = CocoPanoptic(root, split)
        except DataError as error:
            report.faults.append(str(error))
            continue
        except ValueError as error:  # an unknown split, no fault if there is another
            missing.append(str(error))
            continue
        report.faults += panoptic.problems
        classes[split] = panoptic.class_names
        counts, sizes = np.zeros(panoptic.num_classes, np.int64), set()
        for i in tqdm(range(len(panoptic)), desc=split, unit="image", leave=False, disable=None):
            try:
                report.faults += overlap(split_of, image := panoptic.annotations[i].image.path, image, split)
                sample = panoptic[i]
            except DataError as error:
                report.faults.append(str(error))
                continue
            empty = np.setdiff1d(np.arange(len(sample.classes)), sample.segments - 1)
            if len(empty):
                report.faults.append(f"{panoptic.maps / sample.name}.png: {len(empty)} of {len(sample.classes)} "
                                     f"segments that {panoptic.path.name} describes have no pixel")
            sizes.add(sample.segments.shape[::-1])
            counts += np.bincount(np.delete(sample.classes, empty), minlength=len(counts))
        report.contents.append(f"{split}: {len(panoptic)} images, {describe_sizes(sizes)}")
        tables[split] = dict(zip(panoptic.class_names, counts, strict=True))
    report.faults += compare_classes(root, classes)
    if tables:
        report.contents += count_table("segments", tables)
    elif not report.faults:
        report.faults += missing
    return report
