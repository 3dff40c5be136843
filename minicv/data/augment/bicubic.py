"""Bicubic interpolation of a coarse grid, which makes smooth random fields."""

import numpy as np


def bicubic(
    grid: np.ndarray, shape: tuple[int, int], at: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Interpolate grid (..., h, w) to float32 (..., H, W) of the given shape by cubic convolution.

    The grid's corners fall on the corner pixels (align_corners), and its nodes keep their values. Beyond the grid the
    border node repeats. at: compute only these rows and columns of the result. Source: Keys, "Cubic convolution
    interpolation for digital image processing", IEEE TASSP 1981, a = -1/2. It is separable: two small matrix products.
    """
    rows, columns = at or (np.arange(shape[0]), np.arange(shape[1]))
    rows = _interpolation_matrix(grid.shape[-2], shape[0], rows)  # (H, h)
    columns = _interpolation_matrix(grid.shape[-1], shape[1], columns)  # (W, w)
    return rows @ grid.astype(np.float32) @ columns.T  # (..., H, W)


def _interpolation_matrix(nodes: int, size: int, at: np.ndarray) -> np.ndarray:
    """Return float32 (len(at), nodes): row p has the weights of the nodes at pixel at[p] of `size`."""
    position = np.clip(at, 0, size - 1) * ((nodes - 1) / max(size - 1, 1))
    first = np.minimum(np.floor(position).astype(int), max(nodes - 2, 0))
    matrix = np.zeros((len(at), nodes), np.float32)
    for tap in range(-1, 3):  # four nodes reach a pixel
        node = np.clip(first + tap, 0, nodes - 1)
        np.add.at(matrix, (np.arange(len(at)), node), _keys(position - (first + tap)))
    return matrix


def _keys(x: np.ndarray) -> np.ndarray:
    """Return Keys's cubic convolution kernel, eq. (15), a = -1/2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
