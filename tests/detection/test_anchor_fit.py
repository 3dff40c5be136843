"""How well anchors fit: against every anchor of the grid, and k-means on boxes of known shapes."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.detection import base_anchors, box_iou, grid_anchors, inside_image
from minicv.detection.anchor_fit import (
    best_anchor_iou,
    cluster_anchors,
    fit_anchors,
    merge_close,
    shape_iou,
    shares_of_fit,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10 ** 6), st.integers(9, 90), st.integers(9, 90), st.sampled_from([4, 8, 16]),
       st.sampled_from([0.0, 3.0, np.inf]))
def test_the_nearest_anchor_is_the_best_of_the_grid(seed, H, W, stride, border):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, [W - 2, H - 2], (6, 2))
    boxes = np.concatenate([corner, rng.uniform(corner + 1, [W, H])], axis=1)
    base = base_anchors(rng.uniform(4, 60, 2), rng.uniform(0.3, 3, 2))
    anchors = grid_anchors(base, (-(-H // stride), -(-W // stride)), stride, dtype=float, device="numpy")
    anchors = anchors[inside_image(anchors, (H, W), border)]
    wanted = box_iou(boxes, anchors).max(axis=1, initial=0)
    np.testing.assert_allclose(best_anchor_iou(boxes, (H, W), base, stride, border), wanted, atol=1e-12)


def test_the_iou_of_shapes_by_hand():
    base = base_anchors([2.0], [1.0])  # 2 x 2
    np.testing.assert_allclose(shape_iou(np.array([[2.0, 2.0], [4.0, 2.0], [1.0, 1.0]]), base)[:, 0], [1, 0.5, 0.25])
    assert shares_of_fit([1.0, 0.5, 0.25, 0.7]) == (0.75, 0.5)


def boxes_of(scales, ratios, count=40, spread=0.05, seed=0):
    """Boxes around every product of these, whose sides vary by a factor of exp(spread)."""
    rng = np.random.default_rng(seed)
    base = base_anchors(scales, ratios)
    return np.repeat(base[:, 2:] - base[:, :2], count, axis=0) * np.exp(rng.normal(0, spread, (count * len(base), 2)))


def test_kmeans_finds_the_scales_and_ratios_that_made_the_boxes():
    scales, ratios = cluster_anchors(boxes_of([12.0, 40.0, 130.0], [0.4, 1.0, 2.5]), 3)
    np.testing.assert_allclose(scales, [12, 40, 130], rtol=0.03)
    np.testing.assert_allclose(ratios, [0.4, 1.0, 2.5], rtol=0.03)
    assert cluster_anchors(np.array([[3.0, 6.0]] * 5), 3) == ([4.2], [2.0])  # boxes of one shape need one anchor


def test_values_that_hardly_differ_become_one():
    assert merge_close([1.0]) == [1.0] and merge_close([4.0, 1.0, 2.0]) == pytest.approx([1, 2, 4])
    np.testing.assert_allclose(merge_close([1.06, 0.99, 2.0, 1.01]), [(1.06 * 0.99 * 1.01) ** (1 / 3), 2])
    (ratio,) = cluster_anchors(boxes_of([20.0, 40.0, 80.0], [1.0]), 3)[1]
    assert 0.9 < ratio < 1.1


def test_more_scales_only_where_three_do_not_fit():
    assert len(fit_anchors(boxes_of([20.0, 40.0], [1.0]))[0]) <= 3
    wide = boxes_of([8.0, 16.0, 32.0, 64.0, 128.0, 256.0], [1.0])
    scales, ratios = fit_anchors(wide)
    assert len(scales) > 3
    assert shares_of_fit(shape_iou(wide, base_anchors(scales, ratios)).max(axis=1))[0] >= 0.95
    with pytest.raises(ValueError, match="no object to fit anchors to"):
        fit_anchors(np.zeros((0, 2)))
