"""Activation functions, elementwise: y has the shape and the memory layout of x."""
from __future__ import annotations

import numpy as np

from ..autograd import Function, Tensor
from ..backend import apply_mask, xp_of
from .arguments import as_number, check_floats
from .case import Case
from .dtypes import check_not_bool, to_floats
from .precision import Float16Safe


class ReLU(Function):
    """y = max(x, 0)"""

    def forward(ctx, x):
        y = xp_of(x).maximum(x, 0)
        ctx.save(y != 0)  # y > 0, or NaN
        return y

    def backward(ctx, gy):  # the derivative at 0 is taken as 0
        return apply_mask(gy, ctx.saved[0])


class LeakyReLU(Function):
    """y = x for x > 0, slope * x elsewhere"""

    def forward(ctx, x, *, slope):
        ctx.save(x)
        ctx.slope = slope
        return xp_of(x).where(x > 0, x, x * slope)

    def backward(ctx, gy):
        (x,) = ctx.saved
        return xp_of(x).where(x > 0, gy, gy * ctx.slope)


class Sigmoid(Float16Safe):
    """y = s(x) = 1 / (1 + exp(-x)); the derivative is s(x) s(-x), since 1 - y loses all digits where y rounds to 1"""

    def forward(ctx, x):
        xp, e = xp_of(x), xp_of(x).exp(-abs(x))  # exp(x) or exp(-x), whichever cannot overflow
        ctx.save(e / (1 + e) ** 2)  # s(x) s(-x)
        return xp.where(x < 0, e, 1) / (1 + e)

    def backward(ctx, gy):
        return gy * ctx.saved[0]


class Tanh(Float16Safe):
    """y = tanh(x); the derivative is 1 / cosh(x)^2, since 1 - y^2 loses all digits where y rounds to 1"""

    def forward(ctx, x):
        ctx.save(x)
        return xp_of(x).tanh(x)

    def backward(ctx, gy):
        (x,) = ctx.saved
        return gy * (1 / xp_of(x).cosh(x)) ** 2


def relu(input: Tensor) -> Tensor:
    """max(x, 0), any shape; integers stay integers. The gradient at 0 is 0. Krizhevsky et al. (2012), sec. 3.1."""
    check_not_bool("relu", input)
    return ReLU.apply(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else ``negative_slope`` * x, any shape. YOLO (Redmon et al., 2016), eq. (2): slope 0.1."""
    check_floats("leaky_relu", input=input)
    slope = as_number(negative_slope, "leaky_relu(negative_slope)")
    return LeakyReLU.apply(input, slope=slope) if slope else ReLU.apply(input)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), any shape."""
    return Sigmoid.apply(to_floats(input))


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent, any shape."""
    return Tanh.apply(to_floats(input))


AT_ZERO = np.array([-1.5, 0.0, 2.5])  # a kink of (leaky) ReLU

CASES = [
    Case(relu, "4-D", (2, 3, 4, 5), loop=lambda x: np.array([max(v, 0.0) for v in x.flat]).reshape(x.shape)),
    Case(relu, "0-d", (), loop=lambda x: np.array(max(float(x), 0.0))),
    Case(relu, "at zero", AT_ZERO, loop=lambda x: np.array([0.0, 0.0, 2.5]), gradients=[[0, 0, 4]]),
    Case(leaky_relu, "slope 0.1", (3, 7), negative_slope=0.1,
         loop=lambda x, negative_slope: np.array([v if v > 0 else 0.1 * v for v in x.flat]).reshape(x.shape)),
    Case(leaky_relu, "at zero", AT_ZERO, loop=lambda x: np.array([-0.015, 0.0, 2.5]), gradients=[[0.01, 0.02, 4]]),
    Case(sigmoid, "3-D", (2, 3, 4), loop=lambda x: np.array([1 / (1 + np.exp(-v)) for v in x.flat]).reshape(x.shape)),
    Case(tanh, "2-D", (3, 5), loop=lambda x: np.array([np.sinh(v) / np.cosh(v) for v in x.flat]).reshape(x.shape)),
]
