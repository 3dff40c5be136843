"""Detections as files that other programs read: COCO's results and annotations, and VOC's result files.

COCO (cocodataset.org, "results format"): a list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"},
with masks also "segmentation", run lengths packed into text. A second file lists the images and categories that the ids
stand for. pycocotools reads both: ``COCO(images).loadRes(results)``.

VOC (the development kit of VOC 2012, sec. 8): for each class a file comp4_det_test_CLASS.txt with a line
"image score x1 y1 x2 y2" for each detection; pixels are counted from 1, and the last one belongs to the box. "comp4"
are detectors that may be trained on any data.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..detection import Detections
from ..files import atomic_write, to_json
from .files.rle import encode_rle
from .sample import DetectionSample

BEYOND = 1e11
"""The area written for a difficult object: pycocotools has no other way to ignore an object but that of its area, and
its largest range ends at 1e10."""


class Results:
    """Collect the detections, or also the true objects, in several images, and write them to files.

    image_ids, category_ids: those of the data set's own annotation file; by default 1, 2, ... Numbers keep all their
    digits, so that another program computes the same average precision.
    """

    def __init__(self, class_names: Sequence[str], category_ids: Sequence[int] | None = None):
        self.class_names = list(class_names)
        self.category_ids = list(category_ids or range(1, len(class_names) + 1))
        self.images: list[dict[str, Any]] = []
        self.detections: list[dict[str, Any]] = []
        self.objects: list[dict[str, Any]] = []

    def add(self, file: str | os.PathLike, size: tuple[int, int], found: Detections,
            truth: DetectionSample | None = None, image_id: int | None = None) -> None:
        """Add an image of ``size`` (H, W): the detections in it and, if known, its true objects."""
        image_id = len(self.images) + 1 if image_id is None else image_id
        self.images.append({"id": image_id, "file_name": os.fspath(file), "height": size[0], "width": size[1]})
        for entry, score in zip(self._entries(image_id, found), found.scores.tolist(), strict=True):
            self.detections.append({**entry, "score": score})
        if truth is not None:
            areas = _areas(truth)
            for r, entry in enumerate(self._entries(image_id, truth)):
                self.objects.append({"id": len(self.objects) + 1, **entry, "area": areas[r],
                                     "iscrowd": int(truth.crowd[r])})  # type: ignore[index]

    def _entries(self, image_id: int, some: Detections | DetectionSample) -> list[dict[str, Any]]:
        entries = []
        for r, (x1, y1, x2, y2) in enumerate(some.boxes.tolist()):
            entry: dict[str, Any] = {"image_id": image_id, "category_id": self.category_ids[int(some.labels[r])],
                                     "bbox": [x1, y1, x2 - x1, y2 - y1]}
            if some.masks is not None:
                entry["segmentation"] = encode_rle(some.masks[r])
            entries.append(entry)
        return entries

    def write_coco(self, results: Path, images: Path) -> None:
        """Write the detections to one file, and the images, categories and true objects to another."""
        categories = [{"id": k, "name": name} for k, name in zip(self.category_ids, self.class_names, strict=True)]
        write_json(results, self.detections)
        write_json(images, {"images": self.images, "annotations": self.objects, "categories": categories})

    def write_voc(self, folder: Path) -> list[Path]:
        """Write comp4_det_test_CLASS.txt for each class; return the files. An image's name is its file's, without
        ending."""
        files = [folder / f"comp4_det_test_{name.replace('/', '_')}.txt" for name in self.class_names]
        names = {image["id"]: Path(image["file_name"]).stem for image in self.images}
        for category, file in zip(self.category_ids, files, strict=True):
            lines = []
            for each in self.detections:
                if each["category_id"] == category:
                    x, y, width, height = each["bbox"]
                    lines.append(f"{names[each['image_id']]} {each['score']:.6f} {x + 1:.2f} {y + 1:.2f} "
                                 f"{x + width:.2f} {y + height:.2f}\n")
            with atomic_write(file) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
        return files


def _areas(truth: DetectionSample) -> list[float]:
    """Return the area of each object, as ``CocoEvaluator`` takes it; ``BEYOND`` for difficult objects."""
    if truth.area is not None:
        areas = np.asarray(truth.area, np.float64)
    elif truth.masks is not None:
        areas = truth.masks.sum(axis=(1, 2), dtype=np.float64)
    else:
        boxes = truth.boxes.astype(np.float64)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.where(truth.difficult, BEYOND, areas).tolist()  # type: ignore[arg-type]


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(content))
