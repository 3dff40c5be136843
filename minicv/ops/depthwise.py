"""Depthwise convolution: every channel has filters of its own, so that there is nothing for a matrix product to do.

The windows of a padded block are a view with two more axes (no copy), and the sum over the taps is one ``einsum``,
which multiplies and adds in one pass while an output row stays in the cache; separate products and sums took 1.4 times
as long. ``shifted.py`` is the general case, with functions of the same names. Weights are (KH, KW, C) here.
"""
from __future__ import annotations

from ..backend import Array, as_strided, parallel, xp_of
from .shifted import Pair, blocks, overlap


def windows(x: Array, span: tuple[int, int, int, int], out_width: int, kernel: Pair, offset: Pair, stride: Pair,
            dilation: Pair) -> Array:
    """Images n0:n1, output rows r0:r1: a view (KH, KW, n, R, OW, C), [i, j] the pixels that tap (i, j) meets."""
    (n0, n1, r0, r1), (KH, KW), (sh, sw), (dh, dw), C = span, kernel, stride, dilation, x.shape[3]
    n, R = n1 - n0, r1 - r0
    Hp, Wp = sh * (R - 1) + dh * (KH - 1) + 1, sw * (out_width - 1) + dw * (KW - 1) + 1
    padded = xp_of(x).zeros((n, Hp, Wp, C), x.dtype)
    rows_to, rows_from = overlap(sh * r0 - offset[0], 1, Hp, x.shape[1])
    columns_to, columns_from = overlap(-offset[1], 1, Wp, x.shape[2])
    padded[:, rows_to, columns_to] = x[n0:n1, rows_from, columns_from]
    return as_strided(padded, (KH, KW, n, R, out_width, C), (dh * Wp * C, dw * C, Hp * Wp * C, sh * Wp * C, sw * C, 1))


def correlate(x: Array, w: Array, out: Array, offset: Pair, stride: Pair, dilation: Pair) -> None:
    """out[n, a, b, c] = sum over i, j of x[n, sh*a + dh*i - top, sw*b + dw*j - left, c] * w[i, j, c]"""
    if 0 in out.shape:
        return
    if w.size == 0:
        out[...] = 0
        return
    xp, (KH, KW, C) = xp_of(x), w.shape
    line = xp.ascontiguousarray(xp.broadcast_to(w[:, :, None], (KH, KW, out.shape[2], C)))  # a long inner loop

    def work(span):
        n0, n1, r0, r1 = span
        taps = windows(x, span, out.shape[2], (KH, KW), offset, stride, dilation)
        out[n0:n1, r0:r1] = xp.einsum("ijnabc,ijbc->nabc", taps, line)
    parallel(work, blocks(x, out.shape, stride))


def correlate_weight(x: Array, gy: Array, kernel: Pair, offset: Pair, stride: Pair, dilation: Pair) -> Array:
    """The adjoint of ``correlate`` in w, (KH, KW, C)."""
    xp, C = xp_of(x), x.shape[3]
    if x.size == 0 or gy.size == 0:
        return xp.zeros((*kernel, C), x.dtype)

    def work(span):
        n0, n1, r0, r1 = span
        taps = windows(x, span, gy.shape[2], kernel, offset, stride, dilation)
        line = xp.einsum("ijnabc,nabc->ijbc", taps, gy[n0:n1, r0:r1])  # summed over the columns after the rows
        return line.sum(axis=2)
    return sum(parallel(work, blocks(x, gy.shape, stride)))
