"""Check a data set on disk: read everything, and name every fault with its file.

A new kind of data set adds a line to CHECKS.
"""
from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..detection.boxes import box_iou
from ..errors import suggest
from .errors import DataError, DataWarning
from .files.decode import is_file, no_such_file
from .readers import coco, dsb2018, voc_detection
from .readers.camvid import CamVid
from .readers.cityscapes import Cityscapes
from .readers.detection import Record, boxes_of_masks, read_pixels
from .readers.isbi import numbers_of, other_pngs, read_slice, split_slices
from .readers.panoptic import CocoPanoptic
from .readers.segmentation import SegmentationReader
from .readers.voc_detection import BLOOD_CELLS
from .readers.voc_segmentation import CLASSES, VOCSegmentation
from .registry import DATASETS
from .sample import IGNORE

VOC_CLASSES = CLASSES[1:]  # without background
SIDES = "small, below 32 x 32", "medium", "large, from 96 x 96"


@dataclasses.dataclass
class Report:
    """The result of a check: the contents as lines of text, and one line for each fault."""

    contents: list[str] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)


def check(spec: str) -> Report:
    """Check the data set of a spec, NAME:PATH. Raise ``ValueError`` for a name that has no check."""
    name, _, path = spec.partition(":")
    if name in DATASETS and not DATASETS[name][1]:
        raise ValueError(f"{name} is generated: nothing to check")
    if name and name not in CHECKS:
        raise ValueError(f"unknown data set {name!r}; {suggest(name, CHECKS)}")
    if not path:
        raise ValueError(f"check: needs NAME:PATH with one of {', '.join(CHECKS)}, got {spec!r}")
    return CHECKS[name](Path(path))


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


def check_pairs(reader: type[SegmentationReader]) -> Callable[[Path], Report]:
    """Return a check of a segmentation data set.

    Its faults: a file of a pair that is missing or unreadable, sizes that differ, unknown labels, an image in two of
    train, val and test, an image of one value, a label that is all void, a split of one class.
    """
    def run(root: Path) -> Report:
        report, shares, read = Report(), {}, {}
        split_of: dict = {}
        try:
            splits = reader.splits_of(root)
        except DataError as error:
            splits, report.faults = reader.splits, [str(error)]
        for split in splits:
            try:
                pairs = reader.find_pairs(root, split)
            except DataError as error:
                report.faults.append(str(error))
                continue
            counts, sizes = np.zeros(256, np.int64), set()
            for pair in tqdm(pairs, desc=split, unit="image", leave=False, disable=None):
                if split in ("train", "val", "test"):
                    report.faults += overlap(split_of, pair.name, pair.image, split)
                if pair.label not in read:  # not read for another split
                    read[pair.label] = _read(reader, pair, report.faults)
                if (content := read[pair.label]) is not None:
                    size, labels = content
                    sizes.add(size)
                    counts += labels
            if sizes and (fault := _one_class(counts, reader.class_names)):
                report.faults.append(f"{root}: {split}: {fault}")
            shares[split] = counts / max(counts.sum(), 1)
            report.contents.append(f"{split}: {len(pairs)} images, {_sizes(sizes)}")
        if shares:
            numbers = [*range(len(reader.class_names)), IGNORE]
            cells = {split: [f"{100 * share[k]:.2f}" for k in numbers] for split, share in shares.items()}
            report.contents += _table("% of the pixels", [*reader.class_names, "void"], cells)
        report.faults = list(dict.fromkeys(report.faults))  # name a fault of several splits once
        return report
    return run


def _read(reader, pair, faults: list[str]) -> tuple[tuple[int, int], np.ndarray] | None:
    """Return a pair's size (W, H) and pixels per label (256,), or None if it is unusable. Add faults to ``faults``."""
    missing = [no_such_file(file) for file in (pair.image, pair.label) if not is_file(file)]
    if missing:
        faults += missing
        return None
    try:
        image, label = reader.read(pair)
    except DataError as error:
        faults.append(str(error))
        return None
    if not np.ptp(image):
        faults.append(f"{pair.image}: all its pixels are equal")
    if (label == IGNORE).all():
        faults.append(f"{pair.label}: every pixel is void; training skips this image")
    return label.shape[::-1], np.bincount(label.ravel(), minlength=256)


def _one_class(counts: np.ndarray, names: Sequence[str]) -> str:
    """Return the fault if fewer than two classes have pixels, otherwise an empty string."""
    present = np.flatnonzero(counts[:len(names)])
    if len(present) > 1:
        return ""
    return (f"every pixel with a label is {names[present[0]]!r}, so there is nothing to learn; is it a mask with "
            "other numbers?" if len(present) else "no pixel has a label")


def check_detection(find_records: Callable[[Path, str], tuple[Sequence[str], list[Callable[[list[str]], Record]]]],
                    splits: Sequence[str] = ("train", "val", "test")) -> Callable[[Path], Report]:
    """Return a check of a detection data set.

    Its faults: what a reader refuses or repairs, masks and images that cannot be read, and images in two splits.

    find_records: returns a split's classes, and for each image a function that reads its annotation. A split without a
    list is a fault only if no split has one; otherwise the contents mention it.
    """
    def run(root: Path) -> Report:
        report, missing, tables, classes = Report(), {}, {}, {}
        split_of: dict = {}
        for split in splits:
            try:
                classes[split], reads = find_records(root, split)
            except DataError as error:
                report.faults.append(str(error))
                continue
            except ValueError as error:
                missing[split] = str(error)
                continue
            names = classes[split]
            counts, sizes, empty, excused, sides, reach = np.zeros(len(names), np.int64), set(), 0, 0, [], 0.0
            for read in tqdm(reads, desc=split, unit="image", leave=False, disable=None):
                try:
                    record = read(report.faults)
                    report.faults += overlap(split_of, record.image, record.image, split)
                    read_pixels(record)
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
                report.faults.append(f"{root}: all boxes of {split} lie within 1 x 1 pixel; are their numbers relative "
                                     "to the image's sides? They must be in pixels")
            report.contents.append(f"{split}: {len(reads)} images, {_sizes(sizes)}, {empty} without objects")
            if len(sides) == len(reads) and counts.sum() <= excused:
                which = "that is neither difficult nor a crowd " if counts.any() else ""
                report.faults.append(f"{root}: no object {which}in any image of {split}, so there is nothing to "
                                     "learn or find")
            tables[split] = dict(zip([*names, *SIDES], [*counts, *np.histogram(side, [0, 32, 96, np.inf])[0]],
                                     strict=True))
        report.faults += _compare_classes(root, classes)
        if tables:
            if "train" in missing:
                report.contents.insert(0, f"train: missing, so there is nothing to train on ({missing['train']})")
            report.contents += _counts("objects", tables)
        elif not report.faults:
            report.faults += missing.values()
        report.faults = list(dict.fromkeys(report.faults))
        return report
    return run


def overlap(first: dict, name: object, image: Path, split: str) -> list[str]:
    """Return a fault if an image is also in another split: by name, as a link, or as a copy of the same file name.

    first: maps a name, a real path, or a file name and checksum to the first split and file with it; the image's own
    are added.
    """
    keys = [name]
    if is_file(image):
        keys += [os.path.realpath(image), (image.name, hashlib.sha256(image.read_bytes()).digest())]
    for key in keys:
        there, file = first.setdefault(key, (split, image))
        if there != split:
            return [f"{image}: is in both {there} and {split}" if file == image or key == name else
                    f"{image}: is in {split}, and the same image is in {there}: {file}"]
    return []


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


def _compare_classes(root: Path, classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a fault for each split whose classes differ from the first one's, so that a number means another class."""
    (first, names), *others = classes.items() or [("", ())]
    return [f"{root}: the classes of {split} are {', '.join(its)}; those of {first} are {', '.join(names)}"
            for split, its in others if tuple(its) != tuple(names)]


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
        report.contents.append(f"{split}: {len(panoptic)} images, {_sizes(sizes)}")
        tables[split] = dict(zip(panoptic.class_names, counts, strict=True))
    report.faults += _compare_classes(root, classes)
    if tables:
        report.contents += _counts("segments", tables)
    elif not report.faults:
        report.faults += missing
    return report


def _counts(what: str, tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Format the counts of each name in each split."""
    names = list(dict.fromkeys(name for table in tables.values() for name in table))
    return _table(what, names, {split: [str(table.get(name, 0)) for name in names] for split, table in tables.items()})


def _table(title: str, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Format a table, one row per name and one column per split."""
    width = max(map(len, [*names, title]))
    return [f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells)
            for name, *cells in [(title, *columns), *zip(names, *columns.values(), strict=True)]]


def _sizes(sizes: set[tuple[int, int]]) -> str:
    if not sizes:
        return "none of which can be read"
    if len(sizes) == 1:
        return "{} x {} pixels".format(*next(iter(sizes)))
    (w, h), (w2, h2) = np.min(list(sizes), axis=0), np.max(list(sizes), axis=0)
    return f"of {len(sizes)} sizes, {w} to {w2} x {h} to {h2} pixels"


def check_isbi2012(root: Path) -> Report:
    """Check that slices can be read, and that labels have their size and two values, cells the more frequent."""
    report, sizes, counts = Report(), set(), np.zeros(2, np.int64)
    try:
        numbers = numbers_of(root)
    except DataError as error:
        return Report(faults=[str(error)])
    report.faults += [f"{path}: is not a slice: its name must be a number, as in 0.png, 1.png, 10.png; rename it or "
                      "move it away" for path in other_pngs(root)]
    for number in tqdm(numbers, desc="slices", unit="image", leave=False, disable=None):
        try:
            sample = read_slice(root, number)
        except DataError as error:
            report.faults.append(str(error))
            continue
        image = root / "image" / f"{number}.png"
        if not np.ptp(sample.image):
            report.faults.append(f"{image}: all its pixels are equal")
        share = 100 * sample.label.mean()
        if share < 50 or share == 100:
            report.faults.append(f"{root / 'label' / str(number)}.png: {share:.0f}% of its pixels are cells; is it "
                                 "inverted, or not a label? Cells are white, membranes black")
        sizes.add(sample.label.shape[::-1])
        counts += np.bincount(sample.label.ravel(), minlength=2)
    report.contents.append(f"{len(numbers)} slices, {_sizes(sizes)}")
    report.contents.append(", ".join(f"{name}: {len(part)}" for name, part in split_slices(numbers).items()))
    report.faults += [f"{root}: {len(numbers)} slices are too few for a split {name}"
                      for name, part in split_slices(numbers).items() if not part]
    if counts.any():
        report.contents.append(f"cells: {100 * counts[1] / counts.sum():.1f}% of the pixels")
    return report


CHECKS: dict[str, Callable[[Path], Report]] = {
    "camvid": check_pairs(CamVid), "voc": check_pairs(VOCSegmentation), "cityscapes": check_pairs(Cityscapes),
    "isbi2012": check_isbi2012,
    "voc-detection": check_detection(
        lambda root, split: (VOC_CLASSES, voc_detection.find_records(root, split, VOC_CLASSES))),
    "bccd": check_detection(lambda root, split: (BLOOD_CELLS, voc_detection.find_records(root, split, BLOOD_CELLS))),
    "coco": check_detection(coco.find_records), "coco-panoptic": check_panoptic,
    "dsb2018": check_detection(lambda root, split: (("nucleus",), dsb2018.find_records(root, split)))}
