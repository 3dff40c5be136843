"""Pooling.

Convention: PyTorch's signatures and sizes. The padding of max pooling is minus infinity: it never wins. The first of
equal values in a window, row by row, takes the gradient; NaN wins over everything. With ``ceil_mode`` the last windows
may reach past the padding, but a window that would start there is dropped.

How it is fast: tap (i, j) of all windows is a strided slice of x, and such slices are slow. So inputs that are a
stride apart are first copied side by side (a "phase"). Every tap is then a dense slice of one of the s*s phases, and
the maximum and its tap's number run through them in whole arrays. Backward sends gy through the same slices.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..autograd import Function, Tensor
from ..backend import Array, parallel, xp_of
from .case import Case
from .conv import last, new_like, pair
from .shifted import Pair

BLOCK_BYTES = 1 << 20  # of input: the copies and the maximum of a block stay in a core's cache


def pool_size(i: int, k: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Number of windows along an axis: (i + 2p - d(k-1) - 1) / s rounded down, or up with ceil_mode, plus 1."""
    room = i + 2 * padding - dilation * (k - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    o = -(-room // stride) + 1
    return o - 1 if (o - 1) * stride >= i + padding else o  # the last would start in the padding at the end


# ---------------------------------------------------------------------------------------------------------
# By the definition
#   y[n, c, a, b] = max_{i,j} x[n, c, s a + d i - p, s b + d j - p], over positions inside the picture
# ---------------------------------------------------------------------------------------------------------
def max_pool2d_loop(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """``max_pool2d`` on a plain array, in loops: every window, tap by tap."""
    (KH, KW), (ph, pw), (dh, dw) = (pair(v, "", 0) for v in (kernel_size, padding, dilation))
    (sh, sw), (N, C, H, W) = pair(stride or kernel_size, "", 1), x.shape
    y = np.full((N, C, pool_size(H, KH, sh, ph, dh, ceil_mode), pool_size(W, KW, sw, pw, dw, ceil_mode)),
                -np.inf, x.dtype)
    indices = np.full(y.shape, -1)
    for n, c, a, b in np.ndindex(y.shape):
        for i, j in np.ndindex(KH, KW):
            h, v = sh * a + dh * i - ph, sw * b + dw * j - pw
            if 0 <= h < H and 0 <= v < W:
                value = x[n, c, h, v]
                if indices[n, c, a, b] < 0 or value > y[n, c, a, b] or np.isnan(value):
                    y[n, c, a, b], indices[n, c, a, b] = value, h * W + v
    return (y, indices) if return_indices else y


# ---------------------------------------------------------------------------------------------------------
# Windows: their taps, which of them a tap reaches, and blocks of rows for the threads
# ---------------------------------------------------------------------------------------------------------
def window_taps(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Iterator[tuple]:
    """For each tap, row by row: its number; per axis its offset q from s a, the phase q mod s and the shift q // s."""
    for t, (i, j) in enumerate(np.ndindex(*kernel)):
        h, v = dilation[0] * i - padding[0], dilation[1] * j - padding[1]
        yield t, (h, v), (h % stride[0], v % stride[1]), (h // stride[0], v // stride[1])


def reach(offset: int, stride: int, i: int, begin: int, end: int) -> Pair:
    """(begin, end) of the windows a among begin..end whose tap, at stride * a + offset, is inside the i inputs."""
    begin = max(begin, -(offset // stride))
    return begin, max(begin, min(end, (i - 1 - offset) // stride + 1))


def first_taps(i: int, o: int, k: int, stride: int, padding: int, dilation: int) -> list[int]:
    """For each of the o windows along an axis, its first tap inside the i inputs; -1 where there is none."""
    return [next((t for t in range(k) if 0 <= stride * a - padding + dilation * t < i), -1) for a in range(o)]


def row_blocks(x: Array, rows: int) -> list[tuple[slice, int, int]]:
    """(pictures, begin, end): blocks of ``rows`` rows of windows over each picture of x (N, C, H, W)."""
    if type(x) is not np.ndarray:
        return [(slice(None), 0, rows)]
    count = max(1, min(rows, x[:1].nbytes // BLOCK_BYTES))
    return [(slice(n, n + 1), i * rows // count, (i + 1) * rows // count)
            for n in range(len(x)) for i in range(count)]


class MaxPool2d(Function):
    """y = the largest value of each window; ``arg``, its tap's number, is all that backward needs."""

    def forward(ctx, x, *, size, kernel, stride, padding, dilation, first, return_indices):
        xp, X, (sh, sw), (OH, OW) = xp_of(x), last(x), stride, size
        N, H, W, C = X.shape
        ctx.taps, ctx.stride, ctx.size = list(window_taps(kernel, stride, padding, dilation)), stride, (H, W)
        above, below = ctx.taps[0][3][0], ctx.taps[-1][3][0]  # the shifts of the first and the last row of taps
        y, want_arg = new_like(x, N, C, OH, OW), ctx.needs[0] or return_indices
        Y, first = last(y), xp.asarray(first)  # (OH, OW, 1)
        arg = xp.empty(Y.shape if want_arg else (N, OH, 0, 0), first.dtype)

        def work(block):
            n, begin, end = block
            top, phases = max(0, begin + above), {}
            Y[n, begin:end] = -np.inf
            if want_arg:
                arg[n, begin:end] = first[begin:end]
            for t, (h, v), (r, q), (down, right) in ctx.taps:
                if (r, q) not in phases:
                    phases[r, q] = xp.ascontiguousarray(X[n, r + sh * top:max(0, sh * (end + below)):sh, q::sw])
                a, a_end = reach(h, sh, H, begin, end)
                b, b_end = reach(v, sw, W, 0, OW)
                value = phases[r, q][:, a + down - top:a_end + down - top, b + right:b_end + right]
                best = Y[n, a:a_end, b:b_end]
                if want_arg:
                    better = value > best
                    better |= value != value  # NaN
                    tap = arg[n, a:a_end, b:b_end]
                    xp.maximum(tap, better * arg.dtype.type(t), out=tap)
                xp.maximum(best, value, out=best)
        parallel(work, row_blocks(x, OH))
        ctx.save(arg)
        return (y, positions(arg, W, kernel, stride, padding, dilation)) if return_indices else y

    def backward(ctx, gy):  # gx[position of arg[n, c, a, b]] += gy[n, c, a, b]
        (arg,), (H, W), (sh, sw), xp = ctx.saved, ctx.size, ctx.stride, xp_of(gy)
        N, C, OH, OW = gy.shape
        gx = new_like(gy, N, C, H, W)
        bits = last(gy).view(f"i{gy.itemsize}")  # bits * True or False: exact, also where gy is infinite

        def work(block):
            n, begin, end = block  # of rows of the phases
            for phase in np.ndindex(sh, sw):
                target = last(gx)[n, phase[0] + sh * begin:sh * end:sh, phase[1]::sw]
                g = xp.zeros(target.shape, gy.dtype)
                for t, (h, v), its_phase, (down, right) in ctx.taps:
                    if its_phase == phase:
                        a, a_end = reach(h, sh, H, max(0, begin - down), min(OH, end - down))
                        b, b_end = reach(v, sw, W, 0, OW)
                        chosen = bits[n, a:a_end, b:b_end] * (arg[n, a:a_end, b:b_end] == t)
                        part = g[:, a + down - begin:a_end + down - begin, b + right:b_end + right]
                        part += chosen.view(gy.dtype)
                target[...] = g
        parallel(work, row_blocks(gx, -(-H // sh)))
        return gx


def positions(arg: Array, W: int, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """The position h * W + w in the plane of tap ``arg`` (N, OH, OW, C) of each window: (N, C, OH, OW), int64."""
    xp, (_, OH, OW, _) = xp_of(arg), arg.shape
    start = (stride[0] * np.arange(OH)[:, None] - padding[0]) * W + stride[1] * np.arange(OW) - padding[1]  # (OH, OW)
    tap = dilation[0] * np.arange(kernel[0])[:, None] * W + dilation[1] * np.arange(kernel[1])  # (KH, KW)
    return (xp.asarray(tap.ravel())[arg] + xp.asarray(start[:, :, None])).transpose(0, 3, 1, 2)


def max_pool2d(input: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
               dilation: int | Pair = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each window: (N, C, H, W) -> (N, C, OH, OW), sizes as ``pool_size``.

    ``stride`` None is the kernel size. ``return_indices`` also gives int64 positions h * W + w in each plane, of the
    maxima (the "switches" of DeconvNet), for ``max_unpool2d``. Its adjoint, indices fixed, is ``max_unpool2d`` where
    no windows overlap. Raises ``ValueError`` when a window would lie outside the input or the padding is more than
    half of the kernel. Krizhevsky et al. (2012), sec. 3.4: overlapping windows.
    """
    size, kernel, stride, padding = windows("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    dilation = pair(dilation, "max_pool2d(dilation)", 1)
    rows, columns = map(first_taps, input.shape[2:], size, kernel, stride, padding, dilation)
    if min(rows) < 0 or min(columns) < 0:
        raise ValueError(f"max_pool2d: with dilation {dilation} and padding {padding} all taps of a window miss the "
                         f"{input.shape[2]}x{input.shape[3]} input; use less padding")
    first = np.add.outer(np.multiply(rows, kernel[1]), columns)[:, :, None]  # (OH, OW, 1)
    first = first.astype(np.min_scalar_type(kernel[0] * kernel[1] - 1))
    return MaxPool2d.apply(input, size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
                           first=first, return_indices=return_indices)


def windows(name: str, input: Tensor, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair,
            dilation: int | Pair, ceil_mode: bool) -> tuple[Pair, Pair, Pair, Pair]:
    """Checked (output size, kernel, stride, padding) of a pooling."""
    if input.ndim != 4 or input.dtype.kind != "f":
        raise ValueError(f"{name}: input must be (N, C, H, W), floats; got {input.shape}, {input.dtype}")
    kernel = pair(kernel_size, f"{name}(kernel_size)", 1)
    stride = kernel if stride is None else pair(stride, f"{name}(stride)", 1)
    padding, dilation = pair(padding, f"{name}(padding)", 0), pair(dilation, f"{name}(dilation)", 1)
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"{name}(padding={padding}) is more than half of the kernel, {kernel[0]}x{kernel[1]}; use "
                         "less padding, or ops.pad before pooling")
    size = tuple(pool_size(*axis, ceil_mode) for axis in zip(input.shape[2:], kernel, stride, padding, dilation,
                                                             strict=True))
    if min(size) < 1 or 0 in input.shape[2:]:
        raise ValueError(f"{name}: the input {input.shape[2]}x{input.shape[3]} with padding {padding} is smaller "
                         f"than the kernel, {extent[0]}x{extent[1]}")
    return size, kernel, stride, padding


def _max(label, *inputs, **options):
    return Case(max_pool2d, label, *inputs, loop=max_pool2d_loop, **options)


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
    _max("the whole picture", (2, 3, 4, 5), kernel_size=(4, 5)),
    _max("more than 256 taps", (1, 1, 17, 18), kernel_size=17, stride=1),
    _max("ties", TIES, kernel_size=2),
    _max("overlapping ties", TIES, kernel_size=3, stride=1, padding=1),
    _max("empty batch", (0, 2, 4, 4), kernel_size=2),
    _max("larger than one block", (2, 16, 160, 160), kernel_size=3, stride=2, padding=1),
]
