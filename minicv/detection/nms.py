"""Non-maximum suppression: of overlapping boxes, keep the one with the highest score.

Greedy, as in R-CNN (Girshick et al., 2014, sec. 2.2): keep the box with the highest score, drop the boxes whose IoU
with it exceeds the threshold (an equal one stays), and repeat with the rest. Of equal scores, the first box wins.

A matrix of all pairs would take 3.2 GB for 20,000 boxes. Here the boxes come in chunks of ``CHUNK``: pairs are compared
within a chunk, then its survivors with all later boxes, so memory grows linearly.
"""
from __future__ import annotations

import numpy as np

from ..backend import Array, device_of, to_device, to_numpy
from .boxes import box_iou, check_boxes

CHUNK = 128


def nms(boxes: Array, scores: Array, iou_threshold: float, max_keep: int | None = None) -> Array:
    """Return the indices, int64, of the boxes (R, 4) to keep, by falling score (R,), as ``torchvision.ops.nms``.

    One difference: an IoU equal to the threshold in float32 stays. torchvision compares with the float64 threshold and
    drops the box where float32 rounds up, as at 0.1.

    ``max_keep``: stop after that many boxes; they are the first ones of the full result. ``ValueError`` for a NaN
    score, which has no place in the order.
    """
    _check("nms", boxes, scores)
    ranked, device = to_numpy(scores), device_of(boxes)
    order = np.argsort(-ranked, kind="stable")
    if np.isnan(ranked).any():
        raise ValueError(f"nms: {np.isnan(ranked).sum()} of the {len(ranked)} scores are NaN")
    keep, kept = [], 0
    while len(order) and (max_keep is None or kept < max_keep):
        chunk, order = order[:CHUNK], order[CHUNK:]
        own = boxes[to_device(chunk, device)]
        survivors = _greedy(to_numpy(box_iou(own, own) > iou_threshold))
        keep.append(chunk[survivors])
        kept += len(survivors)
        if len(order):
            rest = boxes[to_device(order, device)]
            best = box_iou(own[to_device(survivors, device)], rest).max(axis=0)
            order = order[~to_numpy(best > iou_threshold)]
    return to_device(np.concatenate([*keep, np.zeros(0, np.int64)])[:max_keep], device)


def _greedy(overlaps: np.ndarray) -> np.ndarray:
    """Return the boxes that survive, given by falling score; overlaps, bool (B, B): which pairs overlap too much."""
    alive = np.ones(len(overlaps), bool)
    for i in range(len(overlaps)):
        if alive[i]:
            alive[i + 1:] &= ~overlaps[i, i + 1:]
    return np.flatnonzero(alive)


def nms_loop(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """``nms`` by its definition, one pair at a time."""
    keep: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # Python's sort is stable
        if all(box_iou(boxes[[i]], boxes[[j]])[0, 0] <= iou_threshold for j in keep):
            keep.append(i)
    return np.array(keep, np.int64)


def batched_nms(boxes: Array, scores: Array, idxs: Array, iou_threshold: float, max_keep: int | None = None) -> Array:
    """``nms`` within each class, or each image: boxes with different ``idxs`` (R,) never suppress each other.

    As ``torchvision.ops.batched_nms``, by falling score over all classes; ``max_keep`` counts all classes together.
    """
    _check("batched_nms", boxes, scores)
    if idxs.shape != scores.shape or idxs.dtype.kind not in "iu":
        raise ValueError(f"batched_nms: idxs must be integers of the scores' shape {scores.shape}, got {idxs.dtype} "
                         f"{idxs.shape}")
    device, classes = device_of(boxes), to_numpy(idxs)
    keep = [np.zeros(0, np.int64)]
    for k in np.unique(classes):
        of_class = np.flatnonzero(classes == k)
        index = to_device(of_class, device)
        keep.append(of_class[to_numpy(nms(boxes[index], scores[index], iou_threshold, max_keep))])
    kept = np.sort(np.concatenate(keep))  # of equal scores, the first box comes first
    kept = kept[np.argsort(-to_numpy(scores)[kept], kind="stable")]
    return to_device(kept[:max_keep], device)


def _check(function: str, boxes: Array, scores: Array) -> None:
    check_boxes(function, "boxes", boxes)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(f"{function}: scores must be one number per box, ({len(boxes)},), got {scores.shape}")
