"""Anchors: the boxes of fixed sizes and shapes at every place of a feature map (Ren et al., 2015, sec. 3.1.1).

A scale s is the square root of an anchor's area in pixels, a ratio r its height over its width: w = s / sqrt(r),
h = s sqrt(r), not rounded. (The authors' code rounds to whole pixels, of boxes whose ends are inclusive.) Anchors stand
in the middle of what a place of the map covers: of row i, column j at ((j + 0.5) stride, (i + 0.5) stride).
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backend import Array, current_device, to_device

SCALES = (128.0, 256.0, 512.0)  # Faster R-CNN, sec. 3.3, in pixels of pictures with a short side of 600
RATIOS = (0.5, 1.0, 2.0)  # height : width; the paper's 2:1, 1:1 and 1:2


def base_anchors(scales: Sequence[float] = SCALES, ratios: Sequence[float] = RATIOS) -> np.ndarray:
    """Anchors around (0, 0), float64 (A, 4): for each ratio, every scale; nine as in the paper by default."""
    if not len(scales) or not len(ratios) or min(*scales, *ratios) <= 0:
        raise ValueError(f"base_anchors: needs positive scales and ratios, got scales {tuple(scales)} and ratios "
                         f"{tuple(ratios)}")
    r, s = (v.ravel() for v in np.meshgrid(np.asarray(ratios, float), np.asarray(scales, float), indexing="ij"))
    w, h = s / np.sqrt(r), s * np.sqrt(r)  # (A,)
    return np.stack([-w, -h, w, h], axis=1) / 2


def grid_anchors(base: np.ndarray, size: tuple[int, int], stride: float | tuple[float, float],
                 dtype: type = np.float32, device: str | None = None) -> Array:
    """Anchors at every place of a feature map of ``size`` (H, W): (H W A, 4) in pixels of the picture.

    Number (i W + j) A + a is anchor a at row i, column j. ``stride``: pixels of the picture between places, or one for
    rows and one for columns. ``device``: where the result is to lie, by default on the one in use.
    """
    if np.ndim(base) != 2 or np.shape(base)[1] != 4:
        raise ValueError(f"grid_anchors: base must be boxes (A, 4), see base_anchors, got {np.shape(base)}")
    (H, W), (stride_y, stride_x) = size, np.broadcast_to(stride, 2)
    y, x = (np.arange(H) + 0.5) * stride_y, (np.arange(W) + 0.5) * stride_x
    centres = np.zeros((H, W, 1, 4))
    centres[..., 0::2] = x[None, :, None, None]
    centres[..., 1::2] = y[:, None, None, None]
    anchors = (centres + base).reshape(-1, 4)  # (H, W, A, 4) -> (H W A, 4)
    return to_device(anchors.astype(dtype), device or current_device())
