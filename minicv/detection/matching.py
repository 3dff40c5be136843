"""Match boxes to objects: each box becomes a positive example, a negative one, or neither.

Both functions return two arrays of length R, one number per box. ``labels``: 1 positive, 0 negative, -1 neither (not
used in training). ``matched``: the object with the highest IoU, the first of several, or 0 without objects. An object
without area matches nothing. No box is changed, and nothing is drawn at random.
"""
from __future__ import annotations

import numpy as np

from ..backend import Array, xp_of
from .boxes import box_iou

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1

TIE_ROUNDINGS = 16
"""IoUs count as equal if they differ by at most this many rounding errors. Without that, one in six objects halfway
between two anchors would match only one of them, by the last bit of its float32 sides."""


def match_anchors(anchors: Array, gt_boxes: Array, positive_iou: float = 0.7,
                  negative_iou: float = 0.3) -> tuple[Array, Array]:
    """Return labels and matched, int64 (R,), of anchors (R, 4) for objects (G, 4): Faster R-CNN, sec. 3.1.2.

    Positive: (i) the anchors with the highest IoU with an object, however low, all of them if several are equal;
    (ii) any IoU above ``positive_iou``. Negative: every IoU below ``negative_iou``, and not (i). An anchor that is
    best for one object but overlaps another more learns to regress the other, as in the authors' code and torchvision.
    """
    if not 0 <= negative_iou <= positive_iou <= 1:
        raise ValueError("match_anchors: needs 0 <= negative_iou <= positive_iou <= 1, got "
                         f"{negative_iou} and {positive_iou}")
    iou, best, matched = _best_iou(anchors, gt_boxes)
    xp = xp_of(anchors)
    labels = xp.where(best < negative_iou, NEGATIVE, NEITHER)
    labels = xp.where(best > positive_iou, POSITIVE, labels)  # (ii)
    if len(gt_boxes) and len(anchors):
        highest = iou.max(axis=1)  # (G,)
        equal = iou >= (highest * (1 - TIE_ROUNDINGS * xp.finfo(iou.dtype).eps))[:, None]  # (G, R)
        ties = equal & (highest > 0)[:, None]
        labels = xp.where(ties.any(axis=0), POSITIVE, labels)  # (i)
    return labels.astype(np.int64), matched


def match_proposals(proposals: Array, gt_boxes: Array, foreground_iou: float = 0.5,
                    background_iou: tuple[float, float] = (0.1, 0.5)) -> tuple[Array, Array]:
    """Return labels and matched, int64 (R,), of proposals (R, 4) for objects (G, 4): Fast R-CNN, sec. 2.3.

    Positive: an IoU of at least ``foreground_iou``. Negative: an IoU in [low, high) of ``background_iou``. R-CNN
    fine-tunes with 0.5 and (0, 0.5).
    """
    low, high = background_iou
    if not 0 <= low <= high <= foreground_iou <= 1:
        raise ValueError("match_proposals: needs 0 <= background_iou[0] <= background_iou[1] <= foreground_iou <= 1, "
                         f"got background_iou {background_iou} and foreground_iou {foreground_iou}")
    _, best, matched = _best_iou(proposals, gt_boxes)
    xp = xp_of(proposals)
    labels = xp.where((best >= low) & (best < high), NEGATIVE, NEITHER)
    return xp.where(best >= foreground_iou, POSITIVE, labels).astype(np.int64), matched


def _best_iou(boxes: Array, gt_boxes: Array) -> tuple[Array, Array, Array]:
    """Return the IoUs (G, R), each box's highest IoU (R,), and the object that it overlaps so, int64 (R,)."""
    xp, iou = xp_of(boxes), box_iou(gt_boxes, boxes)
    if not len(gt_boxes):
        return iou, xp.zeros(len(boxes), iou.dtype), xp.zeros(len(boxes), np.int64)
    return iou, iou.max(axis=0), iou.argmax(axis=0).astype(np.int64)
