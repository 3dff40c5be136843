"""Elementwise arithmetic with broadcasting, and the operators of ``Tensor``.

Broadcasting repeats the smaller array. The adjoint of repeating is summing: ``unbroadcast``, used by every op here.
Python numbers take the tensor's dtype.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Function, Tensor, tensor
from ..backend import Array, device_of, is_array, split, xp_of
from .arguments import number
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
        y = xp.maximum(a, b)
        share = ((a > b).astype(y.dtype) + (a >= b)) / 2  # a's of the gradient: 1, 1/2 or 0; also of two infinities
        ctx.save(share, a.shape, b.shape)
        return y

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


class AsType(Function):
    """y = x, rounded to another kind of floats"""

    def forward(ctx, x, *, dtype):
        ctx.x_dtype = x.dtype
        return x.astype(dtype)

    def backward(ctx, gy):
        return gy.astype(ctx.x_dtype)


class Where(Function):
    """y = a where the condition holds, b elsewhere"""

    def forward(ctx, a, b, *, condition):
        ctx.save(condition, a.shape, b.shape)
        return xp_of(a).where(condition, a, b)

    def backward(ctx, gy):
        condition, a_shape, b_shape = ctx.saved
        return unbroadcast(gy * condition, a_shape), unbroadcast(gy * ~condition, b_shape)


def operands(name: str, a: Tensor | float, b: Tensor | float, *shapes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Two Tensors that may meet in the op of that name, from Tensors, arrays and numbers.

    Integers beside floats take their dtype. ``ValueError`` where shapes, theirs and more, do not broadcast.
    """
    a = tensor(a, like=b if isinstance(b, Tensor) else None)
    b = tensor(b, like=a)
    if a.dtype.kind != b.dtype.kind and "f" in (a.dtype.kind, b.dtype.kind):  # NumPy would make float64 of the two
        a, b = (a, astype(b, a.dtype)) if a.dtype.kind == "f" else (astype(a, b.dtype), b)
    shapes = [*shapes, a.shape, b.shape]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"{name}: shapes {', '.join(map(str, shapes[:-1]))} and {b.shape} do not broadcast: from the "
                         "right, sizes must be equal or 1") from None
    return a, b


def add(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a + b; shapes broadcast. One of the two may be a number."""
    return Add.apply(*operands("add", input, other))


def sub(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a - b; shapes broadcast."""
    return Sub.apply(*operands("sub", input, other))


def mul(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a * b, elementwise; shapes broadcast."""
    return Mul.apply(*operands("mul", input, other))


def div(input: Tensor | float, other: Tensor | float) -> Tensor:
    """a / b, elementwise; shapes broadcast."""
    return Div.apply(*operands("div", input, other))


def maximum(input: Tensor | float, other: Tensor | float) -> Tensor:
    """The larger of a and b, elementwise; shapes broadcast. A tie shares the gradient."""
    return Maximum.apply(*operands("maximum", input, other))


def minimum(input: Tensor | float, other: Tensor | float) -> Tensor:
    """The smaller of a and b, elementwise: -max(-a, -b). Shapes broadcast; a tie shares the gradient."""
    a, b = operands("minimum", input, other)
    return neg(Maximum.apply(neg(a), neg(b)))


def neg(input: Tensor) -> Tensor:
    """-x, any shape."""
    return Neg.apply(input)


def pow(input: Tensor, exponent: float) -> Tensor:
    """x to the power of a number, any shape."""
    return Pow.apply(input, p=number(exponent, "pow(exponent)"))


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
    low = -math.inf if min is None else number(min, "clamp(min)")
    high = math.inf if max is None else number(max, "clamp(max)")
    return Clamp.apply(input, low=low, high=high)


def astype(input: Tensor, dtype: Any) -> Tensor:
    """The same numbers in another dtype, such as "float32", any shape; the gradient returns in input's.

    Integers have none: a result of integers, or of bool, lies outside the graph. Raises ``TypeError`` for a dtype that
    a Tensor cannot have.
    """
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"astype(dtype={dtype!r}): use the name of floats, integers or bool, as 'float32'") from None
    if dtype.kind != "f":
        return Tensor(input.data.astype(dtype))
    return input if input.dtype == dtype else AsType.apply(input, dtype=dtype)


def where(condition: Tensor | Array, input: Tensor | float, other: Tensor | float) -> Tensor:
    """``input`` where the boolean condition (array or Tensor, no gradient) holds, else ``other``; shapes broadcast.

    One of the two may be a number. Raises ``TypeError`` for a condition that is not boolean, or on another device.
    """
    condition = condition.data if isinstance(condition, Tensor) else condition
    condition = np.asarray(condition) if isinstance(condition, np.generic) else condition  # of arrays of 0 dimensions
    if not is_array(condition) or condition.dtype != bool:
        raise TypeError(f"where(condition): needs a boolean array, got {getattr(condition, 'dtype', type(condition))}")
    input, other = operands("where", input, other, condition.shape)
    if device_of(condition) != input.device:
        raise TypeError(f"where: condition lies on {device_of(condition)}, input on {input.device}; move one of them")
    return Where.apply(input, other, condition=condition)


Tensor.__add__ = Tensor.__radd__ = add
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__sub__ = sub
Tensor.__rsub__ = lambda a, b: sub(b, a)
Tensor.__truediv__ = div
Tensor.__rtruediv__ = lambda a, b: div(b, a)
Tensor.__neg__ = neg
Tensor.__pow__ = pow
Tensor.exp, Tensor.log, Tensor.sqrt, Tensor.abs, Tensor.clamp, Tensor.astype = exp, log, sqrt, abs, clamp, astype


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
    Case(maximum, "tie", TIE, TIE.copy(), loop=_each(lambda a, b: a), gradients=[[[0.5, 1], [2, 4]]] * 2),
    Case(minimum, "same shape", (2, 3), (2, 3), loop=_each(lambda a, b: a if a < b else b)),
    Case(neg, "2-D", (2, 3), loop=_each(lambda a: -a)),
    Case(pow, "square", (2, 3), exponent=2, loop=_each(lambda a, exponent: a * a)),
    Case(pow, "square root", POSITIVE, exponent=0.5, loop=_each(lambda a, exponent: math.sqrt(a))),
    Case(pow, "zeroth", (2, 3), exponent=0, loop=_each(lambda a, exponent: 1.0)),
    Case(exp, "2-D", (2, 3), loop=_each(math.exp)),
    Case(log, "positive", POSITIVE, loop=_each(math.log)),
    Case(sqrt, "positive", POSITIVE, loop=_each(math.sqrt)),
    Case(abs, "2-D", (2, 3), loop=_each(math.fabs)),
    Case(abs, "at zero", np.array([0.0, -2.0]), loop=_each(math.fabs), gradients=[[0, -2]]),
    Case(clamp, "both ends", (3, 4), min=-1.0, max=0.5, loop=_each(lambda a, min, max: sorted((min, a, max))[1])),
    Case(clamp, "one end", (3, 4), min=0.0, loop=_each(lambda a, min: a if a > min else min)),
    Case(clamp, "at the edges", np.array([-1.0, 0.2, 0.5, 3.0]), min=-1.0, max=0.5,
         loop=_each(lambda a, min, max: sorted((min, a, max))[1]), gradients=[[1, 2, 4, 0]]),
    Case(astype, "there and back", (2, 3), dtype="float64", call=lambda x, dtype: astype(astype(x, dtype), x.dtype),
         loop=_each(lambda a, dtype: a)),
    Case(where, "broadcast", np.array([[True], [False]]), (2, 3), (3,),
         call=lambda c, a, b: where(c, a, b), loop=_each(lambda c, a, b: a if c else b)),
]
