import numpy as np
import pytest

import tests.strict_device  # noqa: F401 - makes the device known
from minicv import backend
from minicv.detection import base_anchors, box_area, grid_anchors
from tests.oracle import require


def test_nine_anchors_by_hand():
    base = base_anchors()
    assert base.shape == (9, 4)
    w, h = base[:, 2] - base[:, 0], base[:, 3] - base[:, 1]
    np.testing.assert_allclose(h / w, [0.5] * 3 + [1] * 3 + [2] * 3, rtol=1e-14)
    np.testing.assert_allclose(box_area(base), [128**2, 256**2, 512**2] * 3, rtol=1e-14)
    # ratio 1/2, scale 128: w = 128 sqrt(2) = 181.02, h = 128 / sqrt(2) = 90.51 (the authors' code: 184 x 96)
    np.testing.assert_allclose(base[0], [-90.50967, -45.25483, 90.50967, 45.25483], rtol=1e-6)


def test_grid_by_hand():
    anchors = grid_anchors(base_anchors([4], [1, 4]), (2, 3), 16)
    # ratio 4, scale 4: w = 2, h = 8. Row 1, column 2: the middle at x = 2.5 * 16 = 40, y = 1.5 * 16 = 24
    assert anchors.shape == (12, 4) and anchors.dtype == np.float32
    np.testing.assert_array_equal(anchors[(1 * 3 + 2) * 2:], [[38, 22, 42, 26], [39, 20, 41, 28]])
    np.testing.assert_array_equal(anchors[0], [6, 6, 10, 10])  # around (8, 8)
    np.testing.assert_array_equal(grid_anchors(base_anchors([2], [1]), (1, 2), (10, 20)),
                                  [[9, 4, 11, 6], [29, 4, 31, 6]])


def test_is_torch():
    torch_boxes = require("tests.detection.torch_boxes")
    scales, ratios = (8.0, 20.0, 33.0), (0.5, 1.0, 3.0)
    ours = grid_anchors(base_anchors(scales, ratios), (3, 4), 8, np.float64)
    np.testing.assert_allclose(ours, torch_boxes.anchors(3, 4, 8, scales, ratios), rtol=1e-13)


def test_device_and_errors():
    assert backend.device_of(grid_anchors(base_anchors(), (1, 1), 16, device="strict")) == "strict"
    assert grid_anchors(base_anchors(), (0, 5), 16).shape == (0, 4)
    with pytest.raises(ValueError, match=r"base_anchors: needs positive scales and ratios, got scales \(8, 0\)"):
        base_anchors((8, 0))
    with pytest.raises(ValueError, match="base_anchors: needs positive"):
        base_anchors((8,), ())
    with pytest.raises(ValueError, match=r"grid_anchors: base must be boxes \(A, 4\), .*got \(4,\)"):
        grid_anchors(np.zeros(4), (1, 1), 16)
