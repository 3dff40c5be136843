import numpy as np
import pytest

from minicv.detection.colour import SPACES, hsv, lab, to_space
from tests.oracle import require


def pixels(*rows):
    return np.array(rows, float).T[:, None]  # (3, 1, N)


def test_by_hand():
    colours = pixels((1, 0, 0), (0, 1, 0), (0, 0, 0.5), (0.5, 0.5, 0.5), (1, 0.5, 0.5))
    np.testing.assert_allclose(hsv(colours)[:, 0].T, [[0, 1, 1], [1 / 3, 1, 1], [2 / 3, 1, 0.5], [0, 0, 0.5],
                                                      [0, 0.5, 1]])
    np.testing.assert_allclose(lab(pixels((1, 1, 1), (0, 0, 0)))[:, 0].T, [[100, 0, 0], [0, 0, 0]], atol=0.01)
    np.testing.assert_allclose(to_space(pixels((0.2, 0.3, 0.5)), "rgI")[:, 0].T, [[0.2, 0.3, 1 / 3]], rtol=1e-6)


def test_are_scikit_images():
    color = require("skimage.color")
    rgb = np.random.default_rng(0).random((3, 9, 11))
    rgb[:, 0, :3] = [[0], [0.5], [1]][1]  # greys
    np.testing.assert_allclose(hsv(rgb), color.rgb2hsv(rgb.transpose(1, 2, 0)).transpose(2, 0, 1), atol=1e-12)
    np.testing.assert_allclose(lab(rgb), color.rgb2lab(rgb.transpose(1, 2, 0)).transpose(2, 0, 1), atol=1e-3)


@pytest.mark.parametrize("name", SPACES)
def test_channels_are_in_0_to_1(name):
    rgb = np.random.default_rng(1).random((3, 8, 8)).astype(np.float32)
    rgb[:, 0] = [[0] * 8, [0] * 8, [1] * 8]
    channels = to_space(rgb, name)
    assert channels.shape == ({"H": 1, "I": 1}.get(name, 3), 8, 8) and channels.dtype == np.float32
    assert np.isfinite(channels).all() and channels.min() >= 0 and channels.max() <= 1


def test_errors():
    with pytest.raises(ValueError, match="to_space: no colour space 'XYZ'; there are RGB, HSV"):
        to_space(np.zeros((3, 1, 1)), "XYZ")
    with pytest.raises(ValueError, match=r"to_space: a picture must be RGB, \(3, H, W\), got \(1, 4, 4\)"):
        to_space(np.zeros((1, 4, 4)), "HSV")
