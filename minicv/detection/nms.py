"""Non-maximum suppression: of boxes that overlap, the one with the highest score.

Greedy, as in R-CNN (Girshick et al., 2014, sec. 2.2): take the highest score, drop the boxes whose IoU with it is
larger than the threshold (an equal one stays), go on with the rest. Of equal scores, the box that comes first wins.

A matrix of all pairs would take 3.2 GB for 20,000 boxes. Here the boxes come in blocks of ``BLOCK``: pairs are compared
within a block, then the block's survivors with the boxes behind it, so the memory grows linearly.
"""
from __future__ import annotations

import numpy as np

from ..backend import Array, device_of, to_device, to_numpy
from .boxes import box_iou, check_boxes

BLOCK = 128


def nms(boxes: Array, scores: Array, iou_threshold: float, max_keep: int | None = None) -> Array:
    """Indices, int64, of the boxes (R, 4) that stay, by falling score (R,), as ``torchvision.ops.nms``.

    But for an IoU of exactly the threshold in float32: it stays here, while torchvision compares it with the float64,
    and drops it where float32 rounds up, as at 0.1.

    ``max_keep``: stop when so many are found (the same ones as without it, only sooner). A score that is NaN raises
    ValueError, since it has no place in the order.
    """
    _check("nms", boxes, scores)
    ranked, device = to_numpy(scores), device_of(boxes)
    order = np.argsort(-ranked, kind="stable")
    if np.isnan(ranked).any():
        raise ValueError(f"nms: {np.isnan(ranked).sum()} of the {len(ranked)} scores are NaN")
    keep, found = [], 0
    while len(order) and (max_keep is None or found < max_keep):
        block, order = order[:BLOCK], order[BLOCK:]
        own = boxes[to_device(block, device)]
        survivors = _greedy(to_numpy(box_iou(own, own) > iou_threshold))
        keep.append(block[survivors])
        found += len(survivors)
        if len(order):
            rest = boxes[to_device(order, device)]
            best = box_iou(own[to_device(survivors, device)], rest).max(axis=0)
            order = order[~to_numpy(best > iou_threshold)]
    return to_device(np.concatenate([*keep, np.zeros(0, np.int64)])[:max_keep], device)


def _greedy(overlaps: np.ndarray) -> np.ndarray:
    """Which boxes survive, by falling score, from which pairs overlap too much, bool (B, B)."""
    alive = np.ones(len(overlaps), bool)
    for i in range(len(overlaps)):
        if alive[i]:
            alive[i + 1:] &= ~overlaps[i, i + 1:]
    return np.flatnonzero(alive)


def nms_loop(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """``nms`` by the definition, one pair at a time."""
    keep: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # Python's sort is stable
        if all(box_iou(boxes[[i]], boxes[[j]])[0, 0] <= iou_threshold for j in keep):
            keep.append(i)
    return np.array(keep, np.int64)


def batched_nms(boxes: Array, scores: Array, idxs: Array, iou_threshold: float, max_keep: int | None = None) -> Array:
    """``nms`` for each class by itself, or each picture: boxes with different ``idxs`` (R,) never meet.

    As ``torchvision.ops.batched_nms``, by falling score over all classes; ``max_keep`` is for all classes together.
    """
    _check("batched_nms", boxes, scores)
    if idxs.shape != scores.shape or idxs.dtype.kind not in "iu":
        raise ValueError(f"batched_nms: idxs must be integers of the scores' shape {scores.shape}, got {idxs.dtype} "
                         f"{idxs.shape}")
    device, classes = device_of(boxes), to_numpy(idxs)
    keep = [np.zeros(0, np.int64)]
    for k in np.unique(classes):
        of_class = np.flatnonzero(classes == k)
        there = to_device(of_class, device)
        keep.append(of_class[to_numpy(nms(boxes[there], scores[there], iou_threshold, max_keep))])
    every = np.sort(np.concatenate(keep))  # so that of equal scores the box that comes first is first
    every = every[np.argsort(-to_numpy(scores)[every], kind="stable")]
    return to_device(every[:max_keep], device)


def _check(function: str, boxes: Array, scores: Array) -> None:
    check_boxes(function, "boxes", boxes)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(f"{function}: scores must be one number per box, ({len(boxes)},), got {scores.shape}")
