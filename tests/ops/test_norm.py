"""Batch norm and local response norm: values by hand, far from zero, PyTorch's numbers, errors."""
import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
from minicv import Tensor
from minicv.ops.norm import batch_norm, local_response_norm
from tests.oracle import require


def test_batch_norm_by_hand():
    # mean (1+3+5+7)/4 = 4, biased variance (9+1+1+9)/4 = 5, unbiased 20/3; with eps 4 the divisor is 3
    x = Tensor(np.array([[1.0], [3.0], [5.0], [7.0]]), requires_grad=True)
    w, b = Tensor(np.array([2.0]), requires_grad=True), Tensor(np.array([10.0]), requires_grad=True)
    mean, var = np.array([0.0]), np.array([1.0])
    y = batch_norm(x, mean, var, w, b, training=True, eps=4)
    np.testing.assert_allclose(y.data[:, 0], [8, 10 - 2 / 3, 10 + 2 / 3, 12], rtol=1e-15)
    np.testing.assert_allclose([mean[0], var[0]], [0.1 * 4, 0.9 * 1 + 0.1 * 20 / 3], rtol=1e-15)
    y.backward(np.array([[1.0], [0.0], [0.0], [0.0]]))
    # xn = (-1, -1/3, 1/3, 1): gx = 2/3 (gy - 1/4 + xn/4)
    np.testing.assert_allclose(x.grad[:, 0], [1 / 3, -2 / 9, -1 / 9, 0], atol=1e-15)
    np.testing.assert_allclose([w.grad[0], b.grad[0]], [-1, 1], rtol=1e-15)


def test_batch_norm_in_evaluation_by_hand():
    x, mean, var = Tensor(np.array([[1.0, 4.0]])), np.array([3.0, 0.0]), np.array([4.0, 16.0])
    y = batch_norm(x, mean, var, eps=0)
    np.testing.assert_array_equal(y.data, [[-1, 1]])  # (1-3)/2, 4/4
    np.testing.assert_array_equal([mean, var], [[3, 0], [4, 16]])


@pytest.mark.parametrize("mean", [0, 100, 1e4, 1e6])
def test_a_mean_far_from_zero(mean):
    rng = np.random.default_rng(0)
    x = (rng.normal(0, 1, (4, 3, 37, 41)) + mean).astype(np.float32)
    exact = x.astype(np.float64)
    axes = (0, 2, 3)
    y = batch_norm(Tensor(x), None, None, training=True).data
    expected = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(exact.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, expected, atol=1e-5)  # although the mean itself has a rounding of 0.06 at 1e6


def test_a_constant_channel_is_zero_not_nan():
    x = np.full((2, 1, 50, 50), 1e4 / 3, np.float32)
    y = batch_norm(Tensor(x), None, None, training=True).data
    assert abs(y).max() < 1e-5  # although a mean with a rounding of 2.4e-4 would give 0.08: eps = 1e-5 scales by 316


def test_running_averages_may_be_wider_or_narrower():
    mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    y = batch_norm(Tensor(np.array([[1.0, 2.0], [3.0, 4.0]])), mean, var, training=True, momentum=1.0)
    np.testing.assert_array_equal([mean, var], [[2, 3], [2, 2]])
    assert mean.dtype == np.float32
    assert y.dtype == np.float64
    assert batch_norm(Tensor(np.ones((1, 2), np.float32)), np.zeros(2), np.ones(2)).dtype == np.float32


def test_empty_batch_leaves_the_running_averages():
    mean, var = np.zeros(2), np.ones(2)
    assert batch_norm(Tensor(np.zeros((0, 2, 3, 3))), mean, var, training=True).shape == (0, 2, 3, 3)
    np.testing.assert_array_equal([mean, var], [[0, 0], [1, 1]])


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_batch_norm_is_pytorchs(data):
    torch = require("torch")
    N, C = data.draw(st.integers(0, 4), label="N"), data.draw(st.integers(1, 5), label="C")
    d = data.draw(st.lists(st.integers(1, 5), max_size=3), label="d")
    training = data.draw(st.booleans(), label="training") and N * int(np.prod(d)) > 1
    affine = data.draw(st.sampled_from(["both", "weight", "bias", "none"]), label="affine")
    running = not training or data.draw(st.booleans(), label="running averages")
    options = {"momentum": data.draw(st.sampled_from([0.0, 0.1, 1.0])), "eps": data.draw(st.sampled_from([1e-5, 0.1]))}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = [rng.normal(3, 2, (N, C, *d)), rng.normal(size=C), rng.normal(size=C)]
    values[1:] = [v if affine in ("both", name) else None
                  for v, name in zip(values[1:], ("weight", "bias"), strict=True)]
    ours = [None if v is None else Tensor(v, requires_grad=True) for v in values]
    theirs = [None if v is None else torch.tensor(v, requires_grad=True) for v in values]
    averages = [rng.normal(size=C), rng.uniform(0.5, 2, C)] if running else [None, None]
    their_averages = [None if a is None else torch.tensor(a) for a in averages]
    y = batch_norm(ours[0], *averages, *ours[1:], training, **options)
    z = torch.nn.functional.batch_norm(theirs[0], *their_averages, *theirs[1:], training, **options)
    np.testing.assert_allclose(y.data, z.detach().numpy(), atol=1e-11)
    cotangent = rng.normal(size=y.shape)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    for a, b in zip(ours, theirs, strict=True):
        if a is not None:
            np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-8, atol=1e-9)
    if running:
        for a, b in zip(averages, their_averages, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-12)


X = np.zeros((2, 3, 4, 4))


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"input": np.zeros(3)}, ValueError, r"input must be \(N, C, ...\), got \(3,\)"),
    ({"input": np.zeros((2, 3), int)}, TypeError, r"input must be floats, got int64"),
    ({"input": np.zeros((1, 3, 1, 1)), "training": True}, ValueError,
     r"input \(1, 3, 1, 1\) has a single value per channel, which has no variance; use a larger batch"),
    ({"running_mean": None}, ValueError, r"give both running_mean and running_var"),
    ({"running_mean": None, "running_var": None}, ValueError, r"or in training neither"),
    ({"running_var": np.ones(4)}, ValueError, r"running_var has shape \(4,\); input .* has 3 channels: \(3,\)"),
    ({"weight": Tensor(np.ones((3, 1)))}, ValueError, r"weight has shape \(3, 1\)"),
    ({"bias": Tensor(np.ones(2))}, ValueError, r"bias has shape \(2,\)"),
])
def test_batch_norm_errors(change, error, message):
    arguments = {"input": X, "running_mean": np.zeros(3), "running_var": np.ones(3), **change}
    arguments["input"] = Tensor(arguments["input"])
    with pytest.raises(error, match=f"batch_norm.*{message}"):
        batch_norm(**arguments)


def test_running_averages_on_another_device():
    from tests.strict_device import StrictArray  # noqa: F401  makes the device known
    with pytest.raises(TypeError, match=r"batch_norm: input lies on strict, running_mean on numpy"):
        batch_norm(Tensor(X).to("strict"), np.zeros(3), np.ones(3))


# ---------------------------------------------------------------------------------------------------------
# Local response normalization
# ---------------------------------------------------------------------------------------------------------
def test_local_response_norm_by_hand():
    # alpha/size = 1, k = 1: divisors 1+1+4, 1+1+4+9, 1+4+9
    x = Tensor(np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1))
    y = local_response_norm(x, size=3, alpha=3, beta=1, k=1)
    np.testing.assert_allclose(y.data.ravel(), [1 / 6, 2 / 15, 3 / 14], rtol=1e-15)
    # an even window reaches further back: i-1 and i, divisors 2+1, 2+1+4, 2+4+9
    y = local_response_norm(x, size=2, alpha=2, beta=1, k=2)
    np.testing.assert_allclose(y.data.ravel(), [1 / 3, 2 / 7, 3 / 15], rtol=1e-15)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_local_response_norm_is_pytorchs(data):
    torch = require("torch")
    shape = [data.draw(st.integers(0, 2), label="N"), *data.draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))]
    size = data.draw(st.integers(1, 9), label="size")
    options = {"alpha": data.draw(st.sampled_from([1e-4, 2.0])), "beta": data.draw(st.sampled_from([0.5, 0.75, 1.0])),
               "k": data.draw(st.sampled_from([1.0, 2.0]))}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values, cotangent = rng.normal(0, 2, shape), rng.normal(size=shape)
    x, t = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, z = local_response_norm(x, size, **options), torch.nn.functional.local_response_norm(t, size, **options)
    np.testing.assert_allclose(y.data, z.detach().numpy(), atol=1e-13)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(x.grad, t.grad.numpy(), atol=1e-13)


@pytest.mark.parametrize("fast", [True, False])
def test_a_large_upstream_gradient_of_local_response_norm(fast):
    # b = a d^-beta, d = 1 + a^2: the slope is d^-beta (1 - 2 beta a^2 / d), at 1000 about 0.5 / 1000^0.5
    x = Tensor(np.float32([[1000.0]]), requires_grad=True)
    with contextlib.nullcontext() if fast else minicv.plain():
        local_response_norm(x, 1, 1.0, 0.25, 1.0).backward(np.float32([[3e38]]))
    np.testing.assert_allclose(x.grad, 1.5e38 / 1000 ** 0.5, rtol=1e-5)  # gy d^-beta a on the way would be infinite


def test_local_response_norm_errors():
    with pytest.raises(ValueError, match=r"_norm\(size=0\): the channels in a window, an integer of at least 1"):
        local_response_norm(Tensor(X), 0)
    with pytest.raises(ValueError, match=r"_norm: input must be \(N, C, ...\), got \(3,\)"):
        local_response_norm(Tensor(np.zeros(3)), 5)
