"""Find what a network cannot learn because its training set has no example of it.

A head without targets trains without an error and predicts noise: a class in no image, masks of objects that have only
boxes, anchors that fit into no image. ``missing_targets`` names these before the first step. It reads the annotations
alone where the data set can read them without its images.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..data import IGNORE, DataError
from ..files import abbreviate
from ..models.detection.base import Detector
from ..models.detection.faster_rcnn import FasterRCNN
from .detection import DetectionTask
from .segmentation import SegmentationTask
from .two_stage import MIN_OBJECT_SIZE, find_objects


def missing_targets(task: Any) -> list[str]:
    """Return one sentence for each thing that the model of a task cannot learn from its data set."""
    if isinstance(task, DetectionTask):
        return list(_detection_targets(task))
    return list(_pixel_targets(task)) if isinstance(task, SegmentationTask) else []


def _detection_targets(task: DetectionTask) -> Iterator[str]:
    dataset, model = task.dataset, task.model
    K, N = dataset.num_classes, len(dataset)
    boxes, masks, sizes = np.zeros(K, int), np.zeros(K, int), set()
    for i in range(N):
        labels, size, with_masks = read_annotation(dataset, i)
        count = np.bincount(labels, minlength=K)
        boxes += count
        masks += count * with_masks
        sizes.add(tuple(size))
    if not boxes.any():
        yield (f"no object in the {N} training images (difficult objects and crowds do not count), so the network will "
               "find nothing")
    elif not boxes.all():
        yield f"no object of {_class_names(dataset, boxes == 0)} in the {N} training images, so none will be found"
    noise = (boxes > 0) & (masks == 0)
    if model.needs_masks and noise.any():
        yield (f"no mask of {_class_names(dataset, noise)} in the {N} training images, so the masks of its objects "
               "will be noise; add masks, or train faster_rcnn, which needs boxes only")
    yield from _anchors(model, sizes)


def _anchors(model: Detector, sizes: set[tuple]) -> Iterator[str]:
    """Yield a line if the RPN has no anchor in images of some ``sizes`` (H, W); ``DataError`` if it has none in any."""
    if not isinstance(model, FasterRCNN):
        return
    without = [size for size in sorted(sizes) if not model.usable_anchors(size)]
    if without:
        line = (f"no anchor of the RPN lies inside an image of {' x '.join(map(str, without[0]))} pixels, scaled to "
                f"{' x '.join(map(str, model.scaled_size(without[0])))}; use smaller anchors, as in --option "
                "'anchor_scales=[16,32,64]', or let anchors cross the border: --option allowed_border=Infinity")
        if len(without) == len(sizes):
            raise DataError(f"train: {line}")
        yield line


def _pixel_targets(task: SegmentationTask) -> Iterator[str]:
    dataset, config = task.dataset, task.config
    K, N = dataset.num_classes, len(dataset)
    pixels, objects, instances = np.zeros(K, int), 0, 0
    for i in range(N):
        sample: Any = dataset[i] if config.two_stage or config.weight_map or not hasattr(dataset, "label_of") else None
        label = dataset.label_of(i) if sample is None else sample.label
        pixels += np.bincount(label[label != IGNORE].ravel(), minlength=K)[:K]
        if task.two_stage is not None:
            objects += len(find_objects(sample, task.two_stage.background))
        if config.weight_map:
            instances += int(sample.instances.any())
    if not pixels.all():
        yield (f"no pixel of {_class_names(dataset, pixels == 0)} in the {N} training images, so it will not be "
               "predicted")
    if config.two_stage and not objects:
        yield (f"no object of at least {MIN_OBJECT_SIZE} pixels in the {N} training images, so the two stages have "
               "nothing to crop and see whole images")
    if config.weight_map and not instances:
        yield f"no instance in the {N} training images, so the weight map is the same everywhere"


def read_annotation(dataset: Any, i: int) -> tuple[np.ndarray, tuple[int, int], bool]:
    """Return the labels (R,) of image i's objects for training, the image's size (H, W), and whether it has masks."""
    if hasattr(dataset, "records"):
        record = dataset.records[i]
        left_out = np.zeros(len(record.labels), bool)
        for part in (record.difficult, record.crowd):
            left_out |= False if part is None else part
        return record.labels[~left_out], record.size, record.masks is not None
    sample = dataset[i].for_training()
    return sample.labels, sample.image.shape[1:], sample.masks is not None


def _class_names(dataset: Any, which: Sequence[bool]) -> str:
    """Return the names of the classes selected by ``which`` (K,), the first five."""
    names = [name for name, one in zip(dataset.class_names, which, strict=True) if one]
    return f"class {names[0]!r}" if len(names) == 1 else f"the {len(names)} classes {abbreviate(map(repr, names))}"
