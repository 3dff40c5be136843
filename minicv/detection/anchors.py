"""Anchors: boxes of fixed sizes and shapes at every cell of a feature map (Ren et al., 2015, sec. 3.1.1).

A scale s is the square root of an anchor's area in pixels, a ratio r its height over its width: w = s / sqrt(r),
h = s sqrt(r), not rounded. (The authors' code rounds to whole pixels and counts both ends of a box.) Anchors are
centered on the pixels that a cell covers: at row i, column j on ((j + 0.5) stride, (i + 0.5) stride).
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backend import Array, current_device, to_device

ANCHOR_SCALES = (128.0, 256.0, 512.0)  # Faster R-CNN, sec. 3.3, in pixels of images with a shorter side of 600
ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height : width; the paper's 2:1, 1:1 and 1:2


def base_anchors(scales: Sequence[float] = ANCHOR_SCALES, ratios: Sequence[float] = ANCHOR_RATIOS) -> np.ndarray:
    """Return anchors centered on (0, 0), float64 (A, 4): for each ratio, every scale; by default the paper's nine."""
    if not len(scales) or not len(ratios) or min(*scales, *ratios) <= 0:
        raise ValueError(f"base_anchors: needs positive scales and ratios, got scales {tuple(scales)} and ratios "
                         f"{tuple(ratios)}")
    r, s = (v.ravel() for v in np.meshgrid(np.asarray(ratios, float), np.asarray(scales, float), indexing="ij"))
    w, h = s / np.sqrt(r), s * np.sqrt(r)  # (A,)
    return np.stack([-w, -h, w, h], axis=1) / 2


def grid_anchors(base: np.ndarray, size: tuple[int, int], stride: float | tuple[float, float],
                 dtype: type = np.float32, device: str | None = None) -> Array:
    """Return anchors at every cell of a feature map of ``size`` (H, W): (H W A, 4) in pixels of the image.

    Number (i W + j) A + a is anchor a at row i, column j. ``stride``: image pixels between cells, or a pair, for rows
    and for columns. ``device``: where the result lies, by default on the current device.
    """
    if np.ndim(base) != 2 or np.shape(base)[1] != 4:
        raise ValueError(f"grid_anchors: base must be boxes (A, 4), see base_anchors, got {np.shape(base)}")
    (H, W), (stride_y, stride_x) = size, np.broadcast_to(stride, 2)
    y, x = (np.arange(H) + 0.5) * stride_y, (np.arange(W) + 0.5) * stride_x
    centers = np.zeros((H, W, 1, 4))
    centers[..., 0::2] = x[None, :, None, None]
    centers[..., 1::2] = y[:, None, None, None]
    anchors = (centers + base).reshape(-1, 4)  # (H, W, A, 4) -> (H W A, 4)
    return to_device(anchors.astype(dtype), device or current_device())
