"""Interpolation: resampling a picture at another size, and the bilinear kernel of FCN.

Output pixel a of OH takes its value at position s of the input, which has H pixels:

    align_corners=False   s = (a + 1/2) H / OH - 1/2     pixels are squares, the pictures' outer edges coincide
    align_corners=True    s = a (H - 1) / (OH - 1)       pixels are points, the outer pixels' centres coincide
    nearest               s = floor(a H / OH)

clamped to 0 <= s <= H - 1. Bilinear interpolation weighs pixel i by how near it is, max(0, 1 - |s - i|), in rows and
in columns independently. So with a matrix of these weights for the rows, (OH, H), and one for the columns, (OW, W),
the result is ``rows @ x @ columns.T``, and the backward pass is the transpose, ``rows.T @ gy @ columns``. At most two
entries of a row are not zero, and lie near the diagonal; a block of rows is multiplied with only the pixels it meets.

As in PyTorch, a given ``scale_factor`` f stands in for OH / H above, although OH = floor(H f) makes the true ratio
smaller. Differences: only pictures (N, C, H, W), and these two modes. A pixel of weight 0 is left out, even if it is
infinite or NaN.
"""
from __future__ import annotations

import math

import numpy as np

from ..autograd import Tensor
from ..backend import Array, device_of, parallel, to_device, xp, xp_of
from .arguments import Pair, check_floats, pair
from .case import Case
from .conv import last
from .masks import weigh
from .precision import Wide

PARTS = 2  # of the pictures or their lines, for the threads; there are blocks of the matrix besides


def positions(size: int, out_size: int, scale_factor: float | None, mode: str, align_corners: bool) -> np.ndarray:
    """Where in the input each output pixel lies, along one axis: (out_size,), between 0 and size - 1."""
    a = np.arange(out_size)
    if mode == "nearest":  # in float32 as PyTorch, so that rounding picks the same pixel
        step = size / out_size if scale_factor is None or out_size in (size, 2 * size) else 1 / scale_factor
        s = np.floor(a.astype(np.float32) * np.float32(step)).astype(int)
    elif align_corners:
        s = a * ((size - 1) / max(out_size - 1, 1))
    else:  # an axis that keeps its size keeps its pixels, whatever the factor
        s = (a + 0.5) * (size / out_size if scale_factor is None or out_size == size else 1 / scale_factor) - 0.5
    return np.clip(s, 0, size - 1)


def hat(position: np.ndarray, size: int) -> np.ndarray:
    """The weight max(0, 1 - |s - i|) of every pixel i < size at every position s: (len(position), size)."""
    return np.maximum(0, 1 - abs(position[:, None] - np.arange(size)))


def interpolate_loop(x, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
    """``interpolate`` on plain arrays, in loops: every output pixel from the up to four around its position."""
    factors = (None, None) if scale_factor is None else np.broadcast_to(scale_factor, 2)
    N, C, H, W = x.shape
    OH, OW = np.broadcast_to(size, 2) if size else (math.floor(H * factors[0]), math.floor(W * factors[1]))
    factors = (None, None) if recompute_scale_factor else factors
    y = np.zeros((N, C, OH, OW), x.dtype)
    for a, b in np.ndindex(OH, OW):
        around = []  # of the row, of the column: (pixel, weight) twice
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
def spans(count: int, x: Array, parts: int) -> list[slice]:
    """0..count in parts for the threads; in one where a GPU does it."""
    parts = min(count, parts) if device_of(x) == "numpy" else 1
    return [slice(i * count // parts, (i + 1) * count // parts) for i in range(parts)]


def banded_product(matrix: np.ndarray, x: Array) -> Array:
    """``matrix @ x[m]`` for every m, (M, I, K) -> (M, O, K), for a matrix whose entries lie near its diagonal.

    A block of its rows is multiplied with only the columns that it meets: the cost is linear in O, not O * I. Small
    blocks meet few zeros: those of 8 or 4 rows are 3 times as fast as those of 32. For NumPy, and finite x.
    """
    (M, I, K), O = x.shape, len(matrix)
    size = 8 if O >= I else 4
    y = np.empty((M, O, K), x.dtype)

    def work(task):
        some, rows, columns, block = task
        with np.errstate(invalid="ignore"):  # 0 times infinity: see ``resample``
            np.matmul(block, x[some, columns], out=y[some, rows])

    tasks = []
    for start in range(0, O, size):
        rows = slice(start, min(start + size, O))
        met = np.flatnonzero(matrix[rows].any(axis=0))
        columns = slice(met[0], met[-1] + 1) if len(met) else slice(0, 1)
        block = np.ascontiguousarray(matrix[rows, columns], x.dtype)
        tasks += [(some, rows, columns, block) for some in spans(M, x, PARTS)]
    parallel(work, tasks)
    return y


def sparse_product(matrix: np.ndarray, x: Array) -> Array:
    """The same, entry by entry: a pixel of weight 0 is left out, even if it is infinite or NaN."""
    y = xp_of(x).zeros((x.shape[0], len(matrix), x.shape[2]), x.dtype)
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :(matrix != 0).sum(axis=1).max(initial=0)]
    weights = np.take_along_axis(matrix, order, axis=1).astype(x.dtype)  # those of each row, then zeros
    for pixel, weight in zip(order.T, weights.T, strict=True):
        pixel, weight = (to_device(np.ascontiguousarray(a), device_of(x)) for a in (pixel, weight))
        y += weigh(xp_of(x).take(x, pixel, axis=1), weight[:, None])
    return y


def resample(rows: np.ndarray, x: Array, columns: np.ndarray) -> Array:
    """``rows @ x @ columns.T`` for every picture and channel: (N, C, H, W) -> (N, C, OH, OW), channels-last."""
    (N, C, H, W), OH, OW = x.shape, len(rows), len(columns)
    x = xp_of(x).ascontiguousarray(last(x))

    def along_rows(product, x):  # (N, H, ., C) -> (N, OH, ., C)
        return product(rows, x.reshape(N, H, x.shape[2] * C)).reshape(N, OH, x.shape[2], C)

    def along_columns(product, x):  # (N, ., W, C) -> (N, ., OW, C)
        return product(columns, x.reshape(N * x.shape[1], W, C)).reshape(N, x.shape[1], OW, C)

    def both(product):
        if OH < H:  # the products with ``rows`` are the larger ones: they belong where the picture is large
            return along_columns(product, along_rows(product, x))
        return along_rows(product, along_columns(product, x))

    if type(x) is np.ndarray:  # infinity and NaN show in either; the smaller one is looked through sooner
        y = both(banded_product)
        if np.isfinite(min(x, y, key=np.size)).all():
            return y.transpose(0, 3, 1, 2)
    return both(sparse_product).transpose(0, 3, 1, 2)


class Interpolate(Wide):
    """y = rows @ x @ columns.T"""

    def forward(ctx, x, *, rows, columns):
        ctx.save(rows, columns)
        return resample(rows, x, columns)

    def backward(ctx, gy):  # the transpose
        rows, columns = ctx.saved
        return resample(rows.T, gy, columns.T)


class Nearest(Wide):
    """The same with a single 1 in each row of the matrices: a choice of pixels"""

    def forward(ctx, x, *, rows, columns):  # the positions
        N, C, H, W = x.shape
        ctx.save(hat(rows, H), hat(columns, W))
        pixels = xp_of(x).ascontiguousarray(last(x)).reshape(N, H * W, C)
        index = to_device((rows[:, None] * W + columns).ravel(), device_of(x))
        y = xp_of(x).empty((N, len(index), C), x.dtype)

        def work(task):
            n, some = task
            y[n, some] = pixels[n].take(index[some], axis=0)
        parallel(work, [(n, some) for n in range(N) for some in spans(len(index), x, PARTS)])
        return y.reshape(N, len(rows), len(columns), C).transpose(0, 3, 1, 2)

    def backward(ctx, gy):  # the transpose: the sum over those that chose a pixel
        rows, columns = ctx.saved
        return resample(rows.T, gy, columns.T)


def interpolate(input: Tensor, size: int | Pair | None = None, scale_factor: float | tuple[float, float] | None = None,
                mode: str = "nearest", align_corners: bool | None = None,
                recompute_scale_factor: bool | None = None) -> Tensor:
    """Resample (N, C, H, W) to (N, C, OH, OW): ``size`` in pixels, or floor(H * f) for ``scale_factor`` f.

    ``mode`` is "nearest" or "bilinear"; ``align_corners`` (bilinear only, default False) chooses between the two
    conventions in this file's docstring. ``recompute_scale_factor``: positions by the true ratio, as for ``size``, in
    place of f. Raises ``ValueError`` unless exactly one of ``size`` and ``scale_factor`` is given, and for a picture
    without pixels; ``TypeError`` for integers, which only "nearest" takes: it chooses, and weighs nothing. PSPNet (Zhao
    et al., 2017), sec. 3.2, upsamples by it.
    """
    if input.ndim != 4 or 0 in input.shape[2:]:
        raise ValueError(f"interpolate: input must be (N, C, H, W) with H and W at least 1, got {input.shape}")
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"interpolate(mode={mode!r}): use 'nearest' or 'bilinear'")
    if mode == "bilinear":
        check_floats("interpolate", input=input)
    if mode == "nearest" and align_corners is not None:
        raise ValueError(f"interpolate(mode='nearest', align_corners={align_corners}): align_corners is an option of "
                         "'bilinear', leave it out")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate(size={size}, scale_factor={scale_factor}): give exactly one of the two")
    H, W = input.shape[2:]
    factors = (None, None)
    if size is not None:
        if recompute_scale_factor:
            raise ValueError(f"interpolate(size={size}, recompute_scale_factor=True): no scale_factor to recompute; "
                             "leave one of them out")
        if isinstance(size, tuple | list) and len(size) == 1:
            raise ValueError(f"interpolate(size={size}): write {size[0]} for both sides, or two sizes, (OH, OW)")
        out_size = pair(size, "interpolate(size)", 1)
    else:
        factors = tuple(scale_factor) if isinstance(scale_factor, tuple | list) else (scale_factor, scale_factor)
        if len(factors) != 2 or not all(0 < f < math.inf for f in factors):
            raise ValueError(f"interpolate(scale_factor={scale_factor}): a positive number, or two of them")
        out_size = math.floor(H * factors[0]), math.floor(W * factors[1])
        if 0 in out_size:
            raise ValueError(f"interpolate(scale_factor={scale_factor}): {H}x{W} would become "
                             f"{out_size[0]}x{out_size[1]}; use a larger factor")
        factors = (None, None) if recompute_scale_factor else factors
    rows, columns = (positions(n, out, f, mode, bool(align_corners))
                     for n, out, f in zip((H, W), out_size, factors, strict=True))
    if mode == "nearest":
        return Nearest.apply(input, rows=rows, columns=columns)
    return Interpolate.apply(input, rows=hat(rows, H), columns=hat(columns, W))


# ---------------------------------------------------------------------------------------------------------
# Bilinear upsampling as a transposed convolution
# ---------------------------------------------------------------------------------------------------------
def bilinear_kernel(factor: int) -> np.ndarray:
    """The kernel with which a transposed convolution of stride ``factor`` interpolates bilinearly: (k, k), float64.

    k = 2 factor - factor % 2; the weight falls linearly from 1 at distance 0 from the kernel's centre to 0 at distance
    ``factor``. With padding factor // 2 the output is ``factor`` times as large, and that of ``interpolate`` with
    align_corners=False, except at the border. Raises ``ValueError`` for a factor below 1. FCN (Long et al., 2015),
    sec. 3.3.
    """
    factor = pair(factor, "bilinear_kernel(factor)", 1)[0]
    k = 2 * factor - factor % 2
    line = 1 - abs(np.arange(k) - (k - 1) / 2) / factor
    return np.outer(line, line)


def bilinear_weight(channels: int, factor: int, groups: int = 1) -> Array:
    """A weight for ``conv_transpose2d`` that upsamples every channel by itself: (C, C/groups, k, k), float32.

    ``bilinear_kernel`` stands where input and output channel are the same, all else is 0. So ``groups`` may be anything
    that divides ``channels``: 1 gives the weight that FCN goes on to learn, ``channels`` the smallest, (C, 1, k, k). It
    lies on the device in use. Raises ``ValueError`` if groups does not divide channels. FCN, sec. 4.2.
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
    _case("bilinear, smaller: pixels that nobody meets", (2, 2, 9, 11), size=(3, 2), mode="bilinear"),
    _case("bilinear, smaller, corners aligned", (2, 2, 9, 11), size=(3, 4), mode="bilinear", align_corners=True),
    _case("bilinear, taller and narrower", (1, 2, 3, 9), size=(7, 4), mode="bilinear"),
    _case("bilinear from one pixel", (2, 3, 1, 1), size=(3, 2), mode="bilinear"),
    _case("bilinear to one pixel, corners aligned", (2, 3, 4, 5), size=1, mode="bilinear", align_corners=True),
    _case("bilinear, more than one block", (1, 2, 21, 5), size=(70, 40), mode="bilinear"),
    _case("same size", (2, 2, 3, 4), size=(3, 4), mode="bilinear"),
    _case("empty batch", (0, 2, 3, 4), size=(5, 6), mode="bilinear"),
]
