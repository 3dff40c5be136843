"""Adaptive pooling: the maximum or the mean of each of a given number of bins, and the pyramid of SPPNet.

It divides n pixels into m bins, bin i from floor(i n / m) up to, without it, ceil((i+1) n / m): neighbours may share a
pixel, and there may be more bins than pixels. That is PyTorch's convention, and how SPPNet divides a map (He et al.,
2014, app. A). Ties and NaN as in ``max_pool.py``.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..autograd import Tensor
from ..backend import parallel, xp_of
from .arguments import Pair, check_floats
from .case import Case
from .conv import last, new_like, pair
from .max_pool import TIES, challenge
from .precision import Wide, in_range, sum_rows
from .shape import concatenate, flatten
from .windows import blocks, scatter


def bins(i: int, o: int) -> list[Pair]:
    """(begin, end) of each of o bins over i pixels: floor(a i / o) and ceil((a+1) i / o)."""
    return [(a * i // o, -(-(a + 1) * i // o)) for a in range(o)]


def adaptive_loop(x, output_size, reduce):
    """Adaptive pooling on a plain array, in loops: ``reduce`` of every bin."""
    (OH, OW), (N, C, H, W) = adaptive_size(output_size, x.shape), x.shape
    y = np.empty((N, C, OH, OW), x.dtype)
    for n, c, a, b in np.ndindex(y.shape):
        y[n, c, a, b] = reduce(x[n, c, a * H // OH:-(-(a + 1) * H // OH), b * W // OW:-(-(b + 1) * W // OW)])
    return y


def spatial_pyramid_pool_loop(x, levels, mode="max"):
    """``spatial_pyramid_pool`` on a plain array: the bins of every level in loops."""
    reduce = {"max": np.max, "avg": np.mean}[mode]
    return np.concatenate([adaptive_loop(x, n, reduce).reshape(len(x), -1) for n in levels], axis=1)


def bin_pixels(i: int, o: int) -> np.ndarray:
    """(k, o): pixel t of each of o bins over i pixels. Shorter bins repeat their last pixel."""
    k = max(end - begin for begin, end in bins(i, o))
    return np.array([[min(begin + t, end - 1) for begin, end in bins(i, o)] for t in range(k)])


class AdaptiveMaxPool2d(Wide):
    """y = the largest value of each bin; its position h * W + w is all that backward needs."""

    def forward(ctx, x, *, size, return_indices):
        xp, (N, C, H, W), (OH, OW) = xp_of(x), x.shape, size
        rows, columns = bin_pixels(H, OH), bin_pixels(W, OW)  # (KH, OH), (KW, OW)
        KH, KW = len(rows), len(columns)
        numbers = np.arange(KH * KW, dtype=np.min_scalar_type(KH * KW - 1)).reshape(KH, KW)
        y, arg = new_like(x, N, C, OH, OW), xp.empty((N, OH, OW, C), numbers.dtype)

        def largest_along(axis, pixels, x, arg, numbers):
            for t, some in enumerate(xp.asarray(pixels)):
                value = xp.take(x, some, axis)
                number = numbers[t] if arg is None else xp.take(arg, some, axis) + numbers[t]
                if t == 0:
                    best, best_arg = value, xp.zeros(value.shape, numbers.dtype) + number
                else:
                    challenge(best, best_arg, value, number)
            return best, best_arg

        def work(block):
            n = block[0]
            m = largest_along(2, columns, xp.ascontiguousarray(last(x)[n]), None, numbers[0])  # (n, H, OW, C)
            last(y)[n], arg[n] = largest_along(1, rows, *m, numbers[:, 0])

        parallel(work, blocks(x))
        i, j = arg.astype(np.int64) // KW, arg.astype(np.int64) % KW
        position = xp.take(xp.asarray(rows * W), i * OH + xp.arange(OH)[:, None, None])
        position += xp.take(xp.asarray(columns), j * OW + xp.arange(OW)[:, None])
        ctx.save(position)
        ctx.x_shape = x.shape
        return (y, position.transpose(0, 3, 1, 2)) if return_indices else y

    def backward(ctx, gy):  # gx[position of the maximum of bin (a, b)] += gy[a, b]
        (position,), (N, C, H, W) = ctx.saved, ctx.x_shape
        return scatter(position, last(gy), H * W).reshape(N, H, W, C).transpose(0, 3, 1, 2)


class AdaptiveAvgPool2d(Wide):
    """y = the mean of each bin: sums of rows, then of columns, divided by how many"""

    def forward(ctx, x, *, size):
        xp, (N, C, H, W) = xp_of(x), x.shape
        ctx.x_shape, ctx.bins = x.shape, (bins(H, size[0]), bins(W, size[1]))
        y = new_like(x, N, C, *size)

        def means(x):  # of pictures (n, H, W, C)
            y = xp.empty((len(x), *size, C), x.dtype)
            for a, (h, h_end) in enumerate(ctx.bins[0]):
                row = sum_rows(x[:, h:h_end].reshape(len(x), h_end - h, W * C)).reshape(-1, W, C)
                for b, (w, w_end) in enumerate(ctx.bins[1]):
                    xp.multiply(sum_rows(row[:, w:w_end]), 1 / ((h_end - h) * (w_end - w)), out=y[:, a, b])
            return y

        def work(block):
            last(y)[block[0]] = in_range(means, last(x)[block[0]])

        parallel(work, blocks(x))
        return y

    def backward(ctx, gy):  # each gy, divided, to all pixels of its bin
        gx = xp_of(gy).zeros(ctx.x_shape[:1] + ctx.x_shape[2:] + ctx.x_shape[1:2], gy.dtype)  # (N, H, W, C)

        def work(block):
            n = block[0]
            for a, (h, h_end) in enumerate(ctx.bins[0]):
                row = xp_of(gy).zeros(gx[n, 0].shape, gy.dtype)  # (n, W, C)
                for b, (w, w_end) in enumerate(ctx.bins[1]):
                    row[:, w:w_end] += last(gy)[n, a, b][:, None] * (1 / ((h_end - h) * (w_end - w)))
                gx[n, h:h_end] += row[:, None]

        parallel(work, blocks(gx))
        return gx.transpose(0, 3, 1, 2)


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The mean of each of OH x OW bins: (N, C, H, W) -> (N, C, OH, OW), for any H and W.

    ``output_size`` is a number for both or (OH, OW); None keeps that side. Raises ``ValueError`` for an empty map and
    ``TypeError`` for integers.
    PSPNet (Zhao et al., 2017), sec. 3.2: 1, 2, 3 and 6.
    """
    check_floats("adaptive_avg_pool2d", input=input)
    return AdaptiveAvgPool2d.apply(input, size=adaptive_size(output_size, input.shape, "adaptive_avg_pool2d"))


def adaptive_max_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None,
                        return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each of OH x OW bins: (N, C, H, W) -> (N, C, OH, OW), for any H and W.

    ``output_size`` and errors as in ``adaptive_avg_pool2d``, ``return_indices`` and ties as in ``max_pool2d``.
    """
    check_floats("adaptive_max_pool2d", input=input)
    return AdaptiveMaxPool2d.apply(input, size=adaptive_size(output_size, input.shape, "adaptive_max_pool2d"),
                                   return_indices=return_indices)


def spatial_pyramid_pool(input: Tensor, levels: Sequence[int], mode: str = "max") -> Tensor:
    """A vector of fixed length from a map of any size: (N, C, H, W) -> (N, C * bins), bins the sum of n^2.

    Level n pools n x n bins, by maximum or, with ``mode`` "avg", by mean. In the vector the levels follow each other as
    given; in each stand all bins of the first channel, row by row, then those of the next. Levels (1, 2, 4) give 21
    bins, (1, 2, 3, 6) give 50. Raises ``ValueError`` for another mode or a level below 1.

    SPPNet (He et al., 2014), sec. 2.3: a window of ceil(a/n) with stride floor(a/n). Where a mod n > 1 this would leave
    out the last pixels; the bins here are those of SPPNet, app. A, the same where a mod n <= 1 and complete everywhere.
    """
    pool = {"max": adaptive_max_pool2d, "avg": adaptive_avg_pool2d}.get(mode)
    if pool is None:
        raise ValueError(f"spatial_pyramid_pool(mode={mode!r}): 'max' or 'avg'")
    if not levels or any(not isinstance(n, int | np.integer) or n < 1 for n in levels):
        raise ValueError(f"spatial_pyramid_pool(levels={levels!r}) must be integers of at least 1, such as (1, 2, 4)")
    return concatenate([flatten(pool(input, n), 1) for n in levels], 1)


def adaptive_size(output_size: int | Sequence[int | None] | None, shape: tuple[int, ...], name: str = "") -> Pair:
    """(OH, OW), None replaced by the input's size; ValueError for what cannot be pooled."""
    if len(shape) != 4 or 0 in shape[2:]:
        raise ValueError(f"{name}: input must be (N, C, H, W) with at least one pixel, got shape {shape}")
    both = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(both) != 2:
        raise ValueError(f"{name}(output_size={output_size!r}) must be one size or two, (OH, OW)")
    return pair([i if o is None else o for i, o in zip(shape[2:], both, strict=True)], f"{name}(output_size)", 1)


def _adaptive(op: Callable, reduce: Callable, label, *inputs, **options):
    return Case(op, label, *inputs, loop=lambda x, output_size: adaptive_loop(x, output_size, reduce), **options)


def _pyramid(label, *inputs, **options):
    return Case(spatial_pyramid_pool, label, *inputs, loop=spatial_pyramid_pool_loop, **options)


CASES = [
    _adaptive(adaptive_avg_pool2d, np.mean, "global", (2, 3, 4, 5), output_size=1),
    _adaptive(adaptive_avg_pool2d, np.mean, "bins that share pixels", (2, 2, 7, 10), output_size=(3, 4)),
    _adaptive(adaptive_avg_pool2d, np.mean, "more bins than pixels", (1, 2, 3, 2), output_size=5),
    _adaptive(adaptive_avg_pool2d, np.mean, "one side kept", (1, 2, 3, 7), output_size=(None, 2)),
    _adaptive(adaptive_avg_pool2d, np.mean, "empty batch", (0, 2, 4, 4), output_size=2),
    _adaptive(adaptive_max_pool2d, np.max, "global", (2, 3, 4, 5), output_size=1),
    _adaptive(adaptive_max_pool2d, np.max, "bins that share pixels", (2, 2, 7, 10), output_size=(3, 4)),
    _adaptive(adaptive_max_pool2d, np.max, "more bins than pixels", (1, 2, 3, 2), output_size=5),
    _adaptive(adaptive_max_pool2d, np.max, "ties", TIES, output_size=3,
              gradients=[[[1, 2, 4, 0], [8, 0, 0, 0], [64, 0, 16 + 32 + 128 + 256, 0], [0, 0, 0, 0]]]),
    _pyramid("13x13, the 21 bins of levels 1, 2, 4", (2, 2, 13, 13), levels=(1, 2, 4)),
    _pyramid("any size, the 50 bins of levels 1, 2, 3, 6", (1, 2, 10, 7), levels=(1, 2, 3, 6)),
    _pyramid("average", (2, 3, 5, 4), levels=(1, 3), mode="avg"),
]
