"""Convolution with kernels of three rows by Winograd's minimal filtering: four products for two rows of outputs.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), sec. 4.1, F(2, 3), here down the rows only.
Two rows of outputs y0, y1 meet the input rows d0 ... d3. With the kernel's rows g0, g1, g2, where d g is a product of
rows as in ``shifted.py``, that takes four such products; three taps for each row take six:

    m0 = (d0 - d2) g0      m1 = (d1 + d2) (g0 + g1 + g2)/2      m2 = (d2 - d1) (g0 - g1 + g2)/2      m3 = (d1 - d3) g2
    y0 = m0 + m1 + m2      y1 = m1 - m2 - m3

The sums of m replace those over taps, and the sums of d follow the copy that pads; from 64 channels on the products
outweigh them: 0.8 of the time of ``shifted.py``, which does the rest and all other convolutions, with functions of the
same names. With a dilation, ``dilation`` rows at once are what is called a row above. The sums of d overflow where the
inputs exceed half of the largest number, in float32 1.7e38: the one place where it is worse than the plain convolution.
"""
from __future__ import annotations

from ...backend import Array, as_strided, matmul, parallel_map, xp_of
from ...ops.arguments import Pair
from . import shifted
from .shifted import Block, blocks

PIXELS = 1024  # with fewer pixels, the transform of the weight takes longer than what it saves
CHANNELS = 64  # with 32 channels the sums cost as much as is saved
BLOCK_BYTES = shifted.BLOCK_BYTES // 2  # the sums of a block's rows take twice the memory of the rows


def supports(kernel: Pair, offset: Pair, stride: Pair, dilation: Pair) -> bool:
    """Whether the kernel has three rows and moves by one; ``is_faster`` asks the rest."""
    return kernel[0] == 3 and stride[0] == 1


def is_faster(x: Array, y: Array, stride: Pair, dilation: Pair) -> bool:
    """Whether the rows of outputs y come in pairs, and are many enough."""
    (N, OH, OW, O), C = y.shape, x.shape[3]
    return (OH % (2 * dilation[0]) == 0 and min(C, O) >= CHANNELS and N * OH * OW >= PIXELS
            and 1 in (stride[1], dilation[1]))


class Tiles(Block):
    """A block with four planes of n*T*dh rows: the sums of rows d that m0 ... m3 multiply, for T pairs of outputs."""

    def __init__(self, x: Array, span: tuple[int, int, int, int], *sizes, runs: bool = True):
        super().__init__(x, span, *sizes, runs=runs)
        xp, n, dh, line = xp_of(x), self.n1 - self.n0, self.dilation[0], self.pitch * self.C
        T = (self.r1 - self.r0) // (2 * dh)
        rows, size = self.buffer, n * T * dh * line
        d = [as_strided(rows, (n, T, dh, line), (self.Rq * line, 2 * dh * line, line, 1), k * dh * line)
             for k in range(4)]
        self.R = self.Rq = T * dh
        slack = max(0, self.cut(n * T * dh) * self.C - size)
        self.starts = [k * n * T * dh * self.pitch for k in range(4)]
        self.buffer = xp.empty(4 * size + slack, x.dtype)
        self.buffer[4 * size:] = 0
        planes = self.buffer[:4 * size].reshape(4, n, T, dh, line)
        xp.subtract(d[0], d[2], out=planes[0])
        xp.add(d[1], d[2], out=planes[1])
        xp.subtract(d[2], d[1], out=planes[2])
        xp.subtract(d[1], d[3], out=planes[3])

    def pairs(self, y: Array, columns: slice) -> tuple[Array, Array]:
        """Rows y0 and rows y1 of a block's outputs, views (n, T, dh, OW, O)."""
        n, R, OW, O = (part := y[self.n0:self.n1, self.r0:self.r1, columns]).shape
        dh = self.dilation[0]
        part = part.reshape(n, R // (2 * dh), 2, dh, OW, O)
        return part[:, :, 0], part[:, :, 1]


def correlate(x: Array, w: Array, out: Array, offset: Pair, stride: Pair, dilation: Pair,
              bias: Array | None = None) -> None:
    """As ``shifted.correlate``."""
    if len(w) != 3 or not is_faster(x, out, stride, dilation):
        shifted.correlate(x, w, out, offset, stride, dilation, bias)
        return
    xp, O, (g0, g1, g2) = xp_of(x), w.shape[3], shifted.contiguous(w)
    g = xp.stack([g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2]).reshape(4, -1, O)  # (4, KW*C, O)

    def work(span):
        block, m, pictures = Tiles(x, span, out.shape[2], w.shape[:2], offset, stride, dilation, O), [], []
        for k, _, pixels in block.taps():
            product, matrices, views = block.new_outputs(xp.empty)
            matmul(pixels, g[k], out=matrices)
            m.append(product)
            pictures.append(views)
        block.add(bias, m[1])
        m[0] += m[1]
        m[1] -= m[2]
        for (columns, p0), (_, p1), (_, p2), (_, p3) in zip(*pictures, strict=True):
            y0, y1 = block.pairs(out, columns)
            xp.add(p0.reshape(y0.shape), p2.reshape(y0.shape), out=y0)
            xp.subtract(p1.reshape(y1.shape), p3.reshape(y1.shape), out=y1)

    parallel_map(work, blocks(x, out.shape, stride, None, 2 * dilation[0], BLOCK_BYTES))


def correlate_input(gy: Array, w: Array, gx: Array, offset: Pair, stride: Pair, dilation: Pair,
                    bias: Array | None = None) -> None:
    """The adjoint of ``correlate`` in x, as ``shifted.correlate_input``."""
    shifted.correlate_input(gy, w, gx, offset, stride, dilation, bias, correlate)


def correlate_weight(x: Array, gy: Array, kernel: Pair, offset: Pair, stride: Pair, dilation: Pair) -> Array:
    """The adjoint of ``correlate`` in w, as ``shifted.correlate_weight``."""
    if not is_faster(x, gy, stride, dilation):
        return shifted.correlate_weight(x, gy, kernel, offset, stride, dilation)
    xp, C, O = xp_of(x), x.shape[3], gy.shape[3]
    most = max(2, 4 * (x.size + gy.size) // (kernel[0] * kernel[1] * C * O))
    fill = [lambda y0, y1, out: xp.copyto(out, y0), xp.add, xp.subtract, lambda y0, y1, out: xp.negative(y1, out=out)]

    def work(span):
        part = xp.empty((*kernel, C, O), x.dtype)
        block = Tiles(x, span, gy.shape[2], kernel, offset, stride, dilation, O, runs=C < shifted.WIDE)
        _, matrices, pictures = block.new_outputs(xp.zeros)
        a = xp.empty((4, *part.shape[1:]), part.dtype)
        for k, taps, pixels in block.taps():
            for columns, picture in pictures if taps.start == 0 else []:
                y0, y1 = block.pairs(gy, columns)
                fill[k](y0, y1, out=picture.reshape(y0.shape))
            a[k, taps] = shifted.across(pixels, matrices).reshape(-1, C, O)
        part[0] = a[0] + (a[1] + a[2]) / 2
        part[1] = (a[1] - a[2]) / 2
        part[2] = (a[1] + a[2]) / 2 + a[3]
        return part

    spans = blocks(x, gy.shape, stride, most, 2 * dilation[0], BLOCK_BYTES)
    return shifted.sum_parts(parallel_map(work, spans), (*kernel, C, O), x)
