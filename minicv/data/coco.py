"""COCO's annotations in JSON (Lin et al., ECCV 2014): boxes, and masks as polygons or run lengths.

Layout: annotations/instances_NAME.json, and the pictures in NAME/ (train2017, val2017), or images/NAME/, or images/. A
box is (x, y, width, height), continuous. Category numbers have gaps; classes are numbered 0, 1, ... in their order.
"""
from __future__ import annotations

import contextlib
import functools
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .detection import DetectionPictures, Record, usable_boxes
from .errors import DataError
from .pairs import folder
from .rle import decode_rle, fill_polygon

SLACK = 1.0  # pixels: COCO's boxes are rounded to hundredths, and reach out of the picture by parts of a pixel
EXPECTED = "COCO is expected as annotations/instances_NAME.json with the pictures in NAME or images"


class CocoDetection(DetectionPictures):
    """The pictures of annotations/instances_SPLIT*.json, with boxes, crowds, areas and masks.

    split: the beginning of the name, "train" for train2017. ``masks=False`` leaves them out, which is much faster.
    """

    def __init__(self, root: str | os.PathLike, split: str = "train", masks: bool = True, keep: bool = False):
        self.split, problems = split, []
        self.class_names, reads = find(Path(root), split, masks)
        super().__init__([read(problems) for read in reads], problems, keep)


def find(root: Path, split: str, masks: bool = True) -> tuple[tuple[str, ...], list[Callable[[list[str]], Record]]]:
    """The classes, and for each picture of a split, what makes a record and adds to a list what is wrong with it."""
    path = find_json(root, "instances", split)
    content = read_json(path, ("images", "annotations", "categories"))
    pictures = picture_folder(root, path.stem.removeprefix("instances_"))
    with well_formed(path):
        return _find(path, content, pictures, masks)


def _find(path: Path, content: dict, pictures: Path,
          masks: bool) -> tuple[tuple[str, ...], list[Callable[[list[str]], Record]]]:
    categories = sorted(content["categories"], key=lambda c: c["id"])
    number = {c["id"]: k for k, c in enumerate(categories)}
    of_image = defaultdict(list)
    for annotation in content["annotations"]:
        if annotation.get("category_id") not in number:
            raise DataError(f"{path}: annotation {annotation.get('id')} is of the unknown class "
                            f"{annotation.get('category_id')}; there are {list(number)}")
        of_image[annotation["image_id"]].append(annotation)
    strange = of_image.keys() - {image["id"] for image in content["images"]}
    if strange:
        raise DataError(f"{path}: annotations of pictures that are not listed: {sorted(strange)[:5]}")
    return tuple(c["name"] for c in categories), [
        functools.partial(_record, image, of_image[image["id"]], number, pictures, masks, path)
        for image in content["images"]]


def _record(image: dict, annotations: list[dict], number: dict[int, int], pictures: Path, with_masks: bool, path: Path,
            problems: list[str]) -> Record:
    with well_formed(path):
        return _make_record(image, annotations, number, pictures, with_masks, path, problems)


def _make_record(image: dict, annotations: list[dict], number: dict[int, int], pictures: Path, with_masks: bool,
                 path: Path, problems: list[str]) -> Record:
    size = image["height"], image["width"]
    for a in annotations:
        if len(a.get("bbox", ())) != 4:
            raise DataError(f"{path}: annotation {a.get('id')} needs a bbox of four numbers, got {a.get('bbox')}")
    boxes = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # x, y, width, height -> x1, y1, x2, y2
    boxes, left = usable_boxes(boxes, size, f"{path}: {image['file_name']}", problems, SLACK)
    kept = [a for a, stays in zip(annotations, left, strict=True) if stays]
    labels = np.array([number[a["category_id"]] for a in kept], np.int64)
    crowd = np.array([bool(a.get("iscrowd", 0)) for a in kept], bool)
    sides = boxes[:, 2:] - boxes[:, :2]
    area = np.array([a.get("area", s) for a, s in zip(kept, sides.prod(axis=1).tolist(), strict=True)], np.float32)
    if not np.isfinite(area).all():
        raise DataError(f"{path}: {image['file_name']} has an object whose area is no finite number: {area.tolist()}")
    outlines = [a.get("segmentation") for a in kept]
    masks = None
    if with_masks and all(outlines):  # an object without an outline leaves its picture without masks
        masks = functools.partial(_masks, outlines, size, f"{path}: {image['file_name']}")
    return Record(Path(image["file_name"]).stem, pictures / image["file_name"], size, boxes, labels, None, crowd, area,
                  masks)


def _masks(outlines: list, size: tuple[int, int], where: str) -> np.ndarray:
    masks = np.zeros((len(outlines), *size), bool)
    for mask, outline in zip(masks, outlines, strict=True):
        try:
            if isinstance(outline, dict):
                mask[...] = decode_rle(outline)
            else:
                for polygon in outline:
                    mask |= fill_polygon(polygon, size)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: a mask that cannot be read ({error})") from error
    return masks


def find_json(root: Path, kind: str, split: str) -> Path:
    """annotations/KIND_SPLIT*.json, the one that there is."""
    every = folder(root / "annotations", EXPECTED)
    found = sorted(every.glob(f"{kind}_{split}*.json"))
    if len(found) != 1:
        available = ", ".join(p.stem.removeprefix(f"{kind}_") for p in sorted(every.glob(f"{kind}_*.json"))) or "none"
        raise ValueError(f"COCO: {len(found)} files {kind}_{split}*.json in {every}; splits there: {available}")
    return found[0]


def read_json(path: Path, needed: tuple[str, ...]) -> dict:
    """The content of a file that has all the lists ``needed``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict) or any(not isinstance(content.get(name), list) for name in needed):
        raise DataError(f"{path}: needs the lists {', '.join(needed)}")
    return content


@contextlib.contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """Inside, what is missing from the content of a file, or of another kind than it should be, is a ``DataError``."""
    try:
        yield
    except DataError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not as COCO's files are ({type(error).__name__}: {error})") from error


def picture_folder(root: Path, name: str) -> Path:
    """Where the pictures of a part lie, of the places in use; ``DataError`` if in none."""
    for place in (root / name, root / "images" / name, root / "images"):
        if place.is_dir():
            return place
    raise DataError(f"{root / name}: no such folder; {EXPECTED}")
