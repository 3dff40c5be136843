import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from minicv.data import ISBI2012, Cells, WithWeightMap, balanced_class_weights, weight_map, weight_map_loop
from minicv.data.weight_map import IGNORED

BOTH = pytest.mark.parametrize("function", [weight_map, weight_map_loop])


@BOTH
def test_a_strip_of_two_cells_by_hand(function):
    strip = np.array([[1, 1, 0, 0, 0, 2, 0, 0]])
    # Pixel:            2    3    4    6    7
    # d1:               1    2    1    1    2
    # d2:               3    2    3    5    6
    # (d1 + d2)^2:     16   16   16   36   64; sigma = 2, so divided by 2 * 2^2 = 8: 2, 2, 2, 4.5, 8
    # Frequencies: N = 8, K = 2, 5 background, 3 cell: w_c = 8 / (2 * 5) = 0.8 and 8 / (2 * 3) = 4/3
    near, far, farther = 10 * np.exp(-2), 10 * np.exp(-4.5), 10 * np.exp(-8)
    expected = [[4 / 3, 4 / 3, 0.8 + near, 0.8 + near, 0.8 + near, 4 / 3, 0.8 + far, 0.8 + farther]]
    result = function(strip, w0=10, sigma=2)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@BOTH
def test_distances_are_euclidean(function):
    instances = np.zeros((4, 4), int)
    instances[0, 0], instances[3, 3] = 5, 9  # numbers need not be 1, 2
    result = function(instances, w0=1, sigma=3, class_weights=(0, 0))
    # Pixel (1, 2): to (0, 0) sqrt(1 + 4), to (3, 3) sqrt(4 + 1): exp(-(2 sqrt 5)^2 / 18) = exp(-20/18)
    np.testing.assert_allclose(result[1, 2], np.exp(-20 / 18), rtol=1e-6)
    # Pixel (1, 1): sqrt 2 and 2 sqrt 2: exp(-(3 sqrt 2)^2 / 18) = exp(-1)
    np.testing.assert_allclose(result[1, 1], np.exp(-1), rtol=1e-6)
    assert result[0, 0] == result[3, 3] == 0  # no second term on cells


@BOTH
@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([[0, 0], [0, 0]], [[1, 1], [1, 1]]),  # one class: N / (1 * N) = 1
        ([[3, 3], [3, 3]], [[1, 1], [1, 1]]),
        ([[1, 0], [0, 0]], [[2, 2 / 3], [2 / 3, 2 / 3]]),  # one cell, no second: 4 / (2 * 1) and 4 / (2 * 3)
    ],
)
def test_fewer_than_two_cells(function, instances, expected):
    np.testing.assert_allclose(function(np.array(instances)), expected, rtol=1e-6)


@BOTH
def test_given_class_weights(function):
    np.testing.assert_array_equal(function(np.array([[1, 0]]), class_weights=(0.25, 3)), [[3, 0.25]])


def test_balanced_class_weights_have_mean_one():
    is_cell = np.random.default_rng(0).random((20, 30)) < 0.3
    background, cell = balanced_class_weights(is_cell)
    assert np.where(is_cell, cell, background).mean() == pytest.approx(1)
    assert cell * is_cell.sum() == pytest.approx(background * (~is_cell).sum())  # both classes count the same


@settings(max_examples=40, deadline=None)
@given(
    instances=arrays(np.int32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4)),
    sigma=st.floats(0.3, 8),
)
def test_against_the_loop(instances, sigma):
    bound = 10 * IGNORED + 1e-5  # what weight_map leaves out, and float32 rounding of values up to 12
    expected = weight_map_loop(instances, 10, sigma)
    np.testing.assert_allclose(weight_map(instances, 10, sigma), expected, atol=bound)


def test_against_the_loop_where_the_windows_cut_cells_off():
    """sigma = 0.8 looks 5 pixels far, in an image of 30 x 40 with seven cells."""
    rng = np.random.default_rng(1)
    instances = np.zeros((30, 40), int)
    for number in range(1, 8):
        y, x = rng.integers(0, (27, 37))
        instances[y : y + 3, x : x + 3] = number
    assert len(np.unique(instances)) == 8
    one, other = weight_map(instances, 10, 0.8), weight_map_loop(instances, 10, 0.8)
    np.testing.assert_allclose(one, other, atol=10 * IGNORED)
    assert one.max() > 5  # there is a gap that matters


@BOTH
@pytest.mark.parametrize(
    ("instances", "sigma", "error", "message"),
    [
        (np.zeros((2, 2)), 5, TypeError, "weight_map: instances must be integers, got float64"),
        (np.zeros((1, 2, 2), int), 5, ValueError, r"must be \(H, W\) and not negative, got \(1, 2, 2\)"),
        (np.zeros((0, 2), int), 5, ValueError, r"got \(0, 2\)"),
        (np.array([[0, -1]]), 5, ValueError, r"not negative"),
        (np.array([[0, 1]]), 0, ValueError, "weight_map: sigma must be positive, got 0"),
    ],
)
def test_errors(function, instances, sigma, error, message):
    with pytest.raises(error, match=message):
        function(instances, sigma=sigma)


def test_gaps_in_the_real_slices(real_data):
    sample = ISBI2012(real_data / "isbi2012", indices=[0])[0]
    weight = weight_map(sample.instances)
    cell_weight = weight[sample.label == 1]
    assert np.ptp(cell_weight) == 0 and weight[sample.label == 0].min() > cell_weight[0]
    assert 10 < weight.max() < 13  # a membrane of one pixel: w_c + 10 exp(-2^2 / 50) at most


class TestWithWeightMap:
    def test_every_map_is_computed_once(self):
        cells = Cells(2, 32)
        weighted = WithWeightMap(cells, w0=7.0, sigma=3.0)
        assert len(weighted) == 2 and weighted.num_classes == 2
        assert weighted.class_names == ("background", "cell")
        first = weighted[1]
        np.testing.assert_array_equal(first.weight, weight_map(cells[1].instances, w0=7.0, sigma=3.0))
        np.testing.assert_array_equal(first.image, cells[1].image)
        assert weighted[1].weight is first.weight and weighted[-1].weight is first.weight
        assert not np.array_equal(weighted[0].weight, first.weight)

    def test_a_kept_map_cannot_be_spoiled(self):
        with pytest.raises(ValueError, match="read-only"):
            WithWeightMap(Cells(1, 32))[0].weight[:] = 0

    def test_a_set_that_does_not_tell_cells_apart(self):
        class Blobs(list):
            num_classes, class_names = 2, ("background", "blob")

        blobs = Blobs([dataclasses.replace(Cells(1, 16)[0], instances=None)])
        with pytest.raises(ValueError, match="WithWeightMap: cells-0-0 has no instances"):
            WithWeightMap(blobs)[0]

    def test_iteration_ends(self):
        assert [sample.weight.shape for sample in WithWeightMap(Cells(2, 16))] == [(16, 16)] * 2

    def test_the_samples_of_the_data_set_stay_as_they_are(self):
        kept = [dataclasses.replace(Cells(1, 16)[0])]

        class Kept:
            num_classes, class_names = 2, ("background", "cell")
            __len__ = kept.__len__
            __getitem__ = kept.__getitem__

        assert WithWeightMap(Kept())[0].weight is not None
        assert kept[0].weight is None
