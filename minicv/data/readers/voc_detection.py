"""PASCAL VOC, detection (Everingham et al., IJCV 2010), and data sets with other classes in its format, as labelImg's.

Layouts:

- VOC's: JPEGImages/NAME.*, Annotations/NAME.xml, and ImageSets/Main/train.txt, val.txt, trainval.txt and test.txt with
  one NAME per line; without these lists, the images are split by share;
- labelImg's: NAME.xml beside each image, or in a folder "annotations", in one folder or in train, val and test (see
  ``folders``).

The classes are those of classes.txt or, without one, those of all annotations, sorted. An image without an annotation
is left out and named in ``problems``. VOC counts pixels from 1 and includes the last: only here, the box (xmin, ymin,
xmax, ymax) of an annotation becomes (xmin - 1, ymin - 1, xmax, ymax). A box with xmax = xmin or ymax = ymin is an
annotator's slip, a click without a drag, and has no area.

An annotation is an XML file in any encoding (see ``text``) with the root <annotation>. Each <object> in it has one
<name> and one <bndbox> with one each of <xmin>, <ymin>, <xmax>, <ymax>, whole numbers or not, and may have <difficult>,
0 or 1. Without <size>, the size is the image's. A <bndbox> outside <object> and <part> is a ``DataError``: another tool
wrote it, and its object would be missed. A <filename> of another image is named in ``problems``.
"""
from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from xml.etree.ElementTree import Element

import numpy as np

from ..errors import DataError
from ..files.decode import MAX_PIXELS, image_endings
from ..files.entries import LIMIT, join_reprs, short_repr
from ..files.images import image_size
from ..files.text import read_xml
from .detection import DetectionReader, Read, Record, usable_boxes
from .folders import Shares, by_name, find_classes, find_files, left_out, list_files, select_files
from .segmentation import require_folder
from .voc_segmentation import read_split

EXPECTED = ("VOC is expected as JPEGImages, Annotations and ImageSets/Main; labelImg's files as NAME.xml beside each "
            "image")
FOLDERS = "annotations", "labels", "xml", "xmls"
BLOOD_CELLS = ("RBC", "WBC", "Platelets")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LEAVES = {"filename", "folder", "owner", "path", "segmented", "size", "source"}  # VOC's elements that hold no objects
FLAGS = {"0": False, "1": True, "false": False, "true": True}


class VOCDetection(DetectionReader):
    """The images of a split, with boxes and without masks.

    class_names: those of classes.txt or of the annotations by default; any other class in an annotation is a
    ``DataError``. shares: of a data set without splits.
    """

    def __init__(self, root: str | os.PathLike, split: str = "train", class_names: Sequence[str] | None = None,
                 keep: bool = False, shares: Shares | None = None):
        if class_names is not None and len(set(class_names)) < len(class_names):
            raise ValueError(f"VOCDetection: class_names must differ from each other, got {join_reprs(class_names)}")
        self.split = split
        self.class_names, reads = find_records(Path(root), split, shares, class_names)
        super().__init__(reads, keep)


def find_records(root: Path, split: str, shares: Shares | None = None,
                 class_names: Sequence[str] | None = None) -> tuple[tuple[str, ...], list[Read]]:
    """Return the classes, and for each image of a split a function that reads its annotation and adds to problems."""
    require_folder(root, EXPECTED)
    if (root / "JPEGImages").is_dir():
        images = by_name(list_files(root / "JPEGImages", image_endings()))
        annotations = by_name(list_files(require_folder(root / "Annotations", EXPECTED), {".xml"}))
        every, lists = list(annotations.values()), root / "ImageSets" / "Main"
        names = read_split(lists, split, shares, {*images, *annotations})
        if (lists / f"{split}.txt").is_file():  # each name must have both files
            images = {name: root / f"JPEGImages/{name}.jpg" for name in names} | images
            annotations = {name: root / f"Annotations/{name}.xml" for name in names} | annotations
    else:
        files = find_files(root, FOLDERS, {".xml"})
        every = [path for found in files.values() for path in found.annotations.values()]
        if not every:
            raise DataError(f"{root}: contains no JPEGImages and no XML files; {EXPECTED}")
        images, annotations, _ = select_files(files, split, shares, root)
        names = sorted({*images, *annotations})
    classes = find_classes(root, classes_in(every)) if class_names is None else tuple(class_names)

    def read_of(name: str) -> Read:
        if (path := annotations.get(name)) is None:
            return left_out(images[name], f"has no annotation {name}.xml")
        return functools.partial(read_annotation, path, images.get(name, path.with_suffix(".jpg")), classes)
    return classes, [read_of(name) for name in names]


def classes_in(annotations: Iterable[Path]) -> Iterator[str]:
    """Yield the name of each object in the annotations; those that cannot be read are named when they are."""
    for path in annotations:
        with contextlib.suppress(DataError):
            yield from (_text(thing, "name", path, "") for thing in read_xml(path).findall("object"))


def read_annotation(path: Path, image: Path, class_names: Sequence[str], problems: list[str]) -> Record:
    """Read one XML file. Add the faults of its boxes to ``problems``; raise ``DataError`` for all others."""
    root = read_xml(path)
    check_layout(root, path)
    size = read_size(root, path) or image_size(image)
    boxes, labels, difficult, where = [], [], [], []
    for k, thing in enumerate(root.findall("object")):
        place = f"object[{k}]"
        name, box = _text(thing, "name", path, place), _child(thing, "bndbox", path, place)
        if name not in class_names:
            raise DataError(f"{path}: {place}: unknown class {short_repr(name)}; known: {', '.join(class_names)}")
        if box is None:
            raise DataError(f"{path}: {place}: a {name} without a <bndbox>; polygons alone are not read")
        boxes.append([_number(box, end, path, f"{place}, bndbox") for end in ("xmin", "ymin", "xmax", "ymax")])
        labels.append(class_names.index(name))
        difficult.append(_flag(thing, "difficult", path, place))
        where.append(f"{path}: {place}")
    stated = _text(root, "filename", path, "annotation", "")
    if stated and path.stem not in ((own := PurePath(stated.replace("\\", "/"))).name, own.stem):
        problems.append(f"{path}: <filename> is {short_repr(stated)}; is it the annotation of another image?")
    continuous = to_continuous(np.array(boxes, float).reshape(-1, 4))
    usable, kept = usable_boxes(continuous, size, where, problems)
    return Record(path.stem, image, size, usable, labels=np.array(labels, np.int64)[kept],
                  difficult=np.array(difficult, bool)[kept])


def check_layout(root: Element, path: Path) -> None:
    """Raise ``DataError`` for the XML of another tool, whose objects are elsewhere."""
    if root.tag != "annotation":
        raise DataError(f"{path}: its root is <{short_repr(root.tag)[1:-1]}>, not <annotation>; export it as PASCAL "
                        "VOC")
    inside = {box for thing in root.findall("object") for place in (thing, *thing.findall("part"))
              for box in place.findall("bndbox")}
    for each in root.iter():
        local = each.tag.rpartition("}")[2].lower()
        if local == "bndbox" and each not in inside or local == "object" and each.tag != "object":
            raise DataError(f"{path}: <{short_repr(each.tag)[1:-1]}> where PASCAL VOC has none; its boxes are in "
                            "<object>, directly below <annotation>")
    if root.find("object") is None:
        others = [each.tag for each in root if each.tag not in LEAVES and (len(each) or each.attrib)]
        if others or not any(root.find(name) is not None for name in ("filename", "size")):
            raise DataError(f"{path}: no <object>, <filename> or <size> as in PASCAL VOC" if not others else
                            f"{path}: no <object> as in PASCAL VOC, but {join_reprs(others)}; export it as PASCAL VOC")


def read_size(root: Element, path: Path) -> tuple[int, int] | None:
    """Return (H, W) from <size>, or None."""
    stated = _child(root, "size", path, "annotation")
    if stated is None:
        return None
    H, W = (_number(stated, side, path, "size") for side in ("height", "width"))
    if not (H >= 1 and W >= 1 and H.is_integer() and W.is_integer() and H * W <= MAX_PIXELS):
        raise DataError(f"{path}: size: {W:.10g} x {H:.10g} pixels are impossible; fix <size>, or remove it to use the "
                        "image's own")
    return int(H), int(W)


def to_continuous(boxes: np.ndarray) -> np.ndarray:
    """Convert VOC's boxes (R, 4), counted from 1, to (x1, y1, x2, y2); a click keeps no area."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    swapped = boxes[:, 2:] < boxes[:, :2]
    first, last = low - (low < high), high  # a side without length stays without
    return np.concatenate([np.where(swapped, last, first), np.where(swapped, first, last)], axis=1)


# ---------------------------------------------------------------------------------------------------------
# Elements
# ---------------------------------------------------------------------------------------------------------
def _child(parent: Element, name: str, path: Path, place: str) -> Element | None:
    """Return the only child element of this name, or None; ``DataError`` if there are several."""
    found = parent.findall(name)
    if len(found) > 1:
        raise DataError(f"{path}: {place}: <{name}> occurs {len(found)} times; keep one")
    return found[0] if found else None


def _text(parent: Element, name: str, path: Path, place: str, default: str | None = None) -> str:
    """Return the text of the only child element of this name; without a ``default`` it must not be empty."""
    element = _child(parent, name, path, place)
    text = "".join(element.itertext()).strip() if element is not None else ""
    if not text and default is None or element is not None and len(element):
        raise DataError(f"{path}: {place}: <{name}> must be text")
    return text or default or ""


def _number(parent: Element, name: str, path: Path, place: str) -> float:
    text = _text(parent, name, path, place, "")
    if NUMBER.fullmatch(text) and abs(value := float(text)) <= LIMIT:
        return value
    raise DataError(f"{path}: {place}: <{name}> must be a number up to {LIMIT:.0e}, got {short_repr(text)}")


def _flag(parent: Element, name: str, path: Path, place: str) -> bool:
    text = _text(parent, name, path, place, "0").lower()
    if text not in FLAGS:
        raise DataError(f"{path}: {place}: <{name}> must be 0 or 1, got {short_repr(text)}")
    return FLAGS[text]
