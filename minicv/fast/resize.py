"""Resizing, quickly.

Bilinear interpolation multiplies by a matrix whose nonzero entries lie near its diagonal: row a of the output needs the
one or two input rows around its position. So each block of a few rows is multiplied with the columns that it uses:

    x x . . . . . .     output rows 0 1 2 use the pixels 0 1 2
    . x x . . . . .
    . x x . . . . .
    . . . x x . . .     rows 3 4 5 use 3 4 5
    . . . . x x . .
    . . . . x x . .

The cost is linear in the output, and each block is a BLAS product over whole lines of channels-last pixels.

Measured: bilinear 8.0, nearest 5.2 times as fast as row by row (``python -m tests.benchmarks.storeys``).
"""
from __future__ import annotations

import numpy as np

from ..backend import Array, all_finite, apply_weights, device_of, parallel_map, to_device, xp_of
from ..ops.interpolate import Interpolate, Nearest, hat_weights
from .layout import nhwc_view

PARTS = 2  # into which images or their lines are split for the threads, besides the blocks of the matrix


def split_range(count: int, x: Array, parts: int) -> list[slice]:
    """Split 0..count into parts for the threads; on a GPU there is one part."""
    parts = min(count, parts) if device_of(x) == "numpy" else 1
    return [slice(i * count // parts, (i + 1) * count // parts) for i in range(parts)]


def banded_product(matrix: np.ndarray, x: Array) -> Array:
    """``matrix @ x[m]`` for every m, (M, I, K) -> (M, O, K), for a matrix whose nonzeros lie near its diagonal.

    A block of its rows is multiplied with only the columns that it uses: the cost is linear in O, not O * I. Small
    blocks contain few zeros: blocks of 8 or 4 rows are 3 times as fast as blocks of 32. For NumPy arrays and finite x.
    """
    (M, I, K), O = x.shape, len(matrix)
    size = 8 if O >= I else 4
    y = np.empty((M, O, K), x.dtype)

    def work(task):  # 0 times infinity is NaN: see ``resample``
        some, rows, columns, block = task
        np.matmul(block, x[some, columns], out=y[some, rows])

    tasks, parts = [], split_range(M, x, PARTS)
    for start in range(0, O, size):
        rows = slice(start, min(start + size, O))
        used = np.flatnonzero(matrix[rows].any(axis=0))
        columns = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
        block = np.ascontiguousarray(matrix[rows, columns], x.dtype)
        tasks += [(some, rows, columns, block) for some in parts]
    parallel_map(work, tasks)
    return y


def sparse_product(matrix: np.ndarray, x: Array) -> Array:
    """As ``banded_product``, entry by entry: pixels of weight 0 are left out, even if infinite or NaN."""
    y = xp_of(x).zeros((x.shape[0], len(matrix), x.shape[2]), x.dtype)
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :(matrix != 0).sum(axis=1).max(initial=0)]
    weights = np.take_along_axis(matrix, order, axis=1).astype(x.dtype)  # the nonzeros of each row, then zeros
    for pixel, weight in zip(order.T, weights.T, strict=True):
        pixel, weight = (to_device(np.ascontiguousarray(a), device_of(x)) for a in (pixel, weight))
        y += apply_weights(xp_of(x).take(x, pixel, axis=1), weight[:, None])
    return y


def resample(rows: np.ndarray, x: Array, columns: np.ndarray) -> Array:
    """``rows @ x @ columns.T`` for each image and channel: (N, C, H, W) -> (N, C, OH, OW), channels-last."""
    (N, C, H, W), OH, OW = x.shape, len(rows), len(columns)
    x = xp_of(x).ascontiguousarray(nhwc_view(x))

    def along_rows(product, x):  # (N, H, ., C) -> (N, OH, ., C)
        return product(rows, x.reshape(N, H, x.shape[2] * C)).reshape(N, OH, x.shape[2], C)

    def along_columns(product, x):  # (N, ., W, C) -> (N, ., OW, C)
        return product(columns, x.reshape(N * x.shape[1], W, C)).reshape(N, x.shape[1], OW, C)

    def both(product):
        if OH < H:  # shrink the rows first: the products with ``columns`` are then smaller
            return along_columns(product, along_rows(product, x))
        return along_rows(product, along_columns(product, x))

    if type(x) is np.ndarray:  # infinity and NaN show in either; checking the smaller is faster
        y = both(banded_product)
        if all_finite(min(x, y, key=np.size)):
            return y.transpose(0, 3, 1, 2)
    return both(sparse_product).transpose(0, 3, 1, 2)


class FastInterpolate(Interpolate):
    """y = rows @ x @ columns.T"""

    def forward(ctx, x, *, rows, columns):
        ctx.save(rows, columns)
        return resample(rows, x, columns)

    def backward(ctx, gy):  # the transpose
        rows, columns = ctx.saved
        return resample(rows.T, gy, columns.T)


class FastNearest(Nearest):
    """The same with a single 1 in each row of the matrices: each output copies one pixel"""

    def forward(ctx, x, *, rows, columns):  # the positions
        N, C, H, W = x.shape
        ctx.save(hat_weights(rows, H), hat_weights(columns, W))
        pixels = xp_of(x).ascontiguousarray(nhwc_view(x)).reshape(N, H * W, C)
        index = to_device((rows[:, None] * W + columns).ravel(), device_of(x))
        y = xp_of(x).empty((N, len(index), C), x.dtype)

        def work(task):
            n, some = task
            y[n, some] = pixels[n].take(index[some], axis=0)
        parallel_map(work, [(n, some) for n in range(N) for some in split_range(len(index), x, PARTS)])
        return y.reshape(N, len(rows), len(columns), C).transpose(0, 3, 1, 2)

    def backward(ctx, gy):  # the transpose: a pixel receives the sum over all outputs that copy it
        rows, columns = ctx.saved
        return resample(rows.T, gy, columns.T)
