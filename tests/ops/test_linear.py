"""Matrix products: values and gradients by hand, PyTorch's numbers, errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from tests.oracle import require


def leaf(values):
    return Tensor(np.array(values, float), requires_grad=True)


def test_a_layer_by_hand():
    x, w, b = leaf([[1, 2], [3, 4]]), leaf([[10, 1], [0, 5], [1, 1]]), leaf([100, 200, 300])
    y = F.linear(x, w, b)
    assert y.data.tolist() == [[112, 210, 303], [134, 220, 307]]  # x W' + b
    y.backward(np.array([[1.0, 0, 0], [0, 1, 2]]))
    assert x.grad.tolist() == [[10, 1], [2, 5 + 2]]  # gy W
    assert w.grad.tolist() == [[1, 2], [3, 4], [6, 8]]  # gy' x
    assert b.grad.tolist() == [1, 1, 2]


def test_a_product_by_hand():
    a, b = leaf([[1, 2], [3, 4]]), leaf([[5], [6]])
    y = a @ b
    assert y.data.tolist() == [[17], [39]]
    y.backward(np.array([[1.0], [10.0]]))
    assert a.grad.tolist() == [[5, 6], [50, 60]] and b.grad.tolist() == [[1 + 30], [2 + 40]]  # gy b', a' gy
    v, w = leaf([1, 2]), leaf([3, 4])
    (v @ w).backward()
    assert (v @ w).shape == () and v.grad.tolist() == [3, 4] and w.grad.tolist() == [1, 2]


SHAPES = [((3, 4), (4, 2)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((2, 1, 3, 4), (3, 4, 2)), ((5, 3, 4), (4,)),
          ((0, 4), (4, 2)), ((3, 0), (0, 2)), ((4,), (3, 4, 2)), ((2, 3, 4), (1, 4, 2))]


def agree(op, torch_op, arrays):
    torch = require("torch")
    ours, theirs = [Tensor(a, True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = op(*ours), torch_op(*theirs)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=0, atol=1e-12)
    gy = np.asarray(np.random.default_rng(1).standard_normal(y.shape))
    y.backward(gy)
    expected.backward(torch.tensor(gy))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("a, b", SHAPES)
def test_matmul_is_pytorchs(a, b):
    rng = np.random.default_rng(0)
    agree(F.matmul, require("torch").matmul, [rng.standard_normal(a), rng.standard_normal(b)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=3), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_linear_is_pytorchs(lead, inputs, outputs, bias, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(s) for s in ((*lead, inputs), (outputs, inputs), (outputs,))]
    agree(F.linear, require("torch").nn.functional.linear, arrays if bias else arrays[:2])


@pytest.mark.parametrize("call, message", [
    (lambda x: F.linear(x, Tensor(np.ones((3, 4)))), r"linear: input \(2, 3\) must end in the 4 of weight \(3, 4\)"),
    (lambda x: F.linear(x, Tensor(np.ones(3))), r"linear: weight must be \(out, in\), at least 1 each, got \(3,\)"),
    (lambda x: F.linear(x[:, :0], Tensor(np.ones((3, 0)))), r"linear: weight must be .* at least 1 each, got \(3, 0\)"),
    (lambda x: F.linear(x, Tensor(np.ones((4, 3))), Tensor(np.ones(3))),
     r"linear: bias has shape \(3,\), weight \(4, 3\) needs \(4,\)"),
    (lambda x: x @ x, r"matmul: \(2, 3\) @ \(2, 3\): the last size of the first must equal the second-to-last"),
    (lambda x: x @ Tensor(2.0), r"matmul: \(2, 3\) @ \(\)"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(Tensor(np.ones((2, 3))))
