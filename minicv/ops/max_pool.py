"""Max pooling: the largest value of each window.

    y[n, c, a, b] = max_{i,j} x[n, c, s a + d i - p, s b + d j - p]    over the positions inside the image

Signature and sizes are PyTorch's (``windows.py``). The padding is minus infinity: it never wins. Of equal values in a
window, the first, row by row, receives the gradient; NaN wins over everything.
"""
from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend import add_at, xp_of
from .arguments import Pair, pair
from .case import Case
from .precision import Float16Safe
from .windows import pool_output_size, pool_windows


def max_pool2d_loop(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """``max_pool2d`` on a plain array, in loops: every window, tap by tap."""
    (KH, KW), (ph, pw), (dh, dw) = (pair(v, "", 0) for v in (kernel_size, padding, dilation))
    (sh, sw), (N, C, H, W) = pair(stride or kernel_size, "", 1), x.shape
    OH, OW = pool_output_size(H, (KH, sh, ph, dh), ceil_mode), pool_output_size(W, (KW, sw, pw, dw), ceil_mode)
    y, indices = np.full((N, C, OH, OW), -np.inf, x.dtype), np.full((N, C, OH, OW), -1)
    for n, c, a, b in np.ndindex(y.shape):
        for i, j in np.ndindex(KH, KW):
            h, w = sh * a + dh * i - ph, sw * b + dw * j - pw
            if 0 <= h < H and 0 <= w < W:
                value = x[n, c, h, w]
                if indices[n, c, a, b] < 0 or value > y[n, c, a, b] or np.isnan(value):
                    y[n, c, a, b], indices[n, c, a, b] = value, h * W + w
    return (y, indices) if return_indices else y


class MaxPool2d(Float16Safe):
    """y[n, c, a, b] = max_{i,j} x[n, c, s a + d i - p, s b + d j - p], and gx at that pixel += gy[n, c, a, b]"""

    def forward(ctx, x, *, windows, out_size, return_indices):
        xp, (N, C, H, W) = xp_of(x), x.shape
        size = windows.padded_size((H, W), out_size)
        place = windows.pad(xp.arange(H * W).reshape(1, 1, H, W), size, value=-1)  # h W + w; -1 in the padding
        x = windows.pad(x, size)
        y, arg = xp.zeros((N, C, *out_size), x.dtype), xp.full((N, C, *out_size), -1)
        for _, _, at in windows.taps(out_size):  # one tap of all windows at once
            better = (x[at] > y) | (x[at] != x[at]) | (arg < 0)  # the first of equal values stays; NaN wins
            better &= place[at] >= 0  # the padding never wins
            y, arg = xp.where(better, x[at], y), xp.where(better, place[at], arg)
        ctx.save(arg)
        ctx.x_shape = N, C, H, W
        return (y, arg) if return_indices else y

    def backward(ctx, gy):
        (arg,), xp, (N, C, H, W) = ctx.saved, xp_of(gy), ctx.x_shape
        plane = xp.arange(0, N * C * H * W, H * W).reshape(N, C, 1, 1)  # where each plane begins in gx
        gx = xp.zeros(N * C * H * W, gy.dtype)
        add_at(gx, (plane + arg).ravel(), gy.ravel())
        return gx.reshape(N, C, H, W)


def first_tap(start: int, dilation: int) -> int:
    """The first tap t with start + dilation * t >= 0."""
    return max(0, -(start // dilation))


def max_pool2d(input: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
               dilation: int | Pair = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each window: (N, C, H, W) -> (N, C, OH, OW), sizes as in ``pool_output_size``.

    ``stride`` defaults to the kernel size. With ``return_indices`` the result is a pair: the second Tensor holds the
    positions h * W + w of the maxima in their planes (int64; DeconvNet's switches), for ``max_unpool2d``. Raises
    ``ValueError`` when a window would lie outside the input, and for a padding of more than half of the kernel.
    Krizhevsky et al. (2012), sec. 3.4: overlapping windows.
    """
    windows, out_size = pool_windows("max_pool2d", input, kernel_size, stride, padding=padding, dilation=dilation,
                                     ceil_mode=ceil_mode)
    for i, o, (k, s, p, d) in zip(input.shape[2:], out_size, zip(*windows, strict=True), strict=True):
        if any(d * first_tap(start, d) + start not in range(i) for start in range(-p, min(0, s * o - p), s)):
            raise ValueError(f"max_pool2d: with dilation {d} and padding {p}, all {k} taps of a window miss the {i} "
                             "pixels of the input; use less padding")
    return MaxPool2d.apply(input, windows=windows, out_size=out_size, return_indices=return_indices)


def _max(label, *inputs, loop=max_pool2d_loop, **options):
    return Case(max_pool2d, label, *inputs, loop=loop, **options)


ROW = np.arange(-5.0, 0).reshape(1, 1, 1, 5)
TIES = np.array([[3, 3, 1, 0], [3, 2, 0, 1], [0, 0, 5, 5], [0, 0, 5, 5]], float).reshape(1, 1, 4, 4)

CASES = [
    _max("2x2", (2, 3, 6, 4), kernel_size=2),
    _max("2x2, a row and a column left over", (2, 3, 5, 7), kernel_size=2),
    _max("overlapping 3x3, stride 2, padding 1", (2, 2, 7, 8), kernel_size=3, stride=2, padding=1),
    _max("3x3, stride 1", (1, 3, 5, 6), kernel_size=3, stride=1, padding=1),
    _max("stride larger than the kernel", (2, 2, 8, 9), kernel_size=2, stride=3),
    _max("ceil_mode", (1, 2, 6, 7), kernel_size=3, stride=2, ceil_mode=True),
    _max("ceil_mode drops a window that starts in the padding", (1, 2, 5, 5), kernel_size=2, stride=2, padding=1,
         ceil_mode=True),
    _max("dilation 2", (1, 2, 7, 8), kernel_size=3, stride=1, dilation=2, padding=1),
    _max("unequal everything", (2, 2, 9, 11), kernel_size=(2, 3), stride=(3, 1), padding=(0, 1), dilation=(1, 2),
         ceil_mode=True),
    _max("the whole image", (2, 3, 4, 5), kernel_size=(4, 5)),
    _max("more than 256 taps", (1, 1, 17, 18), kernel_size=17, stride=1),
    _max("ties", TIES, kernel_size=2, gradients=[[[1, 0, 2, 0], [0, 0, 0, 0], [4, 0, 8, 0], [0, 0, 0, 0]]]),
    _max("overlapping ties", TIES, kernel_size=3, stride=1, padding=1, gradients=[  # 1 + 2 + 16 at the first 3; ...
        [[19, 4, 8, 0], [256, 0, 0, 0], [4096, 0, 61152, 0], [0, 0, 0, 0]]]),
    _max("ceil_mode by hand, none starts in the padding", ROW, kernel_size=(1, 2), padding=(0, 1), ceil_mode=True,
         loop=lambda x, **options: np.array([[[[-5.0, -3, -1]]]])),
    _max("ceil_mode by hand, the last starts inside", ROW[..., :4], kernel_size=(1, 2), padding=(0, 1), ceil_mode=True,
         loop=lambda x, **options: np.array([[[[-5.0, -3, -2]]]])),
    _max("ceil_mode by hand, one ends outside", ROW, kernel_size=(1, 2), ceil_mode=True,
         loop=lambda x, **options: np.array([[[[-4.0, -2, -1]]]])),
    _max("empty batch", (0, 2, 4, 4), kernel_size=2),
    _max("larger than one block", (2, 16, 160, 160), kernel_size=3, stride=2, padding=1),
]
