"""LabelMe's JSON files: polygons, rectangles, circles and masks, as boxes and masks.

NAME.json lies beside its image, in one folder or in train, val and test (see ``folders``), and has "shapes". A shape
has a label, its class, points in pixels, (x, y) from the corner of the image, and a shape_type: polygon (the default),
rectangle (two corners), circle (center and a point on it) or mask (a PNG as text, within the two points). Shapes with
the same label and group_id are parts of one object. Points and lines have no area: they are left out and named in
``problems``, as is an image without a JSON file. If all shapes are rectangles, the data set has boxes and no masks.

The classes are those of classes.txt or, without one, the labels of all files, sorted.
"""
from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..files.entries import Entry, are_numbers, short_repr
from ..files.images import image_size
from ..files.rle import decode_rle, encode_rle
from ..files.text import read_json
from .detection import Outlined, Read, Record, SplitReader, record_of_objects
from .folders import Shares, find_classes, find_files, left_out, resolve, select_files
from .segmentation import require_folder

FOLDERS = "annotations", "labels", "json", "jsons"
EXPECTED = "LabelMe's files are expected as NAME.json beside each image"
POINTS = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}  # the fewest
WITHOUT_AREA = "point", "points", "line", "linestrip"


class LabelMe(SplitReader):
    """The images of a split, with boxes and masks."""

    @staticmethod
    def find_records(root: Path, split: str, shares: Shares | None = None) -> tuple[tuple[str, ...], list[Read]]:
        files = find_files(require_folder(root, EXPECTED), FOLDERS, {".json"})
        every = [path for found in files.values() for path in found.annotations.values()]
        if not every:
            raise DataError(f"{root}: contains no JSON files; {EXPECTED}")
        found = list(shapes_in(every))
        names = find_classes(root, [label for label, _ in found])
        masked = any(kind != "rectangle" for _, kind in found)
        images, annotations, _ = select_files(files, split, shares, root)

        def read_of(name: str) -> Read:
            if name not in annotations:
                return left_out(images[name], f"has no annotation {name}.json")
            return functools.partial(read_annotation, annotations[name], images.get(name), names, masked)
        return names, [read_of(name) for name in sorted({*images, *annotations})]


def shapes_in(annotations: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yield label and shape_type of all shapes with an area; files that cannot be read are named when they are."""
    for path in annotations:
        try:
            for shape in shapes_of(path)[1]:
                if (kind := kind_of(shape)) not in WITHOUT_AREA:
                    yield shape.text("label").strip(), kind
        except DataError:
            continue


def shapes_of(path: Path) -> tuple[Entry, list[Entry]]:
    """Read a file; return its content and its shapes."""
    content = read_json(path)
    if not isinstance(content, dict) or "shapes" not in content:
        raise DataError(f"{path}: has no shapes; it is not a file of LabelMe")
    entry = Entry(content, path, "the file")
    return entry, [Entry(each.content, path, f"shapes[{k}]") for k, each in enumerate(entry.entries("shapes"))]


def kind_of(shape: Entry) -> str:
    """Return the shape_type of a shape."""
    kind = shape.get("shape_type", None) or "polygon"
    if not isinstance(kind, str) or kind not in POINTS and kind not in WITHOUT_AREA:
        raise shape.fail(f"shape_type must be one of {', '.join((*POINTS, *WITHOUT_AREA))}, got {short_repr(kind)}")
    return kind


def read_annotation(path: Path, image: Path | None, names: Sequence[str], masked: bool, problems: list[str]) -> Record:
    """Read one file. Add the faults of its shapes to ``problems``; raise ``DataError`` for all others."""
    content, shapes = shapes_of(path)
    stated = str(content.get("imagePath", None) or "").replace("\\", "/")
    if stated and PurePath(stated).stem != path.stem:
        problems.append(f"{path}: imagePath is {short_repr(stated)}; is it the annotation of another image?")
    image = image or resolve(path.parent / (stated or f"{path.stem}.jpg"))
    sides = [content.get(side, None) for side in ("imageHeight", "imageWidth")]
    size = image_size(image, upright=True) if None in sides else (
        content.whole("imageHeight", 1), content.whole("imageWidth", 1))
    parts: dict[Any, tuple[int, list, str]] = {}
    for k, shape in enumerate(shapes):
        if (kind := kind_of(shape)) in WITHOUT_AREA:
            problems.append(f"{path}: {shape}: a {kind} has no area; left out")
            continue
        label, where = shape.text("label").strip(), f"{path}: {shape}"
        if label not in names:
            raise shape.fail(f"unknown class {short_repr(label)}; known: {', '.join(names)}")
        group = shape.get("group_id", None)
        key = (k,) if group is None else (label, shape.identifier("group_id"))
        parts.setdefault(key, (names.index(label), [], where))[1].append(outline_of(shape, kind, size))
    objects = [Outlined(label, box_of(outline), outline if masked else None, where)
               for label, outline, where in parts.values()]
    return record_of_objects(path.stem, image, size, objects, problems=problems, masked=masked)


def outline_of(shape: Entry, kind: str, size: tuple[int, int]) -> list[float] | dict:
    """Return a shape as a polygon [x, y, x, y, ...] or, for a mask, as run lengths."""
    pairs = shape.get("points")
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 and are_numbers(p) for p in pairs):
        raise shape.fail(f"points must be a list of [x, y], got {short_repr(pairs)}")
    if len(pairs) < POINTS[kind] or kind != "polygon" and len(pairs) != POINTS[kind]:
        raise shape.fail(f"a {kind} has {'at least ' * (kind == 'polygon')}{POINTS[kind]} points, got {len(pairs)}")
    points = np.array(pairs, float)
    if kind == "mask":
        return encode_rle(unpack_mask(shape, points, size))
    if kind == "rectangle":
        (x1, y1), (x2, y2) = pairs
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == "circle":
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        points = points[0] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points.ravel().tolist()


def unpack_mask(shape: Entry, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask, bool (H, W), from the PNG that lies between the two points."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.get("mask"), validate=True)), formats=["PNG"]) as png:
            if png.width * png.height > size[0] * size[1]:
                raise ValueError(f"{png.width} x {png.height} pixels are more than the image's")
            inside = np.asarray(png.convert("L")) > 0
    except DataError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and more
        raise shape.fail(f"a mask that cannot be read ({error})") from error
    (x, y), (h, w), (H, W) = np.rint(points.min(axis=0)).astype(int), inside.shape, size
    mask = np.zeros((H + 2 * h, W + 2 * w), bool)  # with a margin: the PNG may extend beyond the image
    top, left = np.clip(y + h, 0, H + h), np.clip(x + w, 0, W + w)
    mask[top:top + h, left:left + w] = inside
    return mask[h:h + H, w:w + W]


def box_of(outline: list) -> list[float]:
    """Return the box (x1, y1, x2, y2) around the parts of an outline."""
    points = np.concatenate([corners(part) for part in outline])
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def corners(part: list[float] | dict) -> np.ndarray:
    """Return points (n, 2) with the same box as a part of an outline."""
    if not isinstance(part, dict):
        return np.array(part).reshape(-1, 2)
    y, x = np.nonzero(decode_rle(part))
    return np.array([[x.min(), y.min()], [x.max() + 1, y.max() + 1]] if len(x) else [[0, 0], [0, 0]])
