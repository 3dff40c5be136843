"""Adaptive pooling: the maximum or the mean of each of a given number of bins; and the pyramid of SPPNet.

n pixels are split into m bins; bin i holds the half-open interval [floor(i n / m), ceil((i+1) n / m)). Neighboring bins
may share a pixel, and there may be more bins than pixels. This is PyTorch's convention, and how SPPNet splits a map (He
et al., 2014, app. A). Ties and NaN are as in ``max_pool.py``.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import Array, accurate_sum, add_at, xp_of
from .arguments import Pair, check_floats, pair
from .case import Case
from .max_pool import TIES
from .precision import Float16Safe
from .shape import concatenate, flatten


def adaptive_bins(i: int, o: int) -> list[Pair]:
    """[begin, end) of each of o bins over i pixels: floor(a i / o) and ceil((a+1) i / o)."""
    return [(a * i // o, -(-(a + 1) * i // o)) for a in range(o)]


def adaptive_loop(x, output_size, reduce):
    """Adaptive pooling on a plain array, in loops: ``reduce`` each bin."""
    (OH, OW), (N, C, H, W) = adaptive_output_size(output_size, x.shape), x.shape
    y = np.empty((N, C, OH, OW), x.dtype)
    for n, c, a, b in np.ndindex(y.shape):
        y[n, c, a, b] = reduce(x[n, c, a * H // OH:-(-(a + 1) * H // OH), b * W // OW:-(-(b + 1) * W // OW)])
    return y


def spatial_pyramid_pool_loop(x, levels, mode="max"):
    """``spatial_pyramid_pool`` on a plain array: the bins of every level in loops."""
    reduce = {"max": np.max, "avg": np.mean}[mode]
    return np.concatenate([adaptive_loop(x, n, reduce).reshape(len(x), -1) for n in levels], axis=1)


class AdaptiveMaxPool2d(Float16Safe):
    """y[n, c, a, b] = the largest value in bin (a, b), and gx at that pixel += gy[n, c, a, b]"""

    def forward(ctx, x, *, out_size, return_indices):
        xp, (N, C, H, W) = xp_of(x), x.shape
        ctx.x_shape = x.shape
        y, arg = xp.zeros((N, C, *out_size), x.dtype), xp.zeros((N, C, *out_size), np.int64)
        for a, (top, bottom) in enumerate(adaptive_bins(H, out_size[0])):
            for b, (left, right) in enumerate(adaptive_bins(W, out_size[1])):
                values = x[:, :, top:bottom, left:right].reshape(N, C, (bottom - top) * (right - left))
                t = argmax(values)  # (N, C), positions in the bin
                y[:, :, a, b] = xp.take_along_axis(values, t[..., None], axis=2)[..., 0]
                arg[:, :, a, b] = (top + t // (right - left)) * W + left + t % (right - left)  # h W + w
        ctx.save(arg)
        return (y, arg) if return_indices else y

    def backward(ctx, gy):
        (arg,), xp, (N, C, H, W) = ctx.saved, xp_of(gy), ctx.x_shape
        plane = xp.arange(0, N * C * H * W, H * W).reshape(N, C, 1, 1)  # where each plane begins in gx
        gx = xp.zeros(N * C * H * W, gy.dtype)
        add_at(gx, (plane + arg).ravel(), gy.ravel())
        return gx.reshape(N, C, H, W)


def argmax(x: Array) -> Array:
    """The position of the maximum along the last axis: the first of equal ones, but the last NaN, as in max pooling."""
    xp, nan = xp_of(x), x != x
    last = x.shape[-1] - 1 - nan[..., ::-1].argmax(axis=-1)
    return xp.where(nan.any(axis=-1), last, x.argmax(axis=-1))


class AdaptiveAvgPool2d(Float16Safe):
    """y[n, c, a, b] = the mean of bin (a, b)"""

    def forward(ctx, x, *, out_size):
        ctx.x_shape, y = x.shape, xp_of(x).zeros((*x.shape[:2], *out_size), x.dtype)
        for a, (top, bottom) in enumerate(adaptive_bins(x.shape[2], out_size[0])):
            for b, (left, right) in enumerate(adaptive_bins(x.shape[3], out_size[1])):
                share = x[:, :, top:bottom, left:right] / float((bottom - top) * (right - left))
                y[:, :, a, b] = accurate_sum(share, (2, 3))
        return y

    def backward(ctx, gy):
        gx = xp_of(gy).zeros(ctx.x_shape, gy.dtype)
        for a, (top, bottom) in enumerate(adaptive_bins(gx.shape[2], gy.shape[2])):
            for b, (left, right) in enumerate(adaptive_bins(gx.shape[3], gy.shape[3])):
                share = gy[:, :, a, b] / float((bottom - top) * (right - left))  # (N, C)
                gx[:, :, top:bottom, left:right] += share[:, :, None, None]
        return gx


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The mean of each of OH x OW bins: (N, C, H, W) -> (N, C, OH, OW), for any H and W.

    ``output_size`` is (OH, OW), or a number for both; None keeps that side. Raises ``ValueError`` for an empty map and
    ``TypeError`` for integers.
    PSPNet (Zhao et al., 2017), sec. 3.2: 1, 2, 3 and 6.
    """
    check_floats("adaptive_avg_pool2d", input=input)
    return AdaptiveAvgPool2d.apply(
        input, out_size=adaptive_output_size(output_size, input.shape, "adaptive_avg_pool2d"))


def adaptive_max_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None,
                        return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each of OH x OW bins: (N, C, H, W) -> (N, C, OH, OW), for any H and W.

    ``output_size`` and errors are as in ``adaptive_avg_pool2d``, ``return_indices`` and ties as in ``max_pool2d``.
    """
    check_floats("adaptive_max_pool2d", input=input)
    return AdaptiveMaxPool2d.apply(
        input, out_size=adaptive_output_size(output_size, input.shape, "adaptive_max_pool2d"),
        return_indices=return_indices)


def spatial_pyramid_pool(input: Tensor, levels: Sequence[int], mode: str = "max") -> Tensor:
    """A vector of fixed length from a map of any size: (N, C, H, W) -> (N, C * bins), where bins = sum of n^2.

    Level n pools n x n bins, by their maximum or, with ``mode`` "avg", by their mean. The vector holds the levels in
    the given order; within a level, all bins of the first channel, row by row, then those of the next. Levels (1, 2, 4)
    give 21 bins, (1, 2, 3, 6) give 50. Raises ``ValueError`` for an unknown mode or a level below 1.

    SPPNet (He et al., 2014), sec. 2.3, takes windows of ceil(a/n) with stride floor(a/n). Where a mod n > 1, these
    leave out the last pixels. The bins here are those of app. A: equal where a mod n <= 1, and always complete.
    """
    pool: Any = {"max": adaptive_max_pool2d, "avg": adaptive_avg_pool2d}.get(mode)
    if pool is None:
        raise ValueError(f"spatial_pyramid_pool(mode={mode!r}): use 'max' or 'avg'")
    if not levels or any(not isinstance(n, int | np.integer) or n < 1 for n in levels):
        raise ValueError(f"spatial_pyramid_pool(levels={levels!r}) must be integers of at least 1, such as (1, 2, 4)")
    return concatenate([flatten(pool(input, n), 1) for n in levels], 1)


def adaptive_output_size(output_size: int | Sequence[int | None] | None, shape: tuple[int, ...],
                         name: str = "") -> Pair:
    """(OH, OW), with None replaced by the input's size. Raises ``ValueError`` for maps or sizes that do not fit."""
    if len(shape) != 4 or 0 in shape[2:]:
        raise ValueError(f"{name}: input must be (N, C, H, W) with at least one pixel, got shape {shape}")
    both = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(both) != 2:
        raise ValueError(f"{name}(output_size={output_size!r}) must be one size or a pair, (OH, OW)")
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
