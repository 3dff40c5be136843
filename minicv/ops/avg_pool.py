"""Average pooling: the mean of each window.

    y[n, c, a, b] = sum_{i,j} x[n, c, s a + i - p, s b + j - p] / (how many; with or without padding)

Convention: PyTorch's signature and sizes (``windows.py``). The sum over windows is linear and separable, A = A_rows
A_columns, so the backward pass is its adjoint: each gy, divided, to all pixels of its window.
"""
from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend import Array, parallel, xp_of
from .arguments import Pair
from .case import Case
from .conv import last, new_like, pair
from .precision import Wide, in_range
from .windows import blocks, pool_size, taps, window_axes


def avg_pool2d_loop(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                    divisor_override=None):
    """``avg_pool2d`` on a plain array, in loops: every window, tap by tap."""
    (KH, KW), (ph, pw) = (pair(v, "", 0) for v in (kernel_size, padding))
    (sh, sw), (N, C, H, W) = pair(stride or kernel_size, "", 1), x.shape
    y = np.zeros((N, C, pool_size(H, KH, sh, ph, 1, ceil_mode), pool_size(W, KW, sw, pw, 1, ceil_mode)), x.dtype)
    for n, c, a, b in np.ndindex(y.shape):
        inside = padded = 0
        for i, j in np.ndindex(KH, KW):
            h, w = sh * a + i - ph, sw * b + j - pw
            padded += h < H + ph and w < W + pw  # a window may reach past the padding: that counts in no case
            if 0 <= h < H and 0 <= w < W:
                inside += 1
                y[n, c, a, b] += x[n, c, h, w]
        y[n, c, a, b] /= divisor_override or (padded if count_include_pad else inside)
    return y


def window_sum(x: Array, axis: int, o: int, k: int, stride: int, padding: int) -> Array:
    """A x: the sums over o windows along an axis, which becomes o long."""
    y, before = xp_of(x).zeros(x.shape[:axis] + (o,) + x.shape[axis + 1:], x.dtype), (slice(None),) * axis
    for _, windows, pixels in taps(x.shape[axis], o, k, stride, padding):
        y[(*before, windows)] += x[(*before, pixels)]
    return y


def window_spread(y: Array, axis: int, i: int, k: int, stride: int, padding: int) -> Array:
    """A' y, the adjoint of ``window_sum``: each number goes to all of its window's pixels; the axis becomes i long."""
    x, before = xp_of(y).zeros(y.shape[:axis] + (i,) + y.shape[axis + 1:], y.dtype), (slice(None),) * axis
    for _, windows, pixels in taps(i, y.shape[axis], k, stride, padding):
        x[(*before, pixels)] += y[(*before, windows)]
    return x


class AvgPool2d(Wide):
    """y = A x / divisor"""

    def forward(ctx, x, *, size, kernel, stride, padding, divisor):
        ctx.x_shape, ctx.axes = x.shape, list(zip(size, x.shape[2:], kernel, stride, padding, strict=True))
        ctx.divisor, y = xp_of(x).asarray(divisor, x.dtype), new_like(x, *x.shape[:2], *size)  # (OH, OW, 1)
        (OH, _, *rows), (OW, _, *columns) = ctx.axes

        def means(x):  # rows first: those are long vectors, and they leave half for the columns, which are not
            return window_sum(window_sum(x, 1, OH, *rows), 2, OW, *columns) / ctx.divisor

        def work(block):
            last(y)[block[0]] = in_range(means, last(x)[block[0]])

        parallel(work, blocks(x))
        return y

    def backward(ctx, gy):  # gx = A' (gy / divisor)
        gx = new_like(gy, *ctx.x_shape)
        (_, H, *rows), (_, W, *columns) = ctx.axes

        def work(block):
            g = last(gy)[block[0]] / ctx.divisor
            last(gx)[block[0]] = window_spread(window_spread(g, 2, W, *columns), 1, H, *rows)

        parallel(work, blocks(gx))
        return gx


def avg_pool2d(input: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW), sizes as ``pool_size``.

    The sum is divided by ``divisor_override``, or else by the number of pixels, of padding too if
    ``count_include_pad``. Where windows of k x k do not overlap, ``unpool_nearest`` is k^2 times the adjoint.
    Raises ``ValueError`` as ``max_pool2d`` does, and for a divisor of 0.
    """
    axes = window_axes("avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None and not divisor_override:
        raise ValueError("avg_pool2d(divisor_override=0) would divide by zero; None counts the pixels")
    counts = []
    for i, o, k, s, p, _ in axes:
        starts = [s * a - p for a in range(o)]  # a window may reach past the padding: that does not count
        first, end = (-p, i + p) if count_include_pad else (0, i)
        counts.append([min(start + k, end) - max(start, first) for start in starts])
    divisor = np.multiply.outer(*counts)[..., None] if divisor_override is None else np.array(divisor_override)
    if divisor.size and (divisor == divisor.flat[0]).all():
        divisor = divisor.flat[0]  # dividing by one number is faster
    _, size, kernel, stride, padding, _ = zip(*axes, strict=True)
    return AvgPool2d.apply(input, size=size, kernel=kernel, stride=stride, padding=padding, divisor=divisor)


def _avg(label, *inputs, **options):
    return Case(avg_pool2d, label, *inputs, loop=avg_pool2d_loop, **options)


CASES = [
    _avg("2x2", (2, 3, 6, 4), kernel_size=2),
    _avg("overlapping 3x3, stride 2, padding 1", (2, 2, 7, 8), kernel_size=3, stride=2, padding=1),
    _avg("padding does not count", (2, 2, 7, 8), kernel_size=3, stride=2, padding=1, count_include_pad=False),
    _avg("ceil_mode", (1, 2, 6, 7), kernel_size=3, stride=2, padding=1, ceil_mode=True),
    _avg("unequal everything, ceil_mode, padding does not count", (2, 2, 9, 11), kernel_size=(2, 3), stride=(3, 2),
         padding=(0, 1), ceil_mode=True, count_include_pad=False),
    _avg("stride larger than the kernel", (2, 2, 8, 9), kernel_size=2, stride=3),
    _avg("divisor_override", (1, 2, 5, 6), kernel_size=(2, 3), divisor_override=5),
    _avg("empty batch", (0, 2, 4, 4), kernel_size=2),
]
