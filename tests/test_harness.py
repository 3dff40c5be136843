"""The harness finds what is wrong: each op here is broken in one way, and one check must say so."""
import numpy as np
import pytest

from minicv.autograd import Function
from minicv.backend import xp_of
from minicv.ops.case import Case
from tests import harness

RAGGED = np.array([2, 0, 2, 1])  # rows taken more than once


class Cube(Function):
    """y = x^3, as it should be; the others change one thing."""

    def forward(ctx, x, *, table=None):
        ctx.save(x)
        return x * x * x

    def backward(ctx, gy):
        (x,) = ctx.saved
        return 3 * x * x * gy


class MissingSign(Cube):
    def backward(ctx, gy):
        return -super().backward(gy)


class MissingFactor(Cube):
    def backward(ctx, gy):
        return super().backward(gy) * (1 + 1e-5)


class GradientOfZeros(Cube):
    def backward(ctx, gy):
        return xp_of(gy).zeros_like(gy)


class WrongForward(Cube):
    def forward(ctx, x, *, table=None):
        return super().forward(x) + 1e-9


class ChangesItsInput(Cube):
    def forward(ctx, x, *, table=None):
        y = super().forward(x)
        x += 0.0 * x - 1e-300  # leaves no trace but -0.0 and the write
        return y


class ChangesItsInputInBackward(Cube):
    def backward(ctx, gy):
        gx = super().backward(gy)
        ctx.saved[0][...] = 7
        return gx


class ChangesTheGradientItGot(Cube):
    def backward(ctx, gy):
        gx = super().backward(gy)
        gy *= 2
        return gx


class ChangesAnOption(Cube):
    def forward(ctx, x, *, table=None):
        if table is not None:
            table[0] += 1
        return super().forward(x)


class WidensTheResult(Cube):
    def forward(ctx, x, *, table=None):
        return super().forward(x).astype("float64")

    def backward(ctx, gy):
        return super().backward(gy).astype(ctx.saved[0].dtype)


class WidensTheGradient(Cube):
    def backward(ctx, gy):
        return super().backward(gy).astype("float64")


class NoGradient(Cube):
    def backward(ctx, gy):
        return None


class ConvertsToNumPy(Cube):
    def forward(ctx, x, *, table=None):
        ctx.save(x)
        return np.power(x, 3)


class UsesNumPysTable(Cube):
    def forward(ctx, x, *, table=None):
        return super().forward(x) * np.ones(1)


class WaitsForANumber(Cube):
    def forward(ctx, x, *, table=None):
        ctx.save(x)
        return x * x * x if float(abs(x).max()) > 0 else x


class WaitsForAMask(Cube):
    def backward(ctx, gy):
        gx = super().backward(gy)
        gx[gx == 0] = gx[gx == 0]
        return gx


class ReadsNewMemory(Cube):
    def forward(ctx, x, *, table=None):
        y = xp_of(x).empty_like(x)
        y *= 0  # works wherever the memory happened to hold finite numbers
        y += super().forward(x)
        return y


class TrustsMemoryOrder(Cube):
    def forward(ctx, x, *, table=None):
        flat = x.ravel(order="K")
        return super().forward(flat).reshape(x.shape)

    def backward(ctx, gy):
        return super().backward(gy.reshape(-1)).reshape(gy.shape)


class TrustsTheGradientsMemory(Cube):
    def backward(ctx, gy):
        return super().backward(gy.ravel(order="K").reshape(gy.shape))


class Random(Cube):
    def forward(ctx, x, *, table=None):
        return super().forward(x) * (1 + 1e-10 * np.random.default_rng().random())


class Rows(Function):
    """y = x[rows]"""

    def forward(ctx, x, rows):
        ctx.save(rows, x.shape)
        return x[rows]

    def backward(ctx, gy):
        rows, shape = ctx.saved
        gx = xp_of(gy).zeros(shape, gy.dtype)
        xp_of(gy).add.at(gx, rows, gy)
        return gx, None


class LosesAnOverlap(Rows):  # = for +=
    def backward(ctx, gy):
        rows, shape = ctx.saved
        gx = xp_of(gy).zeros(shape, gy.dtype)
        gx[rows] = gy
        return gx, None


class Product(Function):
    """y = a b"""

    def forward(ctx, a, b):
        ctx.save(a, b)
        return a * b

    def backward(ctx, gy):
        a, b = ctx.saved
        return gy * b, gy * a


class SwapsGradients(Product):
    def backward(ctx, gy):
        return super().backward(gy)[::-1]


class Larger(Function):
    """y = max(a, b); a takes the gradient of a tie"""

    def forward(ctx, a, b):
        ctx.save(a, b)
        return xp_of(a).maximum(a, b)

    def backward(ctx, gy):
        a, b = ctx.saved
        return gy * (a >= b), gy * (a < b)


class GivesATieToBoth(Larger):
    def backward(ctx, gy):
        a, b = ctx.saved
        return gy * (a >= b), gy * (a <= b)


class GivesATieToTheOther(Larger):  # a slope, too: only ``gradients`` tells
    def backward(ctx, gy):
        a, b = ctx.saved
        return gy * (a > b), gy * (a <= b)


class RightOnlyTogether(Product):
    def backward(ctx, gy):
        a, b = ctx.saved
        return gy * b, gy * a if all(ctx.needs_input_grad) else gy


class Softmax(Function):
    """y = exp(x) / sum exp(x)"""

    def forward(ctx, x):
        e = xp_of(x).exp(x)
        y = e / e.sum(axis=-1, keepdims=True)
        ctx.save(y)
        return y

    def backward(ctx, gy):
        (y,) = ctx.saved
        return y * (gy - (y * gy).sum(axis=-1, keepdims=True))


class SoftmaxOfZeros(Softmax):
    def backward(ctx, gy):
        return gy * 0


class Absolute(Function):
    """y = |x|"""

    def forward(ctx, x):
        ctx.save(x)
        return abs(x)

    def backward(ctx, gy):
        return gy * xp_of(gy).sign(ctx.saved[0])


class AbsoluteOutside(Absolute):  # at 0 the slope is between -1 and 1
    def backward(ctx, gy):
        return super().backward(gy) + 3 * gy * (ctx.saved[0] == 0)


def case(function, label, *inputs, loop, **options):
    def op(*tensors, **options):
        return function.apply(*tensors, **options)
    op.__name__ = function.__name__
    return Case(op, label, *inputs, loop=loop, **options)


def cube(function, shape=(3, 4), **options):
    def loop(x, table=None):
        return np.array([v ** 3 for v in x.flat]).reshape(x.shape)
    return case(function, "matrix", shape, loop=loop, **options)


def rows(function):
    return case(function, "rows", (3, 2), RAGGED, loop=lambda x, rows: np.array([x[i] for i in rows]))


def product(function):
    return case(function, "matrices", (2, 3), (2, 3), loop=lambda a, b: a * b)


def softmax(function):
    return case(function, "rows", (2, 4), loop=lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True))


def absolute(function, label, gradients=((0, -2, 4),)):
    return case(function, label, np.array([0.0, -1.0, 2.0]), loop=np.abs, gradients=gradients)


def larger(function):
    tie = np.array([1.0, 2.0, -1.0, 0.5])
    return case(function, "tie", tie, tie + [0, 0, 0, 1], loop=np.maximum, gradients=[[1, 2, 4, 0], [0, 0, 0, 8]])


def every_check(c):
    for device in harness.DEVICES:
        for dtype in harness.TOLERANCE:
            harness.check_loop(c, device, dtype)
            harness.check_dtype(c, device, dtype)
        harness.check_unmodified(c, device)
        harness.check_layouts(c, device)
    harness.check_gradient(c)
    harness.check_device(c)
    harness.check_needs(c)
    harness.check_repeatable(c)


@pytest.mark.parametrize("right", [cube(Cube), cube(Cube, ()), cube(Cube, (2, 3, 4, 2)), cube(Cube, (0, 3)),
                                   cube(Cube, table=np.ones(2)), rows(Rows), product(Product), softmax(Softmax),
                                   absolute(Absolute, "at zero"), larger(Larger)], ids=repr)
def test_a_right_op_passes_every_check(right):
    every_check(right)


@pytest.mark.parametrize("broken, check", [
    (cube(WrongForward), lambda c: harness.check_loop(c, "numpy", "float64")),
    (cube(MissingSign), harness.check_gradient),
    (cube(MissingFactor), harness.check_gradient),
    (cube(MissingFactor, (20, 20)), harness.check_gradient),  # too many coordinates: along random directions
    (cube(GradientOfZeros), harness.check_gradient),
    (softmax(SoftmaxOfZeros), harness.check_gradient),
    (product(SwapsGradients), harness.check_gradient),
    (rows(LosesAnOverlap), harness.check_gradient),
    (rows(LosesAnOverlap), harness.check_device),
    (absolute(Absolute, "a smooth point, it says"), harness.check_gradient),
    (absolute(Absolute, "at zero, without saying what it should be", None), harness.check_gradient),
    (absolute(AbsoluteOutside, "at zero"), harness.check_gradient),
    (larger(GivesATieToBoth), harness.check_gradient),
    (larger(GivesATieToTheOther), harness.check_gradient),
    (product(RightOnlyTogether), harness.check_needs),
    (cube(ChangesItsInput), lambda c: harness.check_unmodified(c, "numpy")),
    (cube(ChangesItsInputInBackward), lambda c: harness.check_unmodified(c, "strict")),
    (cube(ChangesTheGradientItGot), lambda c: harness.check_unmodified(c, "numpy")),
    (cube(ChangesTheGradientItGot), lambda c: harness.check_unmodified(c, "strict")),
    (cube(ChangesAnOption, table=np.ones(2)), lambda c: harness.check_unmodified(c, "numpy")),
    (cube(WidensTheResult), lambda c: harness.check_dtype(c, "numpy", "float32")),
    (cube(WidensTheGradient), lambda c: harness.check_dtype(c, "numpy", "float32")),
    (cube(NoGradient), lambda c: harness.check_dtype(c, "strict", "float64")),
    (cube(ConvertsToNumPy), harness.check_device),
    (cube(UsesNumPysTable), harness.check_device),
    (cube(WaitsForANumber), harness.check_device),
    (cube(WaitsForAMask), harness.check_device),
    (cube(ReadsNewMemory), harness.check_device),
    (cube(TrustsMemoryOrder), lambda c: harness.check_layouts(c, "numpy")),
    (cube(TrustsMemoryOrder), lambda c: harness.check_layouts(c, "strict")),
    (cube(TrustsTheGradientsMemory), lambda c: harness.check_layouts(c, "numpy")),
    (cube(Random), harness.check_repeatable),
], ids=lambda v: repr(v) if isinstance(v, Case) else "")
def test_a_broken_op_is_noticed(broken, check):
    with pytest.raises((AssertionError, TypeError, ValueError, IndexError)):
        check(broken)
