"""Regions of interest, quickly: all boxes at once.

RoI pooling sorts the boxes by size and processes them in groups. In a group, one ``take`` reads pixel (i, j) of every
bin of every box; a bin with fewer pixels than others repeats its last one, which changes no maximum.

    box A, bin 0: pixels 40 41 42        take 0: 40  57  90      take 2: 42  58  91     (58 and 91 once more)
    box B, bin 0: pixels 57 58           take 1: 41  58  91
    box C, bin 0: pixels 90 91

RoIAlign computes the points of all boxes along an axis in one row of numbers, sums their weights into one small matrix
per box, and multiplies: (PH, h) @ (h, w, C) @ (w, PW), channels innermost.

Measured: RoI pooling 12.7, RoIAlign 3.6 times as fast as box by box (``python -m tests.benchmarks.storeys``).
"""
from __future__ import annotations

import numpy as np

from ..backend import Array, add_at, device_of, matmul, parallel_map, to_device, xp_of
from ..ops.roi import RoIAlign, RoIPool, round_half_away
from .layout import nhwc_view
from .resize import split_range

BLOCK_BYTES = 1 << 18  # of output, in RoI pooling: all that is compared stays in cache; 1.4 times as fast as 1 << 20
PARTS = 4  # in RoIAlign, into which boxes, or images and their rows, are split for the threads


def roi_bins(start: np.ndarray, end: np.ndarray, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first pixel and the number of pixels along an axis of every bin of every RoI, (R, count) each."""
    start, end = round_half_away(start)[:, None], round_half_away(end)[:, None]
    h, p = np.maximum(end - start + 1, 1), np.arange(count)
    first = np.clip(start + p * h // count, 0, size)
    stop = np.clip(start - -(p + 1) * h // count, 0, size)  # -(-a // b) is a / b rounded up
    return first, np.maximum(stop - first, 0)


class FastRoIPool(RoIPool):
    """y = the largest value of each bin; ``after_first``: its distance in ``pixels`` from the first pixel of the bin"""

    def forward(ctx, x, *, boxes, output_size, spatial_scale):
        xp, (N, C, H, W), (PH, PW), R = xp_of(x), x.shape, output_size, len(boxes)
        n, (x1, y1, x2, y2) = boxes[:, 0].astype(int), boxes[:, 1:].T * spatial_scale
        (top, height), (left, width) = roi_bins(y1, y2, PH, H), roi_bins(x1, x2, PW, W)  # (R, PH), (R, PW)
        empty = (height == 0)[:, :, None] | (width == 0)[:, None, :]  # (R, PH, PW)
        line = n[:, None] * H + np.minimum(top, H - 1)  # over all images; arbitrary for empty bins
        first = line[:, :, None] * W + np.minimum(left, W - 1)[:, None, :]  # (R, PH, PW), in ``pixels``
        last_row, last_column = np.maximum(height, 1) - 1, np.maximum(width, 1) - 1
        pixels = xp.ascontiguousarray(nhwc_view(x)).reshape(N * H * W, C)
        y = xp.empty((R, PH, PW, C), x.dtype)
        after_first = xp.zeros(y.shape if ctx.needs_input_grad[0] else (R, 0), np.int32)

        def work(some):  # a bin with fewer pixels than others repeats its last one
            start, rows, columns = (move(v[some], x) for v in (first, last_row, last_column))
            best = pixels.take(start, axis=0)  # (some, PH, PW, C)
            after = xp.zeros(best.shape, np.int32)
            for i in range(height[some].max()):
                begin = start + (xp.minimum(rows, i) * W)[:, :, None]
                for j in range(width[some].max()):
                    value = pixels.take(begin + xp.minimum(columns, j)[:, None, :], axis=0)
                    if ctx.needs_input_grad[0]:  # numbers increase: the latest improvement stays, the first of equals
                        xp.maximum(after, (value > best) * np.int32(i * W + j), out=after)
                    xp.maximum(best, value, out=best)
            if empty[some].any():
                best = xp.where(move(empty[some], x)[..., None], 0, best)
            y[move(some, x)] = best
            if ctx.needs_input_grad[0]:
                after_first[move(some, x)] = after
        order = np.lexsort((-width.max(axis=1), -height.max(axis=1)))  # by height, then width, largest first
        parallel_map(work, [order[some] for some in roi_blocks(y)])
        ctx.save(first, empty, after_first)
        ctx.x_shape = x.shape
        return y.transpose(0, 3, 1, 2)

    def backward(ctx, gy):  # Fast R-CNN, eq. (4): a pixel receives gy from every bin of which it is the maximum
        (first, empty, after_first), (N, C, H, W), xp = ctx.saved, ctx.x_shape, xp_of(gy)
        first = move(first, gy)[..., None]  # (R, PH, PW, 1)
        g = xp.ascontiguousarray(nhwc_view(gy))
        if empty.any():
            g = xp.where(move(empty, gy)[..., None], 0, g)
        gx, channel = xp.zeros(N * H * W * C, gy.dtype), xp.arange(C)
        for some in roi_blocks(g):
            add_at(gx, ((first[some] + after_first[some]) * C + channel).ravel(), g[some].ravel())
        return gx.reshape(N, H, W, C).transpose(0, 3, 1, 2)


def move(array: np.ndarray, like: Array) -> Array:
    """The array on the device of ``like``."""
    return to_device(array, device_of(like))


def roi_blocks(y: Array) -> list[slice]:
    """Split the RoIs of y (R, PH, PW, C) into groups of about BLOCK_BYTES; on a GPU there is one."""
    R = len(y)
    count = max(1, BLOCK_BYTES * R // max(y.nbytes, 1)) if device_of(y) == "numpy" else max(1, R)
    return [slice(i, i + count) for i in range(0, R, count)]


def sampling_matrices(start: np.ndarray, end: np.ndarray, count: int, size: int, x: Array, *, sampling_ratio: int,
                      aligned: bool) -> tuple[list[slice], list[Array]]:
    """Along an axis, for each RoI: the h pixels that its points use, and the (count, h) matrix of their mean per bin.

    The matrices have x's dtype and lie on x's device.
    """
    R = len(start)
    if aligned:
        start, end = start - 0.5, end - 0.5
    length = end - start if aligned else np.maximum(end - start, 1)
    points = np.full(R, sampling_ratio) if sampling_ratio > 0 else np.maximum(np.ceil(length / count), 0).astype(int)
    first = np.clip(np.minimum(start, start + length), 0, size - 1).astype(int)
    stop = np.minimum(np.clip(np.maximum(start, start + length), 0, size - 1).astype(int) + 2, size)
    # All points of all boxes in one row: r is the box of a point, k its number in the box, s its position.
    total = points * count
    r = np.repeat(np.arange(R), total)
    k = np.arange(len(r)) - (np.cumsum(total) - total)[r]
    s = start[r] + (k + 0.5) * (length / np.maximum(total, 1))[r]
    weight = ((s >= -1) & (s <= size)) / points[r]
    s = np.clip(s, 0, size - 1)
    low = np.floor(s).astype(int)
    # Sum by box, bin and pixel: 1 - (s - low) at low, s - low at low + 1 (one column more, for a weight of 0).
    width = int((stop - first).max(initial=0)) + 1
    place = (r * count + k // points[r]) * width + low - first[r]
    matrix = np.bincount(place, weight * (1 - (s - low)), R * count * width) \
        + np.bincount(place + 1, weight * (s - low), R * count * width)
    matrix = move(matrix.reshape(R, count, width).astype(x.dtype), x)
    used = [slice(a, b) for a, b in zip(first.tolist(), stop.tolist(), strict=True)]
    return used, [matrix[r, :, :span.stop - span.start] for r, span in enumerate(used)]


class FastRoIAlign(RoIAlign):
    """y = A x B' for each RoI and channel: x the pixels under the box, A and B from ``sampling_matrices``"""

    def forward(ctx, x, *, boxes, output_size, spatial_scale, **sampling):  # sampling_ratio, aligned
        xp, (_, C, H, W), (PH, PW), R = xp_of(x), x.shape, output_size, len(boxes)
        n, (x1, y1, x2, y2) = boxes[:, 0].astype(int).tolist(), boxes[:, 1:].T * spatial_scale
        rows, A = sampling_matrices(y1, y2, PH, H, x, **sampling)
        columns, B = sampling_matrices(x1, x2, PW, W, x, **sampling)
        ctx.save(n, rows, A, columns, B)
        ctx.x_shape = x.shape
        X, y = xp.ascontiguousarray(nhwc_view(x)), xp.empty((R, PH, PW, C), x.dtype)

        def work(some):
            for r in range(some.start, some.stop):
                lines = B[r] @ X[n[r], rows[r], columns[r]]  # (PW, w) @ (h, w, C) -> (h, PW, C)
                matmul(A[r], lines.reshape(-1, PW * C), out=y[r].reshape(PH, PW * C))  # (PH, h) @ (h, PW*C)
        parallel_map(work, split_range(R, x, PARTS))
        return y.transpose(0, 3, 1, 2)

    def backward(ctx, gy):  # gx = A' gy B, the transpose, summed over the RoIs
        (n, rows, A, columns, B), (N, C, H, W), xp = ctx.saved, ctx.x_shape, xp_of(gy)
        R, _, PH, PW = gy.shape
        gy = xp.ascontiguousarray(nhwc_view(gy)).reshape(R, PH, PW * C)
        gx = xp.zeros((N, H, W, C), gy.dtype)

        def work(task):  # the rows ``band`` of one image: no other task adds to them
            image, band = task
            for r in range(R):
                begin, end = max(band.start, rows[r].start), min(band.stop, rows[r].stop)
                if n[r] == image and begin < end:
                    part = A[r][:, begin - rows[r].start:end - rows[r].start]
                    lines = (part.T @ gy[r]).reshape(end - begin, PW, C)  # (h, PH) @ (PH, PW*C)
                    gx[image, begin:end, columns[r]] += B[r].T @ lines  # (w, PW) @ (h, PW, C) -> (h, w, C)
        parallel_map(work, [(i, band) for i in range(N) for band in split_range(H, gy, -(-PARTS // N))])
        return gx.transpose(0, 3, 1, 2)
