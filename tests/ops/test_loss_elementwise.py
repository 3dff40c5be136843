"""Losses of numbers: values by hand, PyTorch's numbers, errors."""
import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
from minicv import Tensor
from minicv.ops.loss_elementwise import binary_cross_entropy_with_logits, hinge_loss, mse_loss, smooth_l1_loss
from tests.oracle import require


def run(op, x, t, **options):
    """Losses and slopes, each one alone."""
    x = Tensor(np.array(x), requires_grad=True)
    y = op(x, np.array(t), reduction="none", **options)
    y.backward(np.ones(y.shape))
    return y.data, x.grad


def test_binary_cross_entropy_by_hand():
    # s(log 3) = 3/4: the losses are -log 3/4, -log 1/4 and, half positive, their mean; the slopes s - t
    loss, slope = run(binary_cross_entropy_with_logits, [np.log(3.0)] * 3, [1.0, 0.0, 0.5])
    np.testing.assert_allclose(loss, [np.log(4 / 3), np.log(4), np.log(16 / 3) / 2], rtol=1e-15)
    np.testing.assert_allclose(slope, [-0.25, 0.75, 0.25], rtol=1e-14)
    loss, slope = run(binary_cross_entropy_with_logits, [np.log(3.0)] * 2, [1.0, 0.0], pos_weight=5.0, weight=2.0)
    np.testing.assert_allclose(loss, [2 * 5 * np.log(4 / 3), 2 * np.log(4)], rtol=1e-15)
    np.testing.assert_allclose(slope, [2 * 5 * -0.25, 2 * 0.75], rtol=1e-14)


def test_binary_cross_entropy_of_sure_answers_is_finite():
    loss, slope = run(binary_cross_entropy_with_logits, [1000.0, 1000.0, -1000.0], [0.0, 1.0, 1.0])
    np.testing.assert_array_equal(loss, [1000, 0, 1000])
    np.testing.assert_array_equal(slope, [1, 0, -1])


def test_smooth_l1_by_hand():
    # beta 2: 1/(2*2) = 1/4 inside; at 2 and beyond |d| - 1
    loss, slope = run(smooth_l1_loss, [1.0, -2.0, 5.0], [0.0, 0.0, 0.0], beta=2.0)
    np.testing.assert_array_equal(loss, [0.25, 1.0, 4.0])
    np.testing.assert_array_equal(slope, [0.5, -1.0, 1.0])
    np.testing.assert_array_equal(run(smooth_l1_loss, [0.5, 3.0], [0.0, 0.0])[0], [0.125, 2.5])  # Fast R-CNN, eq. (3)


def test_squared_error_by_hand():
    loss, slope = run(mse_loss, [1.0, 4.0], [3.0, 4.0])
    np.testing.assert_array_equal(loss, [4, 0])
    np.testing.assert_array_equal(slope, [-4, 0])


def test_hinge_by_hand():
    # beyond the margin, inside it, on the wrong side, at the margin
    loss, slope = run(hinge_loss, [2.0, 0.25, 0.5, -1.0], [1, 1, -1, -1])
    np.testing.assert_array_equal(loss, [0, 0.75, 1.5, 0])
    np.testing.assert_array_equal(slope, [0, -1, 1, 0])


@pytest.mark.parametrize("op", [binary_cross_entropy_with_logits, smooth_l1_loss, mse_loss, hinge_loss])
def test_reductions(op):
    x, t = np.array([[0.5, -2.0], [0.1, 3.0]]), np.ones((2, 2))
    single, slopes = run(op, x, t)
    for reduction, share in (("sum", 1), ("mean", 1 / 4)):
        tensor = Tensor(x, requires_grad=True)
        loss = op(tensor, t, reduction=reduction)
        loss.backward()
        np.testing.assert_allclose(loss.data, single.sum() * share, rtol=1e-15)
        np.testing.assert_allclose(tensor.grad, slopes * share, rtol=1e-15)
    assert np.isnan(op(Tensor(np.zeros((0, 2))), np.zeros((0, 2))).item())
    assert op(Tensor(np.zeros((0, 2))), np.zeros((0, 2)), reduction="sum").item() == 0


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_pytorch_agrees(data):
    torch = require("torch")
    functional = torch.nn.functional
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3), label="shape")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]), label="reduction")
    beta = data.draw(st.sampled_from([0.0, 0.1, 1.0, 3.0]), label="beta")

    def draw_weight(name):
        if not data.draw(st.booleans(), label=name):
            return None
        start = data.draw(st.integers(0, len(shape)), label="leading axes left out")
        return rng.uniform(0.1, 3, [1 if rng.random() < 0.4 else n for n in shape[start:]])

    def compare(op, theirs, low, high, **options):
        values, targets = rng.normal(0, 2, shape), rng.uniform(low, high, shape)
        x, t = Tensor(values, requires_grad=True), Tensor(targets, requires_grad=True)
        u, v = torch.tensor(values, requires_grad=True), torch.tensor(targets, requires_grad=True)
        y = op(x, t, **options)
        z = theirs(u, v, **{name: torch.tensor(value) if isinstance(value, np.ndarray) else value
                            for name, value in options.items()})
        np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-12, atol=1e-13)
        cotangent = rng.normal(size=y.shape)
        y.backward(np.asarray(cotangent))
        z.backward(torch.tensor(cotangent))
        np.testing.assert_allclose(x.grad, u.grad.numpy(), atol=1e-13)
        np.testing.assert_allclose(t.grad, v.grad.numpy(), atol=1e-13)

    compare(smooth_l1_loss, functional.smooth_l1_loss, -2, 2, reduction=reduction, beta=beta)
    compare(mse_loss, functional.mse_loss, -2, 2, reduction=reduction)
    compare(binary_cross_entropy_with_logits, functional.binary_cross_entropy_with_logits, 0, 1, reduction=reduction,
            weight=draw_weight("weight"), pos_weight=draw_weight("pos_weight"))


@pytest.mark.parametrize("op", [binary_cross_entropy_with_logits, smooth_l1_loss, mse_loss, hinge_loss])
def test_errors(op):
    name, x = op.__name__, Tensor(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=rf"{name}: input \(2, 3\) and target \(3,\) must have the same shape"):
        op(x, np.ones(3))
    with pytest.raises(ValueError, match=rf"{name}\(reduction='total'\): use 'none', 'mean' or 'sum'"):
        op(x, np.ones((2, 3)), reduction="total")
    with pytest.raises(TypeError, match=rf"{name}: input and target must be floats, got int64 and "):
        op(Tensor(np.zeros((2, 3), np.int64)), np.ones((2, 3)))


@pytest.mark.parametrize("call, argument", [
    (lambda x, g: binary_cross_entropy_with_logits(x, 0 * x.data, weight=g), r"\(weight\)"),
    (lambda x, g: binary_cross_entropy_with_logits(x, 0 * x.data, pos_weight=g), r"\(pos_weight\)"),
    (lambda x, g: hinge_loss(x, g), r"\(target\)")])
def test_a_gradient_that_there_would_not_be_is_refused(call, argument):
    x, g = (Tensor(np.ones((2, 3)), requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match=rf"{argument} requires a gradient, but the loss gives it none; pass"):
        call(x, g)
    call(x, g.detach())


def test_errors_of_one():
    x, t = Tensor(np.zeros((2, 3))), np.ones((2, 3))
    with pytest.raises(ValueError, match=r"pos_weight \(2,\) does not broadcast to input's shape, \(2, 3\)"):
        binary_cross_entropy_with_logits(x, t, pos_weight=np.ones(2))
    with pytest.raises(ValueError, match=r"smooth_l1_loss\(beta=-1\) must not be negative"):
        smooth_l1_loss(x, t, beta=-1)
    with pytest.raises(ValueError, match=r"target must be -1 or \+1, got 0; for 0 and 1 pass 2 \* target - 1"):
        hinge_loss(x, 0 * t)


@pytest.mark.parametrize("fast", [True, False])
def test_a_large_upstream_gradient_overflows_only_where_the_product_does(fast):
    x = Tensor(np.float32([0.25, 1.0]), requires_grad=True)
    with contextlib.nullcontext() if fast else minicv.plain():
        mse_loss(x, Tensor(np.zeros(2, np.float32)), "none").backward(np.float32([3e38, 1e38]))
    np.testing.assert_allclose(x.grad, [1.5e38, 2e38], rtol=1e-6)  # 2 x gy, where 2 gy is infinite
