"""A tensor as a matrix with one row per pixel, and blocks of such rows that fit the processor's cache.

Where memory is channels-last, (N, C, H, W) is (N*H*W, C) without a copy.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import Array, parallel_map, xp_of

BLOCK = 1 << 17  # numbers: the few arrays of this size that a step works on fit the cache
LINE = 1 << 13  # numbers: NumPy adds a vector to the lines of a matrix quickly if they are at least this long


def as_rows(x: Array, dim: int = 1) -> Array:
    """The vectors along ``dim`` as the rows of a (P, C) matrix: a view if ``dim`` is innermost in memory."""
    others = [i for i in range(x.ndim) if i != dim % x.ndim]
    C = x.shape[dim]
    return xp_of(x).ascontiguousarray(x.transpose(*others, dim)).reshape(x.size // max(C, 1), C)


def from_rows(rows: Array, shape: tuple[int, ...], dim: int = 1) -> Array:
    """The inverse of ``as_rows``: a (P, C) matrix as a view of the given shape, with rows along ``dim``."""
    others = [n for i, n in enumerate(shape) if i != dim % len(shape)]
    order = list(range(len(others)))
    order.insert(dim % len(shape), len(others))
    return rows.reshape(*others, shape[dim]).transpose(order)


def row_blocks(rows: Array) -> list[slice]:
    """Spans of rows of up to ``BLOCK`` numbers; a single span unless the array is NumPy's."""
    P, C = rows.shape
    step = max(BLOCK // max(C, 1), 1) if type(rows) is np.ndarray else max(P, 1)
    return [slice(i, min(i + step, P)) for i in range(0, P, step)]


def assign_transposed(rows: Array, z: Array) -> None:
    """``rows[...] = z.T``. For small C, NumPy copies (C, B) into (B, C) faster row by row of z."""
    if len(z) <= 32 and type(rows) is np.ndarray:
        for c, column in enumerate(z):
            rows[:, c] = column
    else:
        rows[...] = z.T


def channelwise(work: Callable[..., Any], matrices: list[Array], vectors: list[Array]) -> list[Any]:
    """Call ``work(*blocks, *vectors)`` on blocks of rows of (P, C) matrices, with vectors (C,) that apply to each row.

    NumPy's inner loop over a few channels would be short. So a line of a block holds several rows, and the vectors are
    repeated as often: ``work`` combines them elementwise, or through ``reshape(-1, C)``. Several threads share the
    blocks.
    """
    P, C = matrices[0].shape
    if not P * C:
        return []
    on_cpu = type(matrices[0]) is np.ndarray
    r = max(1, min(LINE // C, P)) if on_cpu else 1  # rows on a line
    repeated = [v.reshape(1, C).repeat(r, axis=0).ravel() for v in vectors] if on_cpu else vectors
    # Few blocks, an even number for two threads. They are larger than a core's cache, but threads seldom wait for the
    # interpreter lock, and even one thread takes a tenth less time. Below 8 * BLOCK numbers a step is shorter than
    # waking a thread: two blocks of 2 MB took a quarter longer than one.
    count = 2 * -(-P * C // (8 * BLOCK)) if on_cpu and P * C >= 8 * BLOCK else 1
    step = -(-P // (count * r)) * r
    full = P - P % r
    spans = [(i, min(i + step, full), r * C) for i in range(0, full, step)]
    if full < P:  # rows that do not fill a line
        spans.append((full, P, C))

    def block(span):
        start, stop, width = span
        return work(*(m[start:stop].reshape(-1, width) for m in matrices), *(v[:width] for v in repeated))
    return parallel_map(block, spans)
