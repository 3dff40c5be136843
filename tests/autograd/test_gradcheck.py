"""The gradient check finds wrong gradients, and only these."""
import re

import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor
from minicv.autograd import Function, gradcheck
from minicv.backend import xp_of
from tests.strict_device import StrictArray, strict

RNG = np.random.default_rng(0)
MATRIX, OTHER, LARGE = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4)), RNG.standard_normal((30, 40))


def with_backward(forward, backward):
    """An op from two functions: y = forward(*arrays); the gradients backward(gy, *arrays)."""
    class Op(Function):
        def forward(ctx, *arrays):
            ctx.save(*arrays)
            return forward(*arrays)

        def backward(ctx, gy):
            return backward(gy, *ctx.saved)
    return Op.apply


def square(factor):
    """x^2, with 2 factor x as its derivative; right for factor = 1."""
    return with_backward(lambda x: x * x, lambda gy, x: 2 * factor * x * gy)


@pytest.mark.parametrize("x", [MATRIX, LARGE, np.array(1.5), np.array([0.0, 1.0]), np.zeros((0, 3)),
                               1e6 * MATRIX, 0.1 * MATRIX], ids=lambda x: str(x.shape))
def test_right_gradients_are_ok(x):
    result = gradcheck(square(1), [x])
    assert result.verdict == "ok" and result and result.error < 1e-6 and result.detail == ""


@pytest.mark.parametrize("x", [MATRIX, LARGE, np.array(1.5)], ids=lambda x: str(x.shape))
@pytest.mark.parametrize("factor", [-1, 0, 2, 1 + 1e-5])
def test_wrong_gradients_are_wrong(x, factor):
    result = gradcheck(square(factor), [x])
    assert result.verdict == "WRONG" and not result
    assert "backward says" in result.detail and "differences say" in result.detail


def test_the_place_is_named():
    def backward(gy, x):
        gx = 2 * x * gy
        gx[1, 2] *= -1
        return gx

    result = gradcheck(with_backward(lambda x: x * x, backward), [MATRIX])
    found = re.fullmatch(r"input 0, coordinate \(1, 2\): backward says (\S+), differences say (\S+)", result.detail)
    says, differences = map(float, found.groups())
    assert says == pytest.approx(-differences, rel=1e-4)  # printed with 6 digits


@pytest.mark.parametrize("x", [MATRIX, LARGE], ids=lambda x: str(x.shape))
def test_one_wrong_element_among_many(x):
    def backward(gy, x):
        gx = 2 * x * gy
        gx[-1, -1] *= 1.1
        return gx

    assert gradcheck(with_backward(lambda x: x * x, backward), [x]).verdict == "WRONG"


def test_swapped_gradients():
    right = with_backward(lambda a, b: a * b, lambda gy, a, b: (gy * b, gy * a))
    assert gradcheck(right, [MATRIX, OTHER]).verdict == "ok"
    result = gradcheck(with_backward(lambda a, b: a * b, lambda gy, a, b: (gy * a, gy * b)), [MATRIX, OTHER])
    assert result.verdict == "WRONG" and result.detail.startswith("input 0, coordinate (0, 0)")


def test_the_second_input_is_checked_too():
    result = gradcheck(with_backward(lambda a, b: a + b, lambda gy, a, b: (gy, 2 * gy)), [MATRIX, OTHER])
    assert result.detail.startswith("input 1, ")


def test_a_softmax_with_a_backward_of_zeros():
    """Its rows sum to 1, so a sum as the loss would have the gradient 0. The random cotangent sees it."""
    def forward(x):
        return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    result = gradcheck(with_backward(forward, lambda gy, x: 0 * x), [MATRIX])
    assert result.verdict == "WRONG"


def test_an_input_that_is_used_but_gets_no_gradient():
    class Hidden(Function):
        def forward(ctx, x):
            return x * 1

        def backward(ctx, gy):
            return gy

    result = gradcheck(lambda a, b: Hidden.apply(a) * b.detach(), [MATRIX, OTHER])
    assert result.verdict == "WRONG" and result.detail.startswith("input 1, ")


def test_an_input_that_is_not_used():
    assert gradcheck(lambda a, b: a * 2, [MATRIX, OTHER]).verdict == "ok"


@pytest.mark.parametrize("f", [lambda a: a * 0, lambda a: a * 5 + a * -5, lambda a: F.tanh(a) + F.tanh(-a) + 7])
def test_a_derivative_of_0_is_not_lost_in_rounding(f):
    assert gradcheck(f, [MATRIX]).verdict == "ok"


def test_nan_is_wrong():
    assert gradcheck(with_backward(lambda x: x * x, lambda gy, x: gy * np.nan), [MATRIX]).verdict == "WRONG"
    assert gradcheck(with_backward(lambda x: x * np.nan, lambda gy, x: gy), [MATRIX]).verdict == "WRONG"


# ---------------------------------------------------------------------------------------------------------
# Kinks
# ---------------------------------------------------------------------------------------------------------
AT_ZERO = np.array([-1.5, 0.0, 2.5])


def rectifier(at_zero):
    """max(x, 0) with a derivative of our choice at 0; from 0 to 1 it is a subgradient."""
    return with_backward(lambda x: np.maximum(x, 0), lambda gy, x: gy * np.where(x == 0, at_zero, x > 0))


@pytest.mark.parametrize("at_zero", [0, 0.5, 1])
def test_a_kink_is_reported_as_one(at_zero):
    result = gradcheck(rectifier(at_zero), [AT_ZERO])
    assert result.verdict == "kink" and result and "kinks" in result.detail and result.error < 1e-6


@pytest.mark.parametrize("at_zero", [-0.5, 1.5])
def test_outside_of_the_two_slopes_a_kink_is_wrong(at_zero):
    result = gradcheck(rectifier(at_zero), [AT_ZERO])
    assert result.verdict == "WRONG" and result.detail.startswith("input 0, coordinate (1,)")


def test_relu_away_from_zero_is_smooth():
    assert gradcheck(F.relu, [np.array([-1.5, 0.5, 2.5])]).verdict == "ok"
    assert gradcheck(F.relu, [AT_ZERO]).verdict == "kink"


def test_what_is_wrong_elsewhere_is_wrong_beside_a_kink():
    wrong = with_backward(lambda x: np.maximum(x, 0), lambda gy, x: gy * (x > 0) * 1.01)
    assert gradcheck(wrong, [AT_ZERO]).verdict == "WRONG"


TIE = np.array([1.0, 2.0])


def larger(a_share, b_share):
    return with_backward(np.maximum, lambda gy, a, b: (gy * np.where(a == b, a_share, a > b),
                                                       gy * np.where(a == b, b_share, b > a)))


@pytest.mark.parametrize("shares", [(1, 0), (0, 1), (0.5, 0.5), (0.3, 0.7)])
def test_a_tie_may_be_shared_in_any_way(shares):
    assert gradcheck(larger(*shares), [TIE, TIE]).verdict == "kink"


@pytest.mark.parametrize("shares", [(1, 1), (0, 0), (0.5, 0.4)])
def test_a_tie_must_be_shared_completely(shares):
    """Each input alone lies between its slopes; both moved by the same amount show it."""
    result = gradcheck(larger(*shares), [TIE, TIE])
    assert result.verdict == "WRONG" and result.detail.startswith("all inputs, direction 0")


def test_kinks_of_opposite_sign_do_not_hide_each_other():
    """|x| - |x| shifted into two outputs: the sum of slopes may cancel, each output's does not."""
    both = with_backward(lambda x: np.concatenate([np.maximum(x, 0), np.minimum(x, 0)]),
                         lambda gy, x: gy[:1] * (x > 0) + gy[1:] * (x < 0))
    assert gradcheck(both, [np.zeros(1)]).verdict == "kink"


# ---------------------------------------------------------------------------------------------------------
# What it takes
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_only_float64_is_taken(dtype):
    with pytest.raises(TypeError, match=f"input 1 has dtype {dtype}; gradient checks need float64"):
        gradcheck(lambda a, b: a, [MATRIX, MATRIX.astype(dtype)])


def test_inputs_are_not_modified():
    x = MATRIX.copy()
    gradcheck(F.tanh, [x])
    gradcheck(F.tanh, [x], coordinates=0)
    assert np.array_equal(x, MATRIX)


def test_the_seed_decides():
    def error(seed):
        return gradcheck(F.tanh, [MATRIX], seed=seed).error
    assert error(0) == error(0) != error(1)


def test_large_inputs_are_checked_along_directions():
    calls = []

    def f(x):
        calls.append(1)
        return F.tanh(x)
    gradcheck(f, [LARGE], directions=5)
    assert len(calls) == 1 + 1 + 2 * (5 + 1 + 5)  # backward, the middle; left and right, of x and of all inputs
    calls.clear()
    gradcheck(f, [MATRIX], directions=0)
    assert len(calls) == 1 + 1 + 2 * (12 + 1)


def test_on_the_strict_device():
    x = strict.asarray(MATRIX)
    seen = []

    def f(x):
        seen.append(type(x.data))
        return F.tanh(x)
    assert gradcheck(f, [x]).verdict == "ok" and set(seen) == {StrictArray}
    wrong = with_backward(lambda x: xp_of(x).tanh(x), lambda gy, x: gy)
    assert gradcheck(wrong, [x]).verdict == "WRONG"


def test_a_tensor_is_not_an_input():
    with pytest.raises((TypeError, AttributeError)):
        gradcheck(F.tanh, [Tensor(MATRIX)])
