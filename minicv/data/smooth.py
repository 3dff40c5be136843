"""Bicubic interpolation of a coarse grid: the source of smooth random fields."""

import numpy as np


def bicubic(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolate grid (..., h, w) to float32 (..., H, W) of the given shape by cubic convolution.

    The grid's corners fall on the corner pixels (align_corners) and its nodes keep their values; beyond the
    grid the border node repeats. Source: Keys, "Cubic convolution interpolation for digital image
    processing", IEEE TASSP 1981, a = -1/2. The two directions separate, so it is two small matrix products.
    """
    rows = _interpolation_matrix(grid.shape[-2], shape[0])  # (H, h)
    columns = _interpolation_matrix(grid.shape[-1], shape[1])  # (W, w)
    return rows @ grid.astype(np.float32) @ columns.T  # (..., H, W)


def _interpolation_matrix(nodes: int, size: int) -> np.ndarray:
    """The float32 (size, nodes) matrix whose row p holds the weights of the nodes at pixel p."""
    position = np.linspace(0, nodes - 1, size)
    first = np.minimum(np.floor(position).astype(int), max(nodes - 2, 0))
    matrix = np.zeros((size, nodes), np.float32)
    for tap in range(-1, 3):  # four nodes reach a pixel
        node = np.clip(first + tap, 0, nodes - 1)
        np.add.at(matrix, (np.arange(size), node), _keys(position - (first + tap)))
    return matrix


def _keys(x: np.ndarray) -> np.ndarray:
    """Keys's cubic convolution kernel, eq. (15), a = -1/2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
