"""Cells counted one by one: which are found, and which are merged with a neighbor."""
from typing import NamedTuple

import numpy as np

from .checks import as_labels, check_same_shape


class InstanceCounts(NamedTuple):
    """How many cells there are, and what became of them."""

    total: int  # cells in the truth
    found: int  # of them, cells that a predicted piece fits with an IoU above 0.5
    merged: int  # of them, cells that lie mostly in a piece in which another cell mostly lies too


def count_instances(prediction_labels: np.ndarray, truth_labels: np.ndarray) -> InstanceCounts:
    """Compare two integer label maps of one shape; 0 is background, every other number one piece or cell.

    IoU > 0.5 as in Kirillov et al. (CVPR 2019): no two pieces can fit one cell, nor two cells one piece.
    "Mostly" is more than half of the cell's pixels, so a cell lies mostly in one piece or in none.
    """
    prediction = as_labels("count_instances", "prediction_labels", prediction_labels)
    truth = as_labels("count_instances", "truth_labels", truth_labels)
    check_same_shape("count_instances", "prediction_labels", prediction, "truth_labels", truth)
    pieces, prediction = np.unique(prediction, return_inverse=True)  # 0, 1, ... whatever the numbers were
    prediction = prediction.reshape(truth.shape)
    area = np.bincount(prediction.ravel())  # (pieces,)
    cells = np.unique(truth[truth != 0])
    found, guests = 0, np.zeros(len(pieces), np.int64)  # guests: how many cells lie mostly in a piece
    for cell in cells:
        overlap = np.bincount(prediction[truth == cell], minlength=len(area))  # (pieces,)
        size = overlap.sum()
        overlap[pieces == 0] = 0  # background is no piece
        best = overlap.argmax()
        found += overlap[best] / (size + area[best] - overlap[best]) > 0.5
        guests[best] += overlap[best] > size / 2
    return InstanceCounts(len(cells), int(found), int(guests[guests > 1].sum()))
