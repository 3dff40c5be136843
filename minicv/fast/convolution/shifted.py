"""Convolution as shifted matrix products: the fast arithmetic behind ``conv2d`` and ``conv_transpose2d``.

Memory is channels-last. Write an image, padded with zeros, as a matrix with one row per pixel, (H*W, C). For the output
pixel in row r, tap (i, j) of the kernel reads the input pixel in row r + i*W + j. So one tap, for all pixels at once,
is the product of the matrix, shifted by i*W + j rows, with the (C, O) slice of the weight. Rows where a shift wraps
around the border are computed too, and cut off at the end. No window is ever copied.

Neighboring pixels lie side by side in memory. So the KW taps of a kernel row read KW*C consecutive numbers. The same
memory, taken as a matrix of KW*C columns whose rows are every m-th pixel, gives the outputs p, p+m, p+2m, ... in one
deep product: m = KW products of depth KW*C replace KW*KW products of depth C. With a stride s the next output is s
pixels further on, and m = ceil(KW/s) is enough. With a stride in height, or a dilation in width, the rows (or columns)
are first sorted into phases, r, r + s, r + 2s, ..., so that what one output reads lies side by side again. The zeros
that pad the end of a row also pad the start of the next one, and images stacked on each other share theirs: 1.2 times
less work for 7x7 pixels.

All this is done for one block of rows at a time, so that a block stays in a core's cache from the padding to the last
sum. Blocks and threads together made the 3x3 layers of ``tests/benchmarks/ops.py`` 1.5 times as fast on two cores.

``correlate`` is the convolution; ``correlate_input`` and ``correlate_weight`` are its two adjoints. All arrays are
(N, H, W, C); weights are (KH, KW, C, O), often views of (O, C, KH, KW).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from ...backend import Array, as_strided, device_of, matmul, parallel_map, xp_of
from ...ops.arguments import Pair
from ...ops.conv import Windows

BLOCK_BYTES = 1 << 22  # a tenth of it would fit a core's cache, but then threads wait for Python: 2.2 times as long
SMALL_PRODUCT = 1_000_000  # up to this M*N*K OpenBLAS multiplies without repacking its operands: 1.2 times as fast
WIDE = 64  # from so many channels on, one transposed tap is deep enough for a product, and takes less memory

Span = tuple[int, int, int, int]  # (n0, n1, r0, r1): images n0:n1, output rows r0:r1


class Block:
    """The input that a span of outputs needs, padded and sorted into phases; see the module docstring.

    ``buffer`` is flat memory for (sh, n, Rq, dw, Wq, C): input row sh*r + f is row r of phase f, column dw*q + g is
    column q of phase g. An output row takes ``pitch_out`` pixels.
    """

    def __init__(self, x: Array, span: Span, windows: Windows, *, out_width: int, out_channels: int, runs: bool = True):
        (KH, KW), (sh, sw), (top, left), (dh, dw) = windows
        self.n0, self.n1, self.r0, self.r1 = span
        self.KW, self.sw, self.dw, self.dh = KW, sw, dw, dh
        self.C, self.O, self.OW = x.shape[3], out_channels, out_width
        n, self.R = self.n1 - self.n0, self.r1 - self.r0
        runs = runs and 1 in (sw, dw)  # for a dilation with a stride in width: one tap at a time
        self.phases, self.run = (dw, KW) if runs else (1, 1)  # run: how many taps lie side by side in memory
        self.m = -(-self.run // sw)
        self.Rq = self.R + dh * (KH - 1) // sh
        self.Wq = -(-(sw * (out_width - 1) + dw * (KW - 1) + 1) // self.phases)
        self.Wq = -(-self.Wq // sw) * sw
        # Rows share their zeros: those after one row are those before the next. So do images.
        spare = min(shared_zeros(g - left, self.phases, self.Wq, x.shape[2]) for g in range(self.phases))
        self.Wq -= min(spare, self.Wq + sw * (-out_width // self.phases)) // sw * sw
        if n > 1 and sh == 1:
            self.Rq -= min(shared_zeros(self.r0 - top, 1, self.Rq, x.shape[1]), self.Rq - self.R)
        self.pitch = self.phases * self.Wq
        self.pitch_out = self.pitch // sw
        plane = n * self.Rq * self.pitch
        self.starts = [dh * i % sh * plane + dh * i // sh * self.pitch for i in range(KH)]
        end = self.plan_pieces((n - 1) * self.Rq + self.R)  # output rows, with those between two images
        slack = max(0, end + dh * (KH - 1) // sh * self.pitch - plane)
        self.buffer = xp_of(x).zeros((sh * plane + slack) * self.C, x.dtype)
        parts = self.buffer[:sh * plane * self.C].reshape(sh, n, self.Rq, self.phases, self.Wq, self.C)
        for f in {dh * i % sh for i in range(KH)}:
            rows_to, rows_from = clip_range(sh * self.r0 + f - top, sh, self.Rq, x.shape[1])
            for g in range(self.phases):
                columns_to, columns_from = clip_range(g - left, self.phases, self.Wq, x.shape[2])
                parts[f, :, rows_to, g, columns_to] = x[self.n0:self.n1, rows_from, columns_from]

    def plan_pieces(self, rows: int) -> int:
        """Split so many output rows into pieces, one product each; return how many pixels a tap reads for them."""
        self.rows = rows
        length = -(-rows * self.pitch_out // self.m)
        small = SMALL_PRODUCT // (self.run * self.C * self.O)
        self.pieces = -(-length // (min(small, 256) if small >= 32 else 4096))
        self.piece = -(-length // self.pieces)
        return self.sw * self.m * (self.pieces * self.piece + 1) + self.dw * (self.KW - 1) + self.run

    def taps(self) -> Iterator[tuple[int, slice, Array]]:
        """Yield (kernel row, slice of kernel columns, matrix of the pixels under them) for every run of taps."""
        sw, dw, C = self.sw, self.dw, self.C
        row = self.m * sw * C
        for i, start in enumerate(self.starts):
            for j in range(0, self.KW, self.run):
                yield i, slice(j, j + self.run), as_strided(
                    self.buffer, (self.m, self.pieces, self.piece, self.run * C), (sw * C, self.piece * row, row, 1),
                    (start + j * dw) * C)

    def new_outputs(self, make: Callable[..., Array]) -> tuple[Array, Array, list[tuple[slice, Array]]]:
        """Memory for the block's output: flat, as matrices that belong to ``taps``, and as (columns, image) views."""
        O = self.O
        flat = make(self.m * self.pieces * self.piece * O, self.buffer.dtype)
        matrices = as_strided(flat, (self.m, self.pieces, self.piece, O),
                              (O, self.piece * self.m * O, self.m * O, 1))
        Wo = self.Wq // self.sw
        images = []
        for g in range(self.phases):  # the output columns g, g + phases, ...
            width = -(-(self.OW - g) // self.phases)
            if width > 0:
                shape = (self.n1 - self.n0, self.R, width, O)
                strides = (self.Rq * self.pitch_out * O, self.pitch_out * O, O, 1)
                images.append((slice(g, None, self.phases), as_strided(flat, shape, strides, g * Wo * O)))
        return flat, matrices, images

    def add_bias(self, bias: Array | None, flat: Array) -> None:
        """Add the bias to a block's output, tiled to whole rows: 3 times as fast as a short vector."""
        if bias is not None:
            line = self.pitch_out * self.O
            lines = flat[:self.rows * line].reshape(self.rows, line)
            lines += xp_of(flat).tile(bias, self.pitch_out)


def clip_range(first: int, step: int, count: int, size: int) -> tuple[slice, slice]:
    """Which of the ``count`` positions first, first + step, ... lie in 0..size: a slice of them, and one of 0..size."""
    low = min(max(0, -(first // step)), count)
    high = max(low, min(count, -(-(size - first) // step)))
    if low == high:
        return slice(0, 0), slice(0, 0)
    return slice(low, high), slice(first + step * low, first + step * (high - 1) + 1, step)


def shared_zeros(first: int, step: int, count: int, size: int) -> int:
    """How many of the positions of ``clip_range`` lie before 0..size and as many behind it: two rows share those."""
    inside, _ = clip_range(first, step, count, size)
    return min(inside.start, count - inside.stop)


def output_blocks(x: Array, out_shape: tuple[int, ...], stride: Pair, *, most: int | None = None, unit: int = 1,
                  block_bytes: int = BLOCK_BYTES) -> list[Span]:
    """Cut an output into spans of about ``block_bytes`` of input and output.

    Their number is even, for two cores, and at most ``most``. It does not depend on the machine, so the results do not
    either. On a GPU there is one span. Rows are cut at multiples of ``unit``.
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


def contiguous_weight(w: Array) -> Array:
    """The weight if it is contiguous, else a copy, made 16 filters at a time: in cache, 2.7 times as fast for 512.

    ``nn.Conv2d`` keeps its weight in memory so that no copy is needed.
    """
    if w.flags.c_contiguous or device_of(w) != "numpy":
        return xp_of(w).ascontiguousarray(w)
    copy = xp_of(w).empty(w.shape, w.dtype)
    for o in range(0, w.shape[3], 16):
        copy[..., o:o + 16] = w[..., o:o + 16]
    return copy


def sum_over_pieces(pixels: Array, matrices: Array) -> Array:
    """The sum over all pieces of pixels transposed times outputs: (run*C, O)."""
    products = pixels.transpose(0, 1, 3, 2) @ matrices  # (m, pieces, run*C, O)
    return products.sum(axis=(0, 1))


def correlate(x: Array, w: Array, out: Array, windows: Windows, bias: Array | None = None) -> None:
    """out[n, a, b] = bias + sum over i, j of x[n, sh*a + dh*i - top, sw*b + dw*j - left] @ w[i, j]

    with padding (top, left) and x zero outside its borders. ``out`` may be any view.
    """
    if w.size == 0:
        out[...] = 0 if bias is None else bias
    if 0 in out.shape or w.size == 0:
        return
    xp, (KH, KW, C, O) = xp_of(x), w.shape
    w_rows = contiguous_weight(w).reshape(KH, KW * C, O)

    def work(span: Span) -> None:
        block = Block(x, span, windows, out_width=out.shape[2], out_channels=O)
        total, product = None, None
        for i, columns, pixels in block.taps():
            weight = w_rows[i, columns.start * C:columns.stop * C]
            if total is None:
                total, matrices, images = block.new_outputs(xp.empty)
                matmul(pixels, weight, out=matrices)
            else:
                if product is None:
                    product, matrices, _ = block.new_outputs(xp.empty)
                matmul(pixels, weight, out=matrices)
                total += product
        block.add_bias(bias, total)
        n0, n1, r0, r1 = span
        for columns, image in images:
            out[n0:n1, r0:r1, columns] = image

    parallel_map(work, output_blocks(x, out.shape, windows.stride))


def adjoint_parts(w: Array, gx: Array, windows: Windows) -> Iterator[tuple[Array, Array, Windows]]:
    """The adjoint of ``correlate`` in x as convolutions of stride 1: (weight, part of gx, windows) of each.

    The rows of gx with the same remainder modulo the stride are reached by the same taps, in steps of whole output
    rows. So each such part of gx is itself a convolution of gy, stride 1, with those taps in reverse order.
    """
    def along(size, window):
        """(positions in gx, kernel taps last to first, padding, dilation) for every remainder."""
        k, s, p, d = window
        step = s // math.gcd(s, d)
        for a in range(min(s, size)):
            taps = [i for i in range(k) if (a + p - d * i) % s == 0][::-1]
            shift = d * step // s
            base = (a + p - d * taps[-1]) // s if taps else 0
            yield slice(a, None, s), taps, shift * (len(taps) - 1) - base, shift

    (rows_window, columns_window), w_adjoint = zip(*windows, strict=True), w.swapaxes(2, 3)
    for rows, tap_rows, top, dh in along(gx.shape[1], rows_window):
        for columns, tap_columns, left, dw in along(gx.shape[2], columns_window):
            part = w_adjoint[tap_rows][:, tap_columns] if tap_rows and tap_columns else w_adjoint[:0]
            yield (contiguous_weight(part), gx[:, rows, columns],
                   Windows(part.shape[:2], (1, 1), (top, left), (dh, dw)))


def correlate_input(gy: Array, w: Array, gx: Array, windows: Windows, bias: Array | None = None, *,
                    correlate: Callable[..., None] = correlate) -> None:
    """The adjoint of ``correlate`` in x: gx receives gy through every tap, w transposed, and the bias."""
    def work(part: tuple[Array, Array, Windows]) -> None:
        weight, out, part_windows = part
        correlate(gy, weight, out, part_windows, bias)
    parallel_map(work, list(adjoint_parts(w, gx, windows)))


def correlate_weight(x: Array, gy: Array, windows: Windows) -> Array:
    """The adjoint of ``correlate`` in w, (KH, KW, C, O): for every tap, its pixels transposed times gy."""
    xp, kernel, C, O = xp_of(x), windows.kernel, x.shape[3], gy.shape[3]
    # A block's result is as large as the weight: where the weight is large, there are few blocks.
    most = max(2, 4 * (x.size + gy.size) // (kernel[0] * kernel[1] * C * O or 1))

    def work(span: Span) -> Array:
        part = xp.empty((*kernel, C, O), x.dtype)
        block = Block(x, span, windows, out_width=gy.shape[2], out_channels=O, runs=C < WIDE)
        n0, n1, r0, r1 = span
        _, matrices, images = block.new_outputs(xp.zeros)
        for columns, image in images:
            image[...] = gy[n0:n1, r0:r1, columns]
        for i, columns, pixels in block.taps():
            part[i, columns] = sum_over_pieces(pixels, matrices).reshape(-1, C, O)
        return part

    spans = output_blocks(x, gy.shape, windows.stride, most=most) if x.size and gy.size else []
    return sum_parts(parallel_map(work, spans), (*kernel, C, O), x)


def sum_parts(parts: list[Array], shape: tuple[int, ...], like: Array) -> Array:
    """The sum of the blocks' weight gradients, in their order: the same for any number of threads."""
    return sum(parts[1:], parts[0]) if parts else xp_of(like).zeros(shape, like.dtype)
