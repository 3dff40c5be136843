"""How well anchors fit the objects of a data set, and anchors that would fit: k-means over the boxes' shapes, with the
distance 1 - IoU (Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, sec. 2, "Dimension Clusters").

YOLOv2 clusters widths and heights freely. An RPN's anchors are all products of scales and ratios (``base_anchors``), so
here the centroids are: a box belongs to the anchor of the highest IoU, and each scale and ratio moves to the geometric
mean of its boxes.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .anchors import base_anchors

NUM_SCALES = range(3, 7)  # Faster R-CNN's 3; up to 6 if the objects' sizes differ a lot
NUM_RATIOS = 3
ENOUGH = 0.95  # of the boxes have a shape's IoU of at least 0.5: no more scales are needed
ROUNDS = 100  # of k-means at most
APART = 1.2  # scales, or ratios, that differ by a smaller factor become one


def best_anchor_iou(boxes: np.ndarray, size: tuple[int, int], base: np.ndarray, stride: float,
                    allowed_border: float = math.inf) -> np.ndarray:
    """Return the highest IoU of each box (R, 4) with an anchor in an image of ``size`` (H, W): float64 (R,).

    base: the anchors' shapes (A, 4), see ``base_anchors``; they lie as in ``grid_anchors``, and count unless they cross
    the border of the image by over ``allowed_border`` pixels. 0 where no anchor counts.

    IoU falls with the distance of the centers along either axis, so of each shape only the nearest anchor is measured.
    """
    boxes, base = np.asarray(boxes, float), np.asarray(base, float)
    inter, usable = np.ones((len(boxes), len(base))), np.ones(len(base), bool)
    sides = base[:, 2:] - base[:, :2]  # (A, 2), width and height
    for axis, (side, length) in enumerate(zip(sides.T, size[::-1], strict=True)):
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]  # (R, 1)
        first = np.maximum(np.ceil((side / 2 - allowed_border) / stride - 0.5), 0)  # (A,), the cells that count
        last = np.minimum(np.floor((length + allowed_border - side / 2) / stride - 0.5), math.ceil(length / stride) - 1)
        cell = np.clip(np.rint((low + high) / 2 / stride - 0.5), first, last)
        center = (cell + 0.5) * stride  # (R, A)
        inter *= np.maximum(np.minimum(high, center + side / 2) - np.maximum(low, center - side / 2), 0)
        usable &= first <= last
    union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[:, None] + sides.prod(axis=1) - inter
    iou = np.where(usable, inter / np.maximum(union, np.finfo(float).tiny), 0)
    return iou.max(axis=1, initial=0)


def shape_iou(sides: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the IoU (R, A) of boxes of ``sides`` (R, 2) with anchors (A, 4), both around the same center."""
    own = (base[:, 2:] - base[:, :2])[None]  # (1, A, 2)
    inter = np.minimum(sides[:, None], own).prod(axis=2)
    return inter / (sides.prod(axis=1)[:, None] + own.prod(axis=2) - inter)


def cluster_anchors(sides: np.ndarray, num_scales: int, num_ratios: int = NUM_RATIOS) -> tuple[list, list]:
    """Return scales and ratios, rising, that fit boxes of ``sides``, width and height (R, 2), in pixels.

    The first centroids are quantiles, so the result is always the same. Scales below 10 have one decimal, others none;
    ratios have two.
    """
    size, shape = np.sqrt(sides.prod(axis=1)), sides[:, 1] / sides[:, 0]  # (R,)
    scales, ratios = (np.quantile(values, (np.arange(n) + 0.5) / n) for values, n in (
        (size, num_scales), (shape, num_ratios)))
    nearest = np.full(len(sides), -1)
    for _ in range(ROUNDS):
        before, nearest = nearest, shape_iou(sides, base_anchors(scales, ratios)).argmax(axis=1)
        if np.array_equal(nearest, before):
            break
        ratio, scale = np.divmod(nearest, num_scales)  # base_anchors: for each ratio, every scale
        scales, ratios = ([np.exp(np.log(values[of == i]).mean()) if (of == i).any() else centroids[i]
                           for i in range(len(centroids))]
                          for values, of, centroids in ((size, scale, scales), (shape, ratio, ratios)))
    return ([round(s, 0 if s >= 10 else 1) for s in merge_close(scales)],
            [round(r, 2) for r in merge_close(ratios)])


def merge_close(values: Sequence[float] | np.ndarray) -> list[float]:
    """Return positive values, rising; runs in which each is less than ``APART`` times the last become their mean.

    The mean is geometric. Round objects need one ratio, not three that hardly differ.
    """
    logs = np.sort(np.log(values))
    runs = np.split(logs, np.flatnonzero(np.diff(logs) >= np.log(APART)) + 1)
    return [float(np.exp(run.mean())) for run in runs]


def fit_anchors(sides: np.ndarray) -> tuple[list, list]:
    """Return the fewest scales, of 3 to 6, and up to 3 ratios that fit ``ENOUGH`` of the boxes (``cluster_anchors``).

    Raises ``ValueError`` without boxes.
    """
    sides = np.asarray(sides, float)
    if not len(sides):
        raise ValueError("fit_anchors: no object to fit anchors to")
    for num_scales in NUM_SCALES:
        scales, ratios = cluster_anchors(sides, num_scales)
        if shares_of_fit(shape_iou(sides, base_anchors(scales, ratios)).max(axis=1))[0] >= ENOUGH:
            break
    return scales, ratios


def shares_of_fit(iou: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the shares of the objects whose best anchor has an IoU of at least 0.5 and of at least 0.7."""
    iou = np.asarray(iou)
    return float((iou >= 0.5).mean()), float((iou >= 0.7).mean())
