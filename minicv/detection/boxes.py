"""Boxes: area, intersection over union, clipping, and the deltas that a box regressor learns.

The convention, everywhere in minicv: a box is ``(x1, y1, x2, y2)`` in pixels, floating point, and continuous. Pixel
(i, j) reaches from i to i + 1 and from j to j + 1, so a box around one pixel is (j, i, j + 1, i + 1), its width is
``x2 - x1`` without a "+ 1", and an image of H x W pixels is the box (0, 0, W, H). Readers convert data sets that
count pixels inclusively, from 1 (PASCAL VOC). A box with ``x2 <= x1`` or ``y2 <= y1`` is degenerate: its area is 0, it
overlaps nothing, and no function below turns it into NaN or infinity.

All functions take NumPy or CuPy arrays, empty ones too, and return the same kind.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..backend import Array, xp_of

MIN_SIDE = 1e-3
"""encode_boxes lengthens shorter sides to this many pixels, since log(0) is minus infinity."""

MAX_LOG_RATIO = math.log(1000 / 16)
"""decode_boxes caps t_w and t_h here, so that exp cannot overflow (as torchvision)."""


def box_area(boxes: Array) -> Array:
    """Return the areas (R,) of boxes (R, 4), in square pixels; 0 for a degenerate box."""
    check_boxes("box_area", "boxes", boxes)
    xp = xp_of(boxes)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return xp.maximum(width, 0) * xp.maximum(height, 0)


def box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Return the intersection over union of each pair: (N, M) from (N, 4) and (M, 4); 0 if both are degenerate.

    Areas overflow or vanish long before sides do (in float16, from 300 x 300 pixels), so such boxes are computed in
    float64.
    """
    check_boxes("box_iou", "boxes1", boxes1)
    check_boxes("box_iou", "boxes2", boxes2)
    xp, dtype = xp_of(boxes1), np.result_type(boxes1.dtype, boxes2.dtype)
    if not (_areas_in_range(boxes1) and _areas_in_range(boxes2)):
        boxes1, boxes2 = boxes1.astype(np.float64), boxes2.astype(np.float64)
    inter = box_intersection(boxes1, boxes2)  # (N, M)
    union = box_area(boxes1)[:, None] + box_area(boxes2)[None, :] - inter
    return (inter / xp.maximum(union, xp.finfo(union.dtype).tiny)).astype(dtype, copy=False)  # VOC, eq. (3)


def _areas_in_range(boxes: Array) -> bool:
    """Return whether every area is 0 or precise in the boxes' dtype; False on a GPU, where checking has to wait."""
    if boxes.dtype == np.float64:
        return True
    if type(boxes) is not np.ndarray or boxes.dtype == np.float16:
        return False
    info, width, height = np.finfo(boxes.dtype), boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    with np.errstate(over="ignore"):
        area = width * height
    in_range = (area > info.tiny / info.eps) & (area < info.max / 4)
    return bool((in_range | (width <= 0) | (height <= 0)).all())


def box_intersection(boxes1: Array, boxes2: Array) -> Array:
    """Return the area that each pair has in common: (N, M) from (N, 4) and (M, 4), in square pixels."""
    check_boxes("box_intersection", "boxes1", boxes1)
    check_boxes("box_intersection", "boxes2", boxes2)
    xp = xp_of(boxes1)
    a, b = boxes1[:, None, :], boxes2[None, :, :]
    width = xp.minimum(a[..., 2], b[..., 2]) - xp.maximum(a[..., 0], b[..., 0])  # (N, M)
    height = xp.minimum(a[..., 3], b[..., 3]) - xp.maximum(a[..., 1], b[..., 1])
    return xp.maximum(width, 0) * xp.maximum(height, 0)


def box_iou_loop(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """``box_iou`` pair by pair, by the definition."""
    iou = np.zeros((len(boxes1), len(boxes2)))
    for n, (x1, y1, x2, y2) in enumerate(boxes1.tolist()):
        for m, (u1, v1, u2, v2) in enumerate(boxes2.tolist()):
            inter = max(min(x2, u2) - max(x1, u1), 0) * max(min(y2, v2) - max(y1, v1), 0)
            area1, area2 = max(x2 - x1, 0) * max(y2 - y1, 0), max(u2 - u1, 0) * max(v2 - v1, 0)
            union = area1 + area2 - inter
            iou[n, m] = inter / union if union > 0 else 0
    return iou


def clip_boxes_to_image(boxes: Array, size: tuple[int, int]) -> Array:
    """Clip boxes (..., 4) to an image of ``size`` (H, W); a box wholly outside gets area 0."""
    check_boxes("clip_boxes_to_image", "boxes", boxes, ndim=None)
    xp, (H, W) = xp_of(boxes), size
    x, y = xp.clip(boxes[..., 0::2], 0, W), xp.clip(boxes[..., 1::2], 0, H)  # (..., 2): start and end
    return xp.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1)


def inside_image(boxes: Array, size: tuple[int, int], allowed_border: float = 0.0) -> Array:
    """Return True (R,) for boxes (R, 4) that cross no border of an image (H, W) by over ``allowed_border`` pixels."""
    check_boxes("inside_image", "boxes", boxes)
    (H, W), x, y = size, boxes[:, 0::2], boxes[:, 1::2]
    return (((x >= -allowed_border) & (x <= W + allowed_border)).all(axis=1)
            & ((y >= -allowed_border) & (y <= H + allowed_border)).all(axis=1))


def remove_small_boxes(boxes: Array, min_size: float) -> Array:
    """Return the indices of the boxes (R, 4) with both sides at least ``min_size`` pixels long, as torchvision's."""
    check_boxes("remove_small_boxes", "boxes", boxes)
    large = (boxes[:, 2] - boxes[:, 0] >= min_size) & (boxes[:, 3] - boxes[:, 1] >= min_size)
    return xp_of(boxes).flatnonzero(large)


def encode_boxes(boxes: Array, proposals: Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Array:
    """Return the deltas t (..., 4) that move ``proposals`` P (..., 4) onto ``boxes`` G (..., 4).

    R-CNN, app. C; Faster R-CNN, eq. (2), where P is an anchor. ``weights`` multiply (t_x, t_y, t_w, t_h): Fast R-CNN's
    normalization of the targets by their deviations (0.1, 0.1, 0.2, 0.2) is weights = (10, 10, 5, 5).
    """
    check_boxes("encode_boxes", "boxes", boxes, ndim=None)
    check_boxes("encode_boxes", "proposals", proposals, ndim=None)
    xp = xp_of(boxes)
    (_, _, p_w, p_h), (_, _, g_w, g_h) = _center_and_size(proposals), _center_and_size(boxes)
    p_w, p_h, g_w, g_h = (xp.maximum(side, MIN_SIDE) for side in (p_w, p_h, g_w, g_h))
    w_x, w_y, w_w, w_h = weights
    # At 4000 pixels the difference of two corners is exact, that of two centers is not
    left, top, right, bottom = (boxes[..., k] - proposals[..., k] for k in range(4))
    t_x = w_x * (left + right) / 2 / p_w  # R-CNN, eq. (6)
    t_y = w_y * (top + bottom) / 2 / p_h  # R-CNN, eq. (7)
    t_w = w_w * xp.log(g_w / p_w)  # R-CNN, eq. (8)
    t_h = w_h * xp.log(g_h / p_h)  # R-CNN, eq. (9)
    return xp.stack([t_x, t_y, t_w, t_h], axis=-1)


def decode_boxes(deltas: Array, proposals: Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Array:
    """Return ``proposals`` (..., 4) moved by the deltas t (..., 4): the inverse of ``encode_boxes``.

    The shapes broadcast: one delta per class, (R, K, 4), goes with proposals (R, 1, 4).
    """
    check_boxes("decode_boxes", "deltas", deltas, ndim=None)
    check_boxes("decode_boxes", "proposals", proposals, ndim=None)
    xp = xp_of(deltas)
    p_x, p_y, p_w, p_h = _center_and_size(proposals)
    t_x, t_y, t_w, t_h = (deltas[..., k] / w for k, w in enumerate(weights))
    g_x = p_w * t_x + p_x  # R-CNN, eq. (1)
    g_y = p_h * t_y + p_y  # R-CNN, eq. (2)
    g_w = p_w * xp.exp(xp.minimum(t_w, MAX_LOG_RATIO))  # R-CNN, eq. (3)
    g_h = p_h * xp.exp(xp.minimum(t_h, MAX_LOG_RATIO))  # R-CNN, eq. (4)
    return xp.stack([g_x - g_w / 2, g_y - g_h / 2, g_x + g_w / 2, g_y + g_h / 2], axis=-1)


def _center_and_size(boxes: Array) -> tuple[Array, Array, Array, Array]:
    """Return x and y of the center, width and height."""
    x1, y1, x2, y2 = (boxes[..., k] for k in range(4))
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def check_boxes(function: str, name: str, boxes: Array, ndim: int | None = 2) -> None:
    """Raise TypeError or ValueError, naming the function, unless boxes are floating point (R, 4), or (..., 4)."""
    wanted = "(R, 4)" if ndim == 2 else "(..., 4)"
    if not hasattr(boxes, "dtype") or boxes.dtype.kind != "f":
        raise TypeError(f"{function}: {name} must be a floating point array {wanted} of (x1, y1, x2, y2), got "
                        f"{getattr(boxes, 'dtype', type(boxes).__name__)}")
    if (ndim is not None and boxes.ndim != ndim) or boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"{function}: {name} must have the shape {wanted}, one (x1, y1, x2, y2) each, got "
                         f"{boxes.shape}" + (" (without boxes: (0, 4))" if boxes.size == 0 else ""))
