"""Elementwise arithmetic with broadcasting, and the operators of ``Tensor``.

Broadcasting repeats the smaller array. The adjoint of repeating is summing: ``unbroadcast``, used by every op here.
Python numbers take the tensor's dtype.
"""
from __future__ import annotations

import math

import numpy as np

from ..autograd import Function, Tensor, tensor
from ..backend import Array, is_array, split, xp_of
from .case import Case


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``g`` over the axes along which an array of this shape was repeated; the result has the shape."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    repeated = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    return g.sum(axis=repeated, keepdims=True).reshape(shape)


class Add(Function):
    """y = a + b"""

    def forward(ctx, a, b):
        ctx.shapes = a.shape, b.shape
        if a.shape != b.shape:
            return a + b
        xp, y = xp_of(a), xp_of(a).empty_like(a)
        split(lambda a, b, y: xp.add(a, b, out=y), a, b, y)
        return y

    def backward(ctx, gy):
        return tuple(unbroadcast(gy, shape) for shape in ctx.shapes)


class Sub(Function):
    """y = a - b"""

    def forward(ctx, a, b):
        ctx.shapes = a.shape, b.shape
        return a - b

    def backward(ctx, gy):
        return unbroadcast(gy, ctx.shapes[0]), unbroadcast(-gy, ctx.shapes[1]) if ctx.needs[1] else None


class Mul(Function):
    """y = a b"""

    def forward(ctx, a, b):
        ctx.save(a, b)
        return a * b

    def backward(ctx, gy):
        a, b = ctx.saved
        return (unbroadcast(gy * b, a.shape) if ctx.needs[0] else None,
                unbroadcast(gy * a, b.shape) if ctx.needs[1] else None)


class Div(Function):
    """y = a / b"""

    def forward(ctx, a, b):
        ctx.save(a, b)
        return a / b

    def backward(ctx, gy):
        a, b = ctx.saved
        return (unbroadcast(gy / b, a.shape) if ctx.needs[0] else None,
                unbroadcast(-gy * a / (b * b), b.shape) if ctx.needs[1] else None)


class Maximum(Function):
    """y = max(a, b); where they tie each gets half of the gradient"""

    def forward(ctx, a, b):
        xp = xp_of(a)
        ctx.save((xp.sign(a - b) + 1) / 2, a.shape, b.shape)  # a's share of the gradient: 1, 1/2 or 0
        return xp.maximum(a, b)

    def backward(ctx, gy):
        share, a_shape, b_shape = ctx.saved
        return unbroadcast(gy * share, a_shape), unbroadcast(gy * (1 - share), b_shape)


class Neg(Function):
    """y = -x"""

    def forward(ctx, x):
        return -x

    def backward(ctx, gy):
        return -gy


class Pow(Function):
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
        ctx.save(xp_of(x).sign(x))
        return xp_of(x).abs(x)

    def backward(ctx, gy):
        return gy * ctx.saved[0]


class Clamp(Function):
    """y = min(max(x, low), high); the derivative is 1 on [low, high]"""

    def forward(ctx, x, *, low, high):
        y = xp_of(x).clip(x, low, high)
        ctx.save(x == y)
        return y

    def backward(ctx, gy):
        return gy * ctx.saved[0]


class Where(Function):
    """y = a where the condition holds, b elsewhere"""

    def forward(ctx, a, b, *, condition):
        ctx.save(condition, a.shape, b.shape)
        return xp_of(a).where(condition, a, b)

    def backward(ctx, gy):
        condition, a_shape, b_shape = ctx.saved
        return unbroadcast(gy * condition, a_shape), unbroadcast(gy * ~condition, b_shape)


def binary(function: type[Function], a: Tensor | float, b: Tensor | float) -> Tensor:
    """Apply an op of two arguments, either of which may be a number; a clear error where shapes do not broadcast."""
    a = tensor(a, like=b if isinstance(b, Tensor) else None)
    b = tensor(b, like=a)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ValueError(f"{function.__name__.lower()}: shapes {a.shape} and {b.shape} do not broadcast: from the "
                         "right, each pair of sizes must be equal or contain a 1") from None
    return function.apply(a, b)


def add(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a + b; shapes broadcast. One of the two may be a number."""
    return binary(Add, input, other)


def sub(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a - b; shapes broadcast."""
    return binary(Sub, input, other)


def mul(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a * b, elementwise; shapes broadcast."""
    return binary(Mul, input, other)


def div(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a / b, elementwise; shapes broadcast."""
    return binary(Div, input, other)


def maximum(input: Tensor | float, other: Tensor | float) -> Tensor:
    """The larger of a and b, elementwise; shapes broadcast. A tie shares the gradient."""
    return binary(Maximum, input, other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of a and b, elementwise: -max(-a, -b)."""
    return neg(maximum(neg(input), neg(other)))


def neg(input: Tensor) -> Tensor:
    """-x, any shape."""
    return Neg.apply(input)


def pow(input: Tensor, exponent: float) -> Tensor:
    """x to the power of a number, any shape."""
    return Pow.apply(input, p=exponent)


def exp(input: Tensor) -> Tensor:
    """e^x, any shape."""
    return Exp.apply(input)


def log(input: Tensor) -> Tensor:
    """Natural logarithm, any shape; x must be positive."""
    return Log.apply(input)


def sqrt(input: Tensor) -> Tensor:
    """Square root, any shape; the derivative at 0 is infinite."""
    return Sqrt.apply(input)


def abs(input: Tensor) -> Tensor:
    """|x|, any shape; the gradient at 0 is 0."""
    return Abs.apply(input)


def clamp(input: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """x limited to [min, max], any shape; gradient only where x lies inside (borders included)."""
    low, high = (-math.inf if min is None else min), (math.inf if max is None else max)
    return Clamp.apply(input, low=low, high=high)


def where(condition: Tensor | Array, input: Tensor, other: Tensor) -> Tensor:
    """``input`` where the boolean condition (array or Tensor, no gradient) holds, else ``other``; shapes broadcast."""
    condition = condition.data if isinstance(condition, Tensor) else condition
    if not is_array(condition) or condition.dtype != bool:
        raise TypeError(f"where(condition): needs a boolean array, got {getattr(condition, 'dtype', type(condition))}")
    try:
        np.broadcast_shapes(condition.shape, input.shape, other.shape)
    except ValueError:
        raise ValueError(f"where: shapes {condition.shape}, {input.shape} and {other.shape} do not broadcast") from None
    return Where.apply(input, other, condition=condition)


Tensor.__add__ = Tensor.__radd__ = add
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__sub__ = sub
Tensor.__rsub__ = lambda a, b: sub(b, a)
Tensor.__truediv__ = div
Tensor.__rtruediv__ = lambda a, b: div(b, a)
Tensor.__neg__ = neg
Tensor.__pow__ = pow
Tensor.exp, Tensor.log, Tensor.sqrt, Tensor.abs, Tensor.clamp = exp, log, sqrt, abs, clamp


def _each(f):
    """A loop oracle: f of the broadcast elements, one at a time."""
    def loop(*arrays, **options):
        full = np.broadcast_arrays(*arrays)
        return np.array([f(*v, **options) for v in zip(*(a.flat for a in full), strict=True)]).reshape(full[0].shape)
    return loop


POSITIVE = np.array([[0.5, 1.3], [2.7, 4.1]])
TIE = np.array([[1.0, 2.0], [3.0, -1.0]])
CASES = [
    Case(add, "same shape", (2, 3), (2, 3), loop=_each(lambda a, b: a + b)),
    Case(add, "broadcast, leading and inner axes", (2, 1, 4), (3, 1), loop=_each(lambda a, b: a + b)),
    Case(sub, "broadcast 0-d", (2, 3), (), loop=_each(lambda a, b: a - b)),
    Case(mul, "broadcast channels", (2, 3, 2, 2), (3, 1, 1), loop=_each(lambda a, b: a * b)),
    Case(div, "broadcast", (3, 1), (1, 4), loop=_each(lambda a, b: a / b)),
    Case(maximum, "broadcast", (2, 3), (3,), loop=_each(lambda a, b: a if a > b else b)),
    Case(maximum, "tie", TIE, TIE.copy(), loop=_each(lambda a, b: a)),
    Case(minimum, "same shape", (2, 3), (2, 3), loop=_each(lambda a, b: a if a < b else b)),
    Case(neg, "2-D", (2, 3), loop=_each(lambda a: -a)),
    Case(pow, "square", (2, 3), exponent=2, loop=_each(lambda a, exponent: a * a)),
    Case(pow, "square root", POSITIVE, exponent=0.5, loop=_each(lambda a, exponent: math.sqrt(a))),
    Case(pow, "zeroth", (2, 3), exponent=0, loop=_each(lambda a, exponent: 1.0)),
    Case(exp, "2-D", (2, 3), loop=_each(math.exp)),
    Case(log, "positive", POSITIVE, loop=_each(math.log)),
    Case(sqrt, "positive", POSITIVE, loop=_each(math.sqrt)),
    Case(abs, "2-D", (2, 3), loop=_each(math.fabs)),
    Case(abs, "at zero", np.array([0.0, -2.0]), loop=_each(math.fabs)),
    Case(clamp, "both ends", (3, 4), min=-1.0, max=0.5, loop=_each(lambda a, min, max: sorted((min, a, max))[1])),
    Case(clamp, "one end", (3, 4), min=0.0, loop=_each(lambda a, min: a if a > min else min)),
    Case(clamp, "at the edges", np.array([-1.0, 0.2, 0.5, 3.0]), min=-1.0, max=0.5,
         loop=_each(lambda a, min, max: sorted((min, a, max))[1])),
    Case(where, "broadcast", np.array([[True], [False]]), (2, 3), (3,),
         call=lambda c, a, b: where(c, a, b), loop=_each(lambda c, a, b: a if c else b)),
]
