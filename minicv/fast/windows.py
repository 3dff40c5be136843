"""What the fast poolings share: taps along an axis, blocks of channels-last maps, and positions in them."""
from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from ..backend import Array, add_at, xp_of

BLOCK_BYTES = 1 << 21  # of input: smaller ones would stay in a core's cache, but then threads wait for Python


def axis_taps(in_size: int, out_size: int, window: tuple[int, int, int, int]) -> Iterator[tuple[int, slice, slice]]:
    """Yield (q, windows, pixels) of each tap along an axis, ``window`` = (kernel, stride, padding, dilation).

    q = d t - p is where the tap lies in window 0; the windows a are those for which s a + q is a pixel, one of
    ``pixels``.
    """
    k, stride, padding, dilation = window
    for t in range(k):
        q = dilation * t - padding
        a = min(out_size, max(0, -(q // stride)))
        end = max(a, min(out_size, (in_size - 1 - q) // stride + 1))
        yield q, slice(a, end), slice(max(0, stride * a + q), max(0, stride * (end - 1) + q + 1), stride)


def map_blocks(x: Array, rows: int = 1, least: int = 1) -> list[tuple[slice, int, int]]:
    """Split the ``rows`` rows of windows over N images x into blocks of BLOCK_BYTES: (images, begin, end) of each.

    A block is several small images, or a part of a large one, of at least ``least`` rows.
    """
    N, size = len(x), max(1, x[:1].nbytes)
    if type(x) is not np.ndarray:
        return [(slice(0, N), 0, rows)]
    step, count = max(1, BLOCK_BYTES // size), max(1, min(rows // least, size // BLOCK_BYTES))
    return [(slice(n, min(n + step, N)), i * rows // count, (i + 1) * rows // count)
            for n in range(0, N, step) for i in range(count)]


def flat_offsets(shape: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """sum_k strides[k] * index[k] for every index into an array of that shape: offsets in flat memory."""
    return functools.reduce(np.add, np.ix_(*(np.arange(n) * s for n, s in zip(shape, strides, strict=True))))


def flat_positions(position: Array, size: int) -> Array:
    """Positions in planes of ``size`` pixels, (N, h, w, C), as positions in a flat (N, size, C) array."""
    xp, (N, _, _, C) = xp_of(position), position.shape
    return position * C + xp.asarray(flat_offsets((N, 1, 1, C), (size * C, 0, 0, 1)))


def scatter_add(position: Array, value: Array, size: int) -> Array:
    """Zeros (N, size, C) with each value (N, h, w, C) added at its position in its plane."""
    out = xp_of(value).zeros((value.shape[0], size, value.shape[3]), value.dtype)
    add_at(out.reshape(-1), flat_positions(position, size).reshape(-1), value.reshape(-1))
    return out
