"""Convolution as shifted matrix products: the fast arithmetic behind ``conv2d`` and ``conv_transpose2d``.

Memory is channels-last. Write a picture, padded with zeros, as a matrix with one row per pixel, (H*W, C). Tap (i, j) of
a kernel meets, for the output pixel in row r of the matrix, the input pixel in row r + i*W + j. So one tap, for all
pixels at once, is the product of the matrix, shifted down by i*W + j rows, with the (C, O) slice of the weight; the
rows where a shift wraps around the border are computed too and cut off at the end. No window is ever copied.

Neighboring pixels lie side by side in memory. So KW taps of one kernel row read KW*C consecutive numbers, and the
same memory, taken as a matrix of KW*C columns whose rows are every m-th pixel, gives the outputs p, p+m, p+2m, ... in
one deep product: m = KW products of depth KW*C instead of KW*KW of depth C. With a stride s the next output is s
pixels on, and m = ceil(KW/s) is enough. A stride in height, or a dilation in width, deals the rows (or columns) out in
turn, as one deals cards, so that those that one output needs are neighbors again. The zeros that pad a row at its end
are also those that pad the next one, as for pictures one above the other: 1.2 times less work for 7x7 pixels.

All this is done a block of rows at a time, so that a block stays in a core's cache from the padding to the last sum.
Measured on two cores over the 3x3 layers in ``tests/benchmarks/ops.py``; blocks and threads together gave 1.5 times.

``correlate`` is the convolution; ``correlate_input`` and ``correlate_weight`` are its two adjoints. All arrays here are
(N, H, W, C); weights are (KH, KW, C, O), often views of (O, C, KH, KW); pairs are (height, width).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from ...backend import Array, as_strided, device_of, matmul, parallel_map, xp_of
from ...ops.arguments import Pair

ALONE = 1 << 18  # bytes of maps below which a convolution takes less time than it takes to wake a thread
BLOCK_BYTES = 1 << 22  # a tenth of it would fit a core's cache, but then threads wait for Python: 2.2 times as long
SMALL_PRODUCT = 1_000_000  # up to this M*N*K OpenBLAS multiplies without repacking its operands, 1.2 times as fast

WIDE = 64  # so many channels of one tap transposed are enough for a product, which then takes less memory


class Block:
    """Images n0:n1, output rows r0:r1, and the input they need, padded and dealt out; see the module docstring.

    ``buffer`` is flat memory for (sh, n, Rq, dw, Wq, C): input row sh*r + f is row r of part f, column dw*q + g is
    column q of part g. One output pixel is at the same place in ``pitch_out`` numbers per output row.
    """

    def __init__(self, x: Array, span: tuple[int, int, int, int], out_width: int, kernel: Pair, offset: Pair,
                 stride: Pair, dilation: Pair, out_channels: int, runs: bool = True):
        (KH, KW), (sh, sw), (dh, dw) = kernel, stride, dilation
        self.n0, self.n1, self.r0, self.r1 = span
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.C, self.O, self.OW = x.shape[3], out_channels, out_width
        n, self.R = self.n1 - self.n0, self.r1 - self.r0
        R = self.R
        runs = runs and 1 in (sw, dw)  # else, as for a dilation with a stride in width, one tap at a time
        self.deal, self.run = (dw, KW) if runs else (1, 1)  # taps that lie side by side in memory
        self.m = -(-self.run // sw)
        self.Rq = R + dh * (KH - 1) // sh
        self.Wq = -(-(sw * (out_width - 1) + dw * (KW - 1) + 1) // self.deal)
        self.Wq = -(-self.Wq // sw) * sw
        # Rows share their zeros: those after one are those before the next. So do pictures.
        spare = min(zeros(g - offset[1], self.deal, self.Wq, x.shape[2]) for g in range(self.deal))
        self.Wq -= min(spare, self.Wq + sw * (-out_width // self.deal)) // sw * sw
        if n > 1 and sh == 1:
            self.Rq -= min(zeros(self.r0 - offset[0], 1, self.Rq, x.shape[1]), self.Rq - R)
        self.pitch = self.deal * self.Wq
        self.pitch_out = self.pitch // sw
        plane = n * self.Rq * self.pitch
        self.starts = [dh * i % sh * plane + dh * i // sh * self.pitch for i in range(KH)]
        end = self.cut((n - 1) * self.Rq + R)  # output rows, with those between two images
        slack = max(0, end + dh * (KH - 1) // sh * self.pitch - plane)
        self.buffer = xp_of(x).zeros((sh * plane + slack) * self.C, x.dtype)
        parts = self.buffer[:sh * plane * self.C].reshape(sh, n, self.Rq, self.deal, self.Wq, self.C)
        for f in {dh * i % sh for i in range(KH)}:
            rows_to, rows_from = overlap(sh * self.r0 + f - offset[0], sh, self.Rq, x.shape[1])
            for g in range(self.deal):
                columns_to, columns_from = overlap(g - offset[1], self.deal, self.Wq, x.shape[2])
                parts[f, :, rows_to, g, columns_to] = x[self.n0:self.n1, rows_from, columns_from]

    def cut(self, rows: int) -> int:
        """Choose the pieces in which so many rows of outputs are computed; how many pixels a tap reads for them."""
        (_, sw), (_, dw), self.rows = self.stride, self.dilation, rows
        length = -(-rows * self.pitch_out // self.m)
        small = SMALL_PRODUCT // (self.run * self.C * self.O)
        self.pieces = -(-length // (min(small, 256) if small >= 32 else 4096))
        self.piece = -(-length // self.pieces)
        return sw * self.m * (self.pieces * self.piece + 1) + dw * (self.kernel[1] - 1) + self.run

    def taps(self):
        """(kernel row, slice of kernel columns, matrix of the pixels they meet) for every run of taps."""
        (_, sw), (_, dw), C = self.stride, self.dilation, self.C
        row = self.m * sw * C
        for i, start in enumerate(self.starts):
            for j in range(0, self.kernel[1], self.run):
                yield i, slice(j, j + self.run), as_strided(
                    self.buffer, (self.m, self.pieces, self.piece, self.run * C), (sw * C, self.piece * row, row, 1),
                    (start + j * dw) * C)

    def new_outputs(self, make) -> tuple[Array, Array, list[tuple[slice, Array]]]:
        """Memory for the block's output: flat, as the matrices that belong to ``taps``, and as pictures."""
        O = self.O
        flat = make(self.m * self.pieces * self.piece * O, self.buffer.dtype)
        matrices = as_strided(flat, (self.m, self.pieces, self.piece, O),
                              (O, self.piece * self.m * O, self.m * O, 1))
        Wo = self.Wq // self.stride[1]
        pictures = []
        for g in range(self.deal):  # the output columns g, g + deal, ...
            width = -(-(self.OW - g) // self.deal)
            if width > 0:
                shape = (self.n1 - self.n0, self.R, width, O)
                strides = (self.Rq * self.pitch_out * O, self.pitch_out * O, O, 1)
                pictures.append((slice(g, None, self.deal), as_strided(flat, shape, strides, g * Wo * O)))
        return flat, matrices, pictures


    def add(self, bias: Array | None, flat: Array) -> None:
        """Add the bias to a block's output, tiled to whole rows: 3 times as fast as a short vector."""
        if bias is not None:
            line = self.pitch_out * self.O
            lines = flat[:self.rows * line].reshape(self.rows, line)
            lines += xp_of(flat).tile(bias, self.pitch_out)


def overlap(first: int, step: int, count: int, size: int) -> tuple[slice, slice]:
    """Of the positions first, first + step, ... (``count`` of them) those inside 0..size: (in the count, in size)."""
    low = min(max(0, -(first // step)), count)
    high = max(low, min(count, -(-(size - first) // step)))
    if low == high:
        return slice(0, 0), slice(0, 0)
    return slice(low, high), slice(first + step * low, first + step * (high - 1) + 1, step)


def zeros(first: int, step: int, count: int, size: int) -> int:
    """How many of the positions of ``overlap`` lie before all of 0..size, and as many behind it."""
    inside, _ = overlap(first, step, count, size)
    return min(inside.start, count - inside.stop)


def blocks(x: Array, out_shape: tuple[int, ...], stride: Pair, most: int | None = None, unit: int = 1,
           block_bytes: int = BLOCK_BYTES):
    """Cut an output into parts of about ``block_bytes`` of input and output: (n0, n1, r0, r1), images and rows.

    Their number is even, for two cores, and at most ``most``; it does not depend on the machine, so that results do
    not either. On a GPU there is one. Rows are cut at multiples of ``unit``.
    """
    N, OH, OW, O = out_shape
    total = x.itemsize * N * OH * OW * (stride[0] * stride[1] * x.shape[3] + 2 * O)
    count = 2 * -(-total // (2 * block_bytes)) if total > BLOCK_BYTES // 32 else 1
    count = min(count, most or count)
    if count == 1 or device_of(x) != "numpy":
        return [(0, N, 0, OH)]
    if count <= N:
        return [(n, min(n + N // count, N), 0, OH) for n in range(0, N, N // count)]
    per_image = min(-(-count // N), -(-OH // unit))
    cuts = [*(i * (OH // unit) // per_image * unit for i in range(per_image)), OH]
    return [(n, n + 1, r0, r1) for n in range(N) for r0, r1 in zip(cuts, cuts[1:], strict=False)]


def contiguous(w: Array) -> Array:
    """The weight, or a copy, made 16 filters at a time: what is read stays in the cache, 2.7 times as fast for 512.

    ``nn.Conv2d`` keeps its weight in memory so that none is needed.
    """
    if w.flags.c_contiguous or device_of(w) != "numpy":
        return xp_of(w).ascontiguousarray(w)
    copy = xp_of(w).empty(w.shape, w.dtype)
    for o in range(0, w.shape[3], 16):
        copy[..., o:o + 16] = w[..., o:o + 16]
    return copy


def across(pixels: Array, matrices: Array) -> Array:
    """The sum over all pieces of pixels transposed times outputs: (run*C, O)"""
    products = pixels.transpose(0, 1, 3, 2) @ matrices  # (m, pieces, run*C, O)
    return products.sum(axis=(0, 1))


def correlate(x: Array, w: Array, out: Array, offset: Pair, stride: Pair, dilation: Pair,
              bias: Array | None = None) -> None:
    """out[n, a, b] = bias + sum over i, j of x[n, sh*a + dh*i - top, sw*b + dw*j - left] @ w[i, j]

    with ``offset`` = (top, left) and x zero outside its borders. ``out`` may be any view.
    """
    if w.size == 0:
        out[...] = 0 if bias is None else bias
    if 0 in out.shape or w.size == 0:
        return
    xp, (KH, KW, C, O) = xp_of(x), w.shape
    w_rows = contiguous(w).reshape(KH, KW * C, O)

    def work(span):
        block = Block(x, span, out.shape[2], (KH, KW), offset, stride, dilation, O)
        total, product = None, None
        for i, columns, pixels in block.taps():
            weight = w_rows[i, columns.start * C:columns.stop * C]
            if total is None:
                total, matrices, pictures = block.new_outputs(xp.empty)
                matmul(pixels, weight, out=matrices)
            else:
                if product is None:
                    product, matrices, _ = block.new_outputs(xp.empty)
                matmul(pixels, weight, out=matrices)
                total += product
        block.add(bias, total)
        n0, n1, r0, r1 = span
        for columns, picture in pictures:
            out[n0:n1, r0:r1, columns] = picture

    parallel_map(work, blocks(x, out.shape, stride))


def adjoint_parts(w: Array, gx: Array, offset: Pair, stride: Pair,
                  dilation: Pair) -> Iterator[tuple[Array, Array, Pair, Pair]]:
    """The adjoint of ``correlate`` in x as convolutions of stride 1: (weight, part of gx, offset, dilation) of each.

    Of the rows of gx, those with the same remainder by the stride are met by the same taps, in steps of whole output
    rows. So each such part of gx is itself a convolution of gy, stride 1, with those taps in reverse order.
    """
    def along(size, k, top, s, d):
        """(positions in gx, kernel taps last to first, offset, dilation) for every remainder."""
        step = s // math.gcd(s, d)
        for a in range(min(s, size)):
            taps = [i for i in range(k) if (a + top - d * i) % s == 0][::-1]
            shift = d * step // s
            base = (a + top - d * taps[-1]) // s if taps else 0
            yield slice(a, None, s), taps, shift * (len(taps) - 1) - base, shift

    (KH, KW), w_adjoint = w.shape[:2], w.swapaxes(2, 3)
    for rows, tap_rows, top, dh in along(gx.shape[1], KH, offset[0], stride[0], dilation[0]):
        for columns, tap_columns, left, dw in along(gx.shape[2], KW, offset[1], stride[1], dilation[1]):
            part = w_adjoint[tap_rows][:, tap_columns] if tap_rows and tap_columns else w_adjoint[:0]
            yield contiguous(part), gx[:, rows, columns], (top, left), (dh, dw)


def correlate_input(gy: Array, w: Array, gx: Array, offset: Pair, stride: Pair, dilation: Pair,
                    bias: Array | None = None, correlate: Callable[..., None] = correlate) -> None:
    """The adjoint of ``correlate`` in x: gx receives gy through every tap, w transposed, and the bias."""
    def work(part):
        weight, out, offset, dilation = part
        correlate(gy, weight, out, offset, (1, 1), dilation, bias)
    parts = list(adjoint_parts(w, gx, offset, stride, dilation))
    if gx.nbytes + gy.nbytes < ALONE:
        for part in parts:
            work(part)
    else:
        parallel_map(work, parts)


def correlate_weight(x: Array, gy: Array, kernel: Pair, offset: Pair, stride: Pair, dilation: Pair) -> Array:
    """The adjoint of ``correlate`` in w, (KH, KW, C, O): for every tap, its pixels transposed times gy."""
    xp, C, O = xp_of(x), x.shape[3], gy.shape[3]
    # A block's result is as large as the weight: where that is large, there are few blocks.
    most = max(2, 4 * (x.size + gy.size) // (kernel[0] * kernel[1] * C * O or 1))

    def work(span):
        part = xp.empty((*kernel, C, O), x.dtype)
        block = Block(x, span, gy.shape[2], kernel, offset, stride, dilation, O, runs=C < WIDE)
        n0, n1, r0, r1 = span
        _, matrices, pictures = block.new_outputs(xp.zeros)
        for columns, picture in pictures:
            picture[...] = gy[n0:n1, r0:r1, columns]
        for i, columns, pixels in block.taps():
            part[i, columns] = across(pixels, matrices).reshape(-1, C, O)
        return part

    parts = parallel_map(work, blocks(x, gy.shape, stride, most)) if x.size and gy.size else []
    return sum_parts(parts, (*kernel, C, O), x)


def sum_parts(parts: list[Array], shape: tuple[int, ...], like: Array) -> Array:
    """The sum of the blocks' weight gradients, in their order: the same for any number of threads."""
    return sum(parts[1:], parts[0]) if parts else xp_of(like).zeros(shape, like.dtype)
