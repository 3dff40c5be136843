"""Matrix products, y = a b, and the linear layer, y = x W' + b."""
from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend import parallel_matmul, sum_rows
from .arguments import check_floats
from .case import Case
from .dtypes import as_operand, check_not_bool, common_dtype
from .elementwise import unbroadcast
from .methods import add_methods
from .precision import Float16Safe
from .shape import reshape


class MatMul(Float16Safe):
    """y = a b over the last two axes; the others broadcast"""

    def forward(ctx, a, b):
        ctx.save(a, b)
        return parallel_matmul(a, b)

    def backward(ctx, gy):  # dL/da = gy b', dL/db = a' gy
        a, b = ctx.saved
        return (unbroadcast(parallel_matmul(gy, b.swapaxes(-1, -2)), a.shape) if ctx.needs_input_grad[0] else None,
                unbroadcast(parallel_matmul(a.swapaxes(-1, -2), gy), b.shape) if ctx.needs_input_grad[1] else None)


class Linear(Float16Safe):
    """y = x W' + b for each row x"""

    def forward(ctx, x, w, b):
        rows = x.reshape(-1, w.shape[1])
        ctx.save(rows, w)
        ctx.x_shape = x.shape
        y = parallel_matmul(rows, w.T)  # (rows, out)
        if b is not None:
            y += b
        return y.reshape(*x.shape[:-1], len(w))

    def backward(ctx, gy):
        rows, w = ctx.saved
        gy = gy.reshape(-1, len(w))
        gx = parallel_matmul(gy, w).reshape(ctx.x_shape) if ctx.needs_input_grad[0] else None
        gw = parallel_matmul(gy.T, rows) if ctx.needs_input_grad[1] else None  # (out, in)
        gb = sum_rows(gy) if ctx.needs_input_grad[2] else None
        return gx, gw, gb


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product over the last two axes, (..., M, K) @ (..., K, N) -> (..., M, N); leading axes broadcast.

    A vector is taken as a row on the left and as a column on the right. Integers beside floats become floats. Raises
    ``ValueError`` if K differs, ``TypeError`` for bools.
    """
    for i, x in enumerate((input, other)):
        if not isinstance(x, Tensor):
            raise TypeError(f"MatMul: argument {i} is of type {type(x).__name__}; wrap it in minicv.Tensor")
    if input.ndim == 0 or other.ndim == 0 or input.shape[-1] != other.shape[-2 if other.ndim > 1 else 0]:
        raise ValueError(f"matmul: {input.shape} @ {other.shape}: the last size of the first must equal the "
                         "second-to-last of the second")
    try:
        np.broadcast_shapes(input.shape[:-2], other.shape[:-2])
    except ValueError:
        raise ValueError(f"matmul: {input.shape} @ {other.shape}: the leading sizes do not broadcast") from None
    check_not_bool("matmul", input, other)
    dtype = common_dtype("matmul", [input, other])
    input, other = (as_operand("matmul", t, dtype, t) for t in (input, other))
    a = reshape(input, (1, -1)) if input.ndim == 1 else input
    b = reshape(other, (-1, 1)) if other.ndim == 1 else other
    y = MatMul.apply(a, b)
    shape = list(y.shape)
    if input.ndim == 1:
        del shape[-2]
    if other.ndim == 1:
        del shape[-1]
    return y if len(shape) == y.ndim else reshape(y, shape)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Fully connected layer: (..., in), ``weight`` (out, in), ``bias`` (out,) -> (..., out).

    Raises ``ValueError`` for shapes that do not fit and for an empty weight, ``TypeError`` for integers.
    """
    check_floats("linear", input=input, weight=weight, bias=bias)
    if weight.ndim != 2 or weight.size == 0:
        raise ValueError(f"linear: weight must be (out, in), at least 1 each, got {weight.shape}")
    if input.ndim < 1 or input.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: input {input.shape} must end in the {weight.shape[-1]} of weight {weight.shape}")
    if bias is not None and bias.shape != (weight.shape[0],):
        raise ValueError(f"linear: bias has shape {bias.shape}, weight {weight.shape} needs ({weight.shape[0]},)")
    return Linear.apply(input, weight, bias)


add_methods(matmul=matmul, __matmul__=matmul, __rmatmul__=lambda a, b: matmul(b, a))


def _matmul_loop(a, b):
    a2, b2 = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    lead = np.broadcast_shapes(a2.shape[:-2], b2.shape[:-2])
    a2, b2 = np.broadcast_to(a2, lead + a2.shape[-2:]), np.broadcast_to(b2, lead + b2.shape[-2:])
    y = np.zeros(lead + (a2.shape[-2], b2.shape[-1]))
    for *n, i, j in np.ndindex(y.shape):
        for k in range(a2.shape[-1]):
            y[(*n, i, j)] += a2[(*n, i, k)] * b2[(*n, k, j)]
    return y[..., 0, :] if a.ndim == 1 else y[..., 0] if b.ndim == 1 else y


def _linear_loop(x, w, b=None):
    y = np.zeros(x.shape[:-1] + w.shape[:1])
    for *n, o in np.ndindex(y.shape):
        y[(*n, o)] = sum(x[(*n, i)] * w[o, i] for i in range(w.shape[1])) + (0 if b is None else b[o])
    return y


CASES = [
    Case(matmul, "matrices", (3, 4), (4, 2), loop=_matmul_loop),
    Case(matmul, "batch broadcast", (2, 1, 3, 4), (3, 4, 2), loop=_matmul_loop),
    Case(matmul, "matrix and vector", (3, 4), (4,), loop=_matmul_loop),
    Case(matmul, "vector and matrix", (3,), (3, 2), loop=_matmul_loop),
    Case(linear, "rows", (3, 4), (2, 4), (2,), loop=_linear_loop),
    Case(linear, "without bias, leading axes", (2, 3, 4), (5, 4), None, loop=_linear_loop),
    Case(linear, "empty batch", (0, 4), (2, 4), (2,), loop=_linear_loop),
]
