"""Convolution and transposed convolution.

    y[n, o, a, b] = bias[o] + sum_{c,i,j} w[o, c, i, j] x[n, c, s a + d i - p, s b + d j - p]

with stride s, dilation d and padding p; x is zero outside its borders. This is a cross-correlation: the kernel is not
flipped. Every convolution is a sparse matrix C (``conv_matrix``): conv2d is C @ x, and conv_transpose2d is its
transpose, C.T @ y. So the backward pass of each with respect to its input is the forward pass of the other. Signatures
and sizes are PyTorch's; Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016), draw them.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..autograd import Tensor
from ..backend import Array, accurate_sum, to_numpy, xp_of
from .arguments import Pair, check_floats, pair
from .case import Case
from .precision import Float16Safe

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def conv_output_size(i: int, k: int, stride: int, padding: int, dilation: int) -> int:
    """Output size of a convolution, floor((i + 2p - d(k-1) - 1) / s) + 1; sec. 5.1."""
    return (i + 2 * padding - dilation * (k - 1) - 1) // stride + 1


def conv_transpose_output_size(i: int, k: int, stride: int, padding: int, output_padding: int, dilation: int) -> int:
    """Output size of a transposed convolution, s(i-1) + d(k-1) + 1 - 2p + output_padding; sec. 4.6."""
    return stride * (i - 1) + dilation * (k - 1) + 1 - 2 * padding + output_padding


# ---------------------------------------------------------------------------------------------------------
# The definition, in loops
# ---------------------------------------------------------------------------------------------------------
def conv2d_loop(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """``conv2d`` on plain arrays, in loops: every output, tap by tap."""
    (sh, sw), (dh, dw) = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    (O, C, KH, KW), (N, _, H, W) = w.shape, x.shape
    (top, bottom), (left, right) = padding_sides(padding, (KH, KW), (dh, dw))
    OH = (H + top + bottom - dh * (KH - 1) - 1) // sh + 1
    OW = (W + left + right - dw * (KW - 1) - 1) // sw + 1
    y = np.zeros((N, O, OH, OW), x.dtype)
    for n, o, a, b in np.ndindex(y.shape):
        first = o // (O // groups) * C  # the first input channel of o's group
        for i, j in np.ndindex(KH, KW):
            row, col = sh * a + dh * i - top, sw * b + dw * j - left  # atrous: DeepLabv3, eq. (1); DeepLabv3+, eq. (1)
            if 0 <= row < H and 0 <= col < W:
                y[n, o, a, b] += x[n, first:first + C, row, col] @ w[o, :, i, j]
        if bias is not None:
            y[n, o, a, b] += bias[o]
    return y


def conv_transpose2d_loop(x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """``conv_transpose2d`` on plain arrays, in loops: every input stamps the kernel, weighted, onto the output."""
    (sh, sw), (ph, pw), (dh, dw) = (pair(v, "", 0) for v in (stride, padding, dilation))
    oph, opw = pair(output_padding, "", 0)
    (N, C, H, W), (_, OG, KH, KW) = x.shape, w.shape
    OH = conv_transpose_output_size(H, KH, sh, ph, oph, dilation=dh)
    OW = conv_transpose_output_size(W, KW, sw, pw, opw, dilation=dw)
    y = np.zeros((N, OG * groups, OH, OW), x.dtype)
    for n, c, a, b in np.ndindex(x.shape):
        first = c // (C // groups) * OG  # the first output channel of c's group
        for i, j in np.ndindex(KH, KW):
            row, col = sh * a + dh * i - ph, sw * b + dw * j - pw
            if 0 <= row < OH and 0 <= col < OW:
                y[n, first:first + OG, row, col] += x[n, c, a, b] * w[c, :, i, j]
    return y if bias is None else y + bias[:, None, None]


def conv_matrix(weight: Tensor | Array, input_size: Pair, stride: int | Pair = 1, padding: int | Pair = 0,
                dilation: int | Pair = 1) -> csr_array:
    """The sparse matrix C of a convolution: ``C @ x.ravel()`` is ``conv2d(x, weight).ravel()`` of one image; sec. 4.1.

    ``weight`` is (O, C, KH, KW), ``input_size`` (H, W), the result (O*OH*OW, C*H*W). For a 3x3 kernel on a 4x4 image it
    is 4x16, and its transpose, 16x4, is the transposed convolution. Raises ``ValueError`` for a weight that is not 4-D,
    or whose dilated kernel is larger than the padded image.
    """
    from scipy.sparse import csr_array  # here, because importing scipy takes 0.2 s
    weight = to_numpy(weight.data) if isinstance(weight, Tensor) else np.asarray(weight)
    if weight.ndim != 4 or 0 in weight.shape[2:]:
        raise ValueError(f"conv_matrix: weight must be (O, C, KH, KW), got {weight.shape}")
    (O, C, KH, KW), (H, W) = weight.shape, pair(input_size, "conv_matrix(input_size)", 1)
    (sh, sw), (ph, pw) = pair(stride, "conv_matrix(stride)", 1), pair(padding, "conv_matrix(padding)", 0)
    dh, dw = pair(dilation, "conv_matrix(dilation)", 1)
    OH, OW = conv_output_size(H, KH, sh, ph, dh), conv_output_size(W, KW, sw, pw, dw)
    if min(OH, OW) < 1:
        raise ValueError(f"conv_matrix: the padded image is {H + 2 * ph}x{W + 2 * pw}, smaller than the dilated "
                         f"kernel {dh * (KH - 1) + 1}x{dw * (KW - 1) + 1}")
    o, a, b, c, i, j = np.ix_(*map(np.arange, (O, OH, OW, C, KH, KW)))
    h, v = sh * a + dh * i - ph, sw * b + dw * j - pw
    row, column = (o * OH + a) * OW + b, (c * H + h) * W + v
    value = weight[:, None, None]
    inside = (h >= 0) & (h < H) & (v >= 0) & (v < W) & (value == value)
    row, column, value = (np.broadcast_to(t, inside.shape)[inside] for t in (row, column, value))
    return csr_array((value, (row, column)), shape=(O * OH * OW, C * H * W))


# ---------------------------------------------------------------------------------------------------------
# Windows
# ---------------------------------------------------------------------------------------------------------
class Windows(NamedTuple):
    """The geometry of a kernel's windows; each field is (height, width).

    A window has one tap for each element of its kernel. Tap (i, j) of window (a, b) lies on the pixel
    (s a + d i - p, s b + d j - p).
    """

    kernel: Pair
    stride: Pair
    padding: Pair  # above and to the left; below and to the right it reaches as far as the windows
    dilation: Pair

    def taps(self, out_size: Pair) -> Iterator[tuple[int, int, tuple]]:
        """Yield (i, j, at) for each tap. On the padded map, ``x[at]``, (..., OH, OW), is its pixel in each window."""
        for i, j in np.ndindex(*self.kernel):
            yield i, j, (..., *(slice(d * t, d * t + s * (o - 1) + 1, s)
                                for t, o, s, d in zip((i, j), out_size, self.stride, self.dilation, strict=True)))

    def padded_size(self, in_size: Pair, out_size: Pair) -> Pair:
        """Return the height and width of the padded map: as far as the map and its windows reach."""
        height, width = (max(p + i, s * (o - 1) + d * (k - 1) + 1)
                         for i, o, k, s, p, d in zip(in_size, out_size, *self, strict=True))
        return height, width

    def pad(self, x: Array, size: Pair, value: float = 0) -> Array:
        """Return the maps (N, C, H, W) padded to (N, C, *size)."""
        widths = [(p, n - p - i) for n, p, i in zip(size, self.padding, x.shape[2:], strict=True)]
        return xp_of(x).pad(x, [(0, 0), (0, 0), *widths], constant_values=value)

    def inside(self, in_size: Pair) -> tuple:
        """Return the index of the map in its padded version: ``padded[inside]`` undoes ``pad``."""
        return (..., *(slice(p, p + n) for p, n in zip(self.padding, in_size, strict=True)))


# ---------------------------------------------------------------------------------------------------------
# The operations: one tap of the kernel after the other, for all windows at once
# ---------------------------------------------------------------------------------------------------------
class Conv2d(Float16Safe):
    """y[n, o, a, b] = bias[o] + sum_{c,i,j} w[o, c, i, j] x[n, c, s a + d i - p, s b + d j - p]"""

    def forward(ctx, x, w, b, *, windows, out_size, groups):
        (N, _, *in_size), (O, CG, KH, KW), G, P = x.shape, w.shape, groups, out_size[0] * out_size[1]
        size = windows.padded_size(in_size, out_size)
        x, w = windows.pad(x, size).reshape(N, G, CG, *size), w.reshape(G, O // G, CG, KH, KW)
        y, ctx.taps = xp_of(x).zeros((N, G, O // G, P), x.dtype), list(windows.taps(out_size))
        for i, j, at in ctx.taps:
            y += w[..., i, j] @ x[at].reshape(N, G, CG, P)  # (O/G, C/G) @ (C/G, P), for each image and group
        ctx.save(x, w)
        ctx.inside = windows.inside(in_size)
        y = y.reshape(N, O, *out_size)
        return y if b is None else y + b[:, None, None]

    def backward(ctx, gy):
        (x, w), (N, O, OH, OW) = ctx.saved, gy.shape
        (G, OG, CG, KH, KW), gx, gw = w.shape, xp_of(x).zeros_like(x), xp_of(w).zeros_like(w)
        g = gy.reshape(N, G, OG, OH * OW)
        for i, j, at in ctx.taps:
            gx[at] += (w[..., i, j].swapaxes(-1, -2) @ g).reshape(N, G, CG, OH, OW)  # (C/G, O/G) @ (O/G, P)
            pixels = x[at].reshape(N, G, CG, OH * OW)
            gw[..., i, j] = (g @ pixels.swapaxes(-1, -2)).sum(axis=0)  # (O/G, P) @ (P, C/G), over all images
        gx = gx.reshape(N, G * CG, *x.shape[3:])[ctx.inside]  # without the padding
        return gx, gw.reshape(O, CG, KH, KW), accurate_sum(gy, (0, 2, 3))


class ConvTranspose2d(Float16Safe):
    """y[n, o, s a + d i - p, s b + d j - p] += w[c, o, i, j] x[n, c, a, b], starting from y = bias

    ``windows`` lie on y: they are those of the convolution whose transpose this is.
    """

    def forward(ctx, x, w, b, *, windows, out_size, groups):
        (N, C, H, W), (_, OG, KH, KW), G = x.shape, w.shape, groups
        ctx.windows, ctx.in_size, ctx.size = windows, (H, W), windows.padded_size(out_size, (H, W))
        x, w = x.reshape(N, G, C // G, H * W), w.reshape(G, C // G, OG, KH, KW)
        y = xp_of(x).zeros((N, G, OG, *ctx.size), x.dtype)
        for i, j, at in windows.taps((H, W)):
            y[at] += (w[..., i, j].swapaxes(-1, -2) @ x).reshape(N, G, OG, H, W)  # (O/G, C/G) @ (C/G, P)
        ctx.save(x, w)
        y = y.reshape(N, G * OG, *ctx.size)[windows.inside(out_size)]  # without the padding
        return y if b is None else y + b[:, None, None]

    def backward(ctx, gy):
        (x, w), (N, G, CG, P) = ctx.saved, ctx.saved[0].shape
        OG, gx, gw = w.shape[2], xp_of(x).zeros_like(x), xp_of(w).zeros_like(w)
        g = ctx.windows.pad(gy, ctx.size).reshape(N, G, OG, *ctx.size)
        for i, j, at in ctx.windows.taps(ctx.in_size):
            stamped = g[at].reshape(N, G, OG, P)
            gx += w[..., i, j] @ stamped  # (C/G, O/G) @ (O/G, P)
            gw[..., i, j] = (x @ stamped.swapaxes(-1, -2)).sum(axis=0)  # (C/G, P) @ (P, O/G), over all images
        gw = gw.reshape(G * CG, OG, *w.shape[3:])
        return gx.reshape(N, G * CG, *ctx.in_size), gw, accurate_sum(gy, (0, 2, 3))


def padding_sides(padding: int | Pair | str, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) from a number, a pair, "valid" or "same" (an odd pixel goes to the end)."""
    if padding == "same":
        vertical, horizontal = (d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        return (vertical // 2, vertical - vertical // 2), (horizontal // 2, horizontal - horizontal // 2)
    ph, pw = (0, 0) if isinstance(padding, str) else pair(padding, "conv2d(padding)", 0)
    return (ph, ph), (pw, pw)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Pair = 1,
           padding: int | Pair | str = 0, dilation: int | Pair = 1, groups: int = 1) -> Tensor:
    """Convolve (N, C, H, W) with ``weight`` (O, C/groups, KH, KW): (N, O, OH, OW), sizes as in ``conv_output_size``.

    ``padding``: zeros on every side, or "valid" (none), or "same" (output as large as the input, stride 1 only). The
    channels are split into ``groups``, each with its own O/groups filters. Raises ``ValueError`` when the channels do
    not fit or the padded input is smaller than the dilated kernel, ``TypeError`` for integers.
    """
    check_conv("conv2d", input, weight, bias, groups=groups, in_axis=1, out_axis=0)
    strides, dilations = pair(stride, "conv2d(stride)", 1), pair(dilation, "conv2d(dilation)", 1)
    kernel = weight.shape[2:]
    if padding == "same" and strides != (1, 1):
        raise ValueError(f"conv2d(padding='same') needs stride 1, got stride {stride}")
    if isinstance(padding, str) and padding not in ("same", "valid"):
        raise ValueError(f"conv2d(padding={padding!r}): use a number, a pair, 'valid' or 'same'")
    sides = padding_sides(padding, kernel, dilations)
    padded = [n + sum(side) for n, side in zip(input.shape[2:], sides, strict=True)]
    OH, OW = (conv_output_size(n, k, s, 0, d) for n, k, s, d in zip(padded, kernel, strides, dilations, strict=True))
    if min(OH, OW) < 1:
        dilated = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        raise ValueError(f"conv2d: the padded input is {padded[0]}x{padded[1]}, smaller than the dilated kernel "
                         f"{dilated[0]}x{dilated[1]}")
    windows = Windows(kernel, strides, (sides[0][0], sides[1][0]), dilations)
    return Conv2d.apply(input, weight, bias, windows=windows, out_size=(OH, OW), groups=groups)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Pair = 1,
                     padding: int | Pair = 0, output_padding: int | Pair = 0, groups: int = 1,
                     dilation: int | Pair = 1) -> Tensor:
    """The transpose of a convolution: (N, C, H, W), ``weight`` (C, O/groups, KH, KW) -> (N, O, OH, OW).

    Every input pixel stamps the kernel onto the output, ``stride`` pixels apart. ``padding`` is cut off on each side;
    ``output_padding`` (less than stride or dilation) keeps that many rows and columns at the end. Sizes are as in
    ``conv_transpose_output_size``. Raises ``ValueError`` when the channels do not fit. FCN, sec. 3.3.
    """
    check_conv("conv_transpose2d", input, weight, bias, groups=groups, in_axis=0, out_axis=1)
    (sh, sw), (dh, dw) = pair(stride, "conv_transpose2d(stride)", 1), pair(dilation, "conv_transpose2d(dilation)", 1)
    ph, pw = pair(padding, "conv_transpose2d(padding)", 0)
    oph, opw = pair(output_padding, "conv_transpose2d(output_padding)", 0)
    if oph >= max(sh, dh) or opw >= max(sw, dw):
        raise ValueError(f"conv_transpose2d(output_padding={output_padding}) must be less than stride ({sh}, {sw}) or "
                         f"dilation ({dh}, {dw})")
    KH, KW = weight.shape[2:]
    OH = conv_transpose_output_size(input.shape[2], KH, sh, ph, oph, dilation=dh)
    OW = conv_transpose_output_size(input.shape[3], KW, sw, pw, opw, dilation=dw)
    if min(OH, OW) < 1:
        raise ValueError(f"conv_transpose2d: input {input.shape} with kernel {KH}x{KW}, padding ({ph}, {pw}) gives an "
                         f"output of {OH}x{OW}; use less padding")
    windows = Windows((KH, KW), (sh, sw), (ph, pw), (dh, dw))
    return ConvTranspose2d.apply(input, weight, bias, windows=windows, out_size=(OH, OW), groups=groups)


def check_conv(name: str, input: Tensor, weight: Tensor, bias: Tensor | None, *, groups: int, in_axis: int,
               out_axis: int) -> None:
    """Check the arguments of both operations; ``in_axis`` and ``out_axis`` are the weight's axes of channels."""
    check_floats(name, input=input, weight=weight, bias=bias)
    if input.ndim != 4 or weight.ndim != 4:
        raise ValueError(f"{name}: input must be (N, C, H, W) and weight 4-D, got {input.shape} and {weight.shape}")
    if 0 in weight.shape[:2]:
        raise ValueError(f"{name}: weight {weight.shape} has no channels")
    if not isinstance(groups, int | np.integer) or groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"{name}(groups={groups}) must divide weight's first axis, {weight.shape[0]}")
    C, O = (weight.shape[axis] * (groups if axis == 1 else 1) for axis in (in_axis, out_axis))
    if input.shape[1] != C:
        raise ValueError(f"{name}: input {input.shape} has {input.shape[1]} channels, weight {weight.shape} with "
                         f"groups={groups} takes {C}")
    if bias is not None and bias.shape != (O,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, but the output has {O} channels: ({O},)")
    if 0 in weight.shape[2:]:
        raise ValueError(f"{name}: weight {weight.shape} has an empty kernel")


def _conv(label, *inputs, **options):
    return Case(conv2d, label, *inputs, loop=conv2d_loop, **options)


def _transposed(label, *inputs, **options):
    return Case(conv_transpose2d, label, *inputs, loop=conv_transpose2d_loop, **options)


CASES = [
    _conv("3x3", (2, 3, 6, 5), (4, 3, 3, 3), (4,)),
    _conv("padding 1 without bias", (2, 3, 5, 6), (2, 3, 3, 3), None, padding=1),
    _conv("1x1", (2, 5, 4, 3), (3, 5, 1, 1), (3,)),
    _conv("stride 2 of an even size", (2, 2, 6, 8), (3, 2, 3, 3), (3,), stride=2, padding=1),
    _conv("stride 3 with kernel 2, pixels left over", (1, 2, 9, 8), (2, 2, 2, 2), (2,), stride=3),
    _conv("1x1 with stride 2", (2, 3, 5, 6), (4, 3, 1, 1), (4,), stride=2),
    _conv("dilation 2, padding 2", (1, 2, 7, 8), (3, 2, 3, 3), (3,), dilation=2, padding=2),
    _conv("dilation 3 with stride 2", (1, 2, 11, 10), (2, 2, 3, 3), (2,), dilation=3, stride=2, padding=2),
    _conv("unequal everything", (2, 2, 8, 9), (3, 2, 2, 5), (3,), stride=(1, 2), padding=(0, 3), dilation=(3, 1)),
    _conv("padding same, even kernel", (1, 2, 5, 6), (2, 2, 4, 2), (2,), padding="same"),
    _conv("padding same, dilated", (1, 2, 6, 7), (2, 2, 3, 3), (2,), padding="same", dilation=(2, 4)),
    _conv("two groups", (2, 4, 5, 5), (6, 2, 3, 3), (6,), groups=2, padding=1),
    _conv("depthwise", (2, 4, 5, 6), (4, 1, 3, 3), (4,), groups=4, padding=1),
    _conv("depthwise, two filters a channel, stride 2", (1, 3, 7, 6), (6, 1, 3, 3), (6,), groups=3, stride=2),
    _conv("depthwise, dilation 2 with stride 3", (2, 3, 9, 10), (3, 1, 3, 3), (3,), groups=3, stride=3, dilation=2,
          padding=(1, 2)),
    _conv("2x2 windows that tile, a row and a column left over", (2, 3, 5, 7), (4, 3, 2, 2), (4,), stride=2),
    _conv("1x1, many pixels", (1, 8, 40, 41), (8, 8, 1, 1), (8,)),
    _conv("padding larger than the kernel", (1, 1, 2, 3), (2, 1, 2, 2), (2,), padding=3),
    _conv("kernel as large as the input", (2, 3, 4, 5), (2, 3, 4, 5), (2,)),
    _conv("empty batch", (0, 2, 5, 5), (3, 2, 3, 3), (3,)),
    _conv("larger than one block", (3, 8, 64, 96), (8, 8, 3, 3), (8,), padding=1),
    _transposed("2x2 stride 2, the up-conv of U-Net", (2, 3, 3, 4), (3, 2, 2, 2), (2,), stride=2),
    _transposed("3x3", (2, 2, 3, 4), (2, 3, 3, 3), (3,)),
    _transposed("4x4 stride 2 padding 1", (1, 2, 3, 4), (2, 2, 4, 4), (2,), stride=2, padding=1),
    _transposed("output_padding", (1, 2, 3, 3), (2, 2, 3, 3), (2,), stride=2, padding=1, output_padding=1),
    _transposed("stride larger than the kernel", (1, 2, 3, 3), (2, 2, 2, 2), None, stride=3, output_padding=(2, 0)),
    _transposed("dilation 2", (1, 2, 4, 3), (2, 3, 3, 2), (3,), dilation=2, padding=1),
    _transposed("dilation 2 with stride 2, every other output 0", (1, 2, 3, 3), (2, 2, 3, 3), (2,), dilation=2,
                stride=2),
    _transposed("two groups", (2, 4, 3, 3), (4, 3, 3, 3), (6,), groups=2, stride=2, padding=1),
    _transposed("depthwise, two channels into one", (2, 4, 3, 4), (4, 1, 3, 3), (2,), groups=2, stride=2, padding=1),
    _transposed("2x2 stride 2 with output_padding", (2, 3, 3, 4), (3, 2, 2, 2), (2,), stride=2, output_padding=1),
    _transposed("empty batch", (0, 2, 3, 3), (2, 2, 2, 2), (2,), stride=2),
]
