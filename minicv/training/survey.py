"""What a training set holds: images and their sizes, objects or pixels of each class, and how well anchors fit.

Printed before the first step, so that a training that cannot succeed is seen before its hours are spent. Only the
annotations are read where the data set can read them without its images.
"""
from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data import IGNORE
from ..detection.anchor_fit import best_anchor_iou, fit_anchors, shares_of_fit
from ..models.detection.base import Detector, box_scale
from ..models.detection.faster_rcnn import FasterRCNN
from .two_stage import find_objects

FEW = 0.8  # of the objects: if fewer have an anchor at IoU 0.5, the survey warns


@dataclasses.dataclass
class Survey:
    """What the N images of a data set hold for a training.

    counts: (K,), objects of each class, or pixels. sizes: how many images have a size (H, W). masks: (K,), objects with
    a mask. boxes: float32 (R, 4) of each image's objects, with its size; none for pixels. cropped: objects that are
    large enough for two-stage crops, or None. instances: whether any image tells objects apart, or None if that is not
    asked.
    """

    counts: np.ndarray
    sizes: Counter[tuple[int, int]]
    masks: np.ndarray
    boxes: list[tuple[np.ndarray, tuple[int, int]]] = dataclasses.field(default_factory=list)
    cropped: int | None = None
    instances: bool | None = None


@dataclasses.dataclass(frozen=True)
class AnchorFit:
    """The shares of the objects that some anchor fits at IoU 0.5 and 0.7, and the anchors' scales and ratios."""

    at_50: float
    at_70: float
    scales: tuple[float, ...]
    ratios: tuple[float, ...]

    def __str__(self) -> str:
        scales, ratios = (", ".join(f"{v:g}" for v in values) for values in (self.scales, self.ratios))
        return f"{self.at_50:.0%} at IoU 0.5, {self.at_70:.0%} at 0.7 (scales {scales}; ratios {ratios})"


def survey_objects(dataset: Any) -> Survey:
    """Survey a data set with boxes; difficult objects and crowds do not count."""
    found = Survey(np.zeros(dataset.num_classes, int), Counter(), np.zeros(dataset.num_classes, int))
    for i in range(len(dataset)):
        boxes, labels, size, with_masks = read_annotation(dataset, i)
        count = np.bincount(labels, minlength=dataset.num_classes)
        found.counts += count
        found.masks += count * with_masks
        found.sizes[size] += 1
        found.boxes.append((boxes, size))
    return found


def survey_pixels(dataset: Any, crops: Any = None, with_instances: bool = False) -> Survey:
    """Survey a data set with a class for every pixel. ``crops``: the ``TwoStageCrops`` of the training, or None."""
    K = dataset.num_classes
    found = Survey(np.zeros(K, int), Counter(), np.zeros(K, int), cropped=None if crops is None else 0,
                   instances=False if with_instances else None)
    for i in range(len(dataset)):
        sample: Any = dataset[i] if crops or with_instances or not hasattr(dataset, "label_of") else None
        label = dataset.label_of(i) if sample is None else sample.label
        found.counts += np.bincount(label[label != IGNORE].ravel(), minlength=K)[:K]
        found.sizes[label.shape] += 1
        if crops is not None:
            found.cropped += len(find_objects(sample, crops.background))  # type: ignore[operator]
        if with_instances:
            found.instances |= bool(sample.instances.any())  # type: ignore[operator]
    return found


def image_sizes(dataset: Any) -> set[tuple[int, int]]:
    """Return the sizes (H, W) of the images of a data set with a class for every pixel."""
    if getattr(dataset, "generated", False):
        return {dataset.size}
    return {(dataset.label_of(i) if hasattr(dataset, "label_of") else dataset[i].label).shape
            for i in range(len(dataset))}


def read_annotation(dataset: Any, i: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int], bool]:
    """Return the boxes (R, 4) and labels (R,) of image i's objects for training, its size (H, W), and whether it has
    masks."""
    if hasattr(dataset, "records"):
        record = dataset.records[i]
        left_out = np.zeros(len(record.labels), bool)
        for part in (record.difficult, record.crowd):
            left_out |= False if part is None else part
        return record.boxes[~left_out], record.labels[~left_out], tuple(record.size), record.masks is not None
    sample = dataset[i].for_training()
    H, W = sample.image.shape[1:]
    return sample.boxes, sample.labels, (H, W), sample.masks is not None


# ---------------------------------------------------------------------------------------------------------
# Anchors
# ---------------------------------------------------------------------------------------------------------
def anchor_fit(model: FasterRCNN, found: Survey) -> AnchorFit | None:
    """Return how well a network's anchors fit the objects at the size the network sees; None without objects."""
    iou = [best_anchor_iou(boxes * box_scale(size, scaled := model.scaled_size(size)), scaled, model.rpn.base,
                           model.stride, model.config.allowed_border) for boxes, size in found.boxes if len(boxes)]
    if not iou:
        return None
    return AnchorFit(*shares_of_fit(np.concatenate(iou)), tuple(model.config.anchor_scales),
                     tuple(model.config.anchor_ratios))


def fitting_anchors(model: Detector, found: Survey, turned: bool = False) -> tuple[list, list]:
    """Return scales and ratios of anchors that fit the objects at the size the network sees; ``ValueError`` if none.

    ``turned``: the training turns images by right angles, so a box counts both ways.
    """
    sides = [np.zeros((0, 2))]
    for boxes, size in found.boxes:
        scaled = boxes * box_scale(size, model.scaled_size(size))
        sides.append(scaled[:, 2:] - scaled[:, :2])
    every = np.concatenate(sides)
    return fit_anchors(np.concatenate([every, every[:, ::-1]]) if turned else every)


# ---------------------------------------------------------------------------------------------------------
# The lines that ``minicv train`` prints
# ---------------------------------------------------------------------------------------------------------
def describe_survey(task: Any, found: Survey) -> Iterator[str]:
    """Yield lines about the classes, the image sizes and, for a network with anchors, how well they fit."""
    objects, model = isinstance(task.model, Detector), task.model
    total = max(found.counts.sum(), 1)
    names = task.dataset.class_names
    shown = sorted(zip(found.counts.tolist(), names, strict=True), key=lambda each: -each[0])
    rest = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    yield ("objects: " if objects else "pixels: ") + ", ".join(
        (f"{name} {count:,} ({count / total:.0%})" if objects else f"{name} {count / total:.1%}")
        for count, name in shown[:8]) + rest
    seen = ""
    if objects and any(model.scaled_size(size) != size for size in found.sizes):
        (h, w), *others = sorted({model.scaled_size(size) for size in found.sizes})
        seen = f"; the network sees {w} x {h}" + (f" to {others[-1][1]} x {others[-1][0]}" if others else "")
    yield f"images: {_sizes(found.sizes)}{seen}"
    if isinstance(model, FasterRCNN) and (fit := anchor_fit(model, found)) is not None:
        yield f"objects that an anchor fits: {fit}"


def advise_anchors(task: Any, found: Survey) -> str | None:
    """Return a warning if anchors fit fewer than ``FEW`` of the objects at IoU 0.5, with those that would; else None.
    """
    model = task.model
    if not isinstance(model, FasterRCNN) or (fit := anchor_fit(model, found)) is None or fit.at_50 >= FEW:
        return None
    scales, ratios = fitting_anchors(model, found, task.config.turn)
    return (f"anchors fit only {fit.at_50:.0%} of the objects at IoU 0.5; --anchors auto takes scales "
            f"{', '.join(f'{s:g}' for s in scales)} and ratios {', '.join(f'{r:g}' for r in ratios)} instead")


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    """Describe image sizes as width x height: one, or the smallest and largest of each side."""
    if len(sizes) == 1:
        (H, W), = sizes
        return f"{W} x {H} pixels"
    every = np.array(list(sizes))
    (h, w), (H, W) = every.min(axis=0), every.max(axis=0)
    return f"of {len(sizes)} sizes, {w} x {h} to {W} x {H} pixels"
