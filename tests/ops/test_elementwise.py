"""Elementwise arithmetic: values and gradients by hand, also where they tie, PyTorch's numbers, errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from tests.oracle import require
from tests.strict_device import strict

inf, nan = np.inf, np.nan


def leaf(*values, dtype="float64"):
    return Tensor(np.array(values, dtype), requires_grad=True)


def value_and_gradients(op, *leaves):
    """The result, and the gradients where that of the results is 1, 2, 4, 8, ..."""
    y = op(*leaves)
    y.backward(2.0 ** np.arange(y.size).reshape(y.shape))
    return y.data.tolist(), *(x.grad.tolist() for x in leaves)


# ---------------------------------------------------------------------------------------------------------
# By hand. The incoming gradient is 1, 2, 4, 8, ...
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op, expected", [
    (F.add, ([5, 1], [1, 2], [1, 2])),
    (F.sub, ([1, -5], [1, 2], [-1, -2])),
    (F.mul, ([6, -6], [2, 2 * 3], [3, 2 * -2])),  # gy b, gy a
    (F.div, ([1.5, -2 / 3], [1 / 2, 2 / 3], [-3 / 4, 2 * 2 / 9])),  # gy / b, -gy a / b^2
])
def test_arithmetic(op, expected):
    got = value_and_gradients(op, leaf(3.0, -2.0), leaf(2.0, 3.0))
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-15)


def test_functions_of_one_number():
    assert value_and_gradients(F.neg, leaf(3.0, -2.0)) == ([-3, 2], [-1, -2])
    assert value_and_gradients(F.sqrt, leaf(4.0, 25.0)) == ([2, 5], [1 / 4, 2 / 10])  # gy / (2 sqrt(x))
    assert value_and_gradients(F.log, leaf(1.0, 4.0)) == ([0, np.log(4.0)], [1, 2 / 4])
    assert value_and_gradients(F.exp, leaf(0.0, 1.0)) == ([1, np.exp(1.0)], [1, 2 * np.exp(1.0)])
    assert value_and_gradients(lambda x: F.pow(x, 3), leaf(2.0, -1.0)) == ([8, -1], [3 * 4, 2 * 3])
    assert value_and_gradients(lambda x: F.pow(x, 0), leaf(2.0, 0.0)) == ([1, 1], [0, 0])


def test_repeating_is_undone_by_a_sum():
    a, b = leaf([1.0], [2.0]), leaf(10.0, 20.0, 30.0)
    y, ga, gb = value_and_gradients(F.mul, a, b)
    assert y == [[10, 20, 30], [20, 40, 60]]
    assert ga == [[10 + 2 * 20 + 4 * 30], [8 * 10 + 16 * 20 + 32 * 30]]
    assert gb == [1 + 8 * 2, 2 + 16 * 2, 4 + 32 * 2]


def test_kinks():
    """As PyTorch: |.|'(0) = 0; clamp's derivative is 1 on the closed interval; a tie shares the gradient."""
    assert value_and_gradients(F.abs, leaf(-3.0, 0.0, -0.0, 5.0)) == ([3, 0, 0, 5], [-1, 0, 0, 8])
    x = leaf(-2.0, -1.0, 0.0, 0.5, 0.6)
    assert value_and_gradients(lambda x: F.clamp(x, -1, 0.5), x) == ([-1, -1, 0, 0.5, 0.5], [0, 2, 4, 8, 0])
    assert value_and_gradients(lambda x: F.clamp(x, min=0.5), leaf(0.0, 0.5, 9.0)) == ([0.5, 0.5, 9], [0, 2, 4])
    assert value_and_gradients(lambda x: F.clamp(x, max=0.5), leaf(0.0, 0.5, 9.0)) == ([0, 0.5, 0.5], [1, 2, 0])
    a, b = [3.0, 2.0, -inf, inf, -inf, 1.0], [1.0, 2.0, -inf, inf, 1.0, 4.0]
    assert value_and_gradients(F.maximum, leaf(*a), leaf(*b)) == (
        [3, 2, -inf, inf, 1, 4], [1, 1, 2, 4, 0, 0], [0, 1, 2, 4, 16, 32])
    assert value_and_gradients(F.minimum, leaf(*a), leaf(*b)) == (
        [1, 2, -inf, inf, -inf, 1], [0, 1, 2, 4, 16, 32], [1, 1, 2, 4, 0, 0])


def test_where_takes_from_one_and_gives_back_to_it():
    a, b = leaf([1.0, 2.0], [3.0, 4.0]), leaf(5.0, 6.0)
    condition = np.array([[True, False], [False, True]])
    y, ga, gb = value_and_gradients(lambda a, b: F.where(condition, a, b), a, b)
    assert (y, ga, gb) == ([[1, 6], [5, 4]], [[1, 0], [0, 8]], [4, 2])


def test_numbers_stand_for_arrays():
    x = leaf(1.0, 3.0)
    assert F.maximum(x, 2).data.tolist() == F.maximum(2, x).data.tolist() == [2, 3]
    assert F.minimum(x, 2).data.tolist() == F.minimum(2, x).data.tolist() == [1, 2]
    assert F.where(x.data > 2, x, 0.0).data.tolist() == [0, 3] and F.where(x.data > 2, -1, x).data.tolist() == [1, -1]
    assert (1 - x).data.tolist() == [0, -2] and (6 / x).data.tolist() == [6, 2] and (x ** 2).data.tolist() == [1, 9]


# ---------------------------------------------------------------------------------------------------------
# dtypes
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", [
    lambda x: F.clamp(x, np.float64(0.1), np.float64(2)), lambda x: F.pow(x, np.float64(2)),
    lambda x: F.leaky_relu(x, np.float64(0.1)), lambda x: F.smooth_l1_loss(x, 0 * x, beta=np.float64(0.1)),
    lambda x: x * np.float64(0.1), lambda x: np.float64(0.1) + x, lambda x: x - np.int64(3), lambda x: x / np.array(3),
    lambda x: x * np.arange(4), lambda x: F.maximum(x, np.float64(0.3)),
    lambda x: F.where(x.data > 1, x, np.float64(2)), lambda x: F.where(x.data > 1, Tensor(np.arange(4)), x),
    lambda x: F.cross_entropy(x, 1, label_smoothing=np.float64(.1)),
    lambda x: F.local_response_norm(x.reshape(1, 4), 3, np.float64(0.1), np.float64(0.5), np.float64(2)),
])
def test_numpys_numbers_and_integers_do_not_widen_float32(op):
    x = leaf(0.5, 1.0, 1.5, 2.0, dtype="float32")
    y = op(x)
    assert y.dtype == np.float32
    y.sum().backward()
    assert x.grad.dtype == np.float32


def test_astype_rounds_and_its_gradient_comes_back():
    x = leaf(1 / 3, 2.0)
    y = x.astype("float32")
    assert y.dtype == np.float32 and y.data.tolist() == [float(np.float32(1 / 3)), 2]
    (y * y).sum().backward()
    assert x.grad.dtype == np.float64 and x.grad.tolist() == [float(2 * np.float32(1 / 3)), 4]  # 2 y, in y's precision
    assert x.astype(np.float64) is x
    whole = x.astype("int64")
    assert whole.data.tolist() == [0, 2] and not whole.requires_grad and whole.astype("float64").data.tolist() == [0, 2]


# ---------------------------------------------------------------------------------------------------------
# PyTorch
# ---------------------------------------------------------------------------------------------------------
def agree(op, torch_op, *arrays):
    torch = require("torch")
    ours, theirs = [Tensor(a, True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = op(*ours), torch_op(*theirs)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-14, atol=1e-14)
    gy = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(gy)
    expected.backward(torch.from_numpy(gy))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-12, atol=1e-12)


shapes = st.sampled_from([((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 1, 4), (3, 1)), ((0, 3), (1, 3)),
                          ((2, 3, 2, 2), (3, 1, 1)), ((4, 1), (1, 5)), ((2, 2), (2, 2))])
whole = st.booleans()  # small whole numbers tie, and lie on the edges of clamp


def drawn(shape, whole, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, shape).astype(float) if whole else rng.standard_normal(shape)


@settings(max_examples=100, deadline=None)
@given(shapes, st.sampled_from(["add", "sub", "mul", "div", "maximum", "minimum", "where"]), whole, st.integers(0, 99))
def test_two_arguments_are_pytorchs(shapes, name, whole, seed):
    torch = require("torch")
    a, b = (drawn(shape, whole, seed + i) for i, shape in enumerate(shapes))
    if name == "div":
        b = b + 3.5 * (abs(b) < 0.5)
    if name == "where":
        condition = drawn(shapes[0], False, 7) > 0
        of_torch = torch.tensor(condition)
        return agree(lambda a, b: F.where(condition, a, b), lambda a, b: torch.where(of_torch, a, b), a, b)
    return agree(getattr(F, name), getattr(torch, name), a, b)


bounds = st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 1.0, 0.3]))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(), (5,), (2, 3), (0, 2)]), bounds, bounds, whole, st.integers(0, 99))
def test_clamp_is_pytorchs(shape, low, high, whole, seed):
    torch = require("torch")
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        return  # PyTorch refuses the first; of the second, the gradient has no meaning
    agree(lambda x: F.clamp(x, low, high), lambda x: torch.clamp(x, low, high), drawn(shape, whole, seed))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(), (5,), (0, 2)]), st.sampled_from([2, 3, 0, 1, 0.5, -1, -0.5, 2.5]), st.integers(0, 99))
def test_functions_of_one_number_are_pytorchs(shape, exponent, seed):
    torch = require("torch")
    x = drawn(shape, False, seed)
    positive = abs(x) + 0.1
    for name in ("neg", "exp", "abs"):
        agree(getattr(F, name), getattr(torch, name), x)
    for name in ("log", "sqrt"):
        agree(getattr(F, name), getattr(torch, name), positive)
    agree(lambda x: F.pow(x, exponent), lambda x: torch.pow(x, exponent), positive)


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
A, B = Tensor(np.ones((2, 3))), Tensor(np.ones((4,)))


@pytest.mark.parametrize("call, error, message", [
    *((lambda op=op: op(A, B), ValueError, rf"^{op.__name__}: shapes \(2, 3\) and \(4,\) do not broadcast")
      for op in (F.add, F.sub, F.mul, F.div, F.maximum, F.minimum)),
    (lambda: F.where(np.ones(3, bool), A, B), ValueError, r"^where: shapes \(3,\), \(2, 3\) and \(4,\) do not"),
    (lambda: F.where(np.ones(3), A, A), TypeError, r"where\(condition\): needs a boolean array, got float64"),
    (lambda: F.where(np.ones(3, bool), A.to("strict"), 0.0), TypeError,
     "where: condition lies on numpy, input on strict; move one of them"),
    (lambda: F.where(strict.ones(3, dtype=bool), A, 0.0), TypeError, "where: condition lies on strict, input on numpy"),
    (lambda: F.pow(A, A), TypeError, r"pow\(exponent\) must be a number, got Tensor"),
    (lambda: F.clamp(A, "0"), TypeError, r"clamp\(min\) must be a number or a Tensor, got '0'"),
    (lambda: A.astype("numbers"), TypeError,
     r"astype\(dtype='numbers'\): use the name of a dtype of floats, integers or bool, such as 'float32'"),
    (lambda: F.add(A, Tensor(np.ones(3, np.float32))), TypeError, r"Add: .* a: float64 on numpy, b: float32 on numpy"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
