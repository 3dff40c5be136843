"""Elementwise arithmetic with broadcasting, and the operators of ``Tensor``.

Broadcasting repeats the smaller array. The adjoint of repeating is summing: ``unbroadcast``, which every operation here
uses. Python numbers take the tensor's dtype.
"""
from __future__ import annotations

import math

import numpy as np

from ..autograd import Function, Tensor
from ..backend import Array, accurate_sum, apply_mask, xp_of
from .arguments import as_number
from .case import Case
from .dtypes import astype, check_fits, check_not_bool, promote, to_floats
from .methods import add_methods
from .precision import Float16Safe
from .protocols import operator_of


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``g`` over the axes along which an array of this shape was repeated; the result has that shape."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    repeated = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    return accurate_sum(g, repeated).reshape(shape)


class Add(Function):
    """y = a + b"""

    def forward(ctx, a, b):
        ctx.shapes = a.shape, b.shape
        return a + b

    def backward(ctx, gy):
        return tuple(unbroadcast(gy, shape) if need else None
                     for shape, need in zip(ctx.shapes, ctx.needs_input_grad, strict=True))


class Sub(Function):
    """y = a - b"""

    def forward(ctx, a, b):
        ctx.shapes = a.shape, b.shape
        return a - b

    def backward(ctx, gy):
        return unbroadcast(gy, ctx.shapes[0]), unbroadcast(-gy, ctx.shapes[1]) if ctx.needs_input_grad[1] else None


class Mul(Function):
    """y = a b"""

    def forward(ctx, a, b):
        ctx.save(a, b)
        return a * b

    def backward(ctx, gy):
        a, b = ctx.saved
        return (unbroadcast(gy * b, a.shape) if ctx.needs_input_grad[0] else None,
                unbroadcast(gy * a, b.shape) if ctx.needs_input_grad[1] else None)


class Div(Float16Safe):
    """y = a / b"""

    def forward(ctx, a, b):
        y = a / b
        ctx.save(y, b, a.shape)
        return y

    def backward(ctx, gy):  # gb = - gy a / b^2 = - gy y / b: b^2 would overflow for b = 1e20 and vanish for 1e-30
        y, b, a_shape = ctx.saved
        return (unbroadcast(gy / b, a_shape) if ctx.needs_input_grad[0] else None,
                unbroadcast(-gy * y / b, b.shape) if ctx.needs_input_grad[1] else None)


class Neg(Function):
    """y = -x"""

    def forward(ctx, x):
        return -x

    def backward(ctx, gy):
        return -gy


class Pow(Float16Safe):
    """y = x^p for a number p"""

    def forward(ctx, x, *, p):
        ctx.save(x)
        ctx.p = p
        return x ** p

    def backward(ctx, gy):
        (x,) = ctx.saved
        return gy * (ctx.p * x ** (ctx.p - 1)) if ctx.p else xp_of(gy).zeros_like(gy)


class Exp(Function):
    """y = e^x"""

    def forward(ctx, x):
        y = xp_of(x).exp(x)
        ctx.save(y)
        return y

    def backward(ctx, gy):
        return gy * ctx.saved[0]


class Log(Function):
    """y = ln x"""

    def forward(ctx, x):
        ctx.save(x)
        return xp_of(x).log(x)

    def backward(ctx, gy):
        return gy / ctx.saved[0]


class Sqrt(Function):
    """y = sqrt(x)"""

    def forward(ctx, x):
        y = xp_of(x).sqrt(x)
        ctx.save(y)
        return y

    def backward(ctx, gy):
        return gy / (2 * ctx.saved[0])


class Abs(Function):
    """y = |x|; the derivative at 0 is taken as 0"""

    def forward(ctx, x):
        xp, y = xp_of(x), xp_of(x).abs(x)
        if ctx.needs_input_grad[0]:
            ctx.save(xp.copysign(1, x), y > 0)
        return y

    def backward(ctx, gy):
        sign, not_zero = ctx.saved
        return apply_mask(gy * sign, not_zero)


def add(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a + b, elementwise; shapes broadcast. Either may be a number."""
    return Add.apply(*promote("add", input, other))


def sub(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a - b, elementwise; shapes broadcast. Raises ``TypeError`` for bools."""
    a, b = promote("sub", input, other)
    check_not_bool("sub", input, other)
    return Sub.apply(a, b)


def mul(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a * b, elementwise; shapes broadcast."""
    return Mul.apply(*promote("mul", input, other))


def div(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a / b, elementwise; shapes broadcast. Two integers give float32."""
    return Div.apply(*map(to_floats, promote("div", input, other)))


def neg(input: Tensor) -> Tensor:
    """-x, any shape. Unsigned integers and the smallest signed one wrap around. Raises ``TypeError`` for bools."""
    check_not_bool("neg", input)
    return Neg.apply(input)


def pow(input: Tensor, exponent: float) -> Tensor:
    """x to the power of a number, any shape. Integers stay integers unless the exponent is a float.

    Raises ``ValueError`` for integers with a negative integer exponent.
    """
    p = as_number(exponent, "pow(exponent)")
    if input.dtype.kind != "f" and isinstance(p, float):
        input = to_floats(input)
    elif input.dtype.kind != "f":
        input = astype(input, "int64") if input.dtype == bool else input
        check_fits("pow(exponent)", p, input.dtype)
        if p < 0:
            raise ValueError(f"pow(exponent={p}): integers ({input.dtype}) have no negative integer powers; convert "
                             "with .astype('float32')")
    return Pow.apply(input, p=p)


def exp(input: Tensor) -> Tensor:
    """e^x, any shape. Integers give float32."""
    return Exp.apply(to_floats(input))


def log(input: Tensor) -> Tensor:
    """Natural logarithm, any shape; x must be positive. Integers give float32."""
    return Log.apply(to_floats(input))


def sqrt(input: Tensor) -> Tensor:
    """Square root, any shape; the derivative at 0 is infinite. Integers give float32."""
    return Sqrt.apply(to_floats(input))


def abs(input: Tensor) -> Tensor:
    """|x|, any shape. The gradient at 0 is 0; the smallest integer stays negative. Raises ``TypeError`` for bools."""
    check_not_bool("abs", input)
    return Abs.apply(input)


add_methods(
    __add__=operator_of(add), __radd__=operator_of(add, swap=True),
    __sub__=operator_of(sub), __rsub__=operator_of(sub, swap=True),
    __mul__=operator_of(mul), __rmul__=operator_of(mul, swap=True),
    __truediv__=operator_of(div), __rtruediv__=operator_of(div, swap=True),
    __pow__=operator_of(pow), __neg__=neg, __abs__=abs, exp=exp, log=log, sqrt=sqrt, abs=abs)


def elementwise_loop(f):
    """The oracle as a loop: f of the broadcast elements, one at a time."""
    def loop(*arrays, **options):
        full = np.broadcast_arrays(*arrays)
        return np.array([f(*v, **options) for v in zip(*(a.flat for a in full), strict=True)]).reshape(full[0].shape)
    return loop


POSITIVE = np.array([[0.5, 1.3], [2.7, 4.1]])
CASES = [
    Case(add, "same shape", (2, 3), (2, 3), loop=elementwise_loop(lambda a, b: a + b)),
    Case(add, "broadcast, leading and inner axes", (2, 1, 4), (3, 1), loop=elementwise_loop(lambda a, b: a + b)),
    Case(sub, "broadcast 0-d", (2, 3), (), loop=elementwise_loop(lambda a, b: a - b)),
    Case(mul, "broadcast channels", (2, 3, 2, 2), (3, 1, 1), loop=elementwise_loop(lambda a, b: a * b)),
    Case(div, "broadcast", (3, 1), (1, 4), loop=elementwise_loop(lambda a, b: a / b)),
    Case(neg, "2-D", (2, 3), loop=elementwise_loop(lambda a: -a)),
    Case(pow, "square", (2, 3), exponent=2, loop=elementwise_loop(lambda a, exponent: a * a)),
    Case(pow, "square root", POSITIVE, exponent=0.5, loop=elementwise_loop(lambda a, exponent: math.sqrt(a))),
    Case(pow, "zeroth", (2, 3), exponent=0, loop=elementwise_loop(lambda a, exponent: 1.0)),
    Case(exp, "2-D", (2, 3), loop=elementwise_loop(math.exp)),
    Case(log, "positive", POSITIVE, loop=elementwise_loop(math.log)),
    Case(sqrt, "positive", POSITIVE, loop=elementwise_loop(math.sqrt)),
    Case(abs, "2-D", (2, 3), loop=elementwise_loop(math.fabs)),
    Case(abs, "at zero", np.array([0.0, -2.0]), loop=elementwise_loop(math.fabs), gradients=[[0, -2]]),
]
