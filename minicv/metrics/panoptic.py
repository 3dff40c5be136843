"""Panoptic quality (Kirillov et al., CVPR 2019): every pixel has a class, and things are separate instances.

A predicted and a true segment of one class match if their IoU is above 0.5; so each segment has at most one match. Per
class, TP are the matched pairs, FP the predicted and FN the true segments without a match:

    PQ = sum of IoU over TP / (|TP| + |FP| / 2 + |FN| / 2) = SQ x RQ                    eqs. (1), (2)
    SQ = sum of IoU over TP / |TP|                     how well do the matches fit?
    RQ = |TP| / (|TP| + |FP| / 2 + |FN| / 2)           how many are found? (an F1 score)

Void (segment 0 of the truth) is left out of the unions. A predicted segment that lies by more than half on void, or on
crowds of its class, is not an FP. A crowd need not be found.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .checks import as_labels, check_same_shape, mean_without_nan


class PanopticScore(NamedTuple):
    """PQ = SQ x RQ: panoptic, segmentation and recognition quality."""

    pq: float
    sq: float
    rq: float


class PanopticQuality:
    """PQ, SQ and RQ over a stream of images: ``update`` with each, then ``per_class`` and ``mean``."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.iou_sum = np.zeros(num_classes)
        self.tp, self.fp, self.fn = (np.zeros(num_classes, np.int64) for _ in range(3))

    def update(self, segments: np.ndarray, classes: np.ndarray, true_segments: np.ndarray, true_classes: np.ndarray,
               crowd: np.ndarray | None = None) -> None:
        """Add an image: predicted and true segments, integers (H, W), 0 for void, else 1..S.

        The class of segment s is ``classes[s - 1]``. crowd: bool, one per true segment. Segments without pixels do not
        count.
        """
        segments = as_labels("PanopticQuality.update", "segments", segments)
        true_segments = as_labels("PanopticQuality.update", "true_segments", true_segments)
        check_same_shape("PanopticQuality.update", "segments", segments, "true_segments", true_segments)
        k, k_true = (self._classes(*pair) for pair in (("segments", segments, classes),
                                                       ("true_segments", true_segments, true_classes)))
        crowd = np.zeros(len(k_true), bool) if crowd is None else np.append(False, crowd).astype(bool)
        if len(crowd) != len(k_true):
            raise ValueError(f"PanopticQuality.update: {len(k_true) - 1} true segments, but {len(crowd) - 1} values of "
                             "crowd")
        S, G = len(k), len(k_true)
        pairs = segments.ravel().astype(np.int64) * G + true_segments.ravel().astype(np.int64)
        common = np.bincount(pairs, minlength=S * G)
        common = common.reshape(S, G)  # pixels that predicted segment s and true segment g share
        area, true_area = common.sum(axis=1), common.sum(axis=0)

        union = area[:, None] + true_area - common - common[:, :1]  # Kirillov et al., sec. 4.2: void is left out
        same = (k[:, None] == k_true) & (k[:, None] >= 0) & ~crowd
        iou = np.where(same, common / np.maximum(union, 1), 0)
        s, g = np.nonzero(iou > 0.5)  # Kirillov et al., sec. 4.1: a unique matching
        np.add.at(self.iou_sum, k[s], iou[s, g])
        np.add.at(self.tp, k[s], 1)

        missed = (true_area > 0) & ~crowd & (k_true >= 0)
        missed[g] = False
        np.add.at(self.fn, k_true[missed], 1)
        excused = common[:, 0] + (common * ((k[:, None] == k_true) & crowd)).sum(axis=1)
        extra = (area > 0) & (k >= 0) & (excused <= area / 2)
        extra[s] = False
        np.add.at(self.fp, k[extra], 1)

    def _classes(self, name: str, segments: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The class of each segment; -1 for segment 0."""
        classes = np.asarray(classes, np.int64)
        if segments.min() < 0 or segments.max() > len(classes):
            raise ValueError(f"PanopticQuality.update: {name} holds {segments.min()} to {segments.max()}, but classes "
                             f"are given for 1 to {len(classes)}")
        if classes.size and (classes.min() < 0 or classes.max() >= self.num_classes):
            raise ValueError(f"PanopticQuality.update: classes of {name} must be 0 to {self.num_classes - 1}, got "
                             f"{classes.min()} to {classes.max()}")
        return np.concatenate([[-1], classes])

    @property
    def per_class(self) -> np.ndarray:
        """PQ, SQ and RQ of each class, (K, 3); NaN for a class in neither map. SQ without a match is 0."""
        seen = self.tp + self.fp / 2 + self.fn / 2
        with np.errstate(invalid="ignore"):
            rq = self.tp / seen  # Kirillov et al., eq. (2), right
        sq = np.where(seen > 0, self.iou_sum / np.maximum(self.tp, 1), np.nan)  # Kirillov et al., eq. (2), left
        return np.stack([sq * rq, sq, rq], axis=1)

    def mean(self, which: np.ndarray | None = None) -> PanopticScore:
        """Means over the classes that occur, NaN if none does; ``which``, bool (K,), selects classes, as things."""
        every = self.per_class if which is None else self.per_class[which]
        return PanopticScore(*map(mean_without_nan, every.T))
