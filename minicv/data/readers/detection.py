"""What the readers of detection data sets share.

A reader repairs these faults and names each in ``problems``, with its file:

- swapped corners (x2 < x1 or y2 < y1): reordered;
- a box that extends beyond the image: clipped;
- a box outside the image, without area, or whose mask has no pixel: left out.

All other faults are a ``DataError`` that names the file: an unknown class, an invalid number, an empty or damaged file,
an image that is missing or differs in size from its annotation.
"""
from __future__ import annotations

import abc
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError, warn_of_problems
from ..files.decode import require_files
from ..files.images import as_float, read_stored
from ..files.rle import draw_outlines, has_pixels
from ..sample import Cache, DetectionSample, item_index
from .folders import Shares

SLACK = 1.0  # pixels: boxes rounded to hundredths, or to six digits of a side, extend beyond the image by fractions


@dataclasses.dataclass
class Record:
    """The annotation of one image. ``masks``, if not None, is a function that returns bool (R, H, W)."""

    name: str
    image: Path
    size: tuple[int, int]  # (H, W)
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray | None = None
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None
    masks: Callable[[], np.ndarray] | None = None
    page: int | None = None  # the slice of a TIFF stack
    image_id: int | str | None = None  # in COCO's file


Read = Callable[[list[str]], Record | None]


class DetectionReader:
    """A data set of records. The constructor reads the annotations; each access reads an image.

    reads: for each image a function that returns its record and adds to a list of problems; None if it is left out.
    keep: cache each image in 8 bits, so that its file is read once. problems: the faults of the annotations; if there
    are any, opening the data set issues a ``DataWarning``.
    """

    class_names: tuple[str, ...]

    def __init__(self, reads: Iterable[Read], keep: bool = False):
        problems: list[str] = []
        self.records = [record for read in reads if (record := read(problems))]
        self.problems = problems
        self._pixels = Cache(self._read, keep)
        if self.records and not self.class_names:
            raise DataError(f"{self.records[0].image.parent}: no annotation has an object, and there is no classes.txt")
        require_files(record.image for record in self.records)
        warn_of_problems(self, problems, stacklevel=3)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> DetectionSample:
        index = item_index(self, index)
        record = self.records[index]
        masks = None if record.masks is None else record.masks()
        own: dict[str, Any] = {name: None if (part := getattr(record, name)) is None else part.copy()
               for name in ("boxes", "labels", "difficult", "crowd", "area")}
        return DetectionSample(image=as_float(self._pixels[index]), name=record.name, masks=masks, **own)

    def _read(self, index: int) -> np.ndarray:
        return read_pixels(self.records[index])


class SplitReader(DetectionReader, abc.ABC):
    """The images of one split. shares: of a data set without splits."""

    def __init__(self, root: str | os.PathLike, split: str = "train", keep: bool = False,
                 shares: Shares | None = None):
        self.split = split
        self.class_names, reads = self.find_records(Path(root), split, shares)
        super().__init__(reads, keep)

    @staticmethod
    @abc.abstractmethod
    def find_records(root: Path, split: str, shares: Shares | None = None) -> tuple[tuple[str, ...], list[Read]]:
        """Return the classes, and for each image a function that reads its record and adds to a list of problems."""


# ---------------------------------------------------------------------------------------------------------
# For readers
# ---------------------------------------------------------------------------------------------------------
def read_pixels(record: Record) -> np.ndarray:
    """Read the stored pixels of a record's image, (3, H, W). Raise ``DataError`` unless its size is the annotation's.

    The EXIF orientation is applied if only then the sizes agree.
    """
    return read_stored(record.image, "RGB", size=record.size, page=record.page)


def usable_boxes(boxes: npt.ArrayLike, size: tuple[int, int], where: Sequence[str], problems: list[str],
                 slack: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Repair boxes (R, 4) as the module describes. Return those kept, float32, and which of the R they are, bool (R,).

    Each fault goes to ``problems`` with its ``where``, except boxes less than ``slack`` pixels beyond the image.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        k = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
        raise DataError(f"{where[k]}: a box has a coordinate that is not finite: {boxes[k].tolist()}")
    H, W = size
    ordered = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    clipped = np.clip(ordered, 0, [W, H, W, H])
    rounded = clipped.astype(np.float32)  # a side of 1e-9 becomes 0
    flat = (ordered[:, 2:] == ordered[:, :2]).any(axis=1) | (
        (rounded[:, 2:] == rounded[:, :2]) & (clipped[:, 2:] > clipped[:, :2])).any(axis=1)
    gone = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1) & ~flat
    out = (np.abs(clipped - ordered) > slack).any(axis=1)
    for k, box in enumerate(boxes.tolist()):
        named = f"{where[k]}: box {[round(v, 2) for v in box]} (x1, y1, x2, y2)"
        if flat[k]:
            problems.append(f"{named} has no area; left out")
        elif gone[k]:
            problems.append(f"{named} lies outside the {W} x {H} image; left out")
        else:
            if (ordered[k] != boxes[k]).any():
                problems.append(f"{named} has swapped corners; reordered")
            if out[k]:
                problems.append(f"{named} extends beyond the {W} x {H} image; clipped")
    kept = ~(flat | gone)
    return rounded[kept], kept


class Outlined(NamedTuple):
    """An object of an annotation: its class, box (x1, y1, x2, y2), outline (see ``has_pixels``) or None, and place."""

    label: int
    box: Sequence[float]
    outline: list | None
    where: str


def record_of_objects(name: str, image: Path, size: tuple[int, int], objects: Sequence[Outlined], *,
                      problems: list[str], masked: bool = False) -> Record:
    """Make a record of objects. Add those left out to ``problems``.

    masked: the data set has outlines. An image with an object without one then keeps its boxes and has no masks.
    """
    kept = [o for o in objects if not masked or o.outline is None or has_pixels(o.outline, size)]
    problems += [f"{o.where}: its outline has no pixel in the image; left out" for o in objects if o not in kept]
    boxes, usable = usable_boxes([o.box for o in kept], size, [o.where for o in kept], problems, SLACK)
    kept = [o for o, stays in zip(kept, usable, strict=True) if stays]
    outlines = [o.outline for o in kept if o.outline is not None]
    if masked and len(outlines) < len(kept):
        problems.append(f"{next(o for o in kept if o.outline is None).where}: no outline, although other objects of "
                        "the data set have one; the image is kept without masks")
        masked = False
    return Record(name, image, size, boxes, np.array([o.label for o in kept], np.int64),
                  masks=functools.partial(draw_outlines, outlines, size) if masked else None)


def boxes_of_masks(masks: np.ndarray) -> np.ndarray:
    """Return the bounding boxes, float32 (R, 4), of masks, bool (R, H, W); zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for r, mask in enumerate(masks):
        y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(y):
            boxes[r] = x[0], y[0], x[-1] + 1, y[-1] + 1
    return boxes
