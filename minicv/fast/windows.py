"""Windows over a channels-last map, and blocks of maps: what the fast poolings share."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..backend import Array, add_at, xp_of

BLOCK_BYTES = 1 << 21  # of input: smaller ones would stay in a core's cache, but then threads wait for Python


def axis_taps(i: int, o: int, k: int, stride: int, padding: int,
              dilation: int = 1) -> Iterator[tuple[int, slice, slice]]:
    """(q, windows, pixels) of each tap, q = d t - p: the span of the o windows a for which stride * a + q is one of the
    i pixels, and those pixels."""
    for t in range(k):
        q = dilation * t - padding
        a = min(o, max(0, -(q // stride)))
        end = max(a, min(o, (i - 1 - q) // stride + 1))
        yield q, slice(a, end), slice(max(0, stride * a + q), max(0, stride * (end - 1) + q + 1), stride)


def map_blocks(x: Array, rows: int = 1, least: int = 1) -> list[tuple[slice, int, int]]:
    """(pictures, begin, end): the ``rows`` rows of windows over N pictures x, dealt into blocks of BLOCK_BYTES.

    A block is several small pictures, or a part, of at least ``least`` rows, of a large one.
    """
    N, size = len(x), max(1, x[:1].nbytes)
    if type(x) is not np.ndarray:
        return [(slice(0, N), 0, rows)]
    step, count = max(1, BLOCK_BYTES // size), max(1, min(rows // least, size // BLOCK_BYTES))
    return [(slice(n, min(n + step, N)), i * rows // count, (i + 1) * rows // count)
            for n in range(0, N, step) for i in range(count)]


def flat_offsets(shape: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """The sum over k of strides[k] * index[k], for every index into an array of that shape."""
    return sum(np.ix_(*(np.arange(n) * s for n, s in zip(shape, strides, strict=True))))


def flat_positions(position: Array, size: int) -> Array:
    """Positions in planes of ``size`` pixels, (N, h, w, C), as flat ones in an array (N, size, C)."""
    xp, (N, _, _, C) = xp_of(position), position.shape
    return position * C + xp.asarray(flat_offsets((N, 1, 1, C), (size * C, 0, 0, 1)))


def scatter_add(position: Array, value: Array, size: int) -> Array:
    """Zeros (N, size, C) with each value (N, h, w, C) added at its position in its plane."""
    out = xp_of(value).zeros((value.shape[0], size, value.shape[3]), value.dtype)
    add_at(out.reshape(-1), flat_positions(position, size).reshape(-1), value.reshape(-1))
    return out
