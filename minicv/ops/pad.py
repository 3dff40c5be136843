"""Padding: around an image add a constant, its mirror image (U-Net's overlap-tile), or copies of its edge.

Each axis is padded on its own. Every output row is a copy of one input row; the adjoint adds the gradient of the copy
to that input row.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..autograd import Tensor
from ..backend import Array, xp_of
from .arguments import as_number
from .case import Case
from .dtypes import check_fits
from .precision import Float16Safe
from .shape import getitem


def border_sources(mode: str, n: int, before: int, after: int) -> tuple[list[int], list[int]]:
    """The input rows whose copies stand before the first row and after the last."""
    if mode == "reflect":  # the edge itself is not repeated: 3 2 1 | 0 1 2 3
        return list(range(before, 0, -1)), list(range(n - 2, n - 2 - after, -1))
    return [0] * before, [n - 1] * after


def index_along(axis: int, index: slice | int | list[int]) -> tuple:
    """The index that selects ``index`` along one axis and everything along the others."""
    return (slice(None),) * axis + (index,)


class Pad(Float16Safe):
    """y = x with copies of its rows, or a constant, around it; with zeros, the adjoint of ``shape.crop``"""

    def forward(ctx, x, *, widths, mode, value):
        ctx.widths, ctx.mode, ctx.x_shape, xp = widths, mode, x.shape, xp_of(x)
        if mode == "constant":
            return xp.pad(x, widths, mode="constant", constant_values=value)
        for axis, (before, after) in enumerate(widths):
            if before or after:
                first, last = border_sources(mode, x.shape[axis], before, after)
                row = [x[index_along(axis, slice(i, i + 1))] for i in first + last]
                x = xp.concatenate([*row[:before], x, *row[before:]], axis=axis)
        return x

    def backward(ctx, gy: Array):
        for axis, (before, after) in reversed(list(enumerate(ctx.widths))):
            n, g = ctx.x_shape[axis], gy
            gy = g[index_along(axis, slice(before, before + n))]
            if ctx.mode != "constant" and (before or after):
                gy = gy.copy()
                first, last = border_sources(ctx.mode, n, before, after)
                rows = [*enumerate(first), *enumerate(last, before + n)]
                for row, source in rows:
                    gy[index_along(axis, source)] += g[index_along(axis, row)]
        return gy


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pad the last axes: ``pad`` = (left, right) or (left, right, top, bottom) or more, as in PyTorch.

    ``mode``: "constant" (``value``), "reflect" (mirrored without the edge; by less than the size), or "replicate" (the
    edge repeated). Negative padding crops, after the other end is padded. Padding with zeros is the adjoint of
    ``crop``. Raises ``ValueError`` for a ``pad``, mode or value that does not fit. U-Net (Ronneberger et al., 2015),
    Fig. 2, mirrors its images.
    """
    if not isinstance(pad, Sequence) or any(not isinstance(n, int | np.integer) for n in pad):
        raise ValueError(f"pad(pad={pad!r}): give integers in pairs, (left, right) or (left, right, top, bottom)")
    pad = tuple(int(n) for n in pad)
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad(pad={pad}): give pairs (left, right, top, bottom, ...) for at most {input.ndim} axes")
    if mode not in ("constant", "reflect", "replicate"):
        raise ValueError(f"pad(mode={mode!r}): use 'constant', 'reflect' or 'replicate'")
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    for n, pair in zip(input.shape, pairs, strict=True):
        if n + (sum(pair) if mode != "constant" else sum(min(p, 0) for p in pair)) < 0:
            raise ValueError(f"pad(pad={pad}): crops an axis of {n} by more than its size")
        if mode == "reflect" and max(pair) > max(n - 1, 0):
            raise ValueError(f"pad(pad={pad}, mode='reflect'): an axis of {n} can be mirrored by at "
                             f"most {max(n - 1, 0)}")
        if mode == "replicate" and max(pair) and not n:
            raise ValueError(f"pad(pad={pad}, mode='replicate'): input {input.shape} has an empty axis and no edge")
    check_fits("pad(value)", as_number(value, "pad(value)"), input.dtype)
    widths = tuple((max(a, 0), max(b, 0)) for a, b in pairs)
    y = Pad.apply(input, widths=widths, mode=mode, value=as_number(value, "pad(value)"))
    if min(pad, default=0) >= 0:
        return y
    return getitem(y, tuple(slice(max(-a, 0), n + min(b, 0)) for n, (a, b) in zip(y.shape, pairs, strict=True)))


def _loop(x, pad, mode="constant", value=0.0):
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    y = np.empty([n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True)])
    for place in np.ndindex(y.shape):
        source = [i - a for i, (a, _) in zip(place, pairs, strict=True)]
        inside = all(0 <= s < n for s, n in zip(source, x.shape, strict=True))
        if mode == "reflect":
            source = [-s if s < 0 else 2 * (n - 1) - s if s >= n else s for s, n in zip(source, x.shape, strict=True)]
        elif mode == "replicate":
            source = [min(max(s, 0), n - 1) for s, n in zip(source, x.shape, strict=True)]
        y[place] = x[tuple(source)] if inside or mode != "constant" else value
    return y


CASES = [
    Case(pad, "constant", (2, 3, 4), pad=(1, 2, 0, 3), value=-1.5, loop=_loop),
    Case(pad, "reflect", (1, 2, 4, 5), pad=(3, 1, 2, 3), mode="reflect", loop=_loop),
    Case(pad, "reflect, one axis, as far as it goes", (2, 3), pad=(2, 2), mode="reflect", loop=_loop),
    Case(pad, "replicate", (1, 2, 3, 2), pad=(4, 1, 0, 2), mode="replicate", loop=_loop),
    Case(pad, "constant, negative", (2, 4, 5), pad=(-2, 1, 3, -1), loop=_loop),
    Case(pad, "reflect, negative", (2, 4, 5), pad=(-3, 3, 3, -3), mode="reflect", loop=_loop),
    Case(pad, "replicate, negative", (2, 4, 5), pad=(-4, 1, -4, 2), mode="replicate", loop=_loop),
    Case(pad, "nothing", (2, 3), pad=(0, 0), loop=_loop),
]
