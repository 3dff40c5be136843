"""Reductions: sum, mean and extremes over axes. ``dim`` and ``keepdim`` are as in PyTorch; None means all axes."""
from __future__ import annotations

import math

import numpy as np

from ..autograd import Tensor
from ..backend import accurate_sum, apply_mask, without_overflow, xp_of
from .arguments import check_floats
from .case import Case
from .methods import add_methods
from .precision import Float16Safe

Dims = int | tuple[int, ...] | None


def normalize_dims(where: str, ndim: int, dim: Dims) -> tuple[int, ...]:
    """The axes to reduce, counted from 0; all for None and (). Raises ``ValueError`` for an unknown axis."""
    dims = tuple(dim) if isinstance(dim, tuple | list) else () if dim is None else (dim,)
    n = max(ndim, 1)  # a number can be reduced along 0 and -1
    if any(not isinstance(d, int | np.integer) or not -n <= d < n for d in dims) \
            or len({d % n for d in dims}) < len(dims):
        raise ValueError(f"{where}(dim={dim}): input has {ndim} axes; each dim must be in {-n}..{n - 1}, once")
    return tuple(int(d) % n for d in dims) if dims and ndim else tuple(range(ndim))


def keepdim_shape(shape: tuple[int, ...], over: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with its reduced axes as 1, which broadcasts against the input."""
    return tuple(1 if i in over else n for i, n in enumerate(shape))


class Sum(Float16Safe):
    """y = sum of x over the axes; its adjoint repeats gy along them, ``shape.Expand``"""

    def forward(ctx, x, *, over, keepdim):
        ctx.x_shape, ctx.over = x.shape, over
        return xp_of(x).asarray(accurate_sum(x, over, keepdim))

    def backward(ctx, gy):
        return xp_of(gy).broadcast_to(gy.reshape(keepdim_shape(ctx.x_shape, ctx.over)), ctx.x_shape)


class Mean(Sum):
    """y = sum of x / n"""

    def forward(ctx, x, *, over, keepdim):
        ctx.x_shape, ctx.over, ctx.n = x.shape, over, float(math.prod(x.shape[i] for i in over))
        return xp_of(x).asarray(without_overflow(lambda x: accurate_sum(x, over, keepdim) / ctx.n, x))

    def backward(ctx, gy):
        return super().backward(gy / ctx.n)


class Amax(Float16Safe):
    """y = max of x over the axes; ties share the gradient evenly, and so do several NaN"""

    @staticmethod
    def extreme(x, over):
        return x.max(axis=over, keepdims=True)

    def forward(ctx, x, *, over, keepdim):
        y = type(ctx).extreme(x, over)
        ctx.save((x == y) | (x != x))  # if any is NaN, y is NaN
        ctx.over = over
        return xp_of(x).asarray(y if keepdim else y.reshape([n for i, n in enumerate(x.shape) if i not in over]))

    def backward(ctx, gy):
        (winners,) = ctx.saved
        gy = gy.reshape(keepdim_shape(winners.shape, ctx.over))
        return apply_mask(gy / winners.sum(axis=ctx.over, keepdims=True).astype(gy.dtype), winners)


class Amin(Amax):
    """y = min of x over the axes; ties and NaN as in ``Amax``"""

    @staticmethod
    def extreme(x, over):
        return x.min(axis=over, keepdims=True)


def nonempty_dims(where: str, input: Tensor, dim: Dims) -> tuple[int, ...]:
    """As ``normalize_dims``; raises ``ValueError`` for an axis of size 0."""
    over = normalize_dims(where, input.ndim, dim)
    if 0 in (input.shape[i] for i in over):
        raise ValueError(f"{where}: input {input.shape} is empty along dim={dim}, so it has no {where}")
    return over


def sum(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Sum over ``dim`` (all axes if None). The adjoint of ``expand``.

    The axes are dropped, or stay with size 1 if ``keepdim``. Integers and bools give int64.
    """
    return Sum.apply(input, over=normalize_dims("sum", input.ndim, dim), keepdim=keepdim)


def mean(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Mean over ``dim`` (all axes if None). Raises ``TypeError`` for integers, ``ValueError`` for empty input."""
    check_floats("mean", input=input)
    return Mean.apply(input, over=nonempty_dims("mean", input, dim), keepdim=keepdim)


def amax(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Largest element over ``dim``. Ties share the gradient. Raises ``ValueError`` for empty input."""
    return Amax.apply(input, over=nonempty_dims("amax", input, dim), keepdim=keepdim)


def amin(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Smallest element over ``dim``; ties and errors as in ``amax``."""
    return Amin.apply(input, over=nonempty_dims("amin", input, dim), keepdim=keepdim)


add_methods(sum=sum, mean=mean, amax=amax, amin=amin)


def _loop(f):
    """The oracle as a loop: f of the list of elements behind each output."""
    def loop(x, dim=None, keepdim=False):
        over = normalize_dims("", x.ndim, dim)
        y = np.empty(keepdim_shape(x.shape, over))
        for place in np.ndindex(y.shape):
            inside = [x[i] for i in np.ndindex(x.shape) if all(d in over or i[d] == place[d] for d in range(x.ndim))]
            y[place] = f(inside)
        return y if keepdim else y.reshape([n for i, n in enumerate(x.shape) if i not in over])
    return loop


def _total(values):
    total = 0.0
    for v in values:
        total += v
    return total


TIES = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
CASES = [
    Case(sum, "all", (2, 3), loop=_loop(_total)),
    Case(sum, "one axis", (2, 3, 4), dim=1, loop=_loop(_total)),
    Case(sum, "two axes, kept", (2, 3, 4), dim=(0, -1), keepdim=True, loop=_loop(_total)),
    Case(mean, "all", (2, 3), loop=_loop(lambda v: _total(v) / len(v))),
    Case(mean, "pixels", (2, 3, 4, 2), dim=(2, 3), loop=_loop(lambda v: _total(v) / len(v))),
    *(Case(op, "a number", (), dim=-1, keepdim=True, loop=_loop(f)) for op, f in (
        (sum, _total), (mean, _total), (amax, max), (amin, min))),
    Case(amax, "all", (2, 3), loop=_loop(max)),
    Case(amax, "one axis, kept", (2, 3, 4), dim=1, keepdim=True, loop=_loop(max)),
    Case(amax, "ties", TIES, dim=1, loop=_loop(max), gradients=[[[0, 1 / 2, 1 / 2], [2 / 3, 2 / 3, 2 / 3]]]),
    Case(amin, "ties", -TIES, dim=1, loop=_loop(min), gradients=[[[0, 1 / 2, 1 / 2], [2 / 3, 2 / 3, 2 / 3]]]),
    Case(amin, "two axes", (2, 3, 4), dim=(0, 2), loop=_loop(min)),
]
