"""Windows over a map, and blocks of maps: what the poolings share.

Convention: PyTorch's sizes. A window covers k pixels, ``dilation`` apart, and the next one begins ``stride`` pixels on.
With ``ceil_mode`` the last windows may reach past the padding, but a window that would start there is dropped.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..autograd import Tensor
from ..backend import Array, add_at, xp_of
from .arguments import Pair, check_floats, pair

BLOCK_BYTES = 1 << 21  # of input: smaller ones would stay in a core's cache, but then threads wait for Python


def pool_size(i: int, k: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Number of windows along an axis: (i + 2p - d(k-1) - 1) / s rounded down, or up with ceil_mode, plus 1."""
    room = i + 2 * padding - dilation * (k - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    o = -(-room // stride) + 1
    return o - 1 if (o - 1) * stride >= i + padding else o  # the last would start in the padding at the end


def taps(i: int, o: int, k: int, stride: int, padding: int, dilation: int = 1) -> Iterator[tuple[int, slice, slice]]:
    """(q, windows, pixels) of each tap, q = d t - p: the span of the o windows a for which stride * a + q is one of the
    i pixels, and those pixels."""
    for t in range(k):
        q = dilation * t - padding
        a = min(o, max(0, -(q // stride)))
        end = max(a, min(o, (i - 1 - q) // stride + 1))
        yield q, slice(a, end), slice(max(0, stride * a + q), max(0, stride * (end - 1) + q + 1), stride)


def blocks(x: Array, rows: int = 1, least: int = 1) -> list[tuple[slice, int, int]]:
    """(pictures, begin, end): the ``rows`` rows of windows over N pictures x, dealt into blocks of BLOCK_BYTES.

    A block is several small pictures, or a part, of at least ``least`` rows, of a large one.
    """
    N, size = len(x), max(1, x[:1].nbytes)
    if type(x) is not np.ndarray:
        return [(slice(0, N), 0, rows)]
    step, count = max(1, BLOCK_BYTES // size), max(1, min(rows // least, size // BLOCK_BYTES))
    return [(slice(n, min(n + step, N)), i * rows // count, (i + 1) * rows // count)
            for n in range(0, N, step) for i in range(count)]


def grid(shape: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """The sum over k of strides[k] * index[k], for every index into an array of that shape."""
    return sum(np.ix_(*(np.arange(n) * s for n, s in zip(shape, strides, strict=True))))


def plane_places(position: Array, size: int) -> Array:
    """Positions in planes of ``size`` pixels, (N, h, w, C), as flat ones in an array (N, size, C)."""
    xp, (N, _, _, C) = xp_of(position), position.shape
    return position * C + xp.asarray(grid((N, 1, 1, C), (size * C, 0, 0, 1)))


def scatter(position: Array, value: Array, size: int) -> Array:
    """Zeros (N, size, C) with each value (N, h, w, C) added at its position in its plane."""
    out = xp_of(value).zeros((value.shape[0], size, value.shape[3]), value.dtype)
    add_at(out.reshape(-1), plane_places(position, size).reshape(-1), value.reshape(-1))
    return out


def window_axes(name: str, input: Tensor, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair,
                dilation: int | Pair, ceil_mode: bool) -> list[tuple[int, ...]]:
    """For height and width (i, o, k, stride, padding, dilation), checked; o as ``pool_size``."""
    check_map(name, input)
    kernel = pair(kernel_size, f"{name}(kernel_size)", 1)
    stride = kernel if stride is None or stride == () else pair(stride, f"{name}(stride)", 1)
    padding, dilation = pair(padding, f"{name}(padding)", 0), pair(dilation, f"{name}(dilation)", 1)
    axes = []
    for i, k, s, p, d in zip(input.shape[2:], kernel, stride, padding, dilation, strict=True):
        if 2 * p > k:
            raise ValueError(f"{name}(padding={padding}) is more than half of the kernel, {kernel[0]}x{kernel[1]}; use "
                             "less padding, or pad() before pooling")
        o = pool_size(i, k, s, p, d, ceil_mode)
        if o < 1:
            raise ValueError(f"{name}: no window of {d * (k - 1) + 1} pixels fits into {i} and a padding of {p}; use a "
                             "smaller kernel_size or dilation")
        axes.append((i, o, k, s, p, d))
    return axes


def check_map(name: str, input: Tensor) -> None:
    """TypeError unless it is floats, ValueError unless (N, C, H, W) with at least one pixel."""
    check_floats(name, input=input)
    if input.ndim != 4 or 0 in input.shape[2:]:
        raise ValueError(f"{name}: input must be (N, C, H, W) with at least one pixel, got {input.shape}")
