"""Which box is an example of which object: positive, negative, or neither.

Both rules give two arrays of length R, one number per box. ``labels``: 1 positive, 0 negative, -1 neither (not used in
training). ``matched``: the object with which the box has its highest IoU, the first of several; 0 if there is none.
An object without area matches nothing. Both are plain: no box is changed, nothing is drawn at random.
"""
from __future__ import annotations

import numpy as np

from ..backend import Array, xp_of
from .boxes import box_iou

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1

TIE = 16
"""IoUs are equal if they differ by at most so many roundings: of an object between two anchors, at equal distance, one
in six would be given to one of them only, by the last bit of its sides in float32."""


def match_anchors(anchors: Array, truth: Array, positive: float = 0.7, negative: float = 0.3) -> tuple[Array, Array]:
    """Labels and matched, int64 (R,), of anchors (R, 4) to the objects ``truth`` (G, 4): Faster R-CNN, sec. 3.1.2.

    Positive: (i) the anchor or anchors with the highest IoU with an object, all of several equal ones, however low;
    (ii) an IoU higher than ``positive`` with any object. Negative: an IoU lower than ``negative`` with all, and not
    (i). Where an anchor is best for one object, but closer to another, its box regression learns the other, as in
    the authors' code and in torchvision.
    """
    if not 0 <= negative <= positive <= 1:
        raise ValueError(f"match_anchors: needs 0 <= negative <= positive <= 1, got {negative} and {positive}")
    iou, best, matched = _best(anchors, truth)
    xp = xp_of(anchors)
    labels = xp.where(best < negative, NEGATIVE, NEITHER)
    labels = xp.where(best > positive, POSITIVE, labels)  # (ii)
    if len(truth) and len(anchors):
        highest = iou.max(axis=1)  # (G,)
        equal = iou >= (highest * (1 - TIE * xp.finfo(iou.dtype).eps))[:, None]  # (G, R)
        ties = equal & (highest > 0)[:, None]
        labels = xp.where(ties.any(axis=0), POSITIVE, labels)  # (i)
    return labels.astype(np.int64), matched


def match_proposals(proposals: Array, truth: Array, foreground: float = 0.5,
                    background: tuple[float, float] = (0.1, 0.5)) -> tuple[Array, Array]:
    """Labels and matched, int64 (R,), of proposals (R, 4) to the objects ``truth`` (G, 4): Fast R-CNN, sec. 2.3.

    Positive: an IoU of at least ``foreground``. Negative: an IoU in [low, high) of ``background``. R-CNN's rules: 0.5
    and (0, 0.5) to fine-tune the network.
    """
    low, high = background
    if not 0 <= low <= high <= foreground <= 1:
        raise ValueError("match_proposals: needs 0 <= background[0] <= background[1] <= foreground <= 1, got "
                         f"background {background} and foreground {foreground}")
    _, best, matched = _best(proposals, truth)
    xp = xp_of(proposals)
    labels = xp.where((best >= low) & (best < high), NEGATIVE, NEITHER)
    return xp.where(best >= foreground, POSITIVE, labels).astype(np.int64), matched


def _best(boxes: Array, truth: Array) -> tuple[Array, Array, Array]:
    """IoU (G, R), each box's highest IoU (R,), and the object that it has it with, int64 (R,)."""
    xp, iou = xp_of(boxes), box_iou(truth, boxes)
    if not len(truth):
        return iou, xp.zeros(len(boxes), iou.dtype), xp.zeros(len(boxes), np.int64)
    return iou, iou.max(axis=0), iou.argmax(axis=0).astype(np.int64)
