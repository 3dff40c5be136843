"""Softmax and log-softmax: values by hand, no overflow, PyTorch's numbers, errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv import Tensor
from minicv.ops.softmax import log_softmax, softmax
from tests.oracle import require

LOG3 = np.log(3.0)


def test_by_hand():
    # exp(0) : exp(log 3) = 1 : 3
    x = Tensor(np.array([[0.0, LOG3], [LOG3, LOG3]]), requires_grad=True)
    p = softmax(x, 1)
    np.testing.assert_allclose(p.data, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-15)
    np.testing.assert_allclose(log_softmax(x, 1).data, np.log([[0.25, 0.75], [0.5, 0.5]]), rtol=1e-15)
    p.backward(np.array([[1.0, 0.0], [0.0, 0.0]]))  # dp_0/dx = p_0 (1 - p_0), -p_0 p_1 = 3/16, -3/16
    np.testing.assert_allclose(x.grad, [[3 / 16, -3 / 16], [0, 0]], atol=1e-15)


def test_scores_far_apart_stay_finite():
    x = Tensor(np.array([[0, 1000], [-1e30, 1e30]], np.float32))
    np.testing.assert_array_equal(softmax(x, 1).data, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(log_softmax(x, 1).data, np.float32([[-1000, 0], [-2e30, 0]]))


def test_a_long_vector_is_one_vector():
    # longer than a block: 2^18 equal scores have the probability 2^-18 each
    np.testing.assert_array_equal(softmax(Tensor(np.zeros(1 << 18)), 0).data, np.full(1 << 18, 2.0 ** -18))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pytorch_agrees(data):
    torch = require("torch")
    shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4), label="shape")
    dim = data.draw(st.integers(-len(shape), len(shape) - 1), label="dim")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values, cotangent = rng.normal(0, 3, shape), rng.normal(size=shape)
    for op, theirs in ((softmax, torch.softmax), (log_softmax, torch.log_softmax)):
        x, t = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
        y, u = op(x, dim), theirs(t, dim)
        np.testing.assert_allclose(y.data, u.detach().numpy(), atol=1e-13)
        y.backward(cotangent)
        u.backward(torch.tensor(cotangent))
        np.testing.assert_allclose(x.grad, t.grad.numpy(), atol=1e-13)


def test_errors():
    with pytest.raises(ValueError, match=r"log_softmax\(dim=2\): must be an axis of 2, -2 to 1"):
        log_softmax(Tensor(np.zeros((3, 4))), 2)
    with pytest.raises(TypeError, match=r"softmax: input must be floats, got int64; convert with .astype\('float32'\)"):
        softmax(Tensor(np.zeros(3, np.int64)), 0)
