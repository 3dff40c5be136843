"""Adaptive pooling and the pyramid: values by hand, SPPNet's claims, adjoints, PyTorch, and errors."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv import Tensor
from minicv.ops.adaptive_pool import adaptive_avg_pool2d, adaptive_bins, adaptive_max_pool2d, spatial_pyramid_pool
from minicv.ops.max_pool import max_pool2d
from tests.ops.pooling import assert_like_torch, assert_own_adjoint, image, inf, numbers, pooled, sides, values
from tests.oracle import require


def test_bins_may_share_pixels():
    # 7 pixels, 3 bins: floor(0), floor(7/3), floor(14/3) up to ceil(7/3), ceil(14/3), 7
    assert adaptive_bins(7, 3) == [(0, 3), (2, 5), (4, 7)]
    assert adaptive_bins(2, 3) == [(0, 1), (0, 2), (1, 2)]
    x = [[0, 3, 6, 1, 2, 3, 10]]
    y, gx = pooled(adaptive_avg_pool2d, x, (1, 3))
    np.testing.assert_allclose(y, [[9 / 3, 9 / 3, 15 / 3]], rtol=1e-15)
    np.testing.assert_allclose(3 * np.array(gx), [[1, 1, 1 + 2, 2, 2 + 4, 4, 4]], rtol=1e-15)
    assert pooled(adaptive_max_pool2d, x, (1, 3)) == ([[6, 6, 10]], [[0, 0, 1 + 2, 0, 0, 0, 4]])


def test_adaptive_max_takes_the_first_of_ties_and_gives_its_position():
    y, indices = adaptive_max_pool2d(image([[0, 5, 5, 1], [5, 5, 5, 2]]), (1, 2), return_indices=True)
    assert y.data.tolist() == [[[[5, 5]]]] and indices.data.tolist() == [[[[1, 2]]]]


def test_an_infinity_stays_in_its_bin():
    assert adaptive_avg_pool2d(image([[inf, 1, 2, 4]]), (1, 2)).data[0, 0].tolist() == [[inf, 3]]


def test_pyramid_order_levels_then_channels_then_bins():
    x = np.array([[[[1, 2], [3, 4]], [[5, 8], [7, 6]]]], float)
    # level 1: 4 of the first channel, 8 of the second; level 2: every pixel, row by row
    assert spatial_pyramid_pool(Tensor(x), (1, 2)).data.tolist() == [[4, 8, 1, 2, 3, 4, 5, 8, 7, 6]]
    assert spatial_pyramid_pool(Tensor(x), (2, 1), mode="avg").data.tolist() == [[1, 2, 3, 4, 5, 8, 7, 6, 2.5, 6.5]]


@pytest.mark.parametrize("levels, count", [((1, 2, 4), 21), ((1, 2, 3, 6), 50)])
@pytest.mark.parametrize("size", [(13, 13), (10, 10), (7, 31), (1, 1)])
def test_pyramid_has_21_or_50_bins_for_any_size(levels, count, size):
    assert spatial_pyramid_pool(Tensor(np.zeros((2, 5, *size))), levels).shape == (2, 5 * count)


@given(n=st.integers(1, 7), m=st.integers(1, 5), rest=st.integers(0, 1), seed=st.integers(0, 9))
def test_pyramid_is_the_sliding_window_of_section_2_3(n, m, rest, seed):
    """SPPNet, sec. 2.3: on an a x a map, window ceil(a/n), stride floor(a/n); for 13x13 and n = 3, 2, 1 those of fig. 4
    (5 with stride 4, 7 with stride 6, 13)."""
    a = n * m + min(rest, n - 1)
    x = Tensor(np.random.default_rng(seed).standard_normal((1, 2, a, a)))
    by_window = max_pool2d(x, math.ceil(a / n), stride=a // n)
    assert by_window.shape == (1, 2, n, n)
    np.testing.assert_array_equal(spatial_pyramid_pool(x, [n]).data, by_window.data.reshape(1, -1))


@given(n=st.integers(1, 7), a=st.integers(1, 40))
def test_pyramid_leaves_no_pixel_out(n, a):
    covered = np.zeros(a)
    for begin, end in adaptive_bins(a, n):
        assert end > begin
        covered[begin:end] += 1
    assert covered.min() >= 1


@pytest.mark.parametrize("op", [
    lambda x: adaptive_avg_pool2d(x, (3, 2)), lambda x: spatial_pyramid_pool(x, (1, 3), mode="avg")])
def test_backward_of_an_average_is_its_adjoint(op):
    assert_own_adjoint(op)


# ---------------------------------------------------------------------------------------------------------
# PyTorch
# ---------------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=60)
@given(shape=st.tuples(st.integers(0, 2), st.integers(1, 3), sides, sides),
       size=st.one_of(st.integers(1, 12), st.tuples(st.integers(1, 12), st.integers(1, 12)),
                      st.tuples(st.none(), st.integers(1, 12))), kind=values, seed=st.integers(0, 9))
def test_adaptive_pooling_is_pytorchs(shape, size, kind, seed):
    torch = require("torch")
    F = torch.nn.functional
    assert_like_torch(lambda x: adaptive_avg_pool2d(x, size), lambda x: F.adaptive_avg_pool2d(x, size),
                      numbers("normal", shape, seed), 1e-12)
    assert_like_torch(lambda x: adaptive_max_pool2d(x, size, True), lambda x: F.adaptive_max_pool2d(x, size, True),
                      numbers(kind, shape, seed), 1e-12)


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", [adaptive_avg_pool2d, adaptive_max_pool2d])
def test_errors_of_adaptive_pooling(op):
    x = Tensor(np.zeros((1, 1, 4, 5)))
    with pytest.raises(ValueError, match=rf"{op.__name__}\(output_size\) must be an integer of at least 1.*0"):
        op(x, 0)
    with pytest.raises(ValueError, match=rf"{op.__name__}\(output_size=\(1, 2, 3\)\) must be one size or a pair"):
        op(x, (1, 2, 3))
    with pytest.raises(ValueError, match=rf"{op.__name__}: input must be.*\(1, 4, 5\)"):
        op(Tensor(np.zeros((1, 4, 5))), 2)


def test_errors_of_spatial_pyramid_pool():
    x = Tensor(np.zeros((1, 1, 4, 5)))
    with pytest.raises(ValueError, match=r"spatial_pyramid_pool\(mode='sum'\): use 'max' or 'avg'"):
        spatial_pyramid_pool(x, (1, 2), mode="sum")
    for levels in ((), (1, 0), (1.5,)):
        with pytest.raises(ValueError, match=r"spatial_pyramid_pool\(levels=.*must be integers of at least 1"):
            spatial_pyramid_pool(x, levels)
