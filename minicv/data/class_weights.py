"""Class weights for losses over pixels, so that rare classes count.

ENet (Paszke et al., "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation", 2016) weights a
class with share p of the pixels by w = 1 / ln(c + p), c = 1.02: between 1 and 50.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DataError
from .sample import IGNORE


def class_weights(dataset: Any, c: float = 1.02) -> np.ndarray:
    """Return the weights, float32 (K,), of a data set's K classes; p is over its labeled pixels, all images."""
    counts = np.zeros(dataset.num_classes, np.int64)
    for i in range(len(dataset)):
        label = dataset[i].label
        counts += np.bincount(label[label != IGNORE].ravel(), minlength=len(counts))
    if not counts.any():
        raise DataError("class_weights: no pixel of the data set has a label")
    return (1 / np.log(c + counts / counts.sum())).astype(np.float32)  # ENet: w = 1 / ln(c + p)
