"""Count instances, such as cells: how many are found, and how many are merged with a neighbor."""
from typing import NamedTuple

import numpy as np

from .checks import as_labels, check_same_shape


class InstanceCounts(NamedTuple):
    """The numbers of true instances, of those found, and of those merged."""

    total: int  # instances in the truth
    found: int  # those that a predicted piece matches with an IoU above 0.5
    merged: int  # those that lie mostly in a predicted piece that also holds most of another one


def count_instances(prediction_labels: np.ndarray, truth_labels: np.ndarray) -> InstanceCounts:
    """Compare two integer label maps of one shape; 0 is background, each other number one instance.

    With IoU > 0.5, as in Kirillov et al. (CVPR 2019), no two predicted pieces can match one instance, nor two instances
    one piece. "Mostly" means more than half of the instance's pixels, so it lies mostly in one piece or in none.
    """
    prediction = as_labels("count_instances", "prediction_labels", prediction_labels)
    truth = as_labels("count_instances", "truth_labels", truth_labels)
    check_same_shape("count_instances", "prediction_labels", prediction, "truth_labels", truth)
    pieces, prediction = np.unique(prediction, return_inverse=True)  # renumbered 0, 1, ...
    prediction = prediction.reshape(truth.shape)
    area = np.bincount(prediction.ravel())  # (pieces,)
    cells = np.unique(truth[truth != 0])
    found, inside = 0, np.zeros(len(pieces), np.int64)  # inside: how many instances lie mostly in each piece
    for cell in cells:
        overlap = np.bincount(prediction[truth == cell], minlength=len(area))  # (pieces,)
        size = overlap.sum()
        overlap[pieces == 0] = 0  # background is not a piece
        best = overlap.argmax()
        found += overlap[best] / (size + area[best] - overlap[best]) > 0.5
        inside[best] += overlap[best] > size / 2
    return InstanceCounts(len(cells), int(found), int(inside[inside > 1].sum()))
