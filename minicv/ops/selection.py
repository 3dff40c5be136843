"""Operations that choose one of several numbers, elementwise: maximum, minimum, clamp and where.

The chosen number receives the gradient; the others receive exactly 0, even where the gradient is infinite or NaN.
"""
from __future__ import annotations

import math

import numpy as np

from ..autograd import Function, Tensor
from ..backend import Array, apply_mask, device_of, is_array, xp_of
from .case import Case
from .dtypes import promote
from .elementwise import elementwise_loop, unbroadcast
from .methods import add_methods


class Maximum(Function):
    """y = max(a, b); a tie gives half of the gradient to each, a NaN all of it to both"""

    def forward(ctx, a, b):
        ctx.save(a < b, b < a, a == b, a.shape, b.shape)
        return xp_of(a).maximum(a, b)

    def backward(ctx, gy):
        a_loses, b_loses, tie, a_shape, b_shape = ctx.saved
        g = gy / (1 + tie.view(np.uint8))  # by 2 or by 1
        return (unbroadcast(apply_mask(g, ~a_loses), a_shape) if ctx.needs_input_grad[0] else None,
                unbroadcast(apply_mask(g, ~b_loses), b_shape) if ctx.needs_input_grad[1] else None)


class Minimum(Maximum):
    """y = min(a, b); ties and NaN as in ``Maximum``"""

    def forward(ctx, a, b):
        ctx.save(b < a, a < b, a == b, a.shape, b.shape)
        return xp_of(a).minimum(a, b)


class Clamp(Function):
    """y = min(max(x, low), high); on [low, high] the gradient goes to x, elsewhere to the bound"""

    def forward(ctx, x, low, high):
        y = xp_of(x).clip(x, low, high)
        lo, hi = -math.inf if low is None else low, math.inf if high is None else high

        def inside():
            inside = x == y
            return inside if low is None or high is None else inside & (y >= lo)  # where low > high, y is high
        masks = (inside, lambda: (x < lo) & (lo < hi), lambda: (x > hi) | (hi < lo))
        ctx.save([mask() if need else None for mask, need in zip(masks, ctx.needs_input_grad, strict=True)],
                 [None if a is None else a.shape for a in (x, low, high)])
        return y

    def backward(ctx, gy):
        return tuple(unbroadcast(apply_mask(gy, mask), shape) if mask is not None else None
                     for mask, shape in zip(*ctx.saved, strict=True))


class Where(Function):
    """y = a where the condition holds, b elsewhere"""

    def forward(ctx, a, b, *, condition):
        ctx.save(condition.copy(order="K"), a.shape, b.shape)  # the caller may overwrite its own
        return xp_of(a).where(condition, a, b)

    def backward(ctx, gy):
        condition, a_shape, b_shape = ctx.saved
        return (unbroadcast(apply_mask(gy, condition), a_shape) if ctx.needs_input_grad[0] else None,
                unbroadcast(apply_mask(gy, ~condition), b_shape) if ctx.needs_input_grad[1] else None)


def maximum(input: Tensor | float, other: Tensor | float) -> Tensor:
    """The larger of the two, elementwise; shapes broadcast. Ties share the gradient."""
    return Maximum.apply(*promote("maximum", input, other))


def minimum(input: Tensor | float, other: Tensor | float) -> Tensor:
    """The smaller of the two, elementwise; shapes broadcast. Ties share the gradient."""
    return Minimum.apply(*promote("minimum", input, other))


def clamp(input: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Tensor:
    """Limit x to [min, max]: numbers, or Tensors that broadcast against x. One of the two may be None.

    The gradient goes to x where x lies inside (bounds included), elsewhere to the bound. Where min > max the result is
    max. Integers stay integers beside integer bounds, and become float32 beside floats.
    """
    if min is None and max is None:
        raise ValueError("clamp: min and max are both None; give at least one of them")
    for name, bound in (("min", min), ("max", max)):
        if not isinstance(bound, Tensor | int | float | np.number | None) and not is_array(bound):
            raise TypeError(f"clamp({name}) must be a number or a Tensor, got {bound!r}")
    given = iter(promote("clamp", input, *(bound for bound in (min, max) if bound is not None)))
    return Clamp.apply(next(given), *(None if bound is None else next(given) for bound in (min, max)))


def where(condition: Tensor | Array, input: Tensor | float, other: Tensor | float) -> Tensor:
    """``input`` where the boolean ``condition`` (array or Tensor) holds, else ``other``; shapes broadcast.

    Either may be a number; the condition has no gradient. Raises ``TypeError`` for a condition that is not boolean or
    lies on another device.
    """
    condition = condition.data if isinstance(condition, Tensor) else condition
    condition = np.asarray(condition) if isinstance(condition, np.generic) else condition  # such as np.bool_
    if not is_array(condition) or condition.dtype != bool:
        raise TypeError(f"where(condition): needs a boolean array, got {getattr(condition, 'dtype', type(condition))}")
    input, other = promote("where", input, other, shapes=(condition.shape,))
    if device_of(condition) != input.device:
        raise TypeError(f"where: condition lies on {device_of(condition)}, input on {input.device}; move one of them")
    return Where.apply(input, other, condition=condition)


add_methods(clamp=clamp)

TIE = np.array([[1.0, 2.0], [3.0, -1.0]])
EDGES = np.array([-1.0, 0.2, 0.5, 3.0])
LOW, HIGH = np.array([-0.5, 0.4, 0.0, 1.0]), np.array([1.0, 0.5, -1.0, 2.5])


def _between(x, min=None, max=None):
    x = x if min is None or x > min else min
    return x if max is None or x < max else max


CASES = [
    Case(maximum, "broadcast", (2, 3), (3,), loop=elementwise_loop(lambda a, b: a if a > b else b)),
    Case(maximum, "tie", TIE, TIE.copy(), loop=elementwise_loop(lambda a, b: a), gradients=[[[0.5, 1], [2, 4]]] * 2),
    Case(minimum, "same shape", (2, 3), (2, 3), loop=elementwise_loop(lambda a, b: a if a < b else b)),
    Case(minimum, "tie", TIE, TIE.copy(), loop=elementwise_loop(lambda a, b: a), gradients=[[[0.5, 1], [2, 4]]] * 2),
    Case(clamp, "both ends", (3, 4), min=-1.0, max=0.5, loop=elementwise_loop(_between)),
    Case(clamp, "one end", (3, 4), min=0.0, loop=elementwise_loop(_between)),
    Case(clamp, "at the edges", EDGES, min=-1.0, max=0.5, loop=elementwise_loop(_between), gradients=[[1, 2, 4, 0]]),
    Case(clamp, "tensors, one pair in the wrong order", (3, 4), LOW, HIGH, loop=elementwise_loop(_between)),
    Case(clamp, "a lower tensor", (3,), (2, 1), loop=elementwise_loop(_between)),
    Case(clamp, "an upper tensor", (2, 3), (3,), call=lambda x, high: clamp(x, max=high),
         loop=elementwise_loop(lambda x, high: _between(x, max=high))),
    Case(clamp, "tensors at the edges", EDGES, np.array([-1.0, 0.5, 0.3, 0.0]), np.array([1.0, 1.0, 0.5, 3.0]),
         loop=elementwise_loop(_between), gradients=[[1, 0, 4, 8], [0, 2, 0, 0], [0, 0, 0, 0]]),
    Case(where, "broadcast", np.array([[True], [False]]), (2, 3), (3,),
         call=lambda c, a, b: where(c, a, b), loop=elementwise_loop(lambda c, a, b: a if c else b)),
]
