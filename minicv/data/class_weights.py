"""Weights of the classes, so that a loss over pixels does not forget the rare ones.

ENet (Paszke et al., "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation", 2016) weighs a
class with the share p of the pixels by w = 1 / ln(c + p), with c = 1.02: between 1 and 50.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DataError
from .sample import IGNORE


def class_weights(dataset: Any, c: float = 1.02) -> np.ndarray:
    """float32 (K,) of a data set's K classes; p from all its images, pixels without a label left out."""
    counts = np.zeros(dataset.num_classes, np.int64)
    for i in range(len(dataset)):
        label = dataset[i].label
        counts += np.bincount(label[label != IGNORE].ravel(), minlength=len(counts))
    if not counts.any():
        raise DataError("class_weights: no pixel of the data set has a label")
    return (1 / np.log(c + counts / counts.sum())).astype(np.float32)  # ENet: w = 1 / ln(c + p)
