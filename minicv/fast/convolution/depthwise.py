"""Depthwise convolution: every channel has its own filters, so there is nothing for a matrix product to do.

With stride 1, tap (i, j) reads, for a whole row of outputs, consecutive numbers in memory: OW pixels with all their
channels. So a row is taken as one vector of OW*C numbers, its weights as another (the filter's, repeated OW times), and
the sum over the taps is one ``einsum``, which multiplies and adds in one pass while the row of outputs stays in the
cache. (With pixels and channels as two axes, its inner loop would run over the few channels: 2.4 times as long.
Separate products and sums took 1.3 times as long.) With a stride in width, the columns are first sorted into phases, as
in ``shifted.py``, the general case with functions of the same names. Weights are (KH, KW, 1, O), O = C times filters
per channel.
"""
from __future__ import annotations

import math
from collections.abc import Iterator

from ...backend import Array, as_strided, parallel_map, xp_of
from ...ops.conv import Windows
from . import shifted
from .shifted import Span, clip_range, output_blocks


def tap_rows(x: Array, span: Span, windows: Windows, out_width: int,
             filters: int) -> Iterator[tuple[slice, Array]]:
    """Yield (kernel columns, view (KH, columns, n, R, OW*O)): the pixels under these taps for a span of outputs.

    For stride 1 all columns come at once; else those whose pixels fall into the same phase. Each channel is repeated
    ``filters`` times.
    """
    (n0, n1, r0, r1), ((KH, KW), (sh, sw), (top, left), (dh, dw)) = span, windows
    n, R, O = n1 - n0, r1 - r0, x.shape[3] * filters
    Hp, Wq = sh * (R - 1) + dh * (KH - 1) + 1, out_width + dw * (KW - 1) // sw
    padded = xp_of(x).zeros((n, Hp, sw, Wq, x.shape[3], filters), x.dtype)  # column sw*q + g is column q of phase g
    rows_to, rows_from = clip_range(sh * r0 - top, 1, Hp, x.shape[1])
    for g in range(sw):
        columns_to, columns_from = clip_range(g - left, sw, Wq, x.shape[2])
        padded[:, rows_to, g, columns_to] = x[n0:n1, rows_from, columns_from, :, None]
    row = sw * Wq * O
    step = sw // math.gcd(sw, dw)
    for j in range(min(step, KW)):
        yield slice(j, KW, step), as_strided(
            padded, (KH, len(range(j, KW, step)), n, R, out_width * O),
            (dh * row, step * dw // sw * O, Hp * row, sh * row, 1), (dw * j % sw * Wq + dw * j // sw) * O)


def correlate(x: Array, w: Array, out: Array, windows: Windows, bias: Array | None = None) -> None:
    """out[n, a, b, o] = bias[o] + sum over i, j of x[n, sh*a + dh*i - top, sw*b + dw*j - left, c] * w[i, j, o]

    with c = o // (O // C). Where ``out`` has fewer channels than w, neighboring o are added up: the adjoint of that.
    """
    if w.size == 0:
        out[...] = 0 if bias is None else bias
    if 0 in out.shape or w.size == 0:
        return
    (KH, KW), O, (OW, C) = w.shape[:2], w.shape[2] * w.shape[3], out.shape[2:]
    lines = xp_of(x).tile(w.reshape(KH, KW, O), OW)  # (KH, KW, OW*O)

    def work(span: Span) -> None:
        n0, n1, r0, r1 = span
        y: Array = None
        for columns, pixels in tap_rows(x, span, windows, OW, O // x.shape[3]):
            part = xp_of(x).einsum("ijnaq,ijq->naq", pixels, lines[:, columns])
            y = part if y is None else y + part
        if C < O:
            y = y.reshape(*y.shape[:2], OW * C, O // C).sum(axis=3)
        if bias is not None:
            y += xp_of(x).tile(bias, OW)
        out[n0:n1, r0:r1] = y.reshape(n1 - n0, r1 - r0, OW, C)
    parallel_map(work, output_blocks(x, out.shape, windows.stride))


def correlate_input(gy: Array, w: Array, gx: Array, windows: Windows, bias: Array | None = None) -> None:
    """The adjoint of ``correlate`` in x."""
    shifted.correlate_input(gy, w, gx, windows, bias, correlate=correlate)


def correlate_weight(x: Array, gy: Array, windows: Windows) -> Array:
    """The adjoint of ``correlate`` in w, (KH, KW, 1, O)."""
    xp, kernel, (OW, O) = xp_of(x), windows.kernel, gy.shape[2:]

    def work(span: Span) -> Array:
        part = xp.empty((*kernel, 1, O), x.dtype)
        n0, n1, r0, r1 = span
        lines = gy[n0:n1, r0:r1].reshape(n1 - n0, r1 - r0, OW * O)
        for columns, pixels in tap_rows(x, span, windows, OW, O // x.shape[3]):
            line = xp.einsum("ijnaq,naq->ijq", pixels, lines)  # summed over the rows; the columns follow
            part[:, columns, 0] = line.reshape(*line.shape[:2], OW, O).sum(axis=2)
        return part
    spans = output_blocks(x, gy.shape, windows.stride) if x.size and gy.size else []
    return shifted.sum_parts(parallel_map(work, spans), (*kernel, 1, O), x)
