"""Interpolation: resample an image at another size; and the bilinear kernel of FCN.

Output pixel a of OH takes its value at position s of the input, which has H pixels:

    align_corners=False   s = (a + 1/2) H / OH - 1/2     pixels are squares; the outer edges of the images coincide
    align_corners=True    s = a (H - 1) / (OH - 1)       pixels are points; the centers of the outer pixels coincide
    nearest               s = floor(a H / OH)

clamped to 0 <= s <= H - 1. Bilinear interpolation gives pixel i the weight max(0, 1 - |s - i|), for rows and columns
independently. With a matrix of these weights for the rows, (OH, H), and one for the columns, (OW, W), the result is
``rows @ x @ columns.T``, and the backward pass is the transpose, ``rows.T @ gy @ columns``. At most two entries of each
row are not zero.

As in PyTorch, a given ``scale_factor`` f replaces OH / H above, although OH = floor(H f) makes the true ratio smaller.
Differences: the input must be (N, C, H, W), and these are the only two modes. A pixel of weight 0 is left out, even if
it is infinite or NaN.
"""
from __future__ import annotations

import math
from numbers import Real

import numpy as np

from ..autograd import Tensor
from ..backend import Array, add_at, xp, xp_of
from .arguments import Pair, check_floats, pair
from .case import Case
from .precision import Float16Safe


def source_positions(size: int, out_size: int, scale_factor: float | None, mode: str,
                     align_corners: bool) -> np.ndarray:
    """The position of each output pixel in the input along one axis: (out_size,), between 0 and size - 1."""
    a = np.arange(out_size)
    if mode == "nearest":  # in float32, as in PyTorch, so that rounding picks the same pixel
        step = size / out_size if scale_factor is None or out_size in (size, 2 * size) else 1 / scale_factor
        s = np.floor(a.astype(np.float32) * np.float32(step)).astype(int)
    elif align_corners:
        s = a * ((size - 1) / max(out_size - 1, 1))
    else:  # an axis that keeps its size keeps its pixels for any factor
        s = (a + 0.5) * (size / out_size if scale_factor is None or out_size == size else 1 / scale_factor) - 0.5
    return np.clip(s, 0, size - 1)


def hat_weights(position: np.ndarray, size: int) -> np.ndarray:
    """The weight max(0, 1 - |s - i|) of each pixel i < size at each position s: (len(position), size)."""
    return np.maximum(0, 1 - abs(position[:, None] - np.arange(size)))


def interpolate_loop(x, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
    """``interpolate`` on plain arrays, in loops: each output pixel from up to four pixels around its position."""
    factors = (None, None) if scale_factor is None else np.broadcast_to(scale_factor, 2)
    N, C, H, W = x.shape
    OH, OW = np.broadcast_to(size, 2) if size else (math.floor(H * factors[0]), math.floor(W * factors[1]))
    factors = (None, None) if recompute_scale_factor else factors
    y = np.zeros((N, C, OH, OW), x.dtype)
    for a, b in np.ndindex(OH, OW):
        around = []  # for the row and for the column: two pairs (pixel, weight)
        for i, n, out, f in ((a, H, OH, factors[0]), (b, W, OW, factors[1])):
            ratio = n / out if f is None or n == out else 1 / f
            if mode == "nearest":
                s = min(math.floor(i * ratio), n - 1)
            elif align_corners:
                s = 0 if out == 1 else i * (n - 1) / (out - 1)
            else:
                s = min(max((i + 0.5) * ratio - 0.5, 0), n - 1)
            low = math.floor(s)
            around.append(((low, 1 - (s - low)), (min(low + 1, n - 1), s - low)))
        for h, weight_h in around[0]:
            for w, weight_w in around[1]:
                y[:, :, a, b] += weight_h * weight_w * x[:, :, h, w]
    return y


# ---------------------------------------------------------------------------------------------------------
# The operations
# ---------------------------------------------------------------------------------------------------------
def weighted_rows(matrix: np.ndarray, x: Array) -> Array:
    """Row a of the result is sum_i matrix[a, i] * (row i of x): (OH, H), (N, C, H, W) -> (N, C, OH, W)."""
    y = xp_of(x).zeros((*x.shape[:2], len(matrix), x.shape[3]), x.dtype)
    for a, i in zip(*np.nonzero(matrix), strict=True):  # pixels of weight 0 are left out
        y[:, :, a] += float(matrix[a, i]) * x[:, :, i]
    return y


class Interpolate(Float16Safe):
    """y = rows @ x @ columns.T for each channel: the weights of the input pixels for each row and column of y"""

    def forward(ctx, x, *, rows, columns):  # (OH, H), (OW, W)
        ctx.save(rows, columns)
        return weighted_rows(columns, weighted_rows(rows, x).swapaxes(2, 3)).swapaxes(2, 3)  # (N, C, OH, OW)

    def backward(ctx, gy):  # the transpose
        rows, columns = ctx.saved
        return weighted_rows(rows.T, weighted_rows(columns.T, gy.swapaxes(2, 3)).swapaxes(2, 3))


class Nearest(Float16Safe):
    """y[n, c, a, b] = x[n, c, rows[a], columns[b]]"""

    def forward(ctx, x, *, rows, columns):
        xp, ctx.x_shape = xp_of(x), x.shape
        ctx.save(xp.asarray(rows)[:, None], xp.asarray(columns))
        return x[:, :, *ctx.saved]

    def backward(ctx, gy):  # a pixel receives the sum over all outputs that copy it
        gx = xp_of(gy).zeros(ctx.x_shape, gy.dtype)
        add_at(gx, (slice(None), slice(None), *ctx.saved), gy)
        return gx


def interpolate(input: Tensor, size: int | Pair | None = None, scale_factor: float | tuple[float, float] | None = None,
                mode: str = "nearest", align_corners: bool | None = None,
                recompute_scale_factor: bool | None = None) -> Tensor:
    """Resample (N, C, H, W) to (N, C, OH, OW): ``size`` in pixels, or floor(H * f) for ``scale_factor`` f.

    ``mode`` is "nearest" or "bilinear"; ``align_corners`` (bilinear only, default False) chooses between the two
    conventions in this file's docstring. With ``recompute_scale_factor`` the positions follow the true ratio, as for
    ``size``, instead of f. Raises ``ValueError`` unless exactly one of ``size`` and ``scale_factor`` is given, and for
    an image without pixels; ``TypeError`` for integers, unless the mode is "nearest". PSPNet (Zhao et al., 2017), sec.
    3.2, upsamples with it.
    """
    if input.ndim != 4 or 0 in input.shape[2:]:
        raise ValueError(f"interpolate: input must be (N, C, H, W) with H and W at least 1, got {input.shape}")
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"interpolate(mode={mode!r}): use 'nearest' or 'bilinear'")
    if mode == "bilinear":
        check_floats("interpolate", input=input)
    if mode == "nearest" and align_corners is not None:
        raise ValueError(f"interpolate(mode='nearest', align_corners={align_corners}): align_corners is an "
                         "option of 'bilinear'; leave it out")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate(size={size}, scale_factor={scale_factor}): give exactly one of the two")
    H, W = input.shape[2:]
    factors: tuple = (None, None)
    if size is not None:
        if recompute_scale_factor:
            raise ValueError(f"interpolate(size={size}, recompute_scale_factor=True): no scale_factor to recompute; "
                             "leave one of them out")
        if isinstance(size, tuple | list) and len(size) == 1:
            raise ValueError(f"interpolate(size={size}): write {size[0]} for both sides, or a pair, (OH, OW)")
        out_size = pair(size, "interpolate(size)", 1)
    else:
        factors = tuple(scale_factor) if isinstance(scale_factor, tuple | list) else (scale_factor, scale_factor)
        if len(factors) != 2 or not all(isinstance(f, Real) and 0 < float(f) < math.inf for f in factors):
            raise ValueError(f"interpolate(scale_factor={scale_factor}): use a positive number, or two of them")
        out_size = math.floor(H * factors[0]), math.floor(W * factors[1])
        if 0 in out_size:
            raise ValueError(f"interpolate(scale_factor={scale_factor}): {H}x{W} would become "
                             f"{out_size[0]}x{out_size[1]}; use a larger factor")
        factors = (None, None) if recompute_scale_factor else factors
    rows, columns = (source_positions(n, out, f, mode, bool(align_corners))
                     for n, out, f in zip((H, W), out_size, factors, strict=True))
    if mode == "nearest":
        return Nearest.apply(input, rows=rows, columns=columns)
    return Interpolate.apply(input, rows=hat_weights(rows, H), columns=hat_weights(columns, W))


# ---------------------------------------------------------------------------------------------------------
# Bilinear upsampling as a transposed convolution
# ---------------------------------------------------------------------------------------------------------
def bilinear_kernel(factor: int) -> np.ndarray:
    """The kernel of a transposed convolution of stride ``factor`` that interpolates bilinearly: (k, k), float64.

    k = 2 factor - factor % 2. The weight falls linearly from 1 at the kernel's center to 0 at distance ``factor``. With
    padding factor // 2 the output is ``factor`` times as large, and equals that of ``interpolate`` with
    align_corners=False except at the border. Raises ``ValueError`` for a factor below 1. FCN (Long et al., 2015),
    sec. 3.3.
    """
    factor = pair(factor, "bilinear_kernel(factor)", 1)[0]
    k = 2 * factor - factor % 2
    line = 1 - abs(np.arange(k) - (k - 1) / 2) / factor
    return np.outer(line, line)


def bilinear_weight(channels: int, factor: int, groups: int = 1) -> Array:
    """A weight for ``conv_transpose2d`` that upsamples each channel on its own: (C, C/groups, k, k), float32.

    It holds ``bilinear_kernel`` where the input and output channel are the same, and 0 elsewhere. ``groups`` may be any
    divisor of ``channels``: 1 gives the weight that FCN then learns, ``channels`` the smallest, (C, 1, k, k). It lies
    on the device in use. Raises ``ValueError`` if groups does not divide channels. FCN, sec. 4.2.
    """
    if channels < 1 or groups < 1 or channels % groups:
        raise ValueError(f"bilinear_weight(channels={channels}, groups={groups}): groups must divide channels")
    kernel = bilinear_kernel(factor)
    weight = np.zeros((channels, channels // groups, *kernel.shape), np.float32)
    weight[np.arange(channels), np.arange(channels) % (channels // groups)] = kernel
    return xp().asarray(weight)


def _case(label, *inputs, **options):
    return Case(interpolate, label, *inputs, loop=interpolate_loop, **options)


CASES = [
    _case("nearest, twice as large", (2, 3, 4, 5), scale_factor=2),
    _case("nearest to a size", (2, 2, 5, 7), size=(8, 3)),
    _case("nearest by 1.7 and 0.6", (1, 2, 6, 7), scale_factor=(1.7, 0.6)),
    _case("nearest to one pixel", (2, 3, 4, 4), size=1),
    _case("bilinear, twice as large", (2, 3, 4, 5), scale_factor=2, mode="bilinear"),
    _case("bilinear, twice as large, corners aligned", (2, 3, 4, 5), size=(8, 10), mode="bilinear", align_corners=True),
    _case("bilinear by 2.3, not the true ratio", (1, 2, 4, 5), scale_factor=2.3, mode="bilinear"),
    _case("bilinear by 2.3, the true ratio", (1, 2, 4, 5), scale_factor=2.3, mode="bilinear",
          recompute_scale_factor=True),
    _case("nearest by 1.7, the true ratio", (1, 2, 6, 7), scale_factor=1.7, recompute_scale_factor=True),
    _case("bilinear by 1.5, corners aligned", (1, 2, 5, 3), scale_factor=1.5, mode="bilinear", align_corners=True),
    _case("bilinear, smaller: some pixels unused", (2, 2, 9, 11), size=(3, 2), mode="bilinear"),
    _case("bilinear, smaller, corners aligned", (2, 2, 9, 11), size=(3, 4), mode="bilinear", align_corners=True),
    _case("bilinear, taller and narrower", (1, 2, 3, 9), size=(7, 4), mode="bilinear"),
    _case("bilinear from one pixel", (2, 3, 1, 1), size=(3, 2), mode="bilinear"),
    _case("bilinear to one pixel, corners aligned", (2, 3, 4, 5), size=1, mode="bilinear", align_corners=True),
    _case("bilinear, more than one block", (1, 2, 21, 5), size=(70, 40), mode="bilinear"),
    _case("same size", (2, 2, 3, 4), size=(3, 4), mode="bilinear"),
    _case("empty batch", (0, 2, 3, 4), size=(5, 6), mode="bilinear"),
]
