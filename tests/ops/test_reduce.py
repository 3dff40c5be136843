"""Reductions: values and gradients by hand, also of ties, PyTorch's numbers, the adjoint, errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from tests.oracle import require

TIES = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]


def reduced(op, values, *args, **options):
    """The result, and the gradient where that of the result is 1, 2, 4, 8, ..."""
    x = Tensor(np.array(values, float), requires_grad=True)
    y = op(x, *args, **options)
    y.backward(np.asarray(2.0 ** np.arange(y.size).reshape(y.shape)))
    return y.data.tolist(), x.grad.tolist()


def test_sum_and_mean():
    assert reduced(F.sum, [[1, 2], [3, 4]]) == (10, [[1, 1], [1, 1]])
    assert reduced(F.sum, [[1, 2], [3, 4]], 0) == ([4, 6], [[1, 2], [1, 2]])
    assert reduced(F.sum, [[1, 2], [3, 4]], -1, keepdim=True) == ([[3], [7]], [[1, 1], [2, 2]])
    assert reduced(F.mean, [[1, 2], [3, 4]], 1) == ([1.5, 3.5], [[1 / 2, 1 / 2], [1, 1]])
    assert reduced(F.mean, [[1, 2], [3, 4]], (0, 1), True) == ([[2.5]], [[1 / 4, 1 / 4], [1 / 4, 1 / 4]])


def test_ties_share_the_gradient():
    assert reduced(F.amax, TIES, 1) == ([3, 2], [[0, 1 / 2, 1 / 2], [2 / 3, 2 / 3, 2 / 3]])
    assert reduced(F.amin, TIES, 1) == ([1, 2], [[1, 0, 0], [2 / 3, 2 / 3, 2 / 3]])
    assert reduced(F.amax, TIES) == (3, [[0, 1 / 2, 1 / 2], [0, 0, 0]])
    assert reduced(F.amax, [[-np.inf, -np.inf]], 1) == ([-np.inf], [[1 / 2, 1 / 2]])


def test_nothing_to_sum_is_0():
    assert reduced(F.sum, np.zeros((0, 2)), 0) == ([0, 0], [])


def test_no_axes_are_all_of_them_and_a_number_has_one():
    """As in PyTorch, unlike in NumPy."""
    for op, result, gradient in ((F.sum, 8, [1, 1]), (F.mean, 4, [1 / 2, 1 / 2]), (F.amax, 5, [0, 1]),
                                 (F.amin, 3, [1, 0])):
        assert reduced(op, [3, 5], ()) == reduced(op, [3, 5], []) == reduced(op, [3, 5]) == (result, gradient)
        for dim in (None, (), 0, -1, (0,)):
            assert reduced(op, 7.0, dim) == reduced(op, 7.0, dim, keepdim=True) == (7, 1)
        with pytest.raises(ValueError, match=r"\(dim=1\): input has 0 axes; each dim must be in -1..0, once"):
            op(Tensor(np.array(7.0)), 1)


def test_of_equal_nans_each_gets_a_share_and_the_others_nothing():
    for op in (F.amax, F.amin):
        y, gradient = reduced(op, [[1.0, np.nan, 2.0], [np.nan, 3.0, np.nan]], 1)
        assert np.isnan(y).all() and gradient == [[0, 1, 0], [1, 0, 1]]


def test_axes_may_be_numpys_and_a_list():
    x = Tensor(np.ones((2, 3, 4)))
    assert x.sum(np.int64(1)).shape == (2, 4) and x.sum([0, 2]).shape == x.amax((np.int32(0), -1)).shape == (3,)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(["sum", "mean", "amax", "amin"]), st.booleans(), st.booleans(), st.integers(0, 99))
def test_pytorch_agrees(data, name, keepdim, whole, seed):
    torch = require("torch")
    shape = data.draw(st.lists(st.integers(1, 4), max_size=4))
    axes = data.draw(st.lists(st.integers(0, max(len(shape) - 1, 0)), unique=True))
    if 0 < len(axes) < len(shape) and data.draw(st.booleans(), label="empty along an axis that stays"):
        shape[next(i for i in range(len(shape)) if i not in axes)] = 0
    axes = tuple(a - max(len(shape), 1) * data.draw(st.booleans()) for a in axes)
    dim = data.draw(st.sampled_from([axes, *axes[:1]]))
    rng = np.random.default_rng(seed)
    values = rng.integers(-1, 2, shape).astype(float) if whole else rng.standard_normal(shape)  # whole ones tie
    x, t = Tensor(values, True), torch.tensor(values, requires_grad=True)
    y, expected = getattr(F, name)(x, dim, keepdim), getattr(torch, name)(t, dim, keepdim)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=0, atol=1e-13)
    gy = np.asarray(rng.standard_normal(y.shape))
    y.backward(gy)
    expected.backward(torch.tensor(gy))
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=0, atol=1e-13)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), max_size=4), st.data())
def test_sum_and_expand_are_adjoint(shape, data):
    over = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)) if shape else set()
    rng = np.random.default_rng(0)
    kept = [1 if i in over else n for i, n in enumerate(shape)]
    x, y = np.asarray(rng.standard_normal(shape)), np.asarray(rng.standard_normal(kept))
    Ax, Aty = F.sum(Tensor(x), tuple(over), keepdim=True), F.expand(Tensor(y), shape)
    np.testing.assert_allclose(np.vdot(Ax.data, y), np.vdot(x, Aty.data), rtol=1e-12, atol=1e-12)  # <Ax, y> = <x, A'y>
    for op, at, g, expected in ((lambda t: F.sum(t, tuple(over), keepdim=True), x, y, Aty),
                                (lambda t: F.expand(t, shape), y, x, Ax)):  # each is the other's backward pass
        leaf = Tensor(at, requires_grad=True)
        op(leaf).backward(g)
        np.testing.assert_allclose(leaf.grad, expected.data, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dim, message", [
    (2, r"\(dim=2\): input has 2 axes; each dim must be in -2..1, once"), ((0, -2), r"\(dim=\(0, -2\)\): .* once"),
    (1.5, r"\(dim=1.5\): input has 2 axes"), ("rows", r"\(dim=rows\): input has 2 axes")])
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin"])
def test_errors(name, dim, message):
    with pytest.raises(ValueError, match=f"^{name}{message}"):
        getattr(F, name)(Tensor(np.ones((2, 3))), dim)


@pytest.mark.parametrize("name", ["mean", "amax", "amin"])
def test_nothing_has_no_mean_and_no_extremes(name):
    with pytest.raises(ValueError, match=rf"{name}: input \(0, 3\) is empty along dim=0, so it has no {name}"):
        getattr(F, name)(Tensor(np.zeros((0, 3))), 0)
