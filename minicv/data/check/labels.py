"""Check data sets with a class for each pixel."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import DataError, NoSplit
from ..files.decode import is_file, no_such_file
from ..readers.isbi import numbers_of, other_pngs, read_slice, split_slices
from ..readers.segmentation import ImageAndLabel, SegmentationReader
from ..sample import IGNORE
from .report import Report, describe_sizes, mixed_floats, overlap, table_of


def check_pairs(reader: Callable[..., SegmentationReader], splits: Sequence[str]) -> Callable[..., Report]:
    """Return a check of a segmentation data set.

    Its faults: a file of a pair that is missing or unreadable, sizes that differ, unknown labels, an image in two of
    train, val and test, an image of one value, a label that is all void, a split of one class, no split at all.
    """
    def run(root: Path, **options) -> Report:
        report, shares, missing, read, floats = Report(), {}, [], {}, {}
        split_of: dict = {}
        names: tuple[str, ...] = ()
        for split in splits:
            try:
                dataset = reader(root, split, require=False, **options)
            except NoSplit as error:
                missing.append(str(error))
                continue
            except DataError as error:
                report.faults.append(str(error))
                continue
            counts, sizes, names = np.zeros(256, np.int64), set(), dataset.class_names
            for pair in tqdm(dataset.pairs, desc=split, unit="image", leave=False, disable=None):
                if split in ("train", "val", "test"):
                    report.faults += overlap(split_of, pair.name, pair.image, split, pair.page)
                if (pair.label, pair.page) not in read:  # not read for another split
                    read[pair.label, pair.page] = _read(dataset, pair, report.faults)
                if (content := read[pair.label, pair.page]) is not None:
                    size, labels, floats[pair.image] = content
                    sizes.add(size)
                    counts += labels
            if sizes and (fault := _one_class(counts, names)):
                report.faults.append(f"{root}: {split}: {fault}")
            shares[split] = counts / max(counts.sum(), 1)
            report.contents.append(f"{split}: {len(dataset)} images, {describe_sizes(sizes)}")
        if shares:
            numbers = [*range(len(names)), IGNORE]
            cells = {split: [f"{100 * share[k]:.2f}" for k in numbers] for split, share in shares.items()}
            report.contents += table_of("% of the pixels", [*names, "void"], cells)
        elif not report.faults:
            report.faults += missing
        report.faults += mixed_floats(floats)
        report.faults = list(dict.fromkeys(report.faults))  # name a fault of several splits once
        return report
    return run


def _read(reader: SegmentationReader, pair: ImageAndLabel,
          faults: list[str]) -> tuple[tuple[int, int], np.ndarray, bool] | None:
    """Return a pair's size (W, H), pixels per label (256,) and whether its image has floats; None if it is unusable.

    Adds faults to ``faults``.
    """
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
    return label.shape[::-1], np.bincount(label.ravel(), minlength=256), image.dtype == np.float32


def _one_class(counts: np.ndarray, names: Sequence[str]) -> str:
    """Return the fault if fewer than two classes have pixels, otherwise an empty string."""
    present = np.flatnonzero(counts[:len(names)])
    if len(present) > 1:
        return ""
    return (f"every pixel with a label is {names[present[0]]!r}, so there is nothing to learn; is it a mask with "
            "other numbers?" if len(present) else "no pixel has a label")


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
    report.contents.append(f"{len(numbers)} slices, {describe_sizes(sizes)}")
    report.contents.append(", ".join(f"{name}: {len(part)}" for name, part in split_slices(numbers).items()))
    report.faults += [f"{root}: {len(numbers)} slices are too few for a split {name}"
                      for name, part in split_slices(numbers).items() if not part]
    if counts.any():
        report.contents.append(f"cells: {100 * counts[1] / counts.sum():.1f}% of the pixels")
    return report
