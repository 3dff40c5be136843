"""Pooling of regions of interest (RoIs): a box of any size becomes PH x PW numbers per channel.

RoI pooling: Fast R-CNN (Girshick, 2015), sec. 2.1. RoIAlign: Mask R-CNN (He et al., 2017), sec. 3. The conventions are
those of torchvision's ``roi_pool`` and ``roi_align``. Boxes are in pixels of the image; ``spatial_scale`` maps them to
the feature map. For rows, with bins p = 0 .. PH - 1 (columns are alike):

RoI pooling rounds the ends, half away from zero (NumPy's ``round`` rounds half to even), and includes the last pixel:
h = max(round(y2) - round(y1) + 1, 1). Bin p has the rows round(y1) + [floor(p h / PH), ceil((p+1) h / PH)), a half-open
interval: neighboring bins may share a row. Rows outside the map are left out; a bin without pixels gives 0. The result
is the largest value in the bin, and its gradient goes to that pixel alone.

RoIAlign rounds nothing: h = y2 - y1, and bin p is the interval from y1 + p h / PH to y1 + (p+1) h / PH. It holds
``sampling_ratio`` evenly spaced points (ceil(h / PH) if that is not positive). The result is the mean over a bin's
points of the bilinearly interpolated map. A point more than one pixel outside the map counts as 0, any other outside
point as the nearest point of the map. ``aligned`` shifts boxes by half a pixel, because pixel i reaches from i to i + 1
and has its center at i + 1/2. Without it, as in the paper's own code, h is at least 1.

Differences: RoI pooling computes its bins in integers, where torchvision's float32 may round p h / PH to another row.
Boxes get no gradient; they are read on the host. In RoIAlign a NaN or an infinity spreads within a box.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import Array, add_at, is_array, to_numpy, xp_of
from .arguments import Pair, pair
from .case import Case
from .precision import Float16Safe
from .windows import check_map

MAX_COORDINATE = 1e5  # pixels; no feature map is that large

Boxes = Tensor | Array | Sequence[Tensor | Array]


# ---------------------------------------------------------------------------------------------------------
# The definition, in loops
# ---------------------------------------------------------------------------------------------------------
def roi_pool_loop(x, boxes, output_size, spatial_scale=1.0):
    """``roi_pool`` on plain arrays, in loops: every pixel of every bin."""
    (_, C, H, W), (PH, PW) = x.shape, pair(output_size, "", 1)
    rois = to_rois("roi_pool_loop", x.shape, boxes, spatial_scale).tolist()
    y = np.zeros((len(rois), C, PH, PW), x.dtype)
    for r, (n, *ends) in enumerate(rois):
        x1, y1, x2, y2 = (math.trunc(v) + math.trunc(2 * math.fmod(v, 1)) for v in (e * spatial_scale for e in ends))
        h, w = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for c, p, q in np.ndindex(C, PH, PW):
            y[r, c, p, q] = max((x[int(n), c, i, j]
                                 for i in range(y1 + math.floor(p * h / PH), y1 + math.ceil((p + 1) * h / PH))
                                 for j in range(x1 + math.floor(q * w / PW), x1 + math.ceil((q + 1) * w / PW))
                                 if 0 <= i < H and 0 <= j < W), default=0)
    return y


def roi_align_loop(x, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False):
    """``roi_align`` on plain arrays, in loops: every point of every bin, from the pixels around it."""
    (_, C, H, W), (PH, PW) = x.shape, pair(output_size, "", 1)
    rois = to_rois("roi_align_loop", x.shape, boxes, spatial_scale).tolist()
    y = np.zeros((len(rois), C, PH, PW), x.dtype)
    for r, (n, *ends) in enumerate(rois):
        x1, y1, x2, y2 = (v * spatial_scale - (0.5 if aligned else 0) for v in ends)
        h, w = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
        GH, GW = (sampling_ratio if sampling_ratio > 0 else max(math.ceil(v), 0) for v in (h / PH, w / PW))
        for p, q, i, j in np.ndindex(PH, PW, GH, GW):
            v, u = y1 + (p + (i + 0.5) / GH) * h / PH, x1 + (q + (j + 0.5) / GW) * w / PW
            if -1 <= v <= H and -1 <= u <= W:
                v, u = min(max(v, 0), H - 1), min(max(u, 0), W - 1)
                for a in {math.floor(v), math.ceil(v)}:
                    for b in {math.floor(u), math.ceil(u)}:
                        y[r, :, p, q] += (1 - abs(v - a)) * (1 - abs(u - b)) * x[int(n), :, a, b] / (GH * GW)
    return y


# ---------------------------------------------------------------------------------------------------------
# RoI pooling
# ---------------------------------------------------------------------------------------------------------
def round_half_away(v: np.ndarray) -> np.ndarray:
    """Round to integers as C's round does: 0.5 -> 1, 2.5 -> 3, -0.5 -> -1."""
    whole = np.trunc(v)
    return (whole + np.sign(v) * (abs(v - whole) >= 0.5)).astype(int)


def roi_bins(start: float, end: float, count: int, size: int) -> list[Pair]:
    """The pixels [first, stop) along an axis of each of ``count`` bins of a box from start to end."""
    start, end = round_half_away(np.array([start, end])).tolist()
    h = max(end - start + 1, 1)
    first = np.clip([start + p * h // count for p in range(count)], 0, size)
    stop = np.clip([start - -(p + 1) * h // count for p in range(count)], 0, size)  # -(-a // b) is a / b rounded up
    return list(zip(first.tolist(), stop.tolist(), strict=True))


class RoIPool(Float16Safe):
    """y[r, c, p, q] = the largest value in bin (p, q) of box r, and gx at that pixel += gy[r, c, p, q]"""

    def forward(ctx, x, *, boxes, output_size, spatial_scale):
        xp, (N, C, H, W), (PH, PW) = xp_of(x), x.shape, output_size
        y, arg = xp.zeros((len(boxes), C, PH, PW), x.dtype), xp.full((len(boxes), C, PH, PW), -1)  # -1 in an empty bin
        for r, (n, *ends) in enumerate(boxes.tolist()):
            x1, y1, x2, y2 = (v * spatial_scale for v in ends)
            rows, columns = roi_bins(y1, y2, PH, H), roi_bins(x1, x2, PW, W)
            for p, q in np.ndindex(PH, PW):
                (top, bottom), (left, right) = rows[p], columns[q]
                if top < bottom and left < right:
                    values = x[int(n), :, top:bottom, left:right].reshape(C, (bottom - top) * (right - left))
                    t = values.argmax(axis=1)  # (C,), positions in the bin
                    y[r, :, p, q] = xp.take_along_axis(values, t[:, None], axis=1)[:, 0]
                    arg[r, :, p, q] = (int(n) * H + top + t // (right - left)) * W + left + t % (right - left)
        ctx.save(arg)
        ctx.x_shape = N, C, H, W
        return y

    def backward(ctx, gy):  # Fast R-CNN, eq. (4): a pixel receives gy from every bin of which it is the maximum
        (arg,), xp, (N, C, H, W) = ctx.saved, xp_of(gy), ctx.x_shape
        gx, channel = xp.zeros((N * H * W, C), gy.dtype), xp.arange(C).reshape(C, 1, 1)
        add_at(gx, (xp.maximum(arg, 0), xp.broadcast_to(channel, arg.shape)), xp.where(arg < 0, 0, gy))
        return gx.reshape(N, H, W, C).transpose(0, 3, 1, 2)


# ---------------------------------------------------------------------------------------------------------
# RoIAlign
# ---------------------------------------------------------------------------------------------------------
def sampling_matrix(start: float, end: float, count: int, size: int, *, sampling_ratio: int,
                    aligned: bool) -> tuple[slice, np.ndarray]:
    """Along an axis, for one box: the h pixels that its points use, and the (count, h) matrix of their mean per bin."""
    start, end = (start - 0.5, end - 0.5) if aligned else (start, end)
    length = end - start if aligned else max(end - start, 1)
    points = sampling_ratio if sampling_ratio > 0 else max(math.ceil(length / count), 0)  # per bin
    s = start + (np.arange(count * points) + 0.5) * (length / max(count * points, 1))  # their positions
    weight = ((s >= -1) & (s <= size)) / max(points, 1)
    near = np.maximum(0, 1 - abs(np.clip(s, 0, size - 1)[:, None] - np.arange(size)))  # (count points, size)
    matrix = (weight[:, None] * near).reshape(count, points, size).sum(axis=1)
    used = np.flatnonzero(matrix.any(axis=0))
    span = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
    return span, matrix[:, span]


class RoIAlign(Float16Safe):
    """y[r] = A x B' for each channel: x the pixels under box r, A and B from ``sampling_matrix``"""

    def forward(ctx, x, *, boxes, output_size, spatial_scale, **sampling):  # sampling_ratio, aligned
        xp, (_, C, H, W), (PH, PW) = xp_of(x), x.shape, output_size
        y, ctx.x_shape, ctx.parts = xp.zeros((len(boxes), C, PH, PW), x.dtype), x.shape, []
        for r, (n, *ends) in enumerate(boxes.tolist()):
            x1, y1, x2, y2 = (v * spatial_scale for v in ends)
            rows, A = sampling_matrix(y1, y2, PH, H, **sampling)  # (PH, h)
            columns, B = sampling_matrix(x1, x2, PW, W, **sampling)  # (PW, w)
            A, B, at = xp.asarray(A, x.dtype), xp.asarray(B, x.dtype), (int(n), slice(None), rows, columns)
            y[r] = A @ x[at] @ B.T  # (PH, h) @ (C, h, w) @ (w, PW)
            ctx.parts.append((at, A, B))
        return y

    def backward(ctx, gy):  # the transpose, summed over the boxes
        gx = xp_of(gy).zeros(ctx.x_shape, gy.dtype)
        for g, (at, A, B) in zip(gy, ctx.parts, strict=True):
            gx[at] += A.T @ g @ B  # (h, PH) @ (C, PH, PW) @ (PW, w)
        return gx


# ---------------------------------------------------------------------------------------------------------
# The public functions
# ---------------------------------------------------------------------------------------------------------
def to_rois(name: str, shape: tuple[int, ...], boxes: Boxes, spatial_scale: float) -> np.ndarray:
    """Check boxes of either form; return (R, 5) on the host: the number of the image, x1, y1, x2, y2."""
    def read(value: Any) -> np.ndarray:
        value = value.data if isinstance(value, Tensor) else value
        array = to_numpy(value) if is_array(value) else np.asarray(value, float)
        return array.astype(float)  # float32 keeps 1/4000 of a pixel at 4000, less after a scale of 1/3

    if isinstance(boxes, list | tuple):
        each = [read(b) for b in boxes]
        each = [b.reshape(0, 4) if b.size == 0 else b for b in each]
        if len(each) != shape[0] or any(b.ndim != 2 or b.shape[1] != 4 for b in each):
            raise ValueError(f"{name}: a list of boxes needs one array (L, 4) for each of the {shape[0]} images, got "
                             f"shapes {[b.shape for b in each]}")
        rois = np.concatenate([np.insert(b, 0, i, axis=1) for i, b in enumerate(each)] or [np.empty((0, 5))])
    else:
        rois = read(boxes)
        if rois.ndim != 2 or rois.shape[1] != 5:
            raise ValueError(f"{name}: boxes must be (R, 5), each the number of an image and x1, y1, x2, y2, or a "
                             f"list of (L, 4), one per image; got {rois.shape}")
    if not 0 < spatial_scale < math.inf:
        raise ValueError(f"{name}(spatial_scale={spatial_scale}) must be a positive number, such as 1/16")
    near = (abs(rois[:, 1:] * spatial_scale) <= MAX_COORDINATE).all(axis=1)
    for wrong, why in ((~near, "NaN, infinite or too far away"),
                       (~np.isin(rois[:, 0], np.arange(shape[0])), f"of an unknown image, not one of the {shape[0]}")):
        if wrong.any():
            r = int(wrong.argmax())
            raise ValueError(f"{name}: box {r} is {why}: {rois[r].tolist()}")
    return rois


def roi_pool(input: Tensor, boxes: Boxes, output_size: int | Pair, spatial_scale: float = 1.0) -> Tensor:
    """The largest value of each of PH x PW bins of every box: (N, C, H, W) and R boxes -> (R, C, PH, PW).

    ``boxes`` are (R, 5), the number of an image and x1, y1, x2, y2 in pixels, or a list of (L, 4), one array per image;
    they get no gradient. ``output_size`` is (PH, PW) or one number, ``spatial_scale`` the map's size divided by the
    image's. A box with x2 < x1 is one pixel wide. Raises ``ValueError`` for boxes of another shape, with NaN, or of an
    unknown image. Fast R-CNN (Girshick, 2015), sec. 2.1; details in this file's docstring.
    """
    check_map("roi_pool", input)
    return RoIPool.apply(input, boxes=to_rois("roi_pool", input.shape, boxes, spatial_scale),
                         output_size=pair(output_size, "roi_pool(output_size)", 1),
                         spatial_scale=float(spatial_scale))


def roi_align(input: Tensor, boxes: Boxes, output_size: int | Pair, spatial_scale: float = 1.0,
              sampling_ratio: int = -1, aligned: bool = False) -> Tensor:
    """The mean of sampled points in each of PH x PW bins of every box: (N, C, H, W) and R boxes -> (R, C, PH, PW).

    ``boxes``, ``output_size``, ``spatial_scale`` and errors are as in ``roi_pool``. A bin has ``sampling_ratio`` rows
    and columns of points; 0 or less adapts to the box, about one point per pixel. ``aligned=True`` puts the center of a
    pixel at 1/2; without it, as in the original code, a box is at least one pixel wide and high. Mask R-CNN (He et al.,
    2017), sec. 3; details in this file's docstring.
    """
    check_map("roi_align", input)
    if not isinstance(sampling_ratio, int | np.integer):
        raise ValueError(f"roi_align(sampling_ratio={sampling_ratio!r}): use an integer; 0 or less adapts to the box")
    return RoIAlign.apply(input, boxes=to_rois("roi_align", input.shape, boxes, spatial_scale),
                          output_size=pair(output_size, "roi_align(output_size)", 1),
                          spatial_scale=float(spatial_scale), sampling_ratio=int(sampling_ratio), aligned=bool(aligned))


# The worked example of T. Grel, "Region of interest pooling explained" (deepsense.ai, 2017): 7 columns and 5 rows of
# this map, box (0, 3, 6, 7), to 2x2. Published: [[0.85, 0.84], [0.97, 0.96]], by bins of 3 + 4 columns and 2 + 3 rows.
# With the convention above, bins share column 3 and row 5, in which the 0.96 lies.
EXAMPLE = np.array([[0.88, 0.44, 0.14, 0.16, 0.37, 0.77, 0.96, 0.27], [0.19, 0.45, 0.57, 0.16, 0.63, 0.29, 0.71, 0.70],
                    [0.66, 0.26, 0.82, 0.64, 0.54, 0.73, 0.59, 0.26], [0.85, 0.34, 0.76, 0.84, 0.29, 0.75, 0.62, 0.25],
                    [0.32, 0.74, 0.21, 0.39, 0.34, 0.03, 0.33, 0.48], [0.20, 0.14, 0.16, 0.13, 0.73, 0.65, 0.96, 0.32],
                    [0.19, 0.69, 0.09, 0.86, 0.88, 0.07, 0.01, 0.48], [0.83, 0.24, 0.97, 0.04, 0.24, 0.35, 0.50, 0.91]])

# The number of an 8 x 9 image, x1, y1, x2, y2
INSIDE = np.array([[1, 1.2, 0.8, 6.9, 5.1], [0, 0, 0, 8, 7], [0, 2.2, 3.1, 2.4, 3.2], [1, 3.7, 2.2, 7.3, 6.6],
                   [0, 1.2, 0.8, 6.9, 5.1]])
OUTSIDE = np.array([[0, -6.3, -5.2, 3.1, 2.7], [0, 5.2, 4.1, 14.6, 13.3], [0, 20.3, 20.1, 25.2, 30.4],
                    [0, -9.7, -9.2, -5.1, -4.3], [0, -3.2, -4.4, 12.3, 11.1]])
DEGENERATE = np.array([[0, 5.2, 4.1, 2.3, 6.2], [0, 2.1, 6.2, 5.3, 1.1], [0, 3.3, 3.3, 3.3, 3.3],
                       [0, 6.1, 6.2, 1.1, 1.2]])


def _pool(label, *inputs, **options):
    return Case(roi_pool, label, *inputs, loop=roi_pool_loop, **options)


def _align(label, *inputs, **options):
    return Case(roi_align, label, *inputs, loop=roi_align_loop, **options)


CASES = [
    _pool("the published example", EXAMPLE[None, None], boxes=np.array([[0, 0.0, 3.0, 6.0, 7.0]]), output_size=2),
    _pool("more boxes than images", (2, 3, 8, 9), boxes=INSIDE, output_size=(3, 2)),
    _pool("more bins than pixels", (2, 2, 8, 9), boxes=INSIDE, output_size=7),
    _pool("one bin", (2, 2, 8, 9), boxes=INSIDE, output_size=1),
    _pool("outside, empty bins", (1, 2, 8, 9), boxes=OUTSIDE, output_size=(3, 4)),
    _pool("x2 below x1", (1, 2, 8, 9), boxes=DEGENERATE, output_size=2),
    _pool("ends at one half", (1, 2, 8, 9), output_size=2,
          boxes=np.array([[0, 0.5, 1.5, 4.5, 5.5], [0, -0.5, -1.5, 2.5, 3.5], [0, 2.5, 2.5, 2.5, 2.5]])),
    _pool("a quarter of the scale", (2, 2, 8, 9), boxes=4 * INSIDE * [0.25, 1, 1, 1, 1], output_size=2,
          spatial_scale=0.25),
    _pool("a list, an image without boxes", (3, 2, 8, 9), output_size=2,
          boxes=[INSIDE[:2, 1:], np.empty((0, 4)), INSIDE[2:3, 1:]]),
    _pool("a tie", np.array([[[[2.0, 5.0, 5.0], [1.0, 5.0, 0.5]]]]), boxes=np.array([[0, 0.0, 0.0, 2.0, 1.0]]),
          output_size=1, gradients=[[[0, 1, 0], [0, 0, 0]]]),
    _pool("no boxes", (2, 2, 8, 9), boxes=np.empty((0, 5)), output_size=2),
    _align("more boxes than images", (2, 3, 8, 9), boxes=INSIDE, output_size=(3, 2)),
    _align("aligned", (2, 3, 8, 9), boxes=INSIDE, output_size=(3, 2), aligned=True),
    _align("two points a bin", (2, 2, 8, 9), boxes=INSIDE, output_size=3, sampling_ratio=2),
    _align("two points a bin, aligned", (2, 2, 8, 9), boxes=INSIDE, output_size=3, sampling_ratio=2, aligned=True),
    _align("one bin", (2, 2, 8, 9), boxes=INSIDE, output_size=1),
    _align("outside", (1, 2, 8, 9), boxes=OUTSIDE, output_size=(3, 4)),
    _align("outside, aligned, three points a bin", (1, 2, 8, 9), boxes=OUTSIDE, output_size=2, sampling_ratio=3,
           aligned=True),
    _align("x2 below x1", (1, 2, 8, 9), boxes=DEGENERATE, output_size=2),
    _align("x2 below x1, aligned", (1, 2, 8, 9), boxes=DEGENERATE, output_size=2, aligned=True),
    _align("x2 below x1, aligned, two points a bin", (1, 2, 8, 9), boxes=DEGENERATE, output_size=2, sampling_ratio=2,
           aligned=True),
    _align("a height that the shift by one half rounds to 0", (1, 2, 8, 9), output_size=1, aligned=True,
           boxes=np.array([[0, 0.0, 0.0, 2.5, 1e-100]])),
    _align("a quarter of the scale", (2, 2, 8, 9), boxes=4 * INSIDE * [0.25, 1, 1, 1, 1], output_size=2,
           spatial_scale=0.25),
    _align("a list, an image without boxes", (3, 2, 8, 9), output_size=2,
           boxes=[INSIDE[:2, 1:], np.empty((0, 4)), INSIDE[2:3, 1:]]),
    _align("a map of one pixel", (1, 2, 1, 1), boxes=np.array([[0, -0.6, 0.2, 1.7, 0.8]]), output_size=2),
    _align("no boxes", (2, 2, 8, 9), boxes=np.empty((0, 5)), output_size=2),
]
