"""PASCAL VOC, detection (Everingham et al., IJCV 2010), and sets in its layout, such as the blood cells of BCCD.

Layout: JPEGImages/NAME.jpg, Annotations/NAME.xml, and ImageSets/Main/train.txt, val.txt, trainval.txt and test.txt with
one NAME to a line. VOC counts pixels from 1 and includes the last: the box (xmin, ymin, xmax, ymax) of an annotation
becomes (xmin - 1, ymin - 1, xmax, ymax), here and nowhere else. One with xmax = xmin or ymax = ymin is a slip of the
annotator, a click without a drag, and counts as without area.
"""
from __future__ import annotations

import functools
import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .detection import DetectionPictures, Record, usable_boxes
from .errors import DataError
from .images import image_size
from .pairs import folder, lines
from .voc import CLASSES

EXPECTED = "VOC is expected as JPEGImages, Annotations and ImageSets/Main"
BLOOD_CELLS = ("RBC", "WBC", "Platelets")


class VOCDetection(DetectionPictures):
    """The pictures of a split, ImageSets/Main/SPLIT.txt, with boxes; no masks.

    class_names: the kinds of objects that there are; another in an annotation is a ``DataError``. VOC's 20 by default.
    """

    def __init__(self, root: str | os.PathLike, split: str = "train", class_names: Sequence[str] = CLASSES[1:],
                 keep: bool = False):
        self.class_names, self.split = tuple(class_names), split
        problems: list[str] = []
        super().__init__([read(problems) for read in find(Path(root), split, self.class_names)], problems, keep)


def find(root: Path, split: str, class_names: Sequence[str]) -> list[Callable[[list[str]], Record]]:
    """For each picture of a split, what reads its annotation and adds to a list what is wrong with it."""
    images, annotations = (folder(root / name, EXPECTED) for name in ("JPEGImages", "Annotations"))
    lists = folder(root / "ImageSets" / "Main", EXPECTED)
    if not (lists / f"{split}.txt").is_file():
        available = sorted(p.stem for p in lists.glob("*.txt"))
        raise ValueError(f"VOCDetection: no split {split!r} in {lists}; there are {', '.join(available)}")
    return [functools.partial(read_annotation, annotations / f"{name}.xml", images / f"{name}.jpg", class_names)
            for name in lines(lists / f"{split}.txt")]


def read_annotation(path: Path, image: Path, class_names: Sequence[str], problems: list[str]) -> Record:
    """One XML file; what is wrong with its boxes goes to ``problems``, ``DataError`` for what cannot be read."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{path}: not a readable annotation ({error})") from error
    stated = root.find("size")
    if stated is None:
        size = image_size(image)
    else:
        size = int(_number(stated, "height", path)), int(_number(stated, "width", path))
    boxes, labels, difficult = [], [], []
    for thing in root.iter("object"):
        name, box = (thing.findtext("name") or "").strip(), thing.find("bndbox")
        if name not in class_names:
            raise DataError(f"{path}: unknown class {name!r}; there are {', '.join(class_names)}")
        if box is None:
            raise DataError(f"{path}: an object {name!r} without a bndbox")
        ends = [_number(box, end, path) for end in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append(ends)
        labels.append(class_names.index(name))
        difficult.append((thing.findtext("difficult") or "0").strip() == "1")
    boxes = to_continuous(np.array(boxes, float).reshape(-1, 4))
    boxes, left = usable_boxes(boxes, size, [str(path)] * len(boxes), problems)
    return Record(path.stem, image, size, boxes, np.array(labels, np.int64)[left], np.array(difficult, bool)[left])


def to_continuous(boxes: np.ndarray) -> np.ndarray:
    """VOC's boxes (R, 4), first and last pixel counted from 1, as (x1, y1, x2, y2); a click keeps no area."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    swapped = boxes[:, 2:] < boxes[:, :2]
    first, last = low - (low < high), high  # a side without length stays one
    return np.concatenate([np.where(swapped, last, first), np.where(swapped, first, last)], axis=1)


def _number(parent: ElementTree.Element, name: str, path: Path) -> float:
    text = parent.findtext(name)
    try:
        if math.isfinite(value := float(text)):
            return value
    except (TypeError, ValueError):
        pass
    raise DataError(f"{path}: {parent.tag} needs a number as {name}, got {text!r}")
