"""What a detection data set hands out, and what the readers of such sets share.

What is wrong with an annotation and how a reader goes on (each is named in ``problems``, with its file):

- swapped corners (x2 < x1 or y2 < y1): put in order, kept;
- a box that reaches out of the image: what is outside is cut off;
- a box wholly outside, or without area, or whose mask has no pixel: left out.

What no reader can guess is a ``DataError`` that names the file: a class that the data set does not have, a number that
is none, an empty or damaged file, an image that is missing or of another size than its annotation says.
"""
from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, DataWarning
from ..files.decode import is_file, no_such_file
from ..files.images import as_float, read_integers
from ..sample import DetectionSample, item_index


@dataclasses.dataclass
class Record:
    """An image's annotation as read from its file. ``masks`` makes bool (R, H, W) of it, or is None."""

    name: str
    image: Path
    size: tuple[int, int]  # (H, W)
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray | None = None
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None
    masks: Callable[[], np.ndarray] | None = None


class DetectionReader:
    """A data set of records: annotations are read when it is opened, images on each access.

    ``keep``: remember each image in 8 bits, so that its file is read once. ``problems`` lists what was wrong with the
    annotations; if anything was, a ``DataWarning`` says so when the data set is opened.
    """

    class_names: tuple[str, ...]

    def __init__(self, records: list[Record], problems: list[str], keep: bool = False):
        self.records, self.problems, self.keep = records, problems, keep
        self._kept: dict[int, np.ndarray] = {}
        missing = [r.image for r in records if not is_file(r.image)]
        if missing:
            more = f"; {len(missing) - 1} more are missing" if len(missing) > 1 else ""
            raise DataError(f"{no_such_file(missing[0])}{more}")
        if problems:
            shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            warnings.warn(f"{type(self).__name__}: {len(problems)} annotations are wrong: {shown}", DataWarning,
                          stacklevel=3)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> DetectionSample:
        index = item_index(self, index)
        record = self.records[index]
        pixels = self._pixels(index, record)
        masks = None if record.masks is None else record.masks()
        own: dict[str, Any] = {name: None if (part := getattr(record, name)) is None else part.copy()
               for name in ("boxes", "labels", "difficult", "crowd", "area")}
        return DetectionSample(image=as_float(pixels), name=record.name, masks=masks, **own)

    def _pixels(self, index: int, record: Record) -> np.ndarray:
        if index in self._kept:
            return self._kept[index]
        pixels = read_pixels(record)
        if self.keep:
            self._kept[index] = pixels
        return pixels


# ---------------------------------------------------------------------------------------------------------
# For readers
# ---------------------------------------------------------------------------------------------------------
def read_pixels(record: Record) -> np.ndarray:
    """A record's image, uint8 or uint16 (3, H, W); ``DataError`` if its size is not the one that the annotation states.

    It is turned by its EXIF orientation if only then the sizes agree.
    """
    return read_integers(record.image, "RGB", size=record.size)


def usable_boxes(boxes: np.ndarray, size: tuple[int, int], where: Sequence[str], problems: list[str],
                 slack: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (R, 4) as the module says they are read, float32, and which of the R are left, bool (R,).

    What was wrong goes to ``problems``, each with its ``where``, except less than ``slack`` pixels out of the image.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        k = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
        raise DataError(f"{where[k]}: a box has a coordinate that is not finite: {boxes[k].tolist()}")
    H, W = size
    ordered = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    clipped = np.clip(ordered, 0, [W, H, W, H])
    kept = clipped.astype(np.float32)  # in which a side of 1e-9 is none
    flat = (ordered[:, 2:] == ordered[:, :2]).any(axis=1) | (
        (kept[:, 2:] == kept[:, :2]) & (clipped[:, 2:] > clipped[:, :2])).any(axis=1)
    gone = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1) & ~flat
    out = (np.abs(clipped - ordered) > slack).any(axis=1)
    for k, box in enumerate(boxes.tolist()):
        told = f"{where[k]}: box {[round(v, 2) for v in box]} (x1, y1, x2, y2)"
        if flat[k]:
            problems.append(f"{told} has no area, left out")
        elif gone[k]:
            problems.append(f"{told} lies outside the image of {W} x {H}, left out")
        else:
            if (ordered[k] != boxes[k]).any():
                problems.append(f"{told} has swapped corners, put in order")
            if out[k]:
                problems.append(f"{told} reaches out of the image of {W} x {H}, cut off")
    left = ~(flat | gone)
    return kept[left], left


def boxes_of_masks(masks: np.ndarray) -> np.ndarray:
    """The box around each of the masks (R, H, W), bool: float32 (R, 4); zeros for a mask without a pixel."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for r, mask in enumerate(masks):
        y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(y):
            boxes[r] = x[0], y[0], x[-1] + 1, y[-1] + 1
    return boxes
