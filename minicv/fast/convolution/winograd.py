"""Convolution with kernels of three rows by Winograd's minimal filtering: four products for two rows of outputs.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), sec. 4.1, F(2, 3), here along the rows only.
Two output rows y0, y1 depend on four input rows d0 ... d3 and the kernel's rows g0, g1, g2. Three taps for each of the
two rows take six products of rows, as in ``shifted.py``. Four are enough:

    m0 = (d0 - d2) g0      m1 = (d1 + d2) (g0 + g1 + g2)/2      m2 = (d2 - d1) (g0 - g1 + g2)/2      m3 = (d1 - d3) g2
    y0 = m0 + m1 + m2      y1 = m1 - m2 - m3

The sums of m replace the sums over taps, and the sums of d are made while the input is padded. From 64 channels on, the
products cost more than these sums, and ``shifted.py`` takes 1.1 to 1.25 times as long (``python -m
tests.benchmarks.storeys shifted``). With a dilation, a "row" above stands for ``dilation`` rows. The sums of d overflow
where the inputs exceed half of the largest number, in float32 1.7e38: only there is this worse than the plain one.
"""
from __future__ import annotations

from ...backend import Array, as_strided, matmul, parallel_map, xp_of
from ...ops.conv import Windows
from . import shifted
from .shifted import Block, Span, output_blocks

MIN_PIXELS = 1024  # with fewer pixels, transforming the weight takes longer than what is saved
MIN_CHANNELS = 64  # with 32 channels the sums cost as much as is saved
BLOCK_BYTES = shifted.BLOCK_BYTES // 2  # the sums of a block's rows take twice the memory of the rows


def supports(windows: Windows) -> bool:
    """Whether the kernel has three rows and moves by one; ``is_faster`` checks the rest."""
    return windows.kernel[0] == 3 and windows.stride[0] == 1


def is_faster(x: Array, y: Array, windows: Windows) -> bool:
    """Whether the output rows come in pairs, and pixels and channels are many enough."""
    (N, OH, OW, O), C, dilation = y.shape, x.shape[3], windows.dilation
    return (OH % (2 * dilation[0]) == 0 and min(C, O) >= MIN_CHANNELS and N * OH * OW >= MIN_PIXELS
            and 1 in (windows.stride[1], dilation[1]))


class RowPairs(Block):
    """A block with four planes of n*T*dh rows: the sums of rows d that m0 ... m3 multiply, for T pairs of outputs."""

    def __init__(self, x: Array, span: Span, windows: Windows, **sizes):
        super().__init__(x, span, windows, **sizes)
        xp, n, dh, line = xp_of(x), self.n1 - self.n0, self.dh, self.pitch * self.C
        T = (self.r1 - self.r0) // (2 * dh)
        rows, size = self.buffer, n * T * dh * line
        d = [as_strided(rows, (n, T, dh, line), (self.Rq * line, 2 * dh * line, line, 1), k * dh * line)
             for k in range(4)]
        self.R = self.Rq = T * dh
        slack = max(0, self.plan_pieces(n * T * dh) * self.C - size)
        self.starts = [k * n * T * dh * self.pitch for k in range(4)]
        self.buffer = xp.empty(4 * size + slack, x.dtype)
        self.buffer[4 * size:] = 0
        planes = self.buffer[:4 * size].reshape(4, n, T, dh, line)
        xp.subtract(d[0], d[2], out=planes[0])
        xp.add(d[1], d[2], out=planes[1])
        xp.subtract(d[2], d[1], out=planes[2])
        xp.subtract(d[1], d[3], out=planes[3])

    def split(self, y: Array, columns: slice) -> tuple[Array, Array]:
        """The rows y0 and the rows y1 of a block's outputs, views (n, T, dh, OW, O)."""
        n, R, OW, O = (part := y[self.n0:self.n1, self.r0:self.r1, columns]).shape
        part = part.reshape(n, R // (2 * self.dh), 2, self.dh, OW, O)
        return part[:, :, 0], part[:, :, 1]


def correlate(x: Array, w: Array, out: Array, windows: Windows, bias: Array | None = None) -> None:
    """As ``shifted.correlate``."""
    if len(w) != 3 or not is_faster(x, out, windows):
        shifted.correlate(x, w, out, windows, bias)
        return
    xp, O, (g0, g1, g2) = xp_of(x), w.shape[3], shifted.contiguous_weight(w)
    g = xp.stack([g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2]).reshape(4, -1, O)  # (4, KW*C, O)

    def work(span: Span) -> None:
        block, m, images = RowPairs(x, span, windows, out_width=out.shape[2], out_channels=O), [], []
        for k, _, pixels in block.taps():
            product, matrices, views = block.new_outputs(xp.empty)
            matmul(pixels, g[k], out=matrices)
            m.append(product)
            images.append(views)
        block.add_bias(bias, m[1])
        m[0] += m[1]
        m[1] -= m[2]
        for (columns, p0), (_, p1), (_, p2), (_, p3) in zip(*images, strict=True):
            y0, y1 = block.split(out, columns)
            xp.add(p0.reshape(y0.shape), p2.reshape(y0.shape), out=y0)
            xp.subtract(p1.reshape(y1.shape), p3.reshape(y1.shape), out=y1)

    parallel_map(work, output_blocks(x, out.shape, windows.stride, unit=2 * windows.dilation[0],
                                     block_bytes=BLOCK_BYTES))


def correlate_input(gy: Array, w: Array, gx: Array, windows: Windows, bias: Array | None = None) -> None:
    """The adjoint of ``correlate`` in x, as ``shifted.correlate_input``."""
    shifted.correlate_input(gy, w, gx, windows, bias, correlate=correlate)


def correlate_weight(x: Array, gy: Array, windows: Windows) -> Array:
    """The adjoint of ``correlate`` in w, as ``shifted.correlate_weight``."""
    if not is_faster(x, gy, windows):
        return shifted.correlate_weight(x, gy, windows)
    xp, kernel, C, O = xp_of(x), windows.kernel, x.shape[3], gy.shape[3]
    most = max(2, 4 * (x.size + gy.size) // (kernel[0] * kernel[1] * C * O))
    fill = [lambda y0, y1, out: xp.copyto(out, y0), xp.add, xp.subtract, lambda y0, y1, out: xp.negative(y1, out=out)]

    def work(span: Span) -> Array:
        part = xp.empty((*kernel, C, O), x.dtype)
        block = RowPairs(x, span, windows, out_width=gy.shape[2], out_channels=O, runs=C < shifted.WIDE)
        _, matrices, images = block.new_outputs(xp.zeros)
        a = xp.empty((4, *part.shape[1:]), part.dtype)
        for k, taps, pixels in block.taps():
            for columns, image in images if taps.start == 0 else []:
                y0, y1 = block.split(gy, columns)
                fill[k](y0, y1, out=image.reshape(y0.shape))
            a[k, taps] = shifted.sum_over_pieces(pixels, matrices).reshape(-1, C, O)
        part[0] = a[0] + (a[1] + a[2]) / 2
        part[1] = (a[1] - a[2]) / 2
        part[2] = (a[1] + a[2]) / 2 + a[3]
        return part

    spans = output_blocks(x, gy.shape, windows.stride, most=most, unit=2 * windows.dilation[0], block_bytes=BLOCK_BYTES)
    return shifted.sum_parts(parallel_map(work, spans), (*kernel, C, O), x)
