"""Unpooling: three ways to enlarge a pooled map, after DeconvNet (Noh et al., 2015, sec. 3.2.1 and fig. 3).

    1 2      nearest:  1 1 2 2    bed of nails:  1 0 2 0    max unpooling:  0 0 2 0    each value at the position
    3 4                1 1 2 2                   0 0 0 0                    0 1 0 0    where max pooling had found
                       3 3 4 4                   3 0 4 0                    0 3 0 0    its maximum (the "switches"
                       3 3 4 4                   0 0 0 0                    0 0 0 4    of DeconvNet)

All three are linear. Their adjoints are the sum over each block, the corner of each block, and reading at the indices,
which is max pooling with fixed indices.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..autograd import Function, Tensor
from ..backend import add_at, apply_mask, xp_of
from .arguments import Pair, pair
from .case import Case
from .max_pool import max_pool2d_loop
from .precision import Float16Safe
from .windows import check_map


# ---------------------------------------------------------------------------------------------------------
# The definition, in loops
# ---------------------------------------------------------------------------------------------------------
def unpool_nearest_loop(x, scale_factor):
    """``unpool_nearest`` on a plain array: y[h, w] = x[h // s, w // s]."""
    (N, C, H, W), (sh, sw) = x.shape, pair(scale_factor, "", 1)
    y = np.zeros((N, C, sh * H, sw * W), x.dtype)
    for n, c, h, w in np.ndindex(y.shape):
        y[n, c, h, w] = x[n, c, h // sh, w // sw]
    return y


def unpool_bed_of_nails_loop(x, scale_factor):
    """``unpool_bed_of_nails`` on a plain array: y[s h, s w] = x[h, w], zero elsewhere."""
    (N, C, H, W), (sh, sw) = x.shape, pair(scale_factor, "", 1)
    y = np.zeros((N, C, sh * H, sw * W), x.dtype)
    for n, c, h, w in np.ndindex(x.shape):
        y[n, c, sh * h, sw * w] = x[n, c, h, w]
    return y


def max_unpool2d_loop(x, indices, kernel_size, stride=None, padding=0, output_size=None):
    """``max_unpool2d`` on plain arrays: one value after the other, so of two at one position the last stays."""
    size = unpool_output_size(x.shape, kernel_size, stride, padding, output_size)
    y = np.zeros((*x.shape[:2], size[0] * size[1]), x.dtype)
    for n, c, h, w in np.ndindex(x.shape):
        y[n, c, indices[n, c, h, w]] = x[n, c, h, w]
    return y.reshape(*x.shape[:2], *size)


# ---------------------------------------------------------------------------------------------------------
# The operations
# ---------------------------------------------------------------------------------------------------------
class UnpoolNearest(Float16Safe):
    """y[h, w] = x[h // sh, w // sw]: every pixel fills a block"""

    def forward(ctx, x, *, scale):
        ctx.scale = scale
        return x.repeat(scale[0], axis=2).repeat(scale[1], axis=3)

    def backward(ctx, gy):  # the sum over each block
        (sh, sw), (N, C, H, W) = ctx.scale, gy.shape
        return gy.reshape(N, C, H // sh, sh, W // sw, sw).sum(axis=(3, 5))


class UnpoolBedOfNails(Function):
    """y[sh h, sw w] = x[h, w], zero elsewhere"""

    def forward(ctx, x, *, scale):
        (N, C, H, W), (sh, sw) = x.shape, scale
        ctx.scale, y = scale, xp_of(x).zeros((N, C, sh * H, sw * W), x.dtype)
        y[:, :, ::sh, ::sw] = x
        return y

    def backward(ctx, gy):  # the corner of each block
        sh, sw = ctx.scale
        return gy[:, :, ::sh, ::sw]


class MaxUnpool2d(Function):
    """y[indices] = x, zero elsewhere; where indices repeat, the last value stays"""

    def forward(ctx, x, indices, *, out_size):
        xp, (N, C), (OH, OW) = xp_of(x), x.shape[:2], out_size
        plane = xp.arange(0, N * C * OH * OW, OH * OW).reshape(N, C, 1, 1)  # where each plane begins in y
        at, number = plane + indices, xp.arange(x.size).reshape(x.shape)
        last = xp.zeros(N * C * OH * OW, np.int64)
        xp.maximum.at(last, at.ravel(), number.ravel())  # the number of the last value at each position
        ctx.save(at, last[at] == number)
        y = xp.zeros(N * C * OH * OW, x.dtype)
        add_at(y, at.ravel(), apply_mask(x, ctx.saved[1]).ravel())  # the other values add 0
        return y.reshape(N, C, OH, OW)

    def backward(ctx, gy):  # gx = gy[indices], and 0 for values that did not stay
        at, stays = ctx.saved
        return apply_mask(gy.ravel()[at], stays), None


def unpool_nearest(input: Tensor, scale_factor: int | Pair) -> Tensor:
    """Repeat every pixel in a block of s x s: (N, C, H, W) -> (N, C, sH, sW).

    Equal to ``interpolate(..., mode="nearest")`` with an integer factor, and to s^2 times the adjoint of
    ``avg_pool2d(..., s)``. Raises ``ValueError`` for a scale that is not an integer of at least 1.
    """
    check_map("unpool_nearest", input)
    return UnpoolNearest.apply(input, scale=pair(scale_factor, "unpool_nearest(scale_factor)", 1))


def unpool_bed_of_nails(input: Tensor, scale_factor: int | Pair) -> Tensor:
    """Put every pixel into the top left corner of an s x s block of zeros: (N, C, H, W) -> (N, C, sH, sW).

    The adjoint of ``x[:, :, ::s, ::s]``. Raises ``ValueError`` for a scale that is not an integer of at least 1.
    """
    check_map("unpool_bed_of_nails", input)
    return UnpoolBedOfNails.apply(input, scale=pair(scale_factor, "unpool_bed_of_nails(scale_factor)", 1))


def max_unpool2d(input: Tensor, indices: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None,
                 padding: int | Pair = 0, output_size: Sequence[int] | None = None) -> Tensor:
    """Put each value back at the position of its maximum: (N, C, H, W) -> (N, C, OH, OW), zero elsewhere.

    ``indices`` are those of ``max_pool2d(..., return_indices=True)`` with the same kernel, stride and padding. The
    output has (H - 1) * stride - 2 * padding + kernel rows. ``output_size`` (its last two numbers) may differ from that
    by less than the stride: pooling drops so many rows. If no index repeats in a plane, this is the adjoint of
    ``max_pool2d`` with fixed indices. If one does, the last of its values, row by row, stays, and it alone receives the
    gradient (in PyTorch any of them may stay, and all receive the gradient).

    Raises ``ValueError`` for shapes that do not fit and for an index outside the plane (checked on NumPy arrays only: a
    GPU would have to wait; there, such an index writes to another position).
    """
    check_map("max_unpool2d", input)
    if indices.shape != input.shape or indices.dtype != np.int64:
        raise ValueError(f"max_unpool2d: indices must be int64 of input's shape {input.shape}, as max_pool2d returns "
                         f"them; got {indices.dtype} of shape {indices.shape}")
    size = unpool_output_size(input.shape, kernel_size, stride, padding, output_size)
    if type(indices.data) is np.ndarray and indices.size:
        low, high = indices.data.min(), indices.data.max()
        if low < 0 or high >= size[0] * size[1]:
            raise ValueError(f"max_unpool2d: indices range from {low} to {high}, but the {size[0]}x{size[1]} output "
                             f"has positions 0 to {size[0] * size[1] - 1}; pass the size of the pooled map as "
                             "output_size")
    return MaxUnpool2d.apply(input, indices, out_size=size)


def unpool_output_size(shape: tuple[int, ...], kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair,
                output_size: Sequence[int] | None) -> Pair:
    """Check the arguments of ``max_unpool2d``; return the size of its output."""
    kernel = pair(kernel_size, "max_unpool2d(kernel_size)", 1)
    stride = kernel if stride is None or stride == () else pair(stride, "max_unpool2d(stride)", 1)
    padding = pair(padding, "max_unpool2d(padding)", 0)
    usual = tuple((i - 1) * s - 2 * p + k for i, s, p, k in zip(shape[2:], stride, padding, kernel, strict=True))
    size = usual if output_size is None else tuple(output_size)[-2:]
    if len(size) != 2 or any(abs(o - u) >= s or o < 1 for o, u, s in zip(size, usual, stride, strict=True)):
        raise ValueError(f"max_unpool2d(output_size={output_size}): pooling gives {shape[2]}x{shape[3]} from "
                         f"{usual[0]}x{usual[1]}, or from sizes that differ by less than the stride {stride}")
    return size


def _max_unpool(label, pooled, size=None, **options):
    """A case with the indices of pooling shuffled numbers of shape ``pooled``."""
    x = np.random.default_rng(0).permutation(int(np.prod(pooled))).reshape(pooled).astype(float)
    indices = max_pool2d_loop(x, return_indices=True, **options)[1]
    return Case(max_unpool2d, label, indices.shape, indices, loop=max_unpool2d_loop, output_size=size, **options)


REPEATED = np.array([[[[0, 3, 3], [8, 0, 3]]]])  # 0 and 3 repeat, 8 does not

CASES = [
    Case(unpool_nearest, "2x", (2, 3, 3, 4), loop=unpool_nearest_loop, scale_factor=2),
    Case(unpool_nearest, "unequal scales", (1, 2, 3, 2), loop=unpool_nearest_loop, scale_factor=(3, 1)),
    Case(unpool_nearest, "empty batch", (0, 2, 3, 2), loop=unpool_nearest_loop, scale_factor=2),
    Case(unpool_bed_of_nails, "2x", (2, 3, 3, 4), loop=unpool_bed_of_nails_loop, scale_factor=2),
    Case(unpool_bed_of_nails, "unequal scales", (1, 2, 3, 2), loop=unpool_bed_of_nails_loop, scale_factor=(1, 4)),
    Case(unpool_bed_of_nails, "empty batch", (0, 2, 3, 2), loop=unpool_bed_of_nails_loop, scale_factor=2),
    _max_unpool("2x2", (2, 3, 6, 4), kernel_size=2),
    _max_unpool("a row and a column that pooling dropped", (1, 2, 7, 5), size=(7, 5), kernel_size=2),
    _max_unpool("overlapping windows, indices repeat", (2, 2, 7, 7), kernel_size=3, stride=2, padding=1),
    Case(max_unpool2d, "repeated indices", (1, 1, 2, 3), REPEATED, loop=max_unpool2d_loop, kernel_size=2, stride=1),
    Case(max_unpool2d, "empty batch", (0, 2, 3, 2), np.zeros((0, 2, 3, 2), np.int64), loop=max_unpool2d_loop,
         kernel_size=2),
]
