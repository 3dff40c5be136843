"""Depthwise convolution: every channel has filters of its own, so that there is nothing for a matrix product to do.

Where the stride is 1, tap (i, j) meets, for a whole row of outputs, consecutive numbers in memory: OW pixels, each with
all channels. So a row is taken as one vector of OW*C numbers, its weights as another (the filter's, repeated OW times),
and the sum over the taps is one ``einsum``, which multiplies and adds in one pass while the row of outputs stays in the
cache. (Had it pixels and channels as two axes, its inner loop would run over the few channels: 2.4 times as long.
Separate products and sums took 1.3 times as long.) A stride in width deals the columns out in turn, as ``shifted.py``
does, the general case with functions of the same names. Weights are (KH, KW, 1, O), O = C times filters per channel.
"""
from __future__ import annotations

import math
from collections.abc import Iterator

from ...backend import Array, as_strided, parallel_map, xp_of
from ...ops.arguments import Pair
from . import shifted
from .shifted import blocks, overlap


def runs(x: Array, span: tuple[int, int, int, int], out_width: int, kernel: Pair, offset: Pair, stride: Pair,
         dilation: Pair, filters: int) -> Iterator[tuple[slice, Array]]:
    """(kernel columns, view (KH, columns, n, R, OW*O)): the pixels that these taps meet for images n0:n1, rows r0:r1.

    All columns at once for stride 1; else those whose pixels fall to the same hand when columns are dealt out.
    Each channel is repeated ``filters`` times.
    """
    (n0, n1, r0, r1), (KH, KW), (sh, sw), (dh, dw) = span, kernel, stride, dilation
    n, R, O = n1 - n0, r1 - r0, x.shape[3] * filters
    Hp, Wq = sh * (R - 1) + dh * (KH - 1) + 1, out_width + dw * (KW - 1) // sw
    padded = xp_of(x).zeros((n, Hp, sw, Wq, x.shape[3], filters), x.dtype)  # column sw*q + g is column q of hand g
    rows_to, rows_from = overlap(sh * r0 - offset[0], 1, Hp, x.shape[1])
    for g in range(sw):
        columns_to, columns_from = overlap(g - offset[1], sw, Wq, x.shape[2])
        padded[:, rows_to, g, columns_to] = x[n0:n1, rows_from, columns_from, :, None]
    row = sw * Wq * O
    step = sw // math.gcd(sw, dw)
    for j in range(min(step, KW)):
        yield slice(j, KW, step), as_strided(
            padded, (KH, len(range(j, KW, step)), n, R, out_width * O),
            (dh * row, step * dw // sw * O, Hp * row, sh * row, 1), (dw * j % sw * Wq + dw * j // sw) * O)


def correlate(x: Array, w: Array, out: Array, offset: Pair, stride: Pair, dilation: Pair,
              bias: Array | None = None) -> None:
    """out[n, a, b, o] = bias[o] + sum over i, j of x[n, sh*a + dh*i - top, sw*b + dw*j - left, c] * w[i, j, o]

    c = o // (O // C). Where ``out`` has fewer channels than w, neighboring o are added up: the adjoint of that.
    """
    if w.size == 0:
        out[...] = 0 if bias is None else bias
    if 0 in out.shape or w.size == 0:
        return
    (KH, KW), O, (OW, C) = w.shape[:2], w.shape[2] * w.shape[3], out.shape[2:]
    lines = xp_of(x).tile(w.reshape(KH, KW, O), OW)  # (KH, KW, OW*O)

    def work(span):
        n0, n1, r0, r1 = span
        y = None
        for columns, pixels in runs(x, span, OW, (KH, KW), offset, stride, dilation, O // x.shape[3]):
            part = xp_of(x).einsum("ijnaq,ijq->naq", pixels, lines[:, columns])
            y = part if y is None else y + part
        if C < O:
            y = y.reshape(*y.shape[:2], OW * C, O // C).sum(axis=3)
        if bias is not None:
            y += xp_of(x).tile(bias, OW)
        out[n0:n1, r0:r1] = y.reshape(n1 - n0, r1 - r0, OW, C)
    parallel_map(work, blocks(x, out.shape, stride))


def correlate_input(gy: Array, w: Array, gx: Array, offset: Pair, stride: Pair, dilation: Pair,
                    bias: Array | None = None) -> None:
    """The adjoint of ``correlate`` in x."""
    shifted.correlate_input(gy, w, gx, offset, stride, dilation, bias, correlate)


def correlate_weight(x: Array, gy: Array, kernel: Pair, offset: Pair, stride: Pair, dilation: Pair) -> Array:
    """The adjoint of ``correlate`` in w, (KH, KW, 1, O)."""
    xp, (OW, O) = xp_of(x), gy.shape[2:]

    def work(span):
        part = xp.empty((*kernel, 1, O), x.dtype)
        n0, n1, r0, r1 = span
        lines = gy[n0:n1, r0:r1].reshape(n1 - n0, r1 - r0, OW * O)
        for columns, pixels in runs(x, span, OW, kernel, offset, stride, dilation, O // x.shape[3]):
            line = xp.einsum("ijnaq,naq->ijq", pixels, lines)  # summed over the columns after the rows
            part[:, columns, 0] = line.reshape(*line.shape[:2], OW, O).sum(axis=2)
        return part
    parts = parallel_map(work, blocks(x, gy.shape, stride)) if x.size and gy.size else []
    return shifted.sum_parts(parts, (*kernel, 1, O), x)
