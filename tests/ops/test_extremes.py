"""Every op keeps its digits from 1e-38 to 3e38, forward and backward (``tests/extremes.py``); lost ones are noticed."""
import math
import warnings

import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor
from minicv.autograd import Function
from minicv.backend import accurate_sum, parallel_matmul, sum_rows, without_overflow
from tests import extremes_reference, harness
from tests.extremes import LIMITS, REASONS, TRIALS, elementwise, measure, sigmoid, vectors
from tests.extremes_trial import relative_error
from tests.harness import CASES

BOTH = {case.name for case in CASES if len(harness.storeys(case)) == 2}


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("op, storey", [(op, storey) for op in TRIALS
                                        for storey in (("plain", "fast") if op in BOTH else ("plain",))])
def test_digits_are_kept(op, storey, dtype):
    with harness.on_storey(storey):
        assert measure(op, dtype).unexplained() == []


def test_every_op_has_trials():
    assert {case.name for case in CASES} <= set(TRIALS)


def test_a_reason_is_given_only_where_it_is_needed():
    assert [key for key in REASONS if getattr(measure(*key[:2]), key[2])[0] <= LIMITS[key[1]]] == []


# ---------------------------------------------------------------------------------------------------------
# Formulas that are right on paper are noticed
# ---------------------------------------------------------------------------------------------------------
class ByTanh(Function):
    def forward(ctx, x):
        y = (np.tanh(x / 2) + 1) / 2
        ctx.save(y)
        return y

    def backward(ctx, gy):
        return gy * ctx.saved[0] * (1 - ctx.saved[0])


class OverASquare(Function):
    def forward(ctx, a, b):
        ctx.save(a, b)
        return a / b

    def backward(ctx, gy):
        a, b = ctx.saved
        return gy / b, -gy * a / (b * b)


class ByLog(Function):
    def forward(ctx, x, *, dim):
        z = x - x.max(axis=dim, keepdims=True)
        y = z - np.log(np.exp(z).sum(axis=dim, keepdims=True))
        ctx.save(y)
        return y

    def backward(ctx, gy):
        return gy - np.exp(ctx.saved[0]) * gy.sum(axis=1, keepdims=True)


def largest(trials) -> tuple[float, float]:
    forward, gradient = zip(*(trial.errors() for trial in trials), strict=True)
    return max(forward), max(gradient)


def test_sigmoid_by_tanh_is_noticed():
    slope = [lambda x: sigmoid(x) * sigmoid(-x)]
    for points in [(-20.0,), (-12.0,)]:
        forward, gradient = largest(elementwise(ByTanh.apply, sigmoid, slope, "float32", [points]))
        assert forward > 1e-4 and gradient > 1e-4
    assert largest(elementwise(ByTanh.apply, sigmoid, slope, "float32", [(20.0,)])) == (pytest.approx(0, abs=1e-7), 1)


def test_a_square_that_overflows_is_noticed():
    slopes = [lambda a, b: 1 / b, lambda a, b: -(a / b) / b]
    forward, gradient = largest(elementwise(OverASquare.apply, lambda a, b: a / b, slopes, "float32", [(1e30, 1e20)]))
    assert forward < 1e-6 and gradient == 1


def test_a_logarithm_of_1_plus_little_is_noticed():
    forward, gradient = largest(vectors(lambda x, dim: ByLog.apply(x, dim=dim), extremes_reference.log_softmax,
                                        "float32"))
    assert forward == 1 and gradient == 1


@pytest.mark.parametrize("actual, expected, terms, error", [
    (1.0, 1.0, 0.0, 0.0),
    (1.5, 1.0, 0.0, 0.5),
    (1.5, 1.0, 10.0, 0.05),  # against its terms
    (0.0, 1e-45, 0.0, 1e-45 / float(np.finfo("float32").tiny)),  # against the smallest normal number
    (math.inf, 1e39, 0.0, 0.0),  # not representable
    (3e38, 1e39, 0.0, 0.7),
    (-math.inf, 1e39, 0.0, math.inf),
    (math.nan, 1.0, 0.0, math.inf),
    (math.nan, math.nan, 0.0, 0.0),
    (math.inf, math.inf, 0.0, 0.0),
    (0.0, math.inf, 0.0, math.inf),
    (math.nan, 1.0, 1e39, 0.0),  # its terms are not representable
])
def test_relative_error(actual, expected, terms, error):
    with np.errstate(all="ignore"):
        assert relative_error(np.float32(actual), expected, terms, "float32") == pytest.approx(error, rel=1e-6)


# ---------------------------------------------------------------------------------------------------------
# Sums
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (3,), (0, 2), (1, 3), (0, 2, 3), (0, 1, 2, 3), ()])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)])
def test_total_is_the_sum(axes, order):
    x = np.random.default_rng(0).standard_normal((9, 7, 11, 13)).transpose(order)
    for array in (x, x[:, ::-1], x[::2], np.broadcast_to(x[:1], x.shape)):
        for keepdims in (False, True):
            y = accurate_sum(array, axes, keepdims)
            assert y.shape == array.sum(axis=axes, keepdims=keepdims).shape
            np.testing.assert_allclose(y, array.sum(axis=axes, keepdims=keepdims), atol=1e-12)


def test_a_million_tenths():
    x = np.full((1 << 20, 3), 0.1, np.float32)
    exact = float(x[0, 0]) * (1 << 20)
    assert abs(x.sum(axis=0) / exact - 1).max() > 1e-3  # what NumPy makes of it
    for y in (accurate_sum(x, (0,)), sum_rows(x), parallel_matmul(np.ones((1, 1 << 20), np.float32), x)[0]):
        np.testing.assert_allclose(y, exact, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (1, 1), (1024, 2), (1025, 2), (3000, 1)])
def test_sums_of_rows_of_any_number(shape):
    x = np.arange(float(np.prod(shape))).reshape(shape)
    np.testing.assert_array_equal(sum_rows(x), x.sum(axis=0))
    np.testing.assert_array_equal(sum_rows(np.stack([x, 2 * x])), [x.sum(axis=0), 2 * x.sum(axis=0)])


@pytest.mark.parametrize("left, right", [((3, 5000), (5000, 2)), ((4, 1, 3, 5000), (2, 5000, 2)),
                                         ((3, 1024), (1024, 2))])
def test_a_long_product_is_made_of_pieces(left, right):
    a, b = np.arange(float(np.prod(left))).reshape(left) % 7, np.arange(float(np.prod(right))).reshape(right) % 5
    np.testing.assert_array_equal(parallel_matmul(a, b), a @ b)


def test_float64_is_asked_only_where_float32_overflows():
    asked = []

    def mean(x):
        asked.append(x.dtype.name)
        with np.errstate(over="ignore"):
            return x.sum() / x.size
    assert without_overflow(mean, np.ones(3, np.float32)) == 1 and asked == ["float32"]
    y = without_overflow(mean, np.full(3, 3e38, np.float32))
    assert y == np.float32(3e38) and y.dtype == np.float32 and asked[1:] == ["float32", "float64"]


# ---------------------------------------------------------------------------------------------------------
# float16
# ---------------------------------------------------------------------------------------------------------
def test_float16_is_rounded_once():
    x = Tensor(np.full(100_000, 3.0, np.float16), requires_grad=True)
    y = F.mean(x * x)
    assert y.item() == 9 and y.dtype == np.float16  # a sum in float16 ends at 65504
    y.backward()
    assert x.grad.dtype == np.float16


def test_float16_beside_float32_is_refused():
    with pytest.raises(TypeError, match="floats have one dtype"):
        F.matmul(Tensor(np.ones((2, 2), np.float16)), Tensor(np.ones((2, 2), np.float32)))


# ---------------------------------------------------------------------------------------------------------
# Infinities come in silence, and a chain of ops keeps the digits
# ---------------------------------------------------------------------------------------------------------
def test_what_is_not_representable_is_infinite_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = Tensor(np.array([100.0, -3e38, 0.0], np.float32), requires_grad=True)
        assert F.exp(x).data.tolist() == [math.inf, 0, 1]
        assert F.log(F.abs(x)).data[2] == -math.inf
        (x * x).sum().backward()
        assert x.grad.tolist() == [200, -math.inf, 0]


@pytest.mark.parametrize("x", [-20.0, -80.0, -87.0, 0.0, 20.0])
def test_the_logarithm_of_a_sigmoid_has_a_gradient(x):
    leaf = Tensor(np.array([x], np.float32), requires_grad=True)
    F.log(F.sigmoid(leaf)).sum().backward()
    np.testing.assert_allclose(leaf.grad, [1 - sigmoid(x) if x < 10 else sigmoid(-x)], rtol=1e-5)


@pytest.mark.parametrize("sure", [20.0, 60.0, 85.0])
def test_a_pixel_that_is_sure_of_its_class_still_learns(sure):
    x = Tensor(np.array([[sure, 0.0]], np.float32), requires_grad=True)
    loss = F.cross_entropy(x, np.array([0]))
    loss.backward()
    little = math.exp(-sure)
    np.testing.assert_allclose([loss.item(), *x.grad[0]], [little, -little, little], rtol=1e-5)


def test_batch_norm_of_a_mean_of_a_million_deviations_in_evaluation():
    x = np.array([[1e6 - 1], [1e6], [1e6 + 2]], np.float32)
    y = F.batch_norm(Tensor(x), np.array([1e6], np.float32), np.ones(1, np.float32), eps=0)
    assert y.data[:, 0].tolist() == [-1, 0, 2]
