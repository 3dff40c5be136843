"""Boxes: area, intersection over union, clipping, and the offsets that a box regressor learns.

The convention, everywhere in minicv: a box is ``(x1, y1, x2, y2)`` in pixels, floating point, and continuous. Pixel
(i, j) reaches from i to i + 1 and from j to j + 1, so a box around one pixel is (j, i, j + 1, i + 1), its width is
``x2 - x1`` without a "+ 1", and a picture of H x W pixels is the box (0, 0, W, H). Data sets that count pixels
inclusively, from 1 (PASCAL VOC), are converted once, in their readers. A box with ``x2 <= x1`` or ``y2 <= y1`` is
degenerate: its area is 0, it overlaps nothing, and nothing below makes a NaN or an infinity of it.

All functions take plain arrays of NumPy or CuPy, also without any box in them, and return the same kind.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..backend import Array, xp_of

SMALLEST = 1e-3
"""encode_boxes takes a side that is shorter than this, in pixels, for this long: log(0) is minus infinity."""

LARGEST_LOG = math.log(1000 / 16)
"""decode_boxes lets no side grow by more than this factor's logarithm, so that exp cannot overflow (as torchvision)."""


def box_area(boxes: Array) -> Array:
    """Areas (R,) of boxes (R, 4), in square pixels; 0 for a degenerate box."""
    check_boxes("box_area", "boxes", boxes)
    xp = xp_of(boxes)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return xp.maximum(width, 0) * xp.maximum(height, 0)


def box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Intersection over union of each pair: (N, M) from (N, 4) and (M, 4); 0 where both boxes are degenerate.

    An area overflows or vanishes long before its sides do, in float16 that of 300 x 300 pixels: such are computed in
    float64.
    """
    check_boxes("box_iou", "boxes1", boxes1)
    check_boxes("box_iou", "boxes2", boxes2)
    xp, dtype = xp_of(boxes1), np.result_type(boxes1.dtype, boxes2.dtype)
    if not (areas_in_range(boxes1) and areas_in_range(boxes2)):
        boxes1, boxes2 = boxes1.astype(np.float64), boxes2.astype(np.float64)
    inter = box_intersection(boxes1, boxes2)  # (N, M)
    union = box_area(boxes1)[:, None] + box_area(boxes2)[None, :] - inter
    return (inter / xp.maximum(union, xp.finfo(union.dtype).tiny)).astype(dtype, copy=False)  # VOC, eq. (3)


def areas_in_range(boxes: Array) -> bool:
    """Whether areas keep their digits in the boxes' dtype, or are 0. No on a GPU, which would have to wait."""
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
    """Area that each pair has in common: (N, M) from (N, 4) and (M, 4), in square pixels."""
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
    """Boxes (..., 4) with what lies outside a picture of ``size`` (H, W) cut off; one wholly outside gets no area."""
    check_boxes("clip_boxes_to_image", "boxes", boxes, ndim=None)
    xp, (H, W) = xp_of(boxes), size
    x, y = xp.clip(boxes[..., 0::2], 0, W), xp.clip(boxes[..., 1::2], 0, H)  # (..., 2): begin and end
    return xp.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1)


def inside_image(boxes: Array, size: tuple[int, int], allowed: float = 0.0) -> Array:
    """True (R,) for the boxes (R, 4) that reach at most ``allowed`` pixels over a border of a picture (H, W)."""
    check_boxes("inside_image", "boxes", boxes)
    (H, W), x, y = size, boxes[:, 0::2], boxes[:, 1::2]
    return (((x >= -allowed) & (x <= W + allowed)).all(axis=1)
            & ((y >= -allowed) & (y <= H + allowed)).all(axis=1))


def large_enough(boxes: Array, min_size: float) -> Array:
    """True (R,) for the boxes (R, 4) whose sides are both at least ``min_size`` pixels long."""
    check_boxes("large_enough", "boxes", boxes)
    return (boxes[:, 2] - boxes[:, 0] >= min_size) & (boxes[:, 3] - boxes[:, 1] >= min_size)


def encode_boxes(boxes: Array, proposals: Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Array:
    """The offsets t (..., 4) that take ``proposals`` P (..., 4) to ``boxes`` G (..., 4).

    R-CNN, app. C; Faster R-CNN, eq. (2), where P is an anchor. ``weights`` multiply (t_x, t_y, t_w, t_h): Fast R-CNN's
    normalisation of the targets by their deviations (0.1, 0.1, 0.2, 0.2) is weights = (10, 10, 5, 5).
    """
    check_boxes("encode_boxes", "boxes", boxes, ndim=None)
    check_boxes("encode_boxes", "proposals", proposals, ndim=None)
    xp = xp_of(boxes)
    (_, _, p_w, p_h), (_, _, g_w, g_h) = _centre_and_size(proposals), _centre_and_size(boxes)
    p_w, p_h, g_w, g_h = (xp.maximum(side, SMALLEST) for side in (p_w, p_h, g_w, g_h))
    w_x, w_y, w_w, w_h = weights
    # Of two corners at 4000 pixels the difference is exact, of two centers it is not
    left, top, right, bottom = (boxes[..., k] - proposals[..., k] for k in range(4))
    t_x = w_x * (left + right) / 2 / p_w  # R-CNN, eq. (6)
    t_y = w_y * (top + bottom) / 2 / p_h  # R-CNN, eq. (7)
    t_w = w_w * xp.log(g_w / p_w)  # R-CNN, eq. (8)
    t_h = w_h * xp.log(g_h / p_h)  # R-CNN, eq. (9)
    return xp.stack([t_x, t_y, t_w, t_h], axis=-1)


def decode_boxes(deltas: Array, proposals: Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Array:
    """The boxes (..., 4) that offsets t (..., 4) make of ``proposals`` (..., 4): the inverse of ``encode_boxes``.

    The shapes broadcast: deltas (R, K, 4), one per class, go with proposals (R, 1, 4).
    """
    check_boxes("decode_boxes", "deltas", deltas, ndim=None)
    check_boxes("decode_boxes", "proposals", proposals, ndim=None)
    xp = xp_of(deltas)
    p_x, p_y, p_w, p_h = _centre_and_size(proposals)
    t_x, t_y, t_w, t_h = (deltas[..., k] / w for k, w in enumerate(weights))
    g_x = p_w * t_x + p_x  # R-CNN, eq. (1)
    g_y = p_h * t_y + p_y  # R-CNN, eq. (2)
    g_w = p_w * xp.exp(xp.minimum(t_w, LARGEST_LOG))  # R-CNN, eq. (3)
    g_h = p_h * xp.exp(xp.minimum(t_h, LARGEST_LOG))  # R-CNN, eq. (4)
    return xp.stack([g_x - g_w / 2, g_y - g_h / 2, g_x + g_w / 2, g_y + g_h / 2], axis=-1)


def _centre_and_size(boxes: Array) -> tuple[Array, Array, Array, Array]:
    """x, y of the centre, width, height."""
    x1, y1, x2, y2 = (boxes[..., k] for k in range(4))
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def check_boxes(function: str, name: str, boxes: Array, ndim: int | None = 2) -> None:
    """TypeError or ValueError, with the function's name, for what is no floating point array (R, 4), or (..., 4)."""
    wanted = "(R, 4)" if ndim == 2 else "(..., 4)"
    if not hasattr(boxes, "dtype") or boxes.dtype.kind != "f":
        raise TypeError(f"{function}: {name} must be a floating point array {wanted} of (x1, y1, x2, y2), got "
                        f"{getattr(boxes, 'dtype', type(boxes).__name__)}")
    if (ndim is not None and boxes.ndim != ndim) or boxes.ndim == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"{function}: {name} must have the shape {wanted}, one (x1, y1, x2, y2) each, got "
                         f"{boxes.shape}" + (" (without boxes: (0, 4))" if boxes.size == 0 else ""))
