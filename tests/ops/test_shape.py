"""Ops that move elements: values and gradients by hand, PyTorch's numbers, the adjoint, errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from tests.oracle import require

X = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def moved(op, values=X):
    """The result, and the gradient where that of the result is 1, 2, 4, 8, ..."""
    x = Tensor(np.array(values), requires_grad=True)
    y = op(x)
    y.backward(np.asarray(2.0 ** np.arange(y.size).reshape(y.shape)))
    return y.data.tolist(), x.grad.tolist()


def test_by_hand():
    assert moved(lambda x: x.T) == ([[1, 4], [2, 5], [3, 6]], [[1, 4, 16], [2, 8, 32]])
    assert moved(lambda x: x.reshape(3, 2)) == ([[1, 2], [3, 4], [5, 6]], [[1, 2, 4], [8, 16, 32]])
    assert moved(lambda x: x[:, 0]) == ([1, 4], [[1, 0, 0], [2, 0, 0]])
    assert moved(lambda x: x[0, ::-2]) == ([3, 1], [[2, 0, 1], [0, 0, 0]])
    assert moved(lambda x: x[np.array([1, 1, 0])][:, 0]) == ([4, 4, 1], [[4, 0, 0], [1 + 2, 0, 0]])  # taken twice
    assert moved(lambda x: F.flip(x, 0)) == ([[4, 5, 6], [1, 2, 3]], [[8, 16, 32], [1, 2, 4]])
    assert moved(lambda x: F.flip(x, (0, -1))) == ([[6, 5, 4], [3, 2, 1]], [[32, 16, 8], [4, 2, 1]])
    assert moved(lambda x: F.crop(x, 0, 1, 2, 1)) == ([[2], [5]], [[0, 1, 0], [0, 2, 0]])
    assert moved(lambda x: F.center_crop(x, (1, 2))) == ([[1, 2]], [[1, 2, 0], [0, 0, 0]])  # the odd one at the end
    assert moved(lambda x: x.expand(2, 2), [[1.0], [2.0]]) == ([[1, 1], [2, 2]], [[1 + 2], [4 + 8]])
    assert moved(lambda x: F.concatenate([x, x], 1)[:, 2:4]) == ([[3, 1], [6, 4]], [[2, 0, 1], [8, 0, 4]])
    assert moved(lambda x: F.stack([x, 2 * x])[1, 0]) == ([2, 4, 6], [[2, 4, 8], [0, 0, 0]])


def test_sizes():
    x = Tensor(np.zeros((2, 1, 3, 4)))
    assert x.flatten().shape == (24,) and x.flatten(1).shape == (2, 12) and x.flatten(1, 2).shape == (2, 3, 4)
    assert x.flatten(2, 2).shape == x.shape and Tensor(1.0).flatten().shape == (1,)
    assert x.squeeze().shape == (2, 3, 4) and x.squeeze(1).shape == (2, 3, 4) and x.squeeze(0).shape == x.shape
    assert x.unsqueeze(-1).shape == (2, 1, 3, 4, 1) and x.transpose(0, -1).shape == (4, 1, 3, 2)
    assert x.reshape(2, -1).shape == (2, 12) and x.permute(3, 0, 1, 2).shape == (4, 2, 1, 3)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_pytorch_agrees(data):
    torch = require("torch")
    shape = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    ndim, rng = len(shape), np.random.default_rng(0)
    axis = st.integers(-ndim, ndim - 1)
    name = data.draw(st.sampled_from(["flatten", "permute", "transpose", "squeeze", "unsqueeze", "flip", "cat", "stack",
                                      "expand", "reshape"]))
    a, b = data.draw(axis), data.draw(axis)
    arguments = {"flatten": sorted((a % ndim, b % ndim)), "permute": [data.draw(st.permutations(range(ndim)))],
                 "transpose": [a, b], "squeeze": [a], "unsqueeze": [data.draw(st.integers(-ndim - 1, ndim))],
                 "flip": [sorted({a % ndim, b % ndim})], "cat": [a], "stack": [a], "expand": [[2, *shape]],
                 "reshape": [data.draw(st.permutations(shape))]}[name]
    values = rng.standard_normal(shape)
    x, t = Tensor(values, True), torch.tensor(values, requires_grad=True)
    if name in ("cat", "stack"):
        y, expected = getattr(F, name)([x, x, x], *arguments), getattr(torch, name)([t, t, t], *arguments)
    else:
        y = getattr(F, name)(x, *arguments)
        expected = t.expand(*arguments) if name == "expand" else getattr(torch, name)(t, *arguments)
    np.testing.assert_array_equal(y.data, expected.detach().numpy())
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    expected.backward(torch.tensor(gy))
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=0, atol=1e-14)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_indexing_is_pytorchs(data):
    """Numbers, slices, new axes, an ellipsis; arrays of numbers, which may repeat, and of booleans."""
    torch = require("torch")
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    index = []
    for n in shape[:data.draw(st.integers(0, len(shape)), label="axes indexed")]:
        bounds = st.one_of(st.none(), st.integers(-n, n))
        index.append(data.draw(st.one_of(st.integers(-n, n - 1), st.builds(slice, bounds, bounds, st.integers(1, 3)))))
    if data.draw(st.booleans(), label="new axis"):
        index.insert(data.draw(st.integers(0, len(index))), None)
    kind = data.draw(st.sampled_from(["", "ellipsis", "numbers", "booleans"]))
    if kind == "ellipsis":
        index.append(...)
    elif kind == "numbers":
        index = [np.array(data.draw(st.lists(st.integers(-shape[0], shape[0] - 1), max_size=5)), int)]
    elif kind == "booleans":
        index = [np.array(data.draw(st.lists(st.booleans(), min_size=shape[0], max_size=shape[0])))]
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape)
    x, t = Tensor(values, True), torch.tensor(values, requires_grad=True)
    y = x[tuple(index)]
    expected = t[tuple(torch.from_numpy(i) if isinstance(i, np.ndarray) else i for i in index)]
    np.testing.assert_array_equal(y.data, expected.detach().numpy())
    gy = np.asarray(rng.standard_normal(y.shape))
    y.backward(gy)
    expected.backward(torch.tensor(gy))
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=0, atol=1e-13)


def test_flip_is_its_own_adjoint():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4))
    Ax, Ay = F.flip(Tensor(x), (0, 2)).data, F.flip(Tensor(y), (0, 2)).data
    assert np.vdot(Ax, y) == pytest.approx(np.vdot(x, Ay), rel=1e-13)  # <Ax, y> = <x, Ay>


@pytest.mark.parametrize("call, message", [
    (lambda x: x.flatten(1, 0), r"flatten\(start_dim=1, end_dim=0\): axis 1 comes after axis 0"),
    (lambda x: F.flip(x, (0, -2)), r"flip\(dims=\(0, -2\)\): names an axis twice"),
    (lambda x: F.flip(x, 2), r"flip\(dim=2\): must be an axis of 2, -2 to 1"),
    (lambda x: x.reshape(4, 2), r"reshape: \(2, 3\) has 6 elements; they do not fill \(4, 2\)"),
    (lambda x: x.permute(0, 0), r"permute\(dims=\(0, 0\)\): must name each of the 2 axes of \(2, 3\) once"),
    (lambda x: x.expand(3, 3), r"expand: \(2, 3\) does not broadcast to \(3, 3\)"),
    (lambda x: F.concatenate([]), r"concatenate\(tensors\): got none"),
    (lambda x: F.concatenate([x, x.T]), r"concatenate: shapes \[\(2, 3\), \(3, 2\)\] must agree in every axis"),
    (lambda x: F.stack([x, x.T]), r"stack: needs tensors of one shape, got"),
    (lambda x: F.crop(x, 1, 0, 2, 1), r"crop\(top=1, left=0, height=2, width=1\) leaves the image, 2x3"),
    (lambda x: F.center_crop(x, (3, 3)), r"center_crop: 3x3 must be at least 1x1 and no larger than the image"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(Tensor(np.array(X)))
