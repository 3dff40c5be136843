"""Losses as means over a batch that several processes share.

Data-parallel training averages the processes' gradients. If the processes have different numbers n of pixels or RoIs,
the average of their means is not the mean over all. It is when each process divides its sum by the same number: the
mean of all n. ``group`` is a ``training.ProcessGroup``, or None for a single process.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops as F
from ..autograd import Tensor
from ..data.sample import IGNORE


def mean_over_processes(count: int, group: Any) -> float:
    """Return the mean of a count over the processes."""
    return count if group is None else float(group.sum(np.array([count], np.float64))[0]) / group.size


def mean_cross_entropy(scores: Tensor, label: Tensor, pixel_weight: Tensor | None, group: Any) -> Tensor:
    """Return the mean cross entropy over the pixels of label (N, H, W) of all processes that are not void (255)."""
    if group is None:
        return F.cross_entropy(scores, label, ignore_index=IGNORE, pixel_weight=pixel_weight)
    counts = (label.data != IGNORE).astype(scores.dtype)
    weights = counts if pixel_weight is None else counts * pixel_weight.data
    total = group.sum(weights.sum().reshape(1)) / group.size  # (1,), where the scores are
    loss = F.cross_entropy(scores, label, ignore_index=IGNORE, pixel_weight=pixel_weight, reduction="sum")
    return loss / Tensor(total.reshape(()))
