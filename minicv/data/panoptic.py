"""COCO panoptic (Kirillov et al., CVPR 2019): each pixel belongs to one segment, and a segment to one class.

Layout: annotations/panoptic_NAME.json, the segments as colours in annotations/panoptic_NAME/*.png, the pictures in
NAME/ (val2017), or images/NAME/, or images/. A pixel's number is R + 256 G + 65536 B; 0 is void. Things are countable
and have a segment per object; stuff has one segment per class.
"""
from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from .coco import find_json, picture_folder, read_json, well_formed
from .errors import DataError
from .images import read_image
from .pairs import folder


@dataclasses.dataclass(frozen=True)
class PanopticSample:
    """One picture whose pixels are all told apart.

    image: float32 (3, H, W) in [0, 1]. segments: int32 (H, W), 0 void, 1..S. classes: int64 (S,), segment s + 1 is of
    class ``classes[s]``. crowd: bool (S,), regions of many objects.
    """

    image: np.ndarray
    segments: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    name: str


class CocoPanoptic:
    """The pictures of annotations/panoptic_SPLIT*.json; ``things``, bool (K,), says which classes are countable.

    A segment whose class does not exist, or a number in a PNG that the JSON does not describe, is a ``DataError``; a
    segment without a pixel is allowed, and stays in ``classes``.
    """

    def __init__(self, root: str | os.PathLike, split: str = "train"):
        root = Path(root)
        self.path = find_json(root, "panoptic", split)
        content = read_json(self.path, ("images", "annotations", "categories"))
        self.maps = folder(self.path.with_suffix(""), "COCO panoptic has its PNGs in a folder named like its JSON")
        self.pictures = picture_folder(root, self.path.stem.removeprefix("panoptic_"))
        with well_formed(self.path):
            self._check(content)
        self.split = split

    def _check(self, content: dict) -> None:
        categories = sorted(content["categories"], key=lambda c: c["id"])
        self.class_names = tuple(c["name"] for c in categories)
        self.things = np.array([bool(c.get("isthing", 1)) for c in categories], bool)
        self._number = {c["id"]: k for k, c in enumerate(categories)}
        self._image = {image["id"]: image for image in content["images"]}
        self.annotations = content["annotations"]
        for annotation in self.annotations:
            if annotation["image_id"] not in self._image:
                raise DataError(f"{self.path}: {annotation['file_name']} is of a picture that is not listed, "
                                f"{annotation['image_id']}")
            strange = {s["category_id"] for s in annotation["segments_info"]} - self._number.keys()
            if strange:
                raise DataError(f"{self.path}: {annotation['file_name']} has segments of the unknown classes "
                                f"{sorted(strange)}; there are {list(self._number)}")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> PanopticSample:
        with well_formed(self.path):
            return self._sample(index)

    def _sample(self, index: int) -> PanopticSample:
        annotation, path = self.annotations[index], self.maps / self.annotations[index]["file_name"]
        described = annotation["segments_info"]
        image = read_image(self.pictures / self._image[annotation["image_id"]]["file_name"], "RGB")
        numbers = read_segments(path)
        if numbers.shape != image.shape[1:]:
            raise DataError(f"{path}: size {numbers.shape} differs from the picture's {image.shape[1:]}")
        known, place = np.unique(numbers, return_inverse=True)
        to = {0: 0} | {s["id"]: k for k, s in enumerate(described, start=1)}
        strange = [n for n in known.tolist() if n not in to]
        if strange:
            raise DataError(f"{path}: holds the segments {strange[:5]}, which {self.path.name} does not describe")
        segments = np.array([to[n] for n in known.tolist()], np.int32)[place].reshape(numbers.shape)
        return PanopticSample(image, segments, np.array([self._number[s["category_id"]] for s in described], np.int64),
                              np.array([bool(s.get("iscrowd", 0)) for s in described], bool), path.stem)


def read_segments(path: str | os.PathLike) -> np.ndarray:
    """The numbers in a panoptic PNG, int64 (H, W): R + 256 G + 65536 B."""
    rgb = np.rint(read_image(path, "RGB") * 255).astype(np.int64)  # (3, H, W)
    return rgb[0] + 256 * rgb[1] + 65536 * rgb[2]
