"""Convolution whose windows tile the image: the kernel is as large as the stride, and nothing is padded.

Each pixel belongs to one window. So the windows, read one after the other, are a matrix (N*OH*OW, KH*KW*C), and the
whole convolution is one product with the weight; there is no sum over taps. Examples are the 1x1 convolution, where the
matrix is the image itself, and the adjoint of U-Net's up-convolution. ``shifted.py`` is the general case, with
functions of the same names and arguments; forward and backward, it takes about 1.5 times as long for 2x2 and 1x1
(``python -m tests.benchmarks.storeys shifted``).
"""
from __future__ import annotations

from ...backend import Array, matmul, parallel_map, xp_of
from ...ops.arguments import Pair
from ...ops.conv import Windows
from .shifted import SMALL_PRODUCT, Span, contiguous_weight, output_blocks, sum_parts


def supports(windows: Windows) -> bool:
    """Whether the windows tile the image."""
    dense = all(k == 1 or d == 1 for k, d in zip(windows.kernel, windows.dilation, strict=True))
    return dense and windows.kernel == windows.stride and windows.padding == (0, 0)


def tiles(x: Array, span: Span, stride: Pair, out_width: int) -> Array:
    """The windows of a span of outputs on x (N, H, W, C): a view (n, R, OW, sh, sw, C)."""
    (n0, n1, r0, r1), (sh, sw) = span, stride
    part = x[n0:n1, sh * r0:sh * r1, :sw * out_width]
    return part.reshape(n1 - n0, r1 - r0, sh, out_width, sw, x.shape[3]).transpose(0, 1, 3, 2, 4, 5)


def rows_per_product(P: int, w_size: int) -> int:
    """How many of P rows to multiply at once with a weight, so that OpenBLAS need not repack: 1.25 times as fast."""
    small = min(SMALL_PRODUCT // w_size, 256)
    return small if 32 <= small < P else max(P, 1)


def product(rows: Array, w: Array, y: Array) -> Array:
    """(P, K) @ (K, O), in the memory of y if that is contiguous: 1.1 times as fast for 1x1 as with a copy."""
    (P, K), O = rows.shape, w.shape[1]
    piece = rows_per_product(P, w.size)
    y = y.reshape(P, O) if y.flags.c_contiguous else xp_of(rows).empty((P, O), rows.dtype)
    whole = P // piece * piece
    matmul(rows[:whole].reshape(-1, piece, K), w, out=y[:whole].reshape(-1, piece, O))
    if whole < P:
        matmul(rows[whole:], w, out=y[whole:])
    return y


def correlate(x: Array, w: Array, out: Array, windows: Windows, bias: Array | None = None) -> None:
    """out[n, a, b] = bias + sum over i, j of x[n, sh*a + i, sw*b + j] @ w[i, j]"""
    OW, O = out.shape[2:]
    matrix = contiguous_weight(w).reshape(-1, O)  # (KH*KW*C, O)

    def work(span: Span) -> None:
        n0, n1, r0, r1 = span
        part = out[n0:n1, r0:r1]
        rows = tiles(x, span, windows.stride, OW).reshape(-1, len(matrix))
        y = product(rows, matrix, part).reshape(-1, OW * O)
        if bias is not None:
            y += xp_of(x).tile(bias, OW)
        if not part.flags.c_contiguous:
            part[...] = y.reshape(part.shape)
    parallel_map(work, output_blocks(x, out.shape, windows.stride) if out.size else [])


def correlate_input(gy: Array, w: Array, gx: Array, windows: Windows, bias: Array | None = None) -> None:
    """The adjoint of ``correlate`` in x: each pixel of gy fills a window of gx; the bias is added."""
    (OH, OW, O), (KH, KW, C, _) = gy.shape[1:], w.shape
    matrix = contiguous_weight(w.swapaxes(2, 3)).transpose(2, 0, 1, 3).reshape(O, -1)  # (O, KH*KW*C)
    for left_over in gx[:, KH * OH:], gx[:, :, KW * OW:]:
        left_over[...] = 0 if bias is None else bias

    def work(span: Span) -> None:
        n0, n1, r0, r1 = span
        part = tiles(gx, span, windows.stride, OW)
        y = product(gy[n0:n1, r0:r1].reshape(-1, O), matrix, part).reshape(-1, OW * KH * KW * C)
        if bias is not None:
            y += xp_of(gy).tile(bias, OW * KH * KW)
        if not part.flags.c_contiguous:
            part[...] = y.reshape(part.shape)
    parallel_map(work, output_blocks(gx, gy.shape, windows.stride) if gy.size else [])


def correlate_weight(x: Array, gy: Array, windows: Windows) -> Array:
    """The adjoint of ``correlate`` in w, (KH, KW, C, O)."""
    (OW, O), C, kernel = gy.shape[2:], x.shape[3], windows.kernel
    K = kernel[0] * kernel[1] * C

    def work(span: Span) -> Array:
        n0, n1, r0, r1 = span
        rows = tiles(x, span, windows.stride, OW).reshape(-1, K)
        g = gy[n0:n1, r0:r1].reshape(-1, O)
        piece = rows_per_product(len(rows), K * O)
        whole = len(rows) // piece * piece
        products = rows[:whole].reshape(-1, piece, K).transpose(0, 2, 1) @ g[:whole].reshape(-1, piece, O)
        part = products.sum(axis=0)  # (K, O)
        if whole < len(rows):
            part += rows[whole:].T @ g[whole:]
        return part.reshape(*kernel, C, O)
    most = max(2, 4 * (x.size + gy.size) // (K * O or 1))
    spans = output_blocks(x, gy.shape, windows.stride, most=most) if gy.size else []
    return sum_parts(parallel_map(work, spans), (*kernel, C, O), x)
