"""Find what a network cannot learn because its training set has no example of it.

A head without targets trains without an error and predicts noise: a class in no image, masks of objects that have only
boxes, anchors that fit into no image. ``missing_targets`` names these before the first step.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..data import DataError
from ..files import abbreviate
from ..models.detection.base import Detector
from ..models.detection.faster_rcnn import FasterRCNN
from .detection import DetectionTask
from .segmentation import SegmentationTask
from .survey import Survey, survey_objects, survey_pixels
from .two_stage import MIN_OBJECT_SIZE


def survey_task(task: DetectionTask | SegmentationTask) -> Survey:
    """Return what the data set of a task holds for its model."""
    if isinstance(task, DetectionTask):
        return survey_objects(task.dataset)
    return survey_pixels(task.dataset, task.two_stage, task.config.weight_map)


def missing_targets(task: DetectionTask | SegmentationTask, found: Survey | None = None) -> list[str]:
    """Return one sentence for each thing that the model of a task cannot learn; ``found``: see ``survey_task``."""
    found = survey_task(task) if found is None else found
    if isinstance(task, DetectionTask):
        return list(_detection_targets(task, found))
    return list(_pixel_targets(task, found))


def _detection_targets(task: DetectionTask, found: Survey) -> Iterator[str]:
    dataset, model, boxes, N = task.dataset, task.model, found.counts, len(task.dataset)
    if not boxes.any():
        yield (f"no object in the {N} training images (difficult objects and crowds do not count), so the network will "
               "find nothing")
    elif not boxes.all():
        yield f"no object of {_class_names(dataset, boxes == 0)} in the {N} training images, so none will be found"
    noise = (boxes > 0) & (found.masks == 0)
    if model.needs_masks and noise.any():
        yield (f"no mask of {_class_names(dataset, noise)} in the {N} training images, so the masks of its objects "
               "will be noise; add masks, or train faster_rcnn, which needs boxes only")
    yield from _anchors(model, set(found.sizes))


def _anchors(model: Detector, sizes: set[tuple]) -> Iterator[str]:
    """Yield a line if the RPN has no anchor in images of some ``sizes`` (H, W); ``DataError`` if it has none in any."""
    if not isinstance(model, FasterRCNN):
        return
    without = [size for size in sorted(sizes) if not model.usable_anchors(size)]
    if without:
        line = (f"no anchor of the RPN lies inside an image of {' x '.join(map(str, without[0]))} pixels, scaled to "
                f"{' x '.join(map(str, model.scaled_size(without[0])))}; use smaller anchors, as in --option "
                "'anchor_scales=[16,32,64]', or let anchors cross the border: --option allowed_border=1000")
        if len(without) == len(sizes):
            raise DataError(f"train: {line}")
        yield line


def _pixel_targets(task: SegmentationTask, found: Survey) -> Iterator[str]:
    dataset, N = task.dataset, len(task.dataset)
    if not found.counts.all():
        yield (f"no pixel of {_class_names(dataset, found.counts == 0)} in the {N} training images, so it will not be "
               "predicted")
    if found.cropped == 0:
        yield (f"no object of at least {MIN_OBJECT_SIZE} pixels in the {N} training images, so the two stages have "
               "nothing to crop and see whole images")
    if found.instances is False:
        yield f"no instance in the {N} training images, so the weight map is the same everywhere"


def _class_names(dataset: Any, which: Sequence[bool]) -> str:
    """Return the names of the classes selected by ``which`` (K,), the first five."""
    names = [name for name, one in zip(dataset.class_names, which, strict=True) if one]
    return f"class {names[0]!r}" if len(names) == 1 else f"the {len(names)} classes {abbreviate(map(repr, names))}"
