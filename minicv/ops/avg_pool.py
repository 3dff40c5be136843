"""Average pooling: the mean of each window.

    y[n, c, a, b] = sum_{i,j} x[n, c, s a + i - p, s b + j - p] / (number of pixels, with or without the padding)

Signature and sizes are PyTorch's (``windows.py``). The mean is linear; its adjoint gives each gy, divided, to all
pixels of its window.
"""
from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend import xp_of
from .arguments import Pair, pair
from .case import Case
from .precision import Float16Safe
from .windows import pool_output_size, pool_windows


def avg_pool2d_loop(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                    divisor_override=None):
    """``avg_pool2d`` on a plain array, in loops: every window, tap by tap."""
    (KH, KW), (ph, pw) = (pair(v, "", 0) for v in (kernel_size, padding))
    (sh, sw), (N, C, H, W) = pair(stride or kernel_size, "", 1), x.shape
    OH, OW = pool_output_size(H, (KH, sh, ph, 1), ceil_mode), pool_output_size(W, (KW, sw, pw, 1), ceil_mode)
    y = np.zeros((N, C, OH, OW), x.dtype)
    for n, c, a, b in np.ndindex(y.shape):
        inside = padded = 0
        for i, j in np.ndindex(KH, KW):
            h, w = sh * a + i - ph, sw * b + j - pw
            padded += h < H + ph and w < W + pw  # what reaches past the padding never counts
            if 0 <= h < H and 0 <= w < W:
                inside += 1
                y[n, c, a, b] += x[n, c, h, w]
        y[n, c, a, b] /= divisor_override or (padded if count_include_pad else inside)
    return y


class AvgPool2d(Float16Safe):
    """y[n, c, a, b] = sum_{i,j} x[n, c, s a + i - p, s b + j - p] / divisor[a, b]"""

    def forward(ctx, x, *, windows, out_size, divisor):
        ctx.taps, ctx.inside = [at for _, _, at in windows.taps(out_size)], windows.inside(x.shape[2:])
        ctx.divisor = xp_of(x).asarray(divisor, x.dtype)  # (OH, OW), or one number
        x = windows.pad(x, windows.padded_size(x.shape[2:], out_size))
        ctx.padded_shape, KW = x.shape, windows.kernel[1]
        rows = [ctx.taps[t:t + KW] for t in range(0, len(ctx.taps), KW)]  # of the kernel
        return sum(sum(x[at] / ctx.divisor for at in row) for row in rows)  # dividing first, no sum overflows

    def backward(ctx, gy):
        gx = xp_of(gy).zeros(ctx.padded_shape, gy.dtype)
        for at in ctx.taps:
            gx[at] += gy / ctx.divisor
        return gx[ctx.inside]


def avg_pool2d(input: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW), sizes as in ``pool_output_size``.

    The sum is divided by ``divisor_override``, or else by the number of pixels; pixels of the padding count if
    ``count_include_pad``. For k x k windows that do not overlap, ``unpool_nearest`` is k^2 times the adjoint.
    Raises ``ValueError`` as ``max_pool2d`` does, and for a divisor of 0.
    """
    windows, out_size = pool_windows("avg_pool2d", input, kernel_size, stride, padding=padding, ceil_mode=ceil_mode)
    if divisor_override is not None and not divisor_override:
        raise ValueError("avg_pool2d(divisor_override=0) would divide by zero; None counts the pixels")
    counts = []
    for i, o, k, s, p in zip(input.shape[2:], out_size, *windows[:3], strict=True):
        first, end = (-p, i + p) if count_include_pad else (0, i)  # what reaches past the padding never counts
        counts.append([min(s * a - p + k, end) - max(s * a - p, first) for a in range(o)])
    divisor = np.multiply.outer(*counts) if divisor_override is None else np.array(divisor_override)
    if divisor.size and (divisor == divisor.flat[0]).all():
        divisor = divisor.flat[0]  # dividing by one number is faster
    return AvgPool2d.apply(input, windows=windows, out_size=out_size, divisor=divisor)


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
