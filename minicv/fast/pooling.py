"""Pooling, quickly.

Max pooling is separable: the maximum along each row first, then down the columns, reads k + k numbers per window
instead of k k. One tap of all windows is a slice with a stride, and such slices are slow. So pixels that are a stride
apart are first copied side by side, phase by phase:

    pixels 0 1 2 3 4 5 6 7, stride 2:    phase 0: 0 2 4 6    tap 0 of all windows: 0 2 4 6    (phase 0)
                                         phase 1: 1 3 5 7    tap 1:                1 3 5 7    (phase 1)
                                                             tap 2:                2 4 6 .    (phase 0, one further)

Beside each maximum stands the number of its tap, one byte per output. From it backward computes where each gy belongs,
and adds all of them there in one call.

Average pooling and the adaptive poolings are separable, too: rows first, then columns.

Measured: max pooling 5.4 (2x2) and 7.7 times (3x3, stride 2) as fast as tap by tap, average pooling 3.6 times, adaptive
pooling to 6x6 1.8 times (``python -m tests.benchmarks.storeys``).
"""
from __future__ import annotations

import numpy as np

from ..backend import Array, add_at, parallel_map, sum_rows, without_overflow, xp_of
from ..ops.adaptive_pool import AdaptiveAvgPool2d, AdaptiveMaxPool2d, adaptive_bins
from ..ops.arguments import Pair
from ..ops.avg_pool import AvgPool2d
from ..ops.conv import Windows
from ..ops.max_pool import MaxPool2d, first_tap
from .layout import empty_nhwc, nhwc_view
from .windows import axis_taps, flat_offsets, map_blocks, scatter_add


def update_argmax(best: Array, arg: Array | None, value: Array, number: Array | None) -> None:
    """Where value > best or NaN: best = value, arg = number. Numbers increase from call to call. In place."""
    xp = xp_of(best)
    if arg is not None:
        better = value > best
        better |= value != value  # NaN
        xp.maximum(arg, better.view(np.uint8) * number, out=arg)
    xp.maximum(best, value, out=best)


def window_max(x: Array, axis: int, out_size: int, window: tuple[int, int, int, int], *, arg: Array | None = None,
               numbers: Array | None = None) -> tuple[Array, Array | None]:
    """The largest value of each window along an axis of x (n, h, w, C), and the number of its tap.

    The axis gets the length ``out_size``. Tap t has the number ``numbers[t]``, plus that in ``arg``, which is of x's
    shape, if given. Without ``numbers`` the second result is None.
    """
    xp, (k, stride, padding, dilation) = xp_of(x), window

    def at(*span):  # this part of the axis
        return (slice(None),) * axis + (slice(*span),)

    def number(t, *pixels):
        return numbers[t] if arg is None else arg[at(*pixels)] + numbers[t]

    best = xp.empty(x.shape[:axis] + (out_size,) + x.shape[axis + 1:], x.dtype)
    best_arg = None if numbers is None else xp.empty(best.shape, numbers.dtype)
    # phases[r]: the pixels r, r + stride, r + 2 stride, ... side by side. In them a tap of all windows is dense. The
    # first tap is read only once, and rows of pixels are dense enough: those stay where they are.
    phases = {r: xp.ascontiguousarray(x[at(r, None, stride)])
              for r in {(dilation * t - padding) % stride for t in range(1, k)}} if axis == 2 else {}
    for t, (q, windows, pixels) in enumerate(axis_taps(x.shape[axis], out_size, window)):
        here = at(windows.start, windows.stop)
        tap = None if numbers is None else number(t, pixels.start, pixels.stop, stride)
        value = x[at(pixels.start, pixels.stop, stride)]
        if q % stride in phases:
            value = phases[q % stride][at(windows.start + q // stride, windows.stop + q // stride)]
        if t > 0:
            update_argmax(best[here], None if best_arg is None else best_arg[here], value, tap)
            continue
        best[here] = value
        if best_arg is not None:
            best_arg[here] = tap
        for w in range(windows.start):  # a window that starts in the padding: its first tap is a later one
            first = first_tap(stride * w + q, dilation)
            pixel = stride * w + q + dilation * first
            best[at(w, w + 1)] = x[at(pixel, pixel + 1)]
            if best_arg is not None:
                best_arg[at(w, w + 1)] = number(first, pixel, pixel + 1)
    return best, best_arg


class FastMaxPool2d(MaxPool2d):
    """y = the largest value of each window; ``arg``, the number i*KW + j of its tap, is all that backward needs"""

    def forward(ctx, x, *, windows, out_size, return_indices):
        (OH, OW), (KH, KW), (rows, columns) = out_size, windows.kernel, zip(*windows, strict=True)
        (_, sh, ph, dh), N, C = rows, x.shape[0], x.shape[1]
        y, arg, by_column, by_row = empty_nhwc(x, N, C, OH, OW), None, None, None
        if ctx.needs_input_grad[0] or return_indices:
            numbers = np.arange(KH * KW, dtype=np.min_scalar_type(KH * KW - 1)).reshape(KH, KW)
            by_column, by_row = numbers[0], numbers[:, 0]
            arg = xp_of(x).empty((N, OH, OW, C), numbers.dtype)

        def work(block):
            n, begin, end = block
            pixels = nhwc_view(x)[n, max(0, sh * begin - ph):sh * (end - 1) - ph + dh * (KH - 1) + 1]  # (n, h, W, C)
            m, m_arg = window_max(pixels, 2, OW, columns, numbers=by_column)  # (n, h, OW, C)
            here = KH, sh, max(0, ph - sh * begin), dh  # the padding above this block
            m, m_arg = window_max(m, 1, end - begin, here, arg=m_arg, numbers=by_row)
            nhwc_view(y)[n, begin:end] = m  # (n, end - begin, OW, C)
            if arg is not None:
                arg[n, begin:end] = m_arg

        parallel_map(work, map_blocks(x, OH))
        ctx.save(arg)
        ctx.in_size, ctx.windows = x.shape[2:], windows
        return (y, argmax_positions(arg, ctx.in_size, windows)) if return_indices else y

    def backward(ctx, gy):  # gx[position of the maximum of window (a, b)] += gy[a, b]
        (arg,), xp, (N, C, OH, OW) = ctx.saved, xp_of(gy), gy.shape
        (H, W), ((KH, KW), (sh, sw), (ph, pw), (dh, dw)) = ctx.in_size, ctx.windows
        gx = xp.empty((N, H, W, C), gy.dtype)
        parts = map_blocks(gx, OH, least=(dh * (KH - 1) + sh) // sh)
        whole = all(end - begin == OH for _, begin, end in parts)  # every image lies in one part
        if not whole:
            gx[...] = 0
        n_most = max((n.stop - n.start for n, _, _ in parts), default=0)
        rows_most = max((end - begin for _, begin, end in parts), default=0)
        # The position of tap (i, j) of window (a, b) in gx is the sum of one for the tap and one for the window.
        of_tap = flat_offsets((KH, KW), (dh * W * C, dw * C)).ravel()
        of_window = xp.asarray(flat_offsets((n_most, rows_most, OW, C), (H * W * C, sh * W * C, sw * C, 1)))

        def work(block):
            n, begin, end = block
            if whole:
                gx[n] = 0  # only now, so that it is still in the cache when the gradients come
            start = ((n.start * H + sh * begin - ph) * W - pw) * C
            place = xp.take(xp.asarray(of_tap + start), arg[n, begin:end])  # (n, rows, OW, C)
            place += of_window[:place.shape[0], :place.shape[1]]
            add_at(gx.reshape(-1), place.reshape(-1), nhwc_view(gy)[n, begin:end].reshape(-1))

        for half in 0, 1:  # neighboring parts may share rows of gx: never at the same time
            parallel_map(work, parts[half::2])
        return gx.transpose(0, 3, 1, 2)


def argmax_positions(arg: Array, in_size: Pair, windows: Windows) -> Array:
    """The positions h * W + w of the taps ``arg`` (N, OH, OW, C): (N, C, OH, OW), int64."""
    xp, W, (kernel, stride, padding, dilation) = xp_of(arg), in_size[1], windows
    of_tap = flat_offsets(kernel, (dilation[0] * W, dilation[1])).ravel()
    of_window = flat_offsets(arg.shape[1:3], (stride[0] * W, stride[1])) - padding[0] * W - padding[1]
    return (xp.take(xp.asarray(of_tap), arg) + xp.asarray(of_window)[..., None]).transpose(0, 3, 1, 2)


def window_sum(x: Array, axis: int, out_size: int, window: tuple[int, int, int, int]) -> Array:
    """A x: the sum of each window along an axis, which gets the length ``out_size``."""
    y, before = xp_of(x).zeros(x.shape[:axis] + (out_size,) + x.shape[axis + 1:], x.dtype), (slice(None),) * axis
    for _, windows, pixels in axis_taps(x.shape[axis], out_size, window):
        y[(*before, windows)] += x[(*before, pixels)]
    return y


def window_spread(y: Array, axis: int, in_size: int, window: tuple[int, int, int, int]) -> Array:
    """A' y, the adjoint of ``window_sum``: each number goes to all pixels of its window; the axis gets ``in_size``."""
    x, before = xp_of(y).zeros(y.shape[:axis] + (in_size,) + y.shape[axis + 1:], y.dtype), (slice(None),) * axis
    for _, windows, pixels in axis_taps(in_size, y.shape[axis], window):
        x[(*before, pixels)] += y[(*before, windows)]
    return x


class FastAvgPool2d(AvgPool2d):
    """y = A x / divisor, where A, the sum over windows, is that over rows and then over columns"""

    def forward(ctx, x, *, windows, out_size, divisor):
        ctx.x_shape, (ctx.rows, ctx.columns) = x.shape, zip(*windows, strict=True)
        ctx.divisor, y = xp_of(x).asarray(divisor, x.dtype)[..., None], empty_nhwc(x, *x.shape[:2], *out_size)

        def means(x):  # rows first: their vectors are long, and half is left for the columns, whose vectors are short
            return window_sum(window_sum(x, 1, out_size[0], ctx.rows), 2, out_size[1], ctx.columns) / ctx.divisor

        def work(block):
            nhwc_view(y)[block[0]] = without_overflow(means, nhwc_view(x)[block[0]])

        parallel_map(work, map_blocks(x))
        return y

    def backward(ctx, gy):  # gx = A' (gy / divisor)
        gx, (H, W) = empty_nhwc(gy, *ctx.x_shape), ctx.x_shape[2:]

        def work(block):
            g = nhwc_view(gy)[block[0]] / ctx.divisor
            nhwc_view(gx)[block[0]] = window_spread(window_spread(g, 2, W, ctx.columns), 1, H, ctx.rows)

        parallel_map(work, map_blocks(gx))
        return gx


def bin_pixels(i: int, o: int) -> np.ndarray:
    """(k, o): the pixel t of each of o bins over i pixels. Shorter bins repeat their last pixel."""
    k = max(end - begin for begin, end in adaptive_bins(i, o))
    return np.array([[min(begin + t, end - 1) for begin, end in adaptive_bins(i, o)] for t in range(k)])


class FastAdaptiveMaxPool2d(AdaptiveMaxPool2d):
    """y = the largest value of each bin; its position h * W + w is all that backward needs"""

    def forward(ctx, x, *, out_size, return_indices):
        xp, (N, C, H, W), (OH, OW) = xp_of(x), x.shape, out_size
        rows, columns = bin_pixels(H, OH), bin_pixels(W, OW)  # (KH, OH), (KW, OW)
        KH, KW = len(rows), len(columns)
        numbers = np.arange(KH * KW, dtype=np.min_scalar_type(KH * KW - 1)).reshape(KH, KW)
        y, arg = empty_nhwc(x, N, C, OH, OW), xp.empty((N, OH, OW, C), numbers.dtype)

        def max_along(axis, pixels, x, arg, numbers):
            for t, some in enumerate(xp.asarray(pixels)):
                value = xp.take(x, some, axis)
                number = numbers[t] if arg is None else xp.take(arg, some, axis) + numbers[t]
                if t == 0:
                    best, best_arg = value, xp.zeros(value.shape, numbers.dtype) + number
                else:
                    update_argmax(best, best_arg, value, number)
            return best, best_arg

        def work(block):
            n = block[0]
            m = max_along(2, columns, xp.ascontiguousarray(nhwc_view(x)[n]), None, numbers[0])  # (n, H, OW, C)
            nhwc_view(y)[n], arg[n] = max_along(1, rows, *m, numbers[:, 0])

        parallel_map(work, map_blocks(x))
        i, j = arg.astype(np.int64) // KW, arg.astype(np.int64) % KW
        position = xp.take(xp.asarray(rows * W), i * OH + xp.arange(OH)[:, None, None])
        position += xp.take(xp.asarray(columns), j * OW + xp.arange(OW)[:, None])
        ctx.save(position)
        ctx.x_shape = x.shape
        return (y, position.transpose(0, 3, 1, 2)) if return_indices else y

    def backward(ctx, gy):  # gx[position of the maximum of bin (a, b)] += gy[a, b]
        (position,), (N, C, H, W) = ctx.saved, ctx.x_shape
        return scatter_add(position, nhwc_view(gy), H * W).reshape(N, H, W, C).transpose(0, 3, 1, 2)


class FastAdaptiveAvgPool2d(AdaptiveAvgPool2d):
    """y = the mean of each bin: sum rows, then columns, and divide by the number of pixels"""

    def forward(ctx, x, *, out_size):
        xp, (N, C, H, W) = xp_of(x), x.shape
        ctx.x_shape, ctx.bins = x.shape, (adaptive_bins(H, out_size[0]), adaptive_bins(W, out_size[1]))
        y = empty_nhwc(x, N, C, *out_size)

        def means(x):  # of images (n, H, W, C)
            y = xp.empty((len(x), *out_size, C), x.dtype)
            for a, (h, h_end) in enumerate(ctx.bins[0]):
                row = sum_rows(x[:, h:h_end].reshape(len(x), h_end - h, W * C)).reshape(-1, W, C)
                for b, (w, w_end) in enumerate(ctx.bins[1]):
                    xp.multiply(sum_rows(row[:, w:w_end]), 1 / ((h_end - h) * (w_end - w)), out=y[:, a, b])
            return y

        def work(block):
            nhwc_view(y)[block[0]] = without_overflow(means, nhwc_view(x)[block[0]])

        parallel_map(work, map_blocks(x))
        return y

    def backward(ctx, gy):  # each gy, divided, goes to all pixels of its bin
        gx = xp_of(gy).zeros(ctx.x_shape[:1] + ctx.x_shape[2:] + ctx.x_shape[1:2], gy.dtype)  # (N, H, W, C)

        def work(block):
            n = block[0]
            for a, (h, h_end) in enumerate(ctx.bins[0]):
                row = xp_of(gy).zeros(gx[n, 0].shape, gy.dtype)  # (n, W, C)
                for b, (w, w_end) in enumerate(ctx.bins[1]):
                    row[:, w:w_end] += nhwc_view(gy)[n, a, b][:, None] * (1 / ((h_end - h) * (w_end - w)))
                gx[n, h:h_end] += row[:, None]

        parallel_map(work, map_blocks(gx))
        return gx.transpose(0, 3, 1, 2)
