"""YOLO's text files, as Ultralytics, Roboflow, CVAT and labelImg write them: boxes, and masks as polygons.

A label file has a line for each object: CLASS X Y WIDTH HEIGHT, the center and the sides of its box, or CLASS and the
points X Y X Y X Y ... of a polygon; X and WIDTH are relative to the image's width, Y and HEIGHT to its height. An image
without a label file, or with an empty one, has no objects.

data.yaml names the classes (names, a list or 0: NAME) and, for each of train, val and test, a folder of images, a list
of image files, or several of these; "path" is the folder that they are relative to. The label file of
images/train/NAME.jpg is labels/train/NAME.txt, or beside the image where no folder is named images. If data.yaml names
no folder, or is missing, the files are found as ``folders`` describes, and classes.txt, beside the labels or above,
names the classes.
"""
from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files.decode import image_endings
from ..files.entries import short_repr
from ..files.images import image_size
from ..files.text import read_text
from ..files.yaml import Value, read_yaml
from .detection import Outlined, Read, Record, SplitReader, record_of_objects
from .folders import (
    FOLDERS,
    Files,
    Shares,
    by_name,
    find_classes,
    find_files,
    find_places,
    list_files,
    resolve,
    select_files,
)
from .segmentation import read_entries, require_folder

EXPECTED = "YOLO's files are expected as data.yaml, images/ and labels/"
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LABELS = "labels", "label"


class YoloDetection(SplitReader):
    """The images of a split, with boxes, and masks if the labels are polygons."""

    @staticmethod
    def find_records(root: Path, split: str, shares: Shares | None = None) -> tuple[tuple[str, ...], list[Read]]:
        require_folder(root, EXPECTED)
        config = find_config(root)
        values = read_yaml(config, ("path", "names", "nc", "kpt_shape", *FOLDERS)) if config else {}
        if config and values.get("kpt_shape"):
            raise DataError(f"{config}: kpt_shape: key points are not read; export boxes or polygons")
        files = {name: listed_files(config, values, name) for name in FOLDERS if config and values.get(name)}
        if not files:
            files = find_files(root, LABELS, {".txt"})
            for found in files.values():
                found.annotations.pop("classes", None)
        names = read_names(config, values) if config and values.get("names") else find_names(root)
        own = select_files(files, split, shares, root)
        masked = any(has_polygons(path) for path in own.annotations.values())
        pairs = [(name, own.images.get(name), own.annotations.get(name))
                 for name in sorted({*own.images, *own.annotations})]
        return names, [functools.partial(read_labels, pair, names, masked) for pair in pairs]


def find_config(root: Path) -> Path | None:
    """Return data.yaml, or the only YAML file of a folder, or None."""
    found = list_files(root, {".yaml", ".yml"})
    own = [path for path in found if path.stem == "data"]
    if len(own or found) > 1:
        raise DataError(f"{(own or found)[1]}: and {(own or found)[0].name}: which describes the data set? Name one "
                        "data.yaml")
    return next(iter(own or found), None)


def read_names(config: Path, values: dict[str, Value]) -> tuple[str, ...]:
    """Return the class names of data.yaml."""
    names, count = values["names"], values.get("nc")
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{config}: names: must number the classes from 0 without gaps, got {sorted(names)[:20]}")
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or len(set(names)) < len(names):
        raise DataError(f"{config}: names: must list the classes, each once, got {short_repr(names)}")
    if count is not None and count != str(len(names)):
        raise DataError(f"{config}: nc is {short_repr(count)}, but names has {len(names)} classes")
    return tuple(names)


def find_names(root: Path) -> tuple[str, ...]:
    """Return the class names of classes.txt, in the folder or beside the labels."""
    for place in (root, *(folder for both in find_places(root, LABELS).values() for folder in both[::-1])):
        if resolve(place / "classes.txt").is_file():
            return find_classes(place, ())
    raise DataError(f"{root}: no data.yaml with names and no classes.txt, one class a line; {EXPECTED}")


def listed_files(config: Path, values: dict[str, Value], split: str) -> Files:
    """Return the images that data.yaml names for a split, and their label files."""
    entries, base = values[split], values.get("path") or "."
    if not isinstance(base, str) or isinstance(entries, dict):
        raise DataError(f"{config}: {split}: must be a folder of images, a list of image files, or several of these")
    several = [entries] if isinstance(entries, str) else entries or []
    images = [image for entry in several for image in images_of(config, base, entry, split)]
    found = by_name(images)
    folders = sorted({label_folder(path) for path in images})
    labels = by_name(path for folder in folders if folder.is_dir() for path in list_files(folder, {".txt"})
                     if path.stem != "classes")
    if any(entry.lower().endswith(".txt") for entry in several):  # the folders may hold the images of other splits
        labels = {name: path for name, path in labels.items() if name in found}
    return Files(found, labels, (config.parent, config.parent))


def images_of(config: Path, base: str, entry: str, split: str) -> list[Path]:
    """Return the images of one entry of data.yaml: a folder, or a text file that lists them."""
    root = config.parent
    for start in dict.fromkeys((root / base, root)):  # "path" may be that of another machine
        for text in (entry, entry.removeprefix("../")):  # Roboflow writes ../train/images for train/images
            place = resolve(start / text)
            if place.is_dir():
                return list_files(place, image_endings())
            if place.is_file() and place.suffix.lower() == ".txt":
                return [resolve((place.parent if line.startswith("./") else start) / line.replace("\\", "/"))
                        for line in read_entries(place)]
    raise DataError(f"{config}: {split}: {root / base / entry}: no such folder, and no list of images")


def label_folder(image: Path) -> Path:
    """Return the folder of an image's label file: the last folder "images" becomes "labels"."""
    parts = list(image.parts[:-1])
    for k in reversed(range(len(parts))):
        if parts[k].lower() == "images":
            return Path(*parts[:k], "labels", *parts[k + 1:])
    return image.parent


def has_polygons(path: Path) -> bool:
    """Return whether a label file has a polygon; False if it cannot be read, which is named when it is."""
    try:
        return any(len(line.split()) > 5 for line in read_text(path).splitlines())
    except DataError:
        return False


def read_labels(files: tuple[str, Path | None, Path | None], names: Sequence[str], masked: bool,
                problems: list[str]) -> Record:
    """Read the label file of an image, (name, image, label file)."""
    name, image, path = files
    if image is None:
        raise DataError(f"{path}: there is no image {name}.*; move the file away, or put the image beside the others")
    H, W = size = image_size(image, upright=True)
    objects = []
    for k, line in enumerate(read_text(path).splitlines() if path else [], start=1):
        if not line.strip():
            continue
        where = f"{path}: line {k}"
        label, values = read_line(line, names, where)
        points = np.array(values).reshape(-1, 2) * (W, H)
        if len(values) == 4:
            low, high = points[0] - points[1] / 2, points[0] + points[1] / 2
        else:
            low, high = points.min(axis=0), points.max(axis=0)
        objects.append(Outlined(label, [*low.tolist(), *high.tolist()],
                                [points.ravel().tolist()] if len(values) > 4 else None, where))
    return record_of_objects(name, image, size, objects, problems=problems, masked=masked)


def read_line(line: str, names: Sequence[str], where: str) -> tuple[int, list[float]]:
    """Return the class and the numbers of a line."""
    parts = line.split()
    if not all(NUMBER.fullmatch(part) for part in parts) or len(parts) < 5 or len(parts) % 2 == 0:
        raise DataError(f"{where}: must be CLASS X Y WIDTH HEIGHT, or CLASS and the points of a polygon, all numbers, "
                        f"got {short_repr(line)}")
    label, *values = map(float, parts)
    if not label.is_integer() or not 0 <= label < len(names):
        raise DataError(f"{where}: unknown class {parts[0]}; the classes are 0 to {len(names) - 1}: {', '.join(names)}")
    if not all(-1 <= value <= 2 for value in values):
        raise DataError(f"{where}: numbers must be relative to the image's sides, from 0 to 1, got {short_repr(line)}; "
                        "are they pixels?")
    return int(label), values
