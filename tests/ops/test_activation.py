"""Activations: values and gradients by hand, also at 0, PyTorch's numbers, errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from tests.oracle import require


def leaf(*values):
    return Tensor(np.array(values, float), requires_grad=True)


@pytest.mark.parametrize("op, y, gx", [
    (F.relu, [0, 0, 0, 3], [0, 0, 0, 8]),  # the derivative at 0, and at -0, is 0
    (lambda x: F.leaky_relu(x, 0.25), [-0.5, 0, 0, 3], [0.25, 2 * 0.25, 4 * 0.25, 8]),  # at 0 it is the slope's
    (F.leaky_relu, [-0.02, 0, 0, 3], [0.01, 0.02, 0.04, 8]),
])
def test_kinks(op, y, gx):
    x = leaf(-2.0, 0.0, -0.0, 3.0)
    out = op(x)
    out.backward(np.array([1.0, 2, 4, 8]))
    assert out.data.tolist() == y and x.grad.tolist() == gx


def test_sigmoid_and_tanh():
    x = leaf(0.0, np.log(3.0))
    y = F.sigmoid(x)
    y.backward(np.array([1.0, 16.0]))
    np.testing.assert_allclose(y.data, [1 / 2, 3 / 4], rtol=1e-15)  # 1 / (1 + 1), 1 / (1 + 1/3)
    np.testing.assert_allclose(x.grad, [1 / 4, 16 * 3 / 16], rtol=1e-15)  # y (1 - y)
    x = leaf(0.0, np.log(3.0))
    y = F.tanh(x)
    y.backward(np.array([1.0, 25.0]))
    np.testing.assert_allclose(y.data, [0, 4 / 5], rtol=1e-15)  # (3 - 1/3) / (3 + 1/3)
    np.testing.assert_allclose(x.grad, [1, 9], rtol=1e-14)  # 1 - y^2: 25 (1 - 16/25)


def test_far_from_zero_nothing_overflows():
    x = leaf(-1e30, -1000.0, 1000.0, 1e30)
    y = F.sigmoid(x)
    y.backward(np.ones(4))
    assert y.data.tolist() == [0, 0, 1, 1] and x.grad.tolist() == [0, 0, 0, 0]


def test_nan_stays():
    for op in (F.relu, F.leaky_relu, F.sigmoid, F.tanh):
        assert np.isnan(op(leaf(np.nan)).data).all()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(["relu", "leaky_relu", "sigmoid", "tanh"]),
       st.sampled_from([0.01, 0.1, 0.0, 1.0, 2]), st.booleans(), st.integers(0, 99))
def test_pytorch_agrees(shape, name, slope, whole, seed):
    torch = require("torch")
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, shape).astype(float) if whole else rng.normal(0, 3, shape)  # whole ones lie on kinks
    options = [slope] if name == "leaky_relu" else []
    x, t = Tensor(values, True), torch.tensor(values, requires_grad=True)
    y, expected = getattr(F, name)(x, *options), getattr(torch.nn.functional, name)(t, *options)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-13, atol=1e-14)
    gy = rng.standard_normal(shape)
    y.backward(gy)
    expected.backward(torch.tensor(gy))
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(3, 64, 200), (2, 8, 100, 60), (40_000,)])
def test_a_large_array_in_parts_is_the_same(shape):
    """Parts go to threads, and rows of zeros stand in for 0."""
    x = Tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True)
    y = F.relu(x)
    y.backward(np.full(shape, 3.0))
    np.testing.assert_array_equal(y.data, np.where(x.data > 0, x.data, 0))
    np.testing.assert_array_equal(x.grad, np.where(x.data > 0, 3, 0))


def test_errors():
    with pytest.raises(TypeError, match=r"leaky_relu\(negative_slope\) must be a number, got None"):
        F.leaky_relu(leaf(1.0), None)
    for op, name in ((F.relu, "ReLU"), (F.sigmoid, "Sigmoid"), (F.tanh, "Tanh")):
        with pytest.raises(TypeError, match=f"^{name}: argument 0 is of type list; wrap it in minicv.Tensor"):
            op([1.0])
