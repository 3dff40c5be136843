"""Softmax and its logarithm: scores along one axis become probabilities.

    softmax(x)_k = exp(x_k) / sum_j exp(x_j)          U-Net (Ronneberger et al., 2015), sec. 3

The largest score is subtracted first. This divides numerator and denominator by exp(max), so the result is the same,
and nothing overflows. The logarithm is x_k - max - log(sum), which stays finite where softmax rounds to 0.

The largest score contributes exp(0) = 1 to the sum. Where it is far above the others, 1 + 1e-9 rounds to 1, and
everything that depends on the 1e-9 is lost: the logarithm of its probability, its gradient. So we compute r, the sum
of the *others*, and take log1p(r).
"""
from __future__ import annotations

import numpy as np

from ..autograd import Function, Tensor
from ..backend import Array, xp_of
from .arguments import check_floats
from .case import Case
from .precision import Float16Safe
from .shape import normalize_dim, reshape


def softmax_loop(x, dim):
    """``softmax`` on a plain array, one vector at a time, by the definition."""
    y = np.moveaxis(np.empty_like(x), dim, -1)
    for i in np.ndindex(y.shape[:-1]):
        e = np.exp(np.moveaxis(x, dim, -1)[i])
        y[i] = e / e.sum()
    return np.moveaxis(y, -1, dim)


def log_softmax_loop(x, dim):
    """``log_softmax`` on a plain array, by the definition."""
    return np.log(softmax_loop(x, dim))


def exp_and_sum_of_others(z: Array, axis: int = 0, keepdims: bool = False) -> tuple[Array, Array]:
    """exp(z), and its sum along the axis without the 1 of the largest score, which must be z = 0."""
    xp = xp_of(z)
    e = xp.exp(z)
    ones = xp.floor(e)  # 1 where z is 0, else 0
    ties = ones.sum(axis=axis, keepdims=keepdims) - 1
    return e, xp.subtract(e, ones, out=ones).sum(axis=axis, keepdims=keepdims) + ties


# ---------------------------------------------------------------------------------------------------------
# The operations
# ---------------------------------------------------------------------------------------------------------
class Softmax(Float16Safe):
    """p_k = exp(x_k) / sum_j exp(x_j)"""

    def forward(ctx, x, *, dim):
        e = xp_of(x).exp(x - x.max(axis=dim, keepdims=True))
        p = e / e.sum(axis=dim, keepdims=True)
        ctx.save(p)
        ctx.dim = dim
        return p

    def backward(ctx, gp):  # dp_k/dx_j = p_k ([j = k] - p_j): gx = p (gp - m), with m = sum_j p_j gp_j
        (p,) = ctx.saved
        # Where one p is almost 1, m is almost its gp, and the difference loses its digits. But gx is the same if one
        # number is subtracted from all gp. After subtracting m, that gp is near 0, and the second m has all digits.
        for _ in range(2):
            gp = gp - (gp * p).sum(axis=ctx.dim, keepdims=True)
        return p * gp


class LogSoftmax(Float16Safe):
    """y_k = x_k - log sum_j exp(x_j)"""

    def forward(ctx, x, *, dim):
        xp, z = xp_of(x), x - x.max(axis=dim, keepdims=True)
        y = z - xp.log1p(exp_and_sum_of_others(z, dim, keepdims=True)[1])
        ctx.save(y)
        ctx.dim = dim
        return y

    def backward(ctx, gy):  # dy_k/dx_j = [j = k] - p_j
        (y,), xp = ctx.saved, xp_of(gy)
        others = gy.sum(axis=ctx.dim, keepdims=True) - gy
        return -(gy * xp.expm1(y) + xp.exp(y) * others)  # gy (1 - p) - p (sum of other gy), with all digits of 1 - p


def softmax(input: Tensor, dim: int) -> Tensor:
    """exp(x) / sum exp(x) along the axis ``dim``, any shape. Raises ``ValueError`` for an unknown axis."""
    return _along(Softmax, "softmax", input, dim)


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """log(softmax(x)) along the axis ``dim``, finite for finite scores. Errors are as in ``softmax``."""
    return _along(LogSoftmax, "log_softmax", input, dim)


def _along(function: type[Function], name: str, input: Tensor, dim: int) -> Tensor:
    check_floats(name, input=input)
    along = normalize_dim(name, input.ndim, dim)
    if not input.size:  # without scores there is no largest one
        return reshape(input, input.shape)
    return function.apply(input, dim=along) if input.ndim else function.apply(input.reshape(1), dim=0).reshape(())


CASES = [Case(op, label, shape, dim=dim, loop=loop)
         for op, loop in ((softmax, softmax_loop), (log_softmax, log_softmax_loop))
         for label, shape, dim in (
             ("scores of images", (4, 5), 1),
             ("scores of pixels", (2, 3, 4, 5), 1),
             ("last axis", (2, 3, 4), -1),
             ("first axis", (3, 4), 0),
             ("one vector", (6,), 0),
             ("one class", (3, 1, 2), 1),
             ("more classes than pixels", (1, 40, 2), 1),
             ("larger than one block", (2, 3, 128, 160), 1),
             ("empty batch", (0, 3, 2, 2), 1))]
CASES += [Case(softmax, "a number", (), dim=-1, loop=lambda x, dim: np.array(1.0)),
          Case(log_softmax, "a number", (), dim=0, loop=lambda x, dim: np.array(0.0))]
