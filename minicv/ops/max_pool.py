"""Max pooling: the largest value of each window.

    y[n, c, a, b] = max_{i,j} x[n, c, s a + d i - p, s b + d j - p]    over positions inside the picture

Convention: PyTorch's signature and sizes (``windows.py``). The padding is minus infinity: it never wins. The first of
equal values in a window, row by row, takes the gradient; NaN wins over everything.

How it is fast: the maximum is separable, so it is taken along the rows of pixels first, then down the columns. One tap
of all windows would be a slice with a stride, and such slices are slow, so pixels that are a stride apart are first
copied side by side. Next to the maximum runs the number of its tap, one byte per output; from it backward computes
where each gy belongs, and adds all of them there in one call.
"""
from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend import Array, add_at, parallel, xp_of
from .arguments import Pair
from .case import Case
from .conv import last, new_like, pair
from .precision import Wide
from .windows import blocks, grid, pool_size, taps, window_axes


def max_pool2d_loop(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """``max_pool2d`` on a plain array, in loops: every window, tap by tap."""
    (KH, KW), (ph, pw), (dh, dw) = (pair(v, "", 0) for v in (kernel_size, padding, dilation))
    (sh, sw), (N, C, H, W) = pair(stride or kernel_size, "", 1), x.shape
    y = np.full((N, C, pool_size(H, KH, sh, ph, dh, ceil_mode), pool_size(W, KW, sw, pw, dw, ceil_mode)),
                -np.inf, x.dtype)
    indices = np.full(y.shape, -1)
    for n, c, a, b in np.ndindex(y.shape):
        for i, j in np.ndindex(KH, KW):
            h, w = sh * a + dh * i - ph, sw * b + dw * j - pw
            if 0 <= h < H and 0 <= w < W:
                value = x[n, c, h, w]
                if indices[n, c, a, b] < 0 or value > y[n, c, a, b] or np.isnan(value):
                    y[n, c, a, b], indices[n, c, a, b] = value, h * W + w
    return (y, indices) if return_indices else y


def first_tap(start: int, dilation: int) -> int:
    """The first tap t with start + dilation * t >= 0."""
    return max(0, -(start // dilation))


def challenge(best: Array, arg: Array | None, value: Array, number: Array | None) -> None:
    """Where ``value`` is larger than ``best``, or NaN, it takes its place, and ``number``, above all before, arg's."""
    xp = xp_of(best)
    if arg is not None:
        better = value > best
        better |= value != value  # NaN
        xp.maximum(arg, better.view(np.uint8) * number, out=arg)
    xp.maximum(best, value, out=best)


def largest(x: Array, arg: Array | None, axis: int, o: int, k: int, stride: int, padding: int, dilation: int,
            numbers: Array | None) -> tuple[Array, Array | None]:
    """The largest of each of o windows along an axis of x (n, h, w, C), which becomes o long.

    Beside it the number of its tap: ``numbers[t]``, plus that in ``arg`` if x came with one. No numbers, no such array.
    """
    xp, i = xp_of(x), x.shape[axis]

    def at(*span):  # this part of the axis
        return (slice(None),) * axis + (slice(*span),)

    def number(t, *pixels):
        return numbers[t] if arg is None else arg[at(*pixels)] + numbers[t]

    best = xp.empty(x.shape[:axis] + (o,) + x.shape[axis + 1:], x.dtype)
    best_arg = None if numbers is None else xp.empty(best.shape, numbers.dtype)
    # phases[r]: the pixels r, r + stride, r + 2 stride, ... side by side. In them a tap of all windows is dense. The
    # first tap is read once, and rows of pixels are dense enough: those stay where they are.
    phases = {r: xp.ascontiguousarray(x[at(r, None, stride)])
              for r in {(dilation * t - padding) % stride for t in range(1, k)}} if axis == 2 else {}
    for t, (q, windows, pixels) in enumerate(taps(i, o, k, stride, padding, dilation)):
        here = at(windows.start, windows.stop)
        tap = None if numbers is None else number(t, pixels.start, pixels.stop, stride)
        value = x[at(pixels.start, pixels.stop, stride)]
        if q % stride in phases:
            value = phases[q % stride][at(windows.start + q // stride, windows.stop + q // stride)]
        if t > 0:
            challenge(best[here], None if numbers is None else best_arg[here], value, tap)
            continue
        best[here] = value
        if numbers is not None:
            best_arg[here] = tap
        for w in range(windows.start):  # a window that starts in the padding: its first tap is a later one
            first = first_tap(stride * w + q, dilation)
            pixel = stride * w + q + dilation * first
            best[at(w, w + 1)] = x[at(pixel, pixel + 1)]
            if numbers is not None:
                best_arg[at(w, w + 1)] = number(first, pixel, pixel + 1)
    return best, best_arg


class MaxPool2d(Wide):
    """y = the largest value of each window; ``arg``, the number i*KW + j of its tap, is all that backward needs."""

    def forward(ctx, x, *, size, kernel, stride, padding, dilation, return_indices):
        xp, (OH, OW), (KH, KW), (sh, sw), (ph, pw), (dh, dw) = xp_of(x), size, kernel, stride, padding, dilation
        N, C, H, W = x.shape
        y, arg, by_column, by_row = new_like(x, N, C, OH, OW), None, None, None
        if ctx.needs[0] or return_indices:
            numbers = np.arange(KH * KW, dtype=np.min_scalar_type(KH * KW - 1)).reshape(KH, KW)
            by_column, by_row = numbers[0], numbers[:, 0]
            arg = xp.empty((N, OH, OW, C), numbers.dtype)

        def work(block):
            n, begin, end = block
            rows = last(x)[n, max(0, sh * begin - ph):sh * (end - 1) - ph + dh * (KH - 1) + 1]  # (n, h, W, C)
            m, m_arg = largest(rows, None, 2, OW, KW, sw, pw, dw, by_column)  # (n, h, OW, C)
            m, m_arg = largest(m, m_arg, 1, end - begin, KH, sh, max(0, ph - sh * begin), dh, by_row)
            last(y)[n, begin:end] = m  # (n, end - begin, OW, C)
            if arg is not None:
                arg[n, begin:end] = m_arg

        parallel(work, blocks(x, OH))
        ctx.save(arg)
        ctx.windows = (H, W), kernel, stride, padding, dilation
        return (y, positions(arg, *ctx.windows)) if return_indices else y

    def backward(ctx, gy):  # gx[position of the maximum of window (a, b)] += gy[a, b]
        (arg,), xp, (N, C, OH, OW) = ctx.saved, xp_of(gy), gy.shape
        (H, W), (KH, KW), (sh, sw), (ph, pw), (dh, dw) = ctx.windows
        gx = xp.empty((N, H, W, C), gy.dtype)
        parts = blocks(gx, OH, least=(dh * (KH - 1) + sh) // sh)
        whole = all(end - begin == OH for _, begin, end in parts)  # pictures, each of them in one part
        if not whole:
            gx[...] = 0
        n_most = max((n.stop - n.start for n, _, _ in parts), default=0)
        rows_most = max((end - begin for _, begin, end in parts), default=0)
        # Where tap (i, j) of window (a, b) lies in gx is a sum of what depends on the tap and on the window
        of_tap = grid((KH, KW), (dh * W * C, dw * C)).ravel()
        of_window = xp.asarray(grid((n_most, rows_most, OW, C), (H * W * C, sh * W * C, sw * C, 1)))

        def work(block):
            n, begin, end = block
            if whole:
                gx[n] = 0  # only now: so it is still in the cache when the gradients come
            start = ((n.start * H + sh * begin - ph) * W - pw) * C
            place = xp.take(xp.asarray(of_tap + start), arg[n, begin:end])  # (n, rows, OW, C)
            place += of_window[:place.shape[0], :place.shape[1]]
            add_at(gx.reshape(-1), place.reshape(-1), last(gy)[n, begin:end].reshape(-1))

        for half in 0, 1:  # neighbouring parts may share rows of gx: one after the other
            parallel(work, parts[half::2])
        return gx.transpose(0, 3, 1, 2)


def positions(arg: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """h * W + w of the taps ``arg`` (N, OH, OW, C) of the windows: (N, C, OH, OW), int64."""
    xp, W = xp_of(arg), size[1]
    of_tap = grid(kernel, (dilation[0] * W, dilation[1])).ravel()
    of_window = grid(arg.shape[1:3], (stride[0] * W, stride[1])) - padding[0] * W - padding[1]
    return (xp.take(xp.asarray(of_tap), arg) + xp.asarray(of_window)[..., None]).transpose(0, 3, 1, 2)


def max_pool2d(input: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
               dilation: int | Pair = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each window: (N, C, H, W) -> (N, C, OH, OW), sizes as ``pool_size``.

    ``stride`` None is the kernel size. ``return_indices`` also gives the maxima's positions h * W + w in each plane
    (int64; DeconvNet's switches) for ``max_unpool2d``, which for windows that do not overlap is the adjoint of this
    op at fixed positions. Raises ``ValueError`` when a window would lie outside the input or the padding is more than
    half of the kernel. Krizhevsky et al. (2012), sec. 3.4: windows that overlap.
    """
    axes = window_axes("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    for i, o, k, s, p, d in axes:
        if any(d * first_tap(start, d) + start not in range(i) for start in range(-p, min(0, s * o - p), s)):
            raise ValueError(f"max_pool2d: with dilation {d} and padding {p} all {k} taps of a window miss the {i} "
                             "pixels of the input; use less padding")
    _, size, kernel, stride, padding, dilation = zip(*axes, strict=True)
    return MaxPool2d.apply(input, size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
                           return_indices=return_indices)


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
    _max("the whole picture", (2, 3, 4, 5), kernel_size=(4, 5)),
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
