"""Draw the positive and negative boxes of a training step."""
from __future__ import annotations

import numpy as np

from ..backend import Array, to_numpy
from .matching import NEGATIVE, POSITIVE


def sample_boxes(labels: Array, count: int, positive_fraction: float,
                 rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw boxes without replacement; return the indices of positives and of negatives, rising NumPy int64.

    ``labels`` (R,): 1 positive, 0 negative, others are never drawn (``matching``). At most ``count *
    positive_fraction`` positives, rounded down; negatives fill up to ``count`` as far as they last. Faster R-CNN,
    sec. 3.1.3: 256 anchors of an image, fraction 0.5; Fast R-CNN, sec. 2.3: 64 proposals, 0.25; R-CNN, sec. 2.3: 128
    from all images of a batch, 0.25.
    """
    if count < 0 or not 0 <= positive_fraction <= 1:
        raise ValueError(f"sample_boxes: needs count >= 0 and 0 <= positive_fraction <= 1, got {count} and "
                         f"{positive_fraction}")
    labels = to_numpy(labels)
    if labels.ndim != 1:
        raise ValueError(f"sample_boxes: labels must be one per box, (R,), got {labels.shape}")
    positive, negative = np.flatnonzero(labels == POSITIVE), np.flatnonzero(labels == NEGATIVE)
    positive = _draw(positive, int(count * positive_fraction), rng)
    return positive, _draw(negative, count - len(positive), rng)


def _draw(index: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return index if len(index) <= count else np.sort(rng.choice(index, count, replace=False))
