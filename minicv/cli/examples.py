"""The example predictions in the picture that ``minicv train`` draws as it goes on."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..training import Proposer

COUNT = 4  # images
SHOWN = 256  # pixels of the sides of an image whose pixels are labeled: its middle


def spread(dataset: Any) -> list[int]:
    """Return ``COUNT`` positions that lie evenly in a data set, or all."""
    return sorted({i * len(dataset) // COUNT for i in range(COUNT)})


def render_objects(dataset: Any, proposer: Proposer | None, model: Any) -> dict[str, list[np.ndarray]]:
    """Return images with the true objects, and with those that the model finds."""
    from ..viz import render_detections
    samples, names = [dataset[i] for i in spread(dataset)], dataset.class_names
    proposals = None if proposer is None else [proposer(sample.image) for sample in samples]
    with softmax_before_svms(model):
        found = model.predict([sample.image for sample in samples], proposals, score=model.display_score)
    return {"truth": [render_detections(sample.image, sample, names) for sample in samples],
            "prediction": [render_detections(sample.image, each, names)
                           for sample, each in zip(samples, found, strict=True)]}


@contextlib.contextmanager
def softmax_before_svms(model: Any) -> Iterator[None]:
    """Inside, R-CNN and SPPNet score by the softmax of the fine-tuned network if their SVMs are not trained yet."""
    waiting = getattr(model, "svm", False) and not model.svm_weight.any()
    if waiting:
        model.svm = False
    try:
        yield
    finally:
        if waiting:
            model.svm = True


def render_pixels(dataset: Any, model: Any) -> dict[str, list[np.ndarray]]:
    """Return the middles of images, and their true and predicted classes in color."""
    from ..viz.images import to_rgb
    from ..viz.segmentation import class_colors, color_labels
    samples, colors = [dataset[i] for i in spread(dataset)], class_colors(dataset.class_names)
    images, labels = [], []
    for sample in samples:
        rows, columns = (slice(max(n - SHOWN, 0) // 2, (n + min(n, SHOWN)) // 2) for n in sample.label.shape)
        images.append(sample.image[:, rows, columns])
        labels.append(sample.label[rows, columns])
    return {"image": [to_rgb(image) for image in images],
            "truth": [color_labels(label, colors) for label in labels],
            "prediction": [color_labels(result.labels, colors) for result in model.predict(images)]}
