"""COCO panoptic (Kirillov et al., CVPR 2019): each pixel belongs to one segment, each segment to one class.

Layout: annotations/panoptic_NAME.json, the segments as colors in annotations/panoptic_NAME/*.png, the images in NAME/
(val2017), images/NAME/ or images/. A pixel's segment number is R + 256 G + 65536 B; 0 is void. Things are countable and
have one segment per object; stuff has one segment per class.

Images and categories are those of ``coco``; a category also needs isthing. An annotation needs image_id, file_name and
segments_info, whose entries need a unique id, 1 to 16777215, and a category_id. An image has one annotation; one
without is left out and named in ``problems``.
"""
from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, warn_of_problems
from ..files.decode import require_files
from ..files.entries import Entry, unique
from ..files.images import as_float, read_label_colors, read_stored
from ..sample import item_index
from .coco import Image, class_of, find_json, image_of, read_categories, read_images, read_lists
from .segmentation import require_folder


@dataclasses.dataclass(frozen=True)
class PanopticSample:
    """One image and the segment of each pixel.

    image: float32 (3, H, W) in [0, 1]. segments: int32 (H, W), 0 void, 1..S. classes: int64 (S,), the class of segment
    s + 1 is ``classes[s]``. crowd: bool (S,), regions of many objects.
    """

    image: np.ndarray
    segments: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    name: str


class Annotation(NamedTuple):
    """The JSON's entry for an image: its PNG, and for each segment its number there, class and crowd flag."""

    image: Image
    path: Path
    numbers: list[int]
    classes: list[int]
    crowd: list[bool]


class CocoPanoptic:
    """The images of annotations/panoptic_SPLIT*.json. ``things``, bool (K,): which classes are countable.

    Raises ``DataError`` for a segment of an unknown class and a number in a PNG that the JSON lacks. A segment without
    a pixel is allowed and stays in ``classes``.
    """

    def __init__(self, root: str | os.PathLike, split: str = "train"):
        root, self.split = Path(root), split
        self.path = find_json(root, "panoptic", split)
        entries, annotations, categories = read_lists(self.path, "panoptic")
        self.class_names, number, categories = read_categories(categories)
        self.things = np.array([category.flag("isthing") for category in categories], bool)
        images = read_images(entries, root, self.path, "panoptic")
        unique(annotations, [image_of(a, images) for a in annotations], "image_id")
        unique(annotations, [os.path.normpath(a.text("file_name")) for a in annotations], "file_name")
        self.maps = require_folder(self.path.with_suffix(""),
                                   "COCO panoptic has its PNGs in a folder named like its JSON")
        self.annotations = [_annotation(a, images[image_of(a, images)], self.maps, number) for a in annotations]
        require_files(file for a in self.annotations for file in (a.image.path, a.path))
        without = images.keys() - {image_of(a, images) for a in annotations}
        self.problems = [f"{self.path}: {image.file_name}: no annotation; left out"
                         for key, image in images.items() if key in without]
        self.problems += [f"{a.path}: {a.classes.count(k)} segments of {self.class_names[k]}, which is stuff and "
                          "should have one; all kept" for a in self.annotations for k in dict.fromkeys(a.classes)
                          if not self.things[k] and a.classes.count(k) > 1]
        warn_of_problems(self, self.problems, stacklevel=2)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> PanopticSample:
        annotation = self.annotations[item_index(self, index)]
        path = annotation.path
        numbers = read_segments(path)
        image = as_float(read_stored(annotation.image.path, "RGB", size=numbers.shape, where=str(path)))
        if numbers.shape != annotation.image.size:
            raise DataError(f"{path}: size {numbers.shape}, but {annotation.image.size} in {self.path.name}")
        known, place = np.unique(numbers, return_inverse=True)
        to = {0: 0} | {number: s for s, number in enumerate(annotation.numbers, start=1)}
        strange = [n for n in known.tolist() if n not in to]
        if strange:
            raise DataError(f"{path}: holds the segments {strange[:5]}, which {self.path.name} does not describe")
        segments = np.array([to[n] for n in known.tolist()], np.int32)[place].reshape(numbers.shape)
        return PanopticSample(image, segments, np.array(annotation.classes, np.int64), np.array(annotation.crowd, bool),
                              path.stem)


def _annotation(entry: Entry, image: Image, maps: Path, number: dict[int, int]) -> Annotation:
    segments = entry.entries("segments_info")
    ids = [segment.whole("id", 1, 256 ** 3 - 1) for segment in segments]
    unique(segments, ids, "id")
    return Annotation(image, maps / entry.text("file_name"), ids, [class_of(segment, number) for segment in segments],
                      [segment.flag("iscrowd", 0) for segment in segments])


def read_segments(path: str | os.PathLike) -> np.ndarray:
    """Read the segment numbers of a panoptic PNG, int64 (H, W): R + 256 G + 65536 B."""
    return read_label_colors(path).astype(np.int64) @ (1, 256, 65536)
