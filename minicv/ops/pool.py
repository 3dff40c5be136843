"""Pooling: maximum and average, over windows of a given size or over a given number of bins.

Convention: PyTorch's signatures and sizes. The padding of max pooling is minus infinity: it never wins. The first of
equal values in a window, row by row, takes the gradient; NaN wins over everything. With ``ceil_mode`` the last windows
may reach past the padding, but a window that would start there is dropped. Adaptive pooling divides n pixels into m
bins, bin i from floor(i n / m) up to, without it, ceil((i+1) n / m): neighbours may share a pixel. That is also how
SPPNet divides a map (He et al., 2014, app. A).

How it is fast: the maximum is separable, so it is taken along the rows of pixels first, then down the columns. One tap
of all windows would be a slice with a stride, and such slices are slow, so pixels that are a stride apart are first
copied side by side. Next to the maximum runs the number of its tap, one byte per output; from it backward computes
where each gy belongs, and adds all of them there in one call.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..autograd import Function, Tensor
from ..backend import Array, add_at, parallel, xp_of
from .case import Case
from .conv import last, new_like, pair
from .shape import concatenate, flatten
from .shifted import Pair

BLOCK_BYTES = 1 << 20  # of input: the copies and the maximum of a block stay in a core's cache


def pool_size(i: int, k: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Number of windows along an axis: (i + 2p - d(k-1) - 1) / s rounded down, or up with ceil_mode, plus 1."""
    room = i + 2 * padding - dilation * (k - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    o = -(-room // stride) + 1
    return o - 1 if (o - 1) * stride >= i + padding else o  # the last would start in the padding at the end


def bins(i: int, o: int) -> list[Pair]:
    """(begin, end) of each of o bins over i pixels: floor(a i / o) and ceil((a+1) i / o)."""
    return [(a * i // o, -(-(a + 1) * i // o)) for a in range(o)]


# ---------------------------------------------------------------------------------------------------------
# By the definition
#   max:  y[n, c, a, b] = max_{i,j} x[n, c, s a + d i - p, s b + d j - p], over positions inside the picture
#   avg:  y[n, c, a, b] = sum_{i,j} x[n, c, s a + i - p, s b + j - p] / (how many; with or without padding)
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
            h, w = sh * a + dh * i - ph, sw * b + dw * j - pw
            if 0 <= h < H and 0 <= w < W:
                value = x[n, c, h, w]
                if indices[n, c, a, b] < 0 or value > y[n, c, a, b] or np.isnan(value):
                    y[n, c, a, b], indices[n, c, a, b] = value, h * W + w
    return (y, indices) if return_indices else y


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


# ---------------------------------------------------------------------------------------------------------
# Max pooling, one axis at a time
# ---------------------------------------------------------------------------------------------------------
def taps(i: int, o: int, k: int, stride: int, padding: int, dilation: int = 1) -> Iterator[tuple[int, slice, slice]]:
    """(q, windows, pixels) of each tap, q = d t - p: the span of the o windows a for which stride * a + q is one of the
    i pixels, and those pixels."""
    for t in range(k):
        q = dilation * t - padding
        a = min(o, max(0, -(q // stride)))
        end = max(a, min(o, (i - 1 - q) // stride + 1))
        yield q, slice(a, end), slice(max(0, stride * a + q), max(0, stride * (end - 1) + q + 1), stride)


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
    # phases[r]: the pixels r, r + stride, r + 2 stride, ... side by side. In them a tap of all windows is dense
    phases = {r: xp.ascontiguousarray(x[at(r, None, stride)])
              for r in {(dilation * t - padding) % stride for t in range(k)}}
    for t, (q, windows, pixels) in enumerate(taps(i, o, k, stride, padding, dilation)):
        here = at(windows.start, windows.stop)
        value = phases[q % stride][at(windows.start + q // stride, windows.stop + q // stride)]
        tap = None if numbers is None else number(t, pixels.start, pixels.stop, stride)
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


def blocks(x: Array, rows: int = 1, least: int = 1) -> list[tuple[slice, int, int]]:
    """(pictures, begin, end): the ``rows`` rows of windows over N pictures x, dealt into blocks of BLOCK_BYTES.

    A block is several small pictures, or a part, of at least ``least`` rows, of a large one.
    """
    N, size = len(x), max(1, x[:1].nbytes)
    if type(x) is not np.ndarray:
        return [(slice(0, N), 0, rows)]
    step, count = max(1, BLOCK_BYTES // size), max(1, min(rows // least, size // BLOCK_BYTES))
    return [(slice(n, min(n + step, N)), i * rows // count, (i + 1) * rows // count)
            for n in range(0, N, step) for i in range(count)]


def grid(shape: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """The sum over k of strides[k] * index[k], for every index into an array of that shape."""
    return sum(np.ix_(*(np.arange(n) * s for n, s in zip(shape, strides, strict=True))))


class MaxPool2d(Function):
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
        gx = xp.zeros((N, H, W, C), gy.dtype)
        parts = blocks(gx, OH, least=(dh * (KH - 1) + sh) // sh)
        n_most = max((n.stop - n.start for n, _, _ in parts), default=0)
        rows_most = max((end - begin for _, begin, end in parts), default=0)
        # Where tap (i, j) of window (a, b) lies in gx is a sum of what depends on the tap and on the window
        of_tap = grid((KH, KW), (dh * W * C, dw * C)).ravel()
        of_window = xp.asarray(grid((n_most, rows_most, OW, C), (H * W * C, sh * W * C, sw * C, 1)))

        def work(block):
            n, begin, end = block
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


def bin_pixels(i: int, o: int) -> np.ndarray:
    """(k, o): pixel t of each of o bins over i pixels. Shorter bins repeat their last pixel."""
    k = max(end - begin for begin, end in bins(i, o))
    return np.array([[min(begin + t, end - 1) for begin, end in bins(i, o)] for t in range(k)])


class AdaptiveMaxPool2d(Function):
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


def plane_places(position: Array, size: int) -> Array:
    """Positions in planes of ``size`` pixels, (N, h, w, C), as flat ones in an array (N, size, C)."""
    xp, (N, _, _, C) = xp_of(position), position.shape
    return position * C + xp.asarray(grid((N, 1, 1, C), (size * C, 0, 0, 1)))


def scatter(position: Array, value: Array, size: int) -> Array:
    """Zeros (N, size, C) with each value (N, h, w, C) added at its position in its plane."""
    out = xp_of(value).zeros((value.shape[0], size, value.shape[3]), value.dtype)
    add_at(out.reshape(-1), plane_places(position, size).reshape(-1), value.reshape(-1))
    return out


# ---------------------------------------------------------------------------------------------------------
# Average pooling: a sum over windows, A = A_rows A_columns, divided
# ---------------------------------------------------------------------------------------------------------
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


class AvgPool2d(Function):
    """y = A x / divisor"""

    def forward(ctx, x, *, size, kernel, stride, padding, divisor):
        ctx.x_shape, ctx.axes = x.shape, list(zip(size, x.shape[2:], kernel, stride, padding, strict=True))
        ctx.divisor, y = xp_of(x).asarray(divisor, x.dtype), new_like(x, *x.shape[:2], *size)  # (OH, OW, 1)
        (OH, _, *rows), (OW, _, *columns) = ctx.axes

        def work(block):
            sums = window_sum(window_sum(last(x)[block[0]], 2, OW, *columns), 1, OH, *rows)
            last(y)[block[0]] = sums / ctx.divisor

        parallel(work, blocks(x))
        return y

    def backward(ctx, gy):  # gx = A' (gy / divisor)
        gx = new_like(gy, *ctx.x_shape)
        (_, H, *rows), (_, W, *columns) = ctx.axes

        def work(block):
            g = last(gy)[block[0]] / ctx.divisor
            last(gx)[block[0]] = window_spread(window_spread(g, 1, H, *rows), 2, W, *columns)

        parallel(work, blocks(gx))
        return gx


class AdaptiveAvgPool2d(Function):
    """y = the mean of each bin: sums of rows, then of columns, divided by how many"""

    def forward(ctx, x, *, size):
        xp, (N, C, H, W), X = xp_of(x), x.shape, last(x)
        ctx.x_shape, ctx.bins = x.shape, (bins(H, size[0]), bins(W, size[1]))
        y = new_like(x, N, C, *size)

        def work(block):
            n = block[0]
            for a, (h, h_end) in enumerate(ctx.bins[0]):
                row = X[n, h:h_end].sum(axis=1)  # (n, W, C)
                for b, (w, w_end) in enumerate(ctx.bins[1]):
                    xp.multiply(row[:, w:w_end].sum(axis=1), 1 / ((h_end - h) * (w_end - w)), out=last(y)[n, a, b])

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


# ---------------------------------------------------------------------------------------------------------
# The operations
# ---------------------------------------------------------------------------------------------------------
def max_pool2d(input: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
               dilation: int | Pair = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each window: (N, C, H, W) -> (N, C, OH, OW), sizes as ``pool_size``.

    ``stride`` None is the kernel size. ``return_indices`` also gives the maxima's positions h * W + w in each plane
    (int64; DeconvNet's switches) for ``max_unpool2d``, which for windows that do not overlap is the adjoint of this
    op at fixed positions. Raises ``ValueError`` when a window would lie outside the input or the padding is more than
    half of the kernel. Krizhevsky et al. (2012), sec. 3.4: windows that overlap.
    """
    axes = windows("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    for i, o, k, s, p, d in axes:
        if any(d * first_tap(start, d) + start not in range(i) for start in range(-p, min(0, s * o - p), s)):
            raise ValueError(f"max_pool2d: with dilation {d} and padding {p} all {k} taps of a window miss the {i} "
                             "pixels of the input; use less padding")
    _, size, kernel, stride, padding, dilation = zip(*axes, strict=True)
    return MaxPool2d.apply(input, size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
                           return_indices=return_indices)


def avg_pool2d(input: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW), sizes as ``pool_size``.

    The sum is divided by ``divisor_override``, or else by the number of pixels, of padding too if
    ``count_include_pad``. Where windows of k x k do not overlap, ``unpool_nearest`` is k^2 times the adjoint.
    Raises ``ValueError`` as ``max_pool2d`` does, and for a divisor of 0.
    """
    axes = windows("avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode)
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


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The mean of each of OH x OW bins: (N, C, H, W) -> (N, C, OH, OW), for any H and W.

    ``output_size`` is a number for both or (OH, OW); None keeps that side. Raises ``ValueError`` for an empty map.
    PSPNet (Zhao et al., 2017), sec. 3.2: 1, 2, 3 and 6.
    """
    return AdaptiveAvgPool2d.apply(input, size=adaptive_size(output_size, input.shape, "adaptive_avg_pool2d"))


def adaptive_max_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None,
                        return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each of OH x OW bins: (N, C, H, W) -> (N, C, OH, OW), for any H and W.

    ``output_size`` and errors as in ``adaptive_avg_pool2d``, ``return_indices`` and ties as in ``max_pool2d``.
    """
    return AdaptiveMaxPool2d.apply(input, size=adaptive_size(output_size, input.shape, "adaptive_max_pool2d"),
                                   return_indices=return_indices)


def spatial_pyramid_pool(input: Tensor, levels: Sequence[int], mode: str = "max") -> Tensor:
    """A vector of fixed length from a map of any size: (N, C, H, W) -> (N, C * bins), bins the sum of n^2.

    Level n pools n x n bins, by maximum or, with ``mode`` "avg", by mean. In the vector the levels follow each other as
    given; in each stand all bins of the first channel, row by row, then those of the next. Levels (1, 2, 4) give 21
    bins, (1, 2, 3, 6) give 50. Raises ``ValueError`` for another mode or a level below 1.

    SPPNet (He et al., 2014), sec. 2.3: a window of ceil(a/n) with stride floor(a/n). Where a mod n > 1 this would leave
    out the last pixels; the bins here are those of appendix A, the same where a mod n <= 1 and complete everywhere.
    """
    pool = {"max": adaptive_max_pool2d, "avg": adaptive_avg_pool2d}.get(mode)
    if pool is None:
        raise ValueError(f"spatial_pyramid_pool(mode={mode!r}): 'max' or 'avg'")
    if not levels or any(not isinstance(n, int | np.integer) or n < 1 for n in levels):
        raise ValueError(f"spatial_pyramid_pool(levels={levels!r}) must be integers of at least 1, such as (1, 2, 4)")
    return concatenate([flatten(pool(input, n), 1) for n in levels], 1)


def windows(name: str, input: Tensor, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair,
            dilation: int | Pair, ceil_mode: bool) -> list[tuple[int, ...]]:
    """For height and width (i, o, k, stride, padding, dilation), checked; o as ``pool_size``."""
    check_map(name, input)
    kernel = pair(kernel_size, f"{name}(kernel_size)", 1)
    stride = kernel if stride is None else pair(stride, f"{name}(stride)", 1)
    padding, dilation = pair(padding, f"{name}(padding)", 0), pair(dilation, f"{name}(dilation)", 1)
    axes = []
    for i, k, s, p, d in zip(input.shape[2:], kernel, stride, padding, dilation, strict=True):
        if 2 * p > k:
            raise ValueError(f"{name}(padding={padding}) is more than half of the kernel, {kernel[0]}x{kernel[1]}; use "
                             "less padding, or pad() before pooling")
        o = pool_size(i, k, s, p, d, ceil_mode)
        if o < 1:
            raise ValueError(f"{name}: no window of {d * (k - 1) + 1} pixels fits into {i} and a padding of {p}; use a "
                             "smaller kernel_size or dilation")
        axes.append((i, o, k, s, p, d))
    return axes


def adaptive_size(output_size: int | Sequence[int | None] | None, shape: tuple[int, ...], name: str = "") -> Pair:
    """(OH, OW), None replaced by the input's size; ValueError for what cannot be pooled."""
    if len(shape) != 4 or 0 in shape[2:]:
        raise ValueError(f"{name}: input must be (N, C, H, W) with at least one pixel, got shape {shape}")
    both = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(both) != 2:
        raise ValueError(f"{name}(output_size={output_size!r}) must be one size or two, (OH, OW)")
    return pair([i if o is None else o for i, o in zip(shape[2:], both, strict=True)], f"{name}(output_size)", 1)


def check_map(name: str, input: Tensor) -> None:
    """ValueError unless it is (N, C, H, W), floats, with at least one pixel."""
    if input.ndim != 4 or input.dtype.kind != "f" or 0 in input.shape[2:]:
        raise ValueError(f"{name}: input must be floats (N, C, H, W) with at least one pixel, got {input.dtype} of "
                         f"shape {input.shape}")


def _max(label, *inputs, **options):
    return Case(max_pool2d, label, *inputs, loop=max_pool2d_loop, **options)


def _avg(label, *inputs, **options):
    return Case(avg_pool2d, label, *inputs, loop=avg_pool2d_loop, **options)


def _adaptive(op: Callable, reduce: Callable, label, *inputs, **options):
    return Case(op, label, *inputs, loop=lambda x, output_size: adaptive_loop(x, output_size, reduce), **options)


def _pyramid(label, *inputs, **options):
    return Case(spatial_pyramid_pool, label, *inputs, loop=spatial_pyramid_pool_loop, **options)


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
    _avg("2x2", (2, 3, 6, 4), kernel_size=2),
    _avg("overlapping 3x3, stride 2, padding 1", (2, 2, 7, 8), kernel_size=3, stride=2, padding=1),
    _avg("padding does not count", (2, 2, 7, 8), kernel_size=3, stride=2, padding=1, count_include_pad=False),
    _avg("ceil_mode", (1, 2, 6, 7), kernel_size=3, stride=2, padding=1, ceil_mode=True),
    _avg("unequal everything, ceil_mode, padding does not count", (2, 2, 9, 11), kernel_size=(2, 3), stride=(3, 2),
         padding=(0, 1), ceil_mode=True, count_include_pad=False),
    _avg("stride larger than the kernel", (2, 2, 8, 9), kernel_size=2, stride=3),
    _avg("divisor_override", (1, 2, 5, 6), kernel_size=(2, 3), divisor_override=5),
    _avg("empty batch", (0, 2, 4, 4), kernel_size=2),
    _adaptive(adaptive_avg_pool2d, np.mean, "global", (2, 3, 4, 5), output_size=1),
    _adaptive(adaptive_avg_pool2d, np.mean, "bins that share pixels", (2, 2, 7, 10), output_size=(3, 4)),
    _adaptive(adaptive_avg_pool2d, np.mean, "more bins than pixels", (1, 2, 3, 2), output_size=5),
    _adaptive(adaptive_avg_pool2d, np.mean, "one side kept", (1, 2, 3, 7), output_size=(None, 2)),
    _adaptive(adaptive_avg_pool2d, np.mean, "empty batch", (0, 2, 4, 4), output_size=2),
    _adaptive(adaptive_max_pool2d, np.max, "global", (2, 3, 4, 5), output_size=1),
    _adaptive(adaptive_max_pool2d, np.max, "bins that share pixels", (2, 2, 7, 10), output_size=(3, 4)),
    _adaptive(adaptive_max_pool2d, np.max, "more bins than pixels", (1, 2, 3, 2), output_size=5),
    _adaptive(adaptive_max_pool2d, np.max, "ties", TIES, output_size=3),
    _pyramid("13x13, the 21 bins of levels 1, 2, 4", (2, 2, 13, 13), levels=(1, 2, 4)),
    _pyramid("any size, the 50 bins of levels 1, 2, 3, 6", (1, 2, 10, 7), levels=(1, 2, 3, 6)),
    _pyramid("average", (2, 3, 5, 4), levels=(1, 3), mode="avg"),
]
