"""Interpolation: values by hand, PyTorch, and that backward is the transpose."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from minicv.ops.interpolate import bilinear_kernel, bilinear_weight, interpolate
from tests.oracle import require


def row(*values: float) -> Tensor:
    """An image of one row, float64."""
    return Tensor(np.array([[[values]]], float), requires_grad=True)


# ---------------------------------------------------------------------------------------------------------
# By hand
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("align_corners, expected", [
    (None, [0, 0.25, 0.75, 1]),  # (a + 1/2) / 2 - 1/2 = -1/4, 1/4, 3/4, 5/4, clamped to 0 .. 1
    (False, [0, 0.25, 0.75, 1]),
    (True, [0, 1 / 3, 2 / 3, 1]),  # a * 1 / 3
])
def test_two_pixels_to_four(align_corners, expected):
    y = interpolate(row(0, 1), size=(1, 4), mode="bilinear", align_corners=align_corners)
    np.testing.assert_allclose(y.data[0, 0, 0], expected, rtol=1e-15)


@pytest.mark.parametrize("align_corners, expected", [
    (False, [3, 12]),  # positions 1/2 and 5/2: (1 + 5) / 2, (7 + 17) / 2
    (True, [1, 17]),  # positions 0 and 3
])
def test_four_pixels_to_two(align_corners, expected):
    y = interpolate(row(1, 5, 7, 17), size=(1, 2), mode="bilinear", align_corners=align_corners)
    np.testing.assert_allclose(y.data[0, 0, 0], expected, rtol=1e-15)


@pytest.mark.parametrize("align_corners, expected", [(False, 6), (True, 1)])  # positions 3/2 and 0
def test_four_pixels_to_one(align_corners, expected):
    assert interpolate(row(1, 5, 7, 17), size=1, mode="bilinear", align_corners=align_corners).data.item() == expected


def test_rows_and_columns_are_independent():
    x = Tensor(np.array([[[[0.0, 8.0], [16.0, 40.0]]]]))
    # Position 1/4 of rows and 3/4 of columns: (3/4 1/4) x (1/4 3/4)' = 3/4 (0 + 6) + 1/4 (4 + 30) = 13
    assert interpolate(x, size=4, mode="bilinear").data[0, 0, 1, 2] == 13


def test_a_scale_factor_stands_in_for_the_true_ratio():
    # 3 pixels by 1.5 are floor(4.5) = 4. (a + 1/2) / 1.5 - 1/2 = -1/6, 1/2, 7/6, 11/6
    y = interpolate(row(0, 1, 2), scale_factor=(1, 1.5), mode="bilinear").data[0, 0, 0]
    np.testing.assert_allclose(y, [0, 1 / 2, 7 / 6, 11 / 6], rtol=1e-15)
    # The same size without it: (a + 1/2) 3 / 4 - 1/2 = -1/8, 5/8, 11/8, 17/8
    y = interpolate(row(0, 1, 2), size=(1, 4), mode="bilinear").data[0, 0, 0]
    np.testing.assert_allclose(y, [0, 5 / 8, 11 / 8, 2], rtol=1e-15)
    # With corners aligned it says only how large the result is
    y = interpolate(row(0, 1, 2), scale_factor=(1, 1.5), mode="bilinear", align_corners=True).data[0, 0, 0]
    np.testing.assert_allclose(y, [0, 2 / 3, 4 / 3, 2], rtol=1e-15)


@pytest.mark.parametrize("pixels, out, expected", [
    (3, 5, [0, 0, 1, 1, 2]),  # floor(0.6 a)
    (5, 3, [0, 1, 3]),  # floor(1.67 a)
    (2, 4, [0, 0, 1, 1]),
    (4, 1, [0]),
    (1, 3, [0, 0, 0]),
])
def test_nearest(pixels, out, expected):
    np.testing.assert_array_equal(interpolate(row(*range(pixels)), size=(1, out)).data[0, 0, 0], expected)


def test_backward_sends_to_each_pixel_what_it_gave():
    x = row(5, 6)
    interpolate(x, size=(1, 4), mode="bilinear").backward(np.array([[[[1.0, 10.0, 100.0, 1000.0]]]]))
    # Columns of the weights (1 0), (3/4 1/4), (1/4 3/4), (0 1)
    np.testing.assert_array_equal(x.grad[0, 0, 0], [1 + 7.5 + 25, 2.5 + 75 + 1000])
    x = row(5, 6, 7)
    interpolate(x, size=(1, 2)).backward(np.array([[[[1.0, 10.0]]]]))  # picks pixels 0 and floor(1.5) = 1
    np.testing.assert_array_equal(x.grad[0, 0, 0], [1, 10, 0])


def test_nearest_only_chooses():
    x = np.full((1, 2, 40, 3), np.inf)
    x[0, :, ::2] = np.nan
    x[0, 1, 5] = 1.5
    y = interpolate(Tensor(x), scale_factor=3).data
    np.testing.assert_array_equal(y, x.repeat(3, axis=2).repeat(3, axis=3))


@pytest.mark.parametrize("mode, align_corners", [("nearest", None), ("bilinear", False), ("bilinear", True)])
def test_the_same_size_changes_nothing(mode, align_corners):
    x = np.random.default_rng(0).standard_normal((2, 3, 37, 50)).astype(np.float32)
    y = interpolate(Tensor(x), size=(37, 50), mode=mode, align_corners=align_corners).data
    np.testing.assert_allclose(y, x, rtol=0, atol=1e-6)  # 49 * (a / 49) may be off by a rounding
    assert y.dtype == np.float32


# ---------------------------------------------------------------------------------------------------------
# The bilinear kernel
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("factor, line", [
    (1, [1]),
    (2, [0.25, 0.75, 0.75, 0.25]),
    (3, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
    (4, [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]),
])
def test_bilinear_kernel(factor, line):
    np.testing.assert_allclose(bilinear_kernel(factor), np.outer(line, line), rtol=1e-15)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_bilinear_weight_makes_a_transposed_convolution_interpolate(factor, groups):
    x = Tensor(np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype(np.float32))
    weight = bilinear_weight(4, factor, groups)
    k = 2 * factor - factor % 2
    assert weight.shape == (4, 4 // groups, k, k) and weight.dtype == np.float32
    y = F.conv_transpose2d(x, Tensor(weight), stride=factor, padding=factor // 2, groups=groups).data
    expected = interpolate(x, scale_factor=factor, mode="bilinear").data
    assert y.shape == expected.shape
    inside = (..., slice(factor, -factor), slice(factor, -factor))  # the border is padded with zeros, not clamped
    np.testing.assert_allclose(y[inside], expected[inside], rtol=0, atol=2e-6)


# ---------------------------------------------------------------------------------------------------------
# Whatever the sizes
# ---------------------------------------------------------------------------------------------------------
sizes = st.integers(1, 40)
bilinear = st.sampled_from([("bilinear", False), ("bilinear", True)])
ways = st.one_of(bilinear, st.just(("nearest", None)))


@given(sizes, sizes, sizes, sizes, ways)
@settings(max_examples=60, deadline=None)
def test_backward_is_the_transpose(H, W, OH, OW, way):
    rng = np.random.default_rng(0)
    x, gy = Tensor(rng.standard_normal((2, 3, H, W)), requires_grad=True), rng.standard_normal((2, 3, OH, OW))
    y = interpolate(x, (OH, OW), None, *way)
    y.backward(gy)
    assert np.sum(y.data * gy) == pytest.approx(np.sum(x.data * x.grad), rel=1e-9, abs=1e-9)  # <A x, y> = <x, A' y>


@given(sizes, sizes, st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_ramp_stays_a_ramp(H, OH, align_corners):
    y = interpolate(Tensor(np.arange(H, dtype=float).reshape(1, 1, H, 1)), (OH, 1), None, "bilinear", align_corners)
    a = np.arange(OH)
    s = a * (H - 1) / max(OH - 1, 1) if align_corners else np.clip((a + 0.5) * H / OH - 0.5, 0, H - 1)
    np.testing.assert_allclose(y.data[0, 0, :, 0], s, rtol=0, atol=1e-13)


def against_torch(x, options, tolerance):
    torch = require("torch")
    mine = Tensor(x, requires_grad=True)
    y = interpolate(mine, **options)
    theirs = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.interpolate(theirs, **options)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=0, atol=tolerance)
    gy = np.random.default_rng(1).standard_normal(y.shape).astype(x.dtype)
    y.backward(gy)
    expected.backward(torch.from_numpy(gy))
    np.testing.assert_allclose(mine.grad, theirs.grad.numpy(), rtol=0, atol=100 * tolerance)  # sums of many


@given(st.integers(0, 2), sizes, sizes, sizes, sizes, bilinear)
@settings(max_examples=60, deadline=None)
def test_bilinear_to_a_size_is_pytorchs(N, H, W, OH, OW, way):
    x = np.random.default_rng(0).standard_normal((N, 3, H, W))
    against_torch(x, {"size": (OH, OW), "mode": way[0], "align_corners": way[1]}, 1e-12)


@given(sizes, sizes, st.floats(0.2, 4), st.floats(0.2, 4), bilinear)
@settings(max_examples=60, deadline=None)
def test_bilinear_by_a_factor_is_pytorchs(H, W, fh, fw, way):
    factors = (max(fh, 1 / H), max(fw, 1 / W))
    x = np.random.default_rng(0).standard_normal((2, 3, H, W))
    against_torch(x, {"scale_factor": factors, "mode": way[0], "align_corners": way[1]}, 1e-12)


@given(st.integers(0, 2), sizes, sizes, sizes, sizes)
@settings(max_examples=60, deadline=None)
def test_nearest_to_a_size_is_pytorchs(N, H, W, OH, OW):
    x = np.random.default_rng(0).standard_normal((N, 3, H, W))
    against_torch(x, {"size": (OH, OW)}, 1e-12)


@given(sizes, st.sampled_from([1, 2, 3, 0.5, 0.25, 1.1, 1.3, 1.5, 1.7, 2.3, 0.7, 1 / 3, 2 / 3, (2, 0.6), (0.9, 3.3)]))
@settings(max_examples=60, deadline=None)
def test_nearest_by_a_factor_is_pytorchs(H, factor):
    x = np.random.default_rng(0).standard_normal((2, 3, H + 3, H + 4)).astype(np.float32)  # as its rounding decides
    against_torch(x, {"scale_factor": factor}, 1e-7)


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape, options, message", [
    ((2, 3, 4), {"size": 2}, r"interpolate: input must be \(N, C, H, W\).*got \(2, 3, 4\)"),
    ((2, 3, 0, 4), {"size": 2}, r"H and W at least 1, got \(2, 3, 0, 4\)"),
    ((1, 1, 4, 4), {}, r"interpolate\(size=None, scale_factor=None\): give exactly one"),
    ((1, 1, 4, 4), {"size": 8, "scale_factor": 2}, r"interpolate\(size=8, scale_factor=2\): give exactly one"),
    ((1, 1, 4, 4), {"size": 0}, r"interpolate\(size\) must be an integer of at least 1"),
    ((1, 1, 4, 4), {"size": (2, 3, 4)}, r"interpolate\(size\) must be an integer of at least 1, or a pair"),
    ((1, 1, 4, 4), {"scale_factor": -1}, r"interpolate\(scale_factor=-1\): use a positive number"),
    ((1, 1, 4, 4), {"scale_factor": (1, 2, 3)}, r"a positive number, or two of them"),
    ((1, 1, 4, 5), {"scale_factor": 0.2}, r"4x5 would become 0x1; use a larger factor"),
    ((1, 1, 4, 4), {"size": 8, "mode": "bicubic"}, r"interpolate\(mode='bicubic'\): use 'nearest' or 'bilinear'"),
    ((1, 1, 4, 4), {"size": 8, "align_corners": True}, r"align_corners is an option of 'bilinear'"),
])
def test_errors(shape, options, message):
    with pytest.raises(ValueError, match=message):
        interpolate(Tensor(np.zeros(shape)), **options)


def test_errors_of_the_kernel():
    with pytest.raises(ValueError, match=r"bilinear_kernel\(factor\) must be an integer of at least 1"):
        bilinear_kernel(0)
    with pytest.raises(ValueError, match=r"bilinear_weight\(channels=6, groups=4\): groups must divide channels"):
        bilinear_weight(6, 2, groups=4)
