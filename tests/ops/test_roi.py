"""RoI pooling and RoIAlign: values by hand, and plain PyTorch written from the definitions (torchvision's compiled
operators do not load beside PyTorch for CPUs, see ``tests/torchvision_oracle.py``)."""
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv import Tensor
from minicv.ops.roi import EXAMPLE, roi_align, roi_pool, round_half_away
from tests.oracle import require


def image(rows) -> Tensor:
    """One channel of one image, float64."""
    return Tensor(np.array([[rows]], float), requires_grad=True)


def boxes(*rows) -> np.ndarray:
    return np.array(rows, float)


def numbered(H: int, W: int) -> Tensor:
    """10 h + w at pixel (h, w)."""
    return image(10 * np.arange(H)[:, None] + np.arange(W))


# ---------------------------------------------------------------------------------------------------------
# RoI pooling by hand
# ---------------------------------------------------------------------------------------------------------
def test_worked_example_7_columns_by_5_rows_to_2_by_2():
    """The published example: 7 columns (0 to 6), 5 rows (3 to 7).

    Columns make bins 0 to 3 (up to ceil 3.5 = 4) and 3 to 6 (from floor 3.5), rows 3 to 5 and 5 to 7: they share
    column 3 and row 5. So the 0.96 of row 5, column 6 is the maximum of two bins, and receives from both. With 3 + 4
    columns and 2 + 3 rows, as published, its upper bin has 0.84.
    """
    x = image(EXAMPLE)
    y = roi_pool(x, boxes([0, 0, 3, 6, 7]), 2)
    np.testing.assert_array_equal(y.data, [[[[0.85, 0.96], [0.97, 0.96]]]])
    y.backward(np.array([[[[1.0, 10.0], [100.0, 1000.0]]]]))
    expected = np.zeros((8, 8))
    expected[3, 0], expected[7, 2], expected[5, 6] = 1, 100, 1010
    np.testing.assert_array_equal(x.grad[0, 0], expected)
    published = [[EXAMPLE[rows, columns].max() for columns in (slice(0, 3), slice(3, 7))]
                 for rows in (slice(3, 5), slice(5, 8))]
    assert published == [[0.85, 0.84], [0.97, 0.96]]
    apart = [roi_pool(Tensor(EXAMPLE[None, None]), boxes([0, *box]), 1).data.item()  # a region for each of its bins
             for box in ((0, 3, 2, 4), (3, 3, 6, 4), (0, 5, 2, 7), (3, 5, 6, 7))]
    assert apart == [0.85, 0.84, 0.97, 0.96]


@pytest.mark.parametrize("value, expected", [
    (0.5, 1), (1.5, 2), (2.5, 3), (-0.5, -1), (-2.5, -3), (2.4999, 2), (-0.4999, 0), (7.0, 7),
    (0.49999999999999994, 0),  # the number before 1/2; adding 1/2 would round it up to 1
])
def test_round_half_away(value, expected):
    assert round_half_away(np.array([value])).tolist() == [expected]


def test_ends_at_one_half_are_rounded_away_from_zero():
    # Half to even would take pixel (2, 0) in the first, columns 0 to 2 in the second, the same as here in the third.
    x = numbered(5, 5)
    y = roi_pool(x, boxes([0, 0.5, 2.5, 0.5, 2.5], [0, 0, 0, 2.5, 0], [0, 0, 0, 3.5, 0]), 1)
    np.testing.assert_array_equal(y.data.ravel(), [31, 3, 4])
    # From -0.5 to 3: columns -1 to 3 are five bins, the first outside. Rounded to 0: four columns in five bins.
    y = roi_pool(Tensor(x.data + 1), boxes([0, -0.5, 0, 3, 0]), (1, 5))
    np.testing.assert_array_equal(y.data.ravel(), [0, 1, 2, 3, 4])
    # 8 / 16 = 1/2 -> 1 and 40 / 16 = 5/2 -> 3
    y = roi_pool(x, boxes([0, 8, 8, 8, 40]), 1, spatial_scale=1 / 16)
    np.testing.assert_array_equal(y.data.ravel(), [31])


def test_more_bins_than_pixels():
    # 2 columns in 4 bins: floor(p / 2) up to ceil((p+1) / 2), columns 0, 0, 1, 1. 2 in 3: 0, 0-1, 1.
    x = image([[7, 4]])
    np.testing.assert_array_equal(roi_pool(x, boxes([0, 0, 0, 1, 0]), (1, 4)).data.ravel(), [7, 7, 4, 4])
    np.testing.assert_array_equal(roi_pool(x, boxes([0, 0, 0, 1, 0]), (1, 3)).data.ravel(), [7, 7, 4])


def test_outside_the_map_and_empty_bins():
    x = image(-1 - np.arange(16).reshape(4, 4))  # all negative: a 0 is no pixel's
    y = roi_pool(x, boxes([0, 10, 10, 12, 12], [0, -9, 0, -5, 3], [0, -2, 0, 1, 0], [0, 2, 3, 5, 6]), 2)
    np.testing.assert_array_equal(y.data[0], [[[0, 0], [0, 0]]])  # wholly to the lower right
    np.testing.assert_array_equal(y.data[1], [[[0, 0], [0, 0]]])  # wholly to the left
    np.testing.assert_array_equal(y.data[2], [[[0, -1], [0, -1]]])  # columns -2, -1 and 0, 1; the row twice
    np.testing.assert_array_equal(y.data[3], [[[-15, 0], [0, 0]]])  # only pixels (3, 2) and (3, 3) are inside
    y.backward(np.ones(y.shape))
    expected = np.zeros((4, 4))
    expected[0, 0], expected[3, 2] = 2, 1
    np.testing.assert_array_equal(x.grad[0, 0], expected)


def test_an_empty_bin_gives_zero_whatever_the_map_holds():
    x = image(np.full((3, 3), np.nan))
    y = roi_pool(x, boxes([0, 7, 7, 8, 8]), 2)
    np.testing.assert_array_equal(y.data, np.zeros((1, 1, 2, 2)))
    y.backward(np.ones(y.shape))
    np.testing.assert_array_equal(x.grad, np.zeros((1, 1, 3, 3)))


def test_a_reversed_box_is_one_pixel():
    y = roi_pool(numbered(6, 6), boxes([0, 4, 3, 2, 1], [0, 4, 1, 2, 3]), (2, 1))
    np.testing.assert_array_equal(y.data[0].ravel(), [34, 34])
    np.testing.assert_array_equal(y.data[1].ravel(), [24, 34])  # column 4; rows 1-2 and 2-3


def test_a_pixel_receives_from_several_boxes_and_bins():
    # Fast R-CNN, eq. (4). The 9 is in both bins of box 0 (3 columns: 0-1 and 1-2) and in both of box 1, a single pixel.
    x = image([[1, 9, 2, 3]])
    y = roi_pool(x, boxes([0, 0, 0, 2, 0], [0, 1, 0, 1, 0], [0, 2, 0, 3, 0]), (1, 2))
    np.testing.assert_array_equal(y.data.reshape(3, 2), [[9, 9], [9, 9], [2, 3]])
    y.backward(np.array([[1.0, 10], [100, 1000], [10000, 100000]]).reshape(3, 1, 1, 2))
    np.testing.assert_array_equal(x.grad[0, 0, 0], [0, 1111, 10000, 100000])


def test_of_equal_values_the_first_row_by_row_receives():
    x = image([[1, 1, 5], [5, 0, 5]])  # column by column (1, 0) would come first
    roi_pool(x, boxes([0, 0, 0, 2, 1]), 1).backward(np.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(x.grad[0, 0], [[0, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize("pool", [roi_pool, roi_align])
def test_boxes_find_their_images(pool):
    """More boxes than images, in any order, and an image without any."""
    x = np.arange(3.0)[:, None, None, None] + np.zeros((3, 2, 4, 4))
    y = pool(Tensor(x), boxes([2, 0, 0, 3, 3], [0, 1, 1, 2, 2], [2, 1, 0, 2, 2], [2, 0, 0, 1, 1]), 2)
    assert y.shape == (4, 2, 2, 2)
    np.testing.assert_array_equal(y.data, np.array([2.0, 0, 2, 2])[:, None, None, None] + np.zeros((4, 2, 2, 2)))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_bins_cover_the_box_and_nothing_else(H, W, PH, PW):
    """One-hot maps, as channels: each pixel of the box is in some bin, each other pixel in none."""
    x = np.eye(50 * 2)[:, :, None].reshape(1, 100, 50, 2).transpose(0, 1, 3, 2)  # 2 rows of 50
    seen = roi_pool(Tensor(x), boxes([0, 3, 0, 2 + W, 0]), (1, PW)).data.max(axis=(0, 2, 3)).reshape(50, 2)
    np.testing.assert_array_equal(np.flatnonzero(seen[:, 0]), np.arange(3, 3 + W))
    assert not seen[:, 1].any()
    seen = roi_pool(Tensor(x.transpose(0, 1, 3, 2)), boxes([0, 0, 3, 0, 2 + H]), (PH, 1)).data.max(axis=(0, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(seen.reshape(50, 2)[:, 0]), np.arange(3, 3 + H))


# ---------------------------------------------------------------------------------------------------------
# RoIAlign by hand
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ratio", [-1, 0, 1, 2, 3])
def test_a_plane_is_read_at_the_bins_centers(ratio):
    # Rows 2 to 6 and columns 1 to 5 in two bins each: centers 3, 5 and 2, 4. Aligned: all half a pixel less.
    x = numbered(8, 8)
    y = roi_align(x, boxes([0, 1, 2, 5, 6]), 2, sampling_ratio=ratio)
    np.testing.assert_allclose(y.data[0, 0], [[32, 34], [52, 54]], rtol=1e-14)
    y = roi_align(x, boxes([0, 1, 2, 5, 6]), 2, sampling_ratio=ratio, aligned=True)
    np.testing.assert_allclose(y.data[0, 0], [[26.5, 28.5], [46.5, 48.5]], rtol=1e-14)


@pytest.mark.parametrize("ratio, expected", [
    (-1, 0.2),  # ceil(5 / 1) = 5 points, at 1/2, 3/2, ... 9/2; at 3/2 and 5/2 half of pixel 2 is seen. (1/2 + 1/2) / 5
    (1, 0.5),  # one at 5/2
    (2, 0.125),  # at 5/4 (sees 1/4) and 15/4 (nothing)
])
def test_points_of_a_bin(ratio, expected):
    x = image([[0, 0, 1, 0, 0, 0]])
    y = roi_align(x, boxes([0, 0, 0, 5, 1]), 1, sampling_ratio=ratio)
    assert y.data.item() == pytest.approx(expected, rel=1e-15)
    y.backward(np.ones(y.shape))
    assert x.grad[0, 0, 0, 2] == pytest.approx(expected, rel=1e-15)
    assert x.grad.sum() == pytest.approx(1, rel=1e-14)  # an average of pixels


def test_points_per_bin_are_rounded_up():
    # 5 columns in two bins of 5/2: ceil(5/2) = 3 points each, at 5/12, 15/12, 25/12 and 35/12, 45/12, 55/12.
    # Pixel 2 is seen by 15/12 (3/12), 25/12 (11/12) and 35/12 (1/12).
    y = roi_align(image([[0, 0, 1, 0, 0, 0]]), boxes([0, 0, 0, 5, 1]), (1, 2))
    np.testing.assert_allclose(y.data.ravel(), [14 / 36, 1 / 36], rtol=1e-14)


@pytest.mark.parametrize("x1, x2, bins, ratio, expected", [
    (-4, 4, 2, 2, [0.5, 1]),  # points -3 (0), -1 (just counts: 1), and 1, 3
    (-4.1, 3.9, 2, 2, [0, 1]),  # -3.1, -1.1; 0.9, 2.9
    (2, 6, 1, 2, [0.5]),  # 3, 5
    (3, 5, 1, 1, [1]),  # 4 = W just counts, as the last pixel
    (3.1, 5.1, 1, 1, [0]),
    (-50, -40, 1, 2, [0]),
])
def test_points_outside_the_map(x1, x2, bins, ratio, expected):
    y = roi_align(image(np.ones((4, 4))), boxes([0, x1, 0, x2, 4]), (1, bins), sampling_ratio=ratio)
    np.testing.assert_array_equal(y.data.ravel(), expected)


def test_boxes_without_area():
    x = numbered(8, 8)
    flat = boxes([0, 3, 2, 3, 2], [0, 3, 2, 1, 2])
    # At least 1 x 1, unless aligned: center (2.5, 3.5) = 28.5
    np.testing.assert_allclose(roi_align(x, flat, 1).data.ravel(), [28.5, 28.5], rtol=1e-15)
    # No extent asks for no points
    np.testing.assert_array_equal(roi_align(x, flat, 1, aligned=True).data.ravel(), [0, 0])
    # All points in (1.5, 2.5) = 17.5; or on the way from 2.5 back to 0.5, on average 1.5: 16.5
    y = roi_align(x, flat, 1, sampling_ratio=2, aligned=True)
    np.testing.assert_allclose(y.data.ravel(), [17.5, 16.5], rtol=1e-15)


# ---------------------------------------------------------------------------------------------------------
# The forms of boxes, and what is not differentiated
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pool", [roi_pool, roi_align])
def test_forms_of_boxes(pool):
    x = Tensor(np.random.default_rng(0).standard_normal((3, 2, 9, 9)).astype(np.float32))
    rows = boxes([0, 1, 1, 5, 6], [0, 2, 2, 7, 4], [2, 0, 3, 8, 8]).astype(np.float32)
    expected = pool(x, rows, 3).data
    assert expected.dtype == np.float32
    parts = [rows[:2, 1:], np.empty((0, 4), np.float32), rows[2:, 1:]]
    for form in (Tensor(rows), rows.astype(int), parts, [Tensor(p) for p in parts], [parts[0].tolist(), [], parts[2]]):
        np.testing.assert_array_equal(pool(x, form, 3).data, expected)
    assert pool(x, [[], [], []], 3).shape == pool(x, np.empty((0, 5)), 3).shape == (0, 2, 3, 3)


@pytest.mark.parametrize("pool", [roi_pool, roi_align])
def test_boxes_get_no_gradient(pool):
    x, b = Tensor(np.ones((1, 1, 5, 5)), requires_grad=True), Tensor(boxes([0, 1, 1, 3, 3]), requires_grad=True)
    y = pool(x, b, 2)
    y.backward(np.ones(y.shape))
    assert b.grad is None and x.grad.sum() == pytest.approx(4, rel=1e-14)
    assert not pool(x.detach(), b, 2).requires_grad


@pytest.mark.parametrize("pool", [roi_pool, roi_align])
def test_memory_is_that_of_the_output(pool):
    """200 boxes of 100 x 100 pixels: their pixels would take 64 MB, the output takes 0.3."""
    x = Tensor(np.random.default_rng(0).standard_normal((1, 8, 120, 120)).astype(np.float32), requires_grad=True)
    rows = np.tile([[0.0, 5, 5, 105, 105]], (200, 1))
    tracemalloc.start()
    y = pool(x, rows, 7)
    y.backward(np.ones_like(y.data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


# ---------------------------------------------------------------------------------------------------------
# Plain PyTorch, from the definitions
# ---------------------------------------------------------------------------------------------------------
def torch_roi_pool(x, rows, size, scale):
    """Bin by bin, slice and amax."""
    import torch

    def cut(start, end, p, count, limit):
        start, end = (int(math.modf(v)[1]) + int(2 * math.modf(v)[0]) for v in (start, end))  # half away from 0
        h = max(end - start + 1, 1)
        a, b = start + math.floor(p * h / count), start + math.ceil((p + 1) * h / count)
        return slice(min(max(a, 0), limit), min(max(b, 0), limit))
    y = []
    for n, *ends in rows.tolist():
        x1, y1, x2, y2 = (v * scale for v in ends)
        for p, q in np.ndindex(size):
            part = x[int(n), :, cut(y1, y2, p, size[0], x.shape[2]), cut(x1, x2, q, size[1], x.shape[3])]
            y.append(part.amax((1, 2)) if part.numel() else x.new_zeros(x.shape[1]))
    return torch.stack(y).reshape(len(rows), *size, x.shape[1]).permute(0, 3, 1, 2)


def torch_roi_align(x, rows, size, scale, ratio, aligned):
    """Box by box: four neighbors of every point by index, times their weights."""
    import torch

    def points(start, end, count, limit):
        """Lower neighbor, upper neighbor, weight of the upper, weight of the point: (points of all bins,) each."""
        start, end = start * scale - 0.5 * aligned, end * scale - 0.5 * aligned
        length = end - start if aligned else max(end - start, 1.0)
        each = ratio if ratio > 0 else max(math.ceil(length / count), 0)
        s = start + (torch.arange(each * count, dtype=x.dtype) + 0.5) * length / max(each * count, 1)
        counts = ((s >= -1) & (s <= limit)).to(x.dtype)
        s = s.clamp(0, limit - 1)
        low = s.floor().long()
        return low, (low + 1).clamp(max=limit - 1), s - low, counts, each
    y = []
    for n, x1, y1, x2, y2 in rows.tolist():
        top, bottom, v, in_v, GH = points(y1, y2, size[0], x.shape[2])
        left, right, u, in_u, GW = points(x1, x2, size[1], x.shape[3])
        if GH * GW == 0:
            y.append(x.new_zeros((x.shape[1], *size)))
            continue
        image, v, in_v = x[int(n)], v[:, None], in_v[:, None]
        value = (1 - v) * (1 - u) * image[:, top[:, None], left] + (1 - v) * u * image[:, top[:, None], right] \
            + v * (1 - u) * image[:, bottom[:, None], left] + v * u * image[:, bottom[:, None], right]
        y.append((value * in_v * in_u).reshape(-1, size[0], GH, size[1], GW).mean((2, 4)))
    return torch.stack(y)


def compare(pool, oracle, x, *arguments):
    torch = require("torch")
    mine, theirs = Tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
    y, expected = pool(mine, *arguments), oracle(theirs, *arguments) + 0 * theirs.sum()  # in the graph in any case
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=0, atol=1e-11)
    gy = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(gy)
    (expected * torch.from_numpy(gy)).sum().backward()
    np.testing.assert_allclose(mine.grad, theirs.grad.numpy(), rtol=0, atol=1e-10)
    return np.sum(y.data * gy), np.sum(x * mine.grad)


@st.composite
def setups(draw):
    """A batch, boxes inside and outside of its images, some at halves, an output size and a scale."""
    N, H, W = draw(st.integers(1, 3)), draw(st.integers(1, 14)), draw(st.integers(1, 14))
    scale = draw(st.sampled_from([1.0, 0.5, 0.25, 2.0]))
    end = st.one_of(st.integers(-12, 40).map(lambda v: v / 2), st.floats(-6, 20)).map(lambda v: v / scale)
    rows = draw(st.lists(st.tuples(st.integers(0, N - 1), end, end, end, end), min_size=1, max_size=6))
    x = np.random.default_rng(draw(st.integers(0, 9))).standard_normal((N, 2, H, W))
    return x, np.array(rows, float), (draw(st.integers(1, 5)), draw(st.integers(1, 5))), scale


@given(setups())
@settings(max_examples=50, deadline=None)
def test_roi_pool_is_pytorchs(setup):
    compare(roi_pool, torch_roi_pool, *setup)


@given(setups(), st.integers(-1, 3), st.booleans())
@settings(max_examples=50, deadline=None)
def test_roi_align_is_pytorchs_and_backward_its_transpose(setup, ratio, aligned):
    forward, backward = compare(roi_align, torch_roi_align, *setup, ratio, aligned)
    assert forward == pytest.approx(backward, rel=1e-9, abs=1e-9)  # <A x, y> = <x, A' y>


def test_many_boxes_and_channels():
    """More than one block of boxes and band of rows, so that several threads work."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(-5, 20, (30, 2))
    rows = np.concatenate([rng.integers(0, 2, (30, 1)), corner, corner + rng.uniform(0, 15, (30, 2))], axis=1)
    x = rng.standard_normal((2, 80, 16, 20))
    compare(roi_pool, torch_roi_pool, x, rows, (4, 4), 1.0)
    compare(roi_align, torch_roi_align, x, rows, (4, 4), 1.0, -1, True)


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pool", [roi_pool, roi_align])
@pytest.mark.parametrize("given_boxes, options, message", [
    (np.zeros((3, 4)), {}, r"{}: boxes must be \(R, 5\).*or a list of \(L, 4\), one per image; got \(3, 4\)"),
    (np.zeros(5), {}, r"{}: boxes must be \(R, 5\).*got \(5,\)"),
    ([np.zeros((3, 4))], {}, r"{}: a list of boxes needs one array \(L, 4\) for each of the 2 images.*\[\(3, 4\)\]"),
    ([np.zeros((3, 5)), np.zeros((0, 4))], {}, r"{}: a list of boxes needs one array \(L, 4\).*\[\(3, 5\), \(0, 4\)\]"),
    (boxes([0, 1, 1, 2, 2], [2, 1, 1, 3, 3]), {}, r"{}: box 1 is of an unknown image, not one of the 2: \[2.0, 1.0"),
    (boxes([-1, 1, 1, 2, 2]), {}, r"{}: box 0 is of an unknown image, not one of the 2"),
    (boxes([0.5, 1, 1, 2, 2]), {}, r"{}: box 0 is of an unknown image, not one of the 2"),
    (boxes([math.nan, 1, 1, 2, 2]), {}, r"{}: box 0 is of an unknown image, not one of the 2"),
    (boxes([0, 1, 1, 2, 2], [0, 1, math.nan, 2, 2]), {}, r"{}: box 1 is NaN, infinite or too far away: \[0.0, 1.0, n"),
    (boxes([0, 1, 1, math.inf, 2]), {}, r"{}: box 0 is NaN, infinite or too far away"),
    (boxes([0, 1, 1, 1e9, 2]), {}, r"{}: box 0 is NaN, infinite or too far away"),
    (boxes([0, 1, 1, 2, 2]), {"spatial_scale": 0}, r"{}\(spatial_scale=0\) must be a positive number"),
    (boxes([0, 1, 1, 2, 2]), {"output_size": 0}, r"{}\(output_size\) must be an integer of at least 1"),
    (boxes([0, 1, 1, 2, 2]), {"output_size": (7, 7, 7)},
     r"{}\(output_size\) must be an integer of at least 1, or a pair of them"),
])
def test_errors(pool, given_boxes, options, message):
    with pytest.raises(ValueError, match=message.format(pool.__name__)):
        pool(Tensor(np.zeros((2, 3, 8, 8))), given_boxes, **{"output_size": 2, **options})


@pytest.mark.parametrize("pool", [roi_pool, roi_align])
def test_errors_of_the_input(pool):
    with pytest.raises(ValueError, match=rf"{pool.__name__}: input must be \(N, C, H, W\).*got \(3, 8, 8\)"):
        pool(Tensor(np.zeros((3, 8, 8))), np.zeros((1, 5)), 2)
    with pytest.raises(ValueError, match=rf"{pool.__name__}: .*with at least one pixel, got \(1, 3, 0, 8\)"):
        pool(Tensor(np.zeros((1, 3, 0, 8))), np.zeros((1, 5)), 2)


def test_errors_of_the_sampling_ratio():
    with pytest.raises(ValueError, match=r"roi_align\(sampling_ratio=1.5\): use an integer"):
        roi_align(Tensor(np.zeros((1, 3, 8, 8))), np.zeros((1, 5)), 2, sampling_ratio=1.5)
