"""COCO's JSON annotations (Lin et al., ECCV 2014): boxes, and masks as polygons or run lengths.

Layouts:

- COCO's: annotations/instances_NAME.json, and the images in NAME/ (train2017, val2017), images/NAME/ or images/;
- CVAT's: the same with NAME "default", which is split by share;
- Roboflow's: NAME/_annotations.coco.json with the images beside it, NAME train, valid or test. Its first category is
  the parent of the others and has no object; it is left out.

A box is (x, y, width, height), continuous. Category ids have gaps; classes are numbered 0, 1, ... in the order of the
ids.

Required are an image's id, file_name, height and width, a category's id and name, and an annotation's image_id,
category_id and bbox. iscrowd is 0 by default, area that of the box. An outline, "segmentation", is run lengths or a
list of polygons, each a list x, y, x, y, ... of at least three points. Ids, file names and category names must be
unique, or an object's image or class is ambiguous. Annotations with the same id are all kept and named in ``problems``.

The mask of an object without an outline ([] or none) is unknown. The object is left out if others in its image have an
outline; if none does, the image keeps its boxes and has no masks. ``problems`` names both, unless no object of the data
set has an outline.
"""
from __future__ import annotations

import functools
import glob
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, NoSplit
from ..files.decode import MAX_PIXELS
from ..files.entries import Entry, are_numbers, join_reprs, short_repr, unique
from ..files.rle import draw_outlines, has_pixels, run_lengths
from ..files.text import read_json
from .detection import SLACK, DetectionReader, Read, Record, usable_boxes
from .folders import Shares, require_split, resolve, split_by_share, split_folders
from .segmentation import require_folder

EXPECTED = "COCO is expected as annotations/instances_NAME.json with the images in NAME or images"
ROBOFLOW = "_annotations.coco.json"


class CocoDetection(DetectionReader):
    """The images of a split, with boxes, crowds, areas and masks.

    split: the start of NAME, "train" for train2017. ``masks=False`` skips the outlines, which is much faster, and keeps
    objects without one. shares: of a data set with the split "default" or "train" only. image_ids, category_ids: the
    ids of the items and of the classes in the file.
    """

    def __init__(self, root: str | os.PathLike, split: str = "train", masks: bool = True, keep: bool = False,
                 shares: Shares | None = None):
        self.split = split
        self.class_names, reads, self.category_ids = load(Path(root), split, shares, masks)
        super().__init__(reads, keep)
        self.image_ids = [record.image_id for record in self.records]


class Image(NamedTuple):
    """An entry of "images": its file, its name in the JSON, and (H, W)."""

    path: Path
    file_name: str
    size: tuple[int, int]


class Object(NamedTuple):
    """A checked annotation: box (x, y, width, height), class, and outline (see ``has_pixels``) or None."""

    entry: Entry
    box: list[float]
    label: int
    crowd: bool
    area: float
    outline: list | None


def find_records(root: Path, split: str, shares: Shares | None = None,
                 masks: bool = True) -> tuple[tuple[str, ...], list[Read]]:
    """Return the classes, and for each image of a split a function that makes its record and adds to its problems."""
    return load(root, split, shares, masks)[:2]


def load(root: Path, split: str, shares: Shares | None,
         masks: bool) -> tuple[tuple[str, ...], list[Read], list[int]]:
    """Return what ``find_records`` does, and the category id of each class."""
    path, shared = find_instances(root, split, shares)
    entries, annotations, categories = read_lists(path, "instances")
    if path.name == ROBOFLOW:
        categories = without_parent(categories, annotations)
    names, number, _ = read_categories(categories)
    images = read_images(entries, root, path, "instances")
    chosen = set(images)
    if shared:
        mine = set((shares or Shares()).select((image.file_name for image in images.values()), split, path))
        chosen = {key for key, image in images.items() if image.file_name in mine}
    of_image: dict[int | str, list[Entry]] = defaultdict(list)
    seen: dict[int | str, Entry] = {}
    errors: list[DataError] = []
    for annotation in annotations:
        try:
            of_image[image_of(annotation, images)].append(annotation)
            if "id" in annotation.content:
                seen.setdefault(annotation.identifier("id"), annotation)
        except DataError as error:
            errors.append(error)
    if errors:
        raise DataError(f"{errors[0]}" + (f"; {len(errors) - 1} more annotations likewise" if len(errors) > 1 else ""))
    masked = masks and any(annotation.get("segmentation", None) for annotation in annotations)
    reads: list[Read] = [
        functools.partial(_record, image, of_image[key], image_id=key, number=number, seen=seen, with_masks=masks,
                          masked=masked) for key, image in images.items() if key in chosen]
    return names, reads, list(number)


def _record(image: Image, annotations: list[Entry], problems: list[str], *, image_id: int | str, number: dict[int, int],
            seen: dict[int | str, Entry], with_masks: bool, masked: bool) -> Record:
    """Make a record. ``seen``: the first annotation of each id; ``masked``: whether the data set has outlines."""
    objects, errors = [], []
    for a in annotations:
        try:
            objects.append(_object(a, image.size, number, with_masks))
        except DataError as error:
            errors.append(error)
        if "id" in a.content and (first := seen[a.identifier("id")]) is not a:
            problems.append(f"{a.path}: {a} has the same id as {first.place}; both kept")
    if masked:
        objects = _with_masks(image, objects, problems)
    boxes = np.array([o.box for o in objects], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # x, y, width, height -> x1, y1, x2, y2
    boxes, kept = usable_boxes(boxes, image.size, [_where(image, o.entry) for o in objects], problems, SLACK)
    if errors:
        problems += map(str, errors[1:])
        raise errors[0]
    objects = [o for o, stays in zip(objects, kept, strict=True) if stays]
    outlines = [o.outline for o in objects if o.outline is not None]
    whole = with_masks and len(outlines) == len(objects)
    masks = functools.partial(draw_outlines, outlines, image.size) if whole else None
    return Record(name=Path(image.file_name).stem, image=image.path, size=image.size, boxes=boxes,
                  labels=np.array([o.label for o in objects], np.int64),
                  crowd=np.array([o.crowd for o in objects], bool),
                  area=np.array([o.area for o in objects], np.float32), masks=masks, image_id=image_id)


def _object(entry: Entry, size: tuple[int, int], number: dict[int, int], with_masks: bool) -> Object:
    box = entry.numbers("bbox", 4)
    return Object(entry=entry, box=box, label=class_of(entry, number), crowd=entry.flag("iscrowd", 0),
                  area=entry.number("area", abs(box[2] * box[3])),
                  outline=_outline(entry, size) if with_masks else None)


def _with_masks(image: Image, objects: list[Object], problems: list[str]) -> list[Object]:
    """Return the objects that a data set with masks keeps. Add the others to ``problems``."""
    kept = []
    for o in objects:
        if o.outline is None or has_pixels(o.outline, image.size):
            kept.append(o)
        else:
            problems.append(f"{_where(image, o.entry)}: its mask has no pixel; left out")
    without = [o for o in kept if o.outline is None]
    if without and len(without) == len(kept):
        problems.append(f"{without[0].entry.path}: {image.file_name}: none of its {len(without)} objects has an "
                        "outline, although other images have some; kept without masks")
        return kept
    problems += [f"{_where(image, o.entry)}: no outline, although other objects have one; left out" for o in without]
    return [o for o in kept if o.outline is not None]


def _where(image: Image, annotation: Entry) -> str:
    return f"{annotation.path}: {image.file_name}, {annotation}"


# ---------------------------------------------------------------------------------------------------------
# Outlines
# ---------------------------------------------------------------------------------------------------------
def _outline(annotation: Entry, size: tuple[int, int]) -> list | None:
    """Return the polygons or run lengths of an annotation, checked; None if it has no outline."""
    outline = annotation.get("segmentation", None)
    if outline is None or outline == []:
        return None
    if isinstance(outline, dict):
        try:
            stated, _ = run_lengths(outline)
        except ValueError as error:
            raise annotation.fail(f"a mask that cannot be read ({error})") from error
        if stated != size:
            raise annotation.fail(f"its mask has the size {stated} (H, W), but its image {size}")
        return [outline]
    if not isinstance(outline, list) or not all(isinstance(polygon, list) for polygon in outline):
        raise annotation.fail("segmentation must be a list of polygons, [[x, y, x, y, ...], ...], or run lengths, got "
                              f"{short_repr(outline)}")
    for polygon in outline:
        if len(polygon) % 2 or not are_numbers(polygon):
            raise annotation.fail("a polygon must be pairs of finite numbers x, y, got a list of "
                                  f"{len(polygon)}: {short_repr(polygon)}")
    return outline


# ---------------------------------------------------------------------------------------------------------
# Shared by instances and panoptic files
# ---------------------------------------------------------------------------------------------------------
def find_instances(root: Path, split: str, shares: Shares | None) -> tuple[Path, bool]:
    """Return the JSON file of a split, and whether the split is only a share of its images."""
    folders = {name: folder / ROBOFLOW for name, folder in split_folders(root).items() if (folder / ROBOFLOW).is_file()
               } if root.is_dir() else {}
    if folders:
        shared = split_by_share(folders, shares, root)
        if not shared:
            require_split(split, folders, root)
        return folders["train" if shared else split], shared
    splits = [path.stem.removeprefix("instances_") for path in (root / "annotations").glob("instances_*.json")]
    own = {"train" if name.startswith("train") else name for name in splits if name != "default"}
    shared = split_by_share(own, shares, root) and bool(splits)
    return find_json(root, "instances", split if not shared else "train" if own else "default"), shared


def without_parent(categories: list[Entry], annotations: list[Entry]) -> list[Entry]:
    """Return the categories without the one that Roboflow writes as the parent of all others, if no object has it."""
    parents = {each.content.get("supercategory") for each in categories}
    used = {str(each.content.get("category_id")) for each in annotations}
    return [each for each in categories if each.content.get("supercategory") != "none"
            or str(each.content.get("name")) not in map(str, parents) or str(each.content.get("id")) in used]


def find_json(root: Path, kind: str, split: str) -> Path:
    """Find annotations/KIND_SPLIT*.json. Raise ``NoSplit`` if it is missing, ``DataError`` if there are several."""
    if not split:
        raise ValueError("COCO: a split needs a name, such as train or val2017, got ''")
    every = require_folder(root / "annotations", EXPECTED)
    found = sorted(every.glob(f"{kind}_{glob.escape(split)}*.json"))
    if (exactly := every / f"{kind}_{split}.json") in found:
        return exactly
    if not found:
        available = ", ".join(p.stem.removeprefix(f"{kind}_") for p in sorted(every.glob(f"{kind}_*.json"))) or "none"
        raise NoSplit(f"COCO: no file {kind}_{split}*.json in {every}; available splits: {available}")
    if len(found) > 1:
        raise DataError(f"{found[1]}: a second file for the split {split!r}, besides {found[0].name}; move one away, "
                        f"or give the whole name, such as {found[0].stem.removeprefix(f'{kind}_')!r}")
    return found[0]


def read_lists(path: Path, kind: str) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Read the images, annotations and categories of a file. Raise ``DataError`` for other kinds of files."""
    content, needed = read_json(path), ("images", "annotations", "categories")
    if not isinstance(content, dict):
        raise DataError(f"{path}: needs the lists {', '.join(needed)}, got {short_repr(content)}; a list is "
                        "COCO's format of results, not of annotations")
    if lacking := [name for name in needed if not isinstance(content.get(name), list)]:
        got = short_repr(content[lacking[0]]) if lacking[0] in content else f"missing among {join_reprs(content)}"
        raise DataError(f"{path}: needs the lists {', '.join(needed)} of COCO's {kind} files; {lacking[0]}: {got}")
    images, annotations, categories = ([Entry(each, path, f"{name}[{i}]") for i, each in enumerate(content[name])]
                                       for name in needed)
    for entries, name in ((images, "images"), (categories, "categories")):
        if not entries:
            raise DataError(f"{path}: lists no {name}")
    mine, other = ("bbox", "segments_info") if kind == "instances" else ("segments_info", "bbox")
    for a in annotations:
        if mine not in a.content and other in a.content:
            raise a.fail(f"has {other} and no {mine}; open "
                         + ("a panoptic file as coco-panoptic" if kind == "instances" else "an instances file as coco"))
    return images, annotations, categories


def read_categories(entries: list[Entry]) -> tuple[tuple[str, ...], dict[int, int], list[Entry]]:
    """Return the class names, a dict from id to class, and the categories in class order."""
    ids = [entry.whole("id") for entry in entries]
    unique(entries, ids, "id")
    unique(entries, [entry.text("name").strip() for entry in entries], "name")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    entries = [entries[k] for k in order]
    return tuple(e.text("name").strip() for e in entries), {ids[k]: n for n, k in enumerate(order)}, entries


def read_images(entries: list[Entry], root: Path, path: Path, kind: str) -> dict[int | str, Image]:
    """Return the images by id."""
    beside = path.name == ROBOFLOW
    place = path.parent if beside else find_image_folder(root, path.stem.removeprefix(f"{kind}_"))
    ids, names = [entry.identifier("id") for entry in entries], [entry.text("file_name") for entry in entries]
    unique(entries, ids, "id")
    unique(entries, [os.path.normpath(name) for name in names], "file_name")
    sizes = [(entry.whole("height", 1), entry.whole("width", 1)) for entry in entries]
    for entry, (H, W) in zip(entries, sizes, strict=True):
        if H * W > MAX_PIXELS:
            raise entry.fail(f"{W} x {H} pixels are more than the {MAX_PIXELS} allowed")
    return {key: Image(resolve(place / name), name, size) for key, name, size in zip(ids, names, sizes, strict=True)}


def find_image_folder(root: Path, name: str) -> Path:
    """Return the folder with the images of a split. Raise ``DataError`` if no layout has one."""
    for place in (root / name, root / "images" / name, root / "images"):
        if place.is_dir():
            return place
    raise DataError(f"{root / name}: no such folder; {EXPECTED}")


def image_of(annotation: Entry, images: dict[int | str, Image]) -> int | str:
    """Return the id of an annotation's image."""
    if (key := annotation.identifier("image_id")) not in images:
        raise annotation.fail(f"has the unknown image_id {short_repr(key)}; the ids in images are "
                              f"{join_reprs(images)}")
    return key


def class_of(entry: Entry, number: dict[int, int]) -> int:
    """Return the class of an annotation or a segment."""
    if (key := entry.whole("category_id")) not in number:
        raise entry.fail(f"has the unknown category_id {key}; the ids in categories are {join_reprs(number)}")
    return number[key]
