"""Padding: values and gradients by hand, PyTorch's numbers, the adjoint, errors."""
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from tests.oracle import require


def padded(values, *args, **options):
    """The result, and the gradient where that of the result is 1, 2, 4, 8, ..."""
    x = Tensor(np.array(values, float), requires_grad=True)
    y = F.pad(x, *args, **options)
    y.backward(2.0 ** np.arange(y.size).reshape(y.shape))
    return y.data.tolist(), x.grad.tolist()


@pytest.mark.parametrize("mode, y, gx", [
    ("constant", [0, 0, 5, 6, 7, 0], [4, 8, 16]),
    ("reflect", [7, 6, 5, 6, 7, 6], [4, 2 + 8 + 32, 1 + 16]),  # 5 at the edge is not repeated
    ("replicate", [5, 5, 5, 6, 7, 7], [1 + 2 + 4, 8, 16 + 32]),
])
def test_a_row(mode, y, gx):
    assert padded([5, 6, 7], (2, 1), mode) == (y, gx)


def test_the_last_axis_comes_first():
    assert padded([[1, 2]], (1, 0, 0, 1), value=9)[0] == [[9, 1, 2], [9, 9, 9]]  # left 1, bottom 1
    assert padded([[1, 2], [3, 4]], (0, 0, 1, 0), "reflect") == ([[3, 4], [1, 2], [3, 4]], [[4, 8], [1 + 16, 2 + 32]])


def test_corners_are_mirrored_in_both_axes():
    # gradients 1 2 4 / 8 16 32 / 64 128 256: the corner of the result, 4, lies at (1, 1) of the input
    assert padded([[1, 2], [3, 4]], (1, 0, 1, 0), "reflect") == (
        [[4, 3, 4], [2, 1, 2], [4, 3, 4]], [[16, 8 + 32], [2 + 128, 1 + 4 + 64 + 256]])


def test_nothing_is_nothing():
    for mode in ("constant", "reflect", "replicate"):
        assert padded([1, 2], (0, 0), mode) == ([1, 2], [1, 2]) and padded([1, 2], (), mode) == ([1, 2], [1, 2])
    assert F.pad(Tensor(np.zeros((0, 3))), (1, 1), "reflect").shape == (0, 5)  # another axis is empty


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_pytorch_agrees(data):
    """Its mirrors take images (N, C, H, W), rows (N, C, W) and volumes; constants any shape."""
    torch = require("torch")
    mode = data.draw(st.sampled_from(["constant", "reflect", "replicate"]))
    ndim = data.draw(st.integers(1, 4) if mode == "constant" else st.integers(3, 5))
    axes = data.draw(st.integers(0, ndim)) if mode == "constant" else ndim - 2
    least = 0 if mode == "constant" else 1  # PyTorch mirrors no empty batch of rows
    shape = data.draw(st.tuples(*[st.integers(least, 3)] * (ndim - axes), *[st.integers(2, 4)] * axes))
    most = [n - 1 if mode == "reflect" else 3 for n in reversed(shape) for _ in "ab"][:2 * axes]
    pad = [data.draw(st.integers(-2, n)) for n in most]
    for n, *pair in zip(reversed(shape), pad[::2], pad[1::2], strict=False):
        assume(n + (sum(min(p, 0) for p in pair) if mode == "constant" else sum(pair) - 1) >= 0)
    options = {"value": data.draw(st.sampled_from([0.0, -1.5, 2]))} if mode == "constant" else {}
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape)
    x, t = Tensor(values, True), torch.tensor(values, requires_grad=True)
    y, expected = F.pad(x, pad, mode, **options), torch.nn.functional.pad(t, pad, mode, **options)
    np.testing.assert_array_equal(y.data, expected.detach().numpy())
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    expected.backward(torch.tensor(gy))
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=0, atol=1e-13)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))
def test_padding_with_zeros_and_cropping_are_adjoint(left, right, top, bottom, H, W):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, H, W)), rng.standard_normal((2, top + H + bottom, left + W + right))
    Ax, Aty = F.pad(Tensor(x), (left, right, top, bottom)), F.crop(Tensor(y), top, left, H, W)
    np.testing.assert_allclose(np.vdot(Ax.data, y), np.vdot(x, Aty.data), rtol=1e-12, atol=1e-13)  # <Ax, y> = <x, A'y>


@pytest.mark.parametrize("shape, pad, mode, message", [
    ((2, 3), 1, "constant", r"pad\(pad=1\): give integers in pairs, \(left, right\) or"),
    ((2, 3), (1.5, 1), "constant", r"pad\(pad=\(1.5, 1\)\): give integers in pairs"),
    ((2, 3), (1, 1, 1), "constant", r"pad\(pad=\(1, 1, 1\)\): give pairs .* for at most 2 axes"),
    ((3,), (1, 1, 1, 1), "constant", r"give pairs .* for at most 1 axes"),
    ((2, 3), (1, -4), "constant", r"pad\(pad=\(1, -4\)\): crops an axis of 3 by more than its size"),
    ((2, 3), (-2, -2), "replicate", r"pad\(pad=\(-2, -2\)\): crops an axis of 3 by more than its size"),
    ((2, 3), (1, 1), "circular", r"pad\(mode='circular'\): use 'constant', 'reflect' or 'replicate'"),
    ((2, 3), (0, 3), "reflect", r"pad\(pad=\(0, 3\), mode='reflect'\): an axis of 3 can be mirrored by at most 2"),
    ((2, 0), (0, 1), "reflect", r"an axis of 0 can be mirrored by at most 0"),
    ((2, 0), (0, 1), "replicate", r"mode='replicate'\): input \(2, 0\) has an empty axis and no edge"),
])
def test_errors(shape, pad, mode, message):
    with pytest.raises(ValueError, match=message):
        F.pad(Tensor(np.zeros(shape)), pad, mode)


def test_negative_padding_cuts_off_after_the_other_end_is_padded():
    assert padded([1, 2, 3], (-1, 1)) == ([2, 3, 0], [0, 1, 2])
    assert padded([1, 2, 3], (-2, 2), "reflect") == ([3, 2, 1], [4, 2, 1])
    assert padded([1, 2, 3], (-3, 1), "replicate") == ([3], [0, 0, 1])
    assert F.pad(Tensor(np.ones((2, 3))), (-3, 0)).shape == (2, 0)


def test_a_value_that_is_no_number():
    with pytest.raises(TypeError, match=r"pad\(value\) must be a number, got None"):
        F.pad(Tensor(np.zeros(3)), (1, 1), value=None)
