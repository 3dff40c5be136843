import numpy as np
import pytest

from minicv.detection.color import COLOR_SPACES, convert_color, rgb_to_hsv, rgb_to_lab
from tests.oracle import require


def pixels(*rows):
    return np.array(rows, float).T[:, None]  # (3, 1, N)


def test_by_hand():
    colors = pixels((1, 0, 0), (0, 1, 0), (0, 0, 0.5), (0.5, 0.5, 0.5), (1, 0.5, 0.5))
    np.testing.assert_allclose(rgb_to_hsv(colors)[:, 0].T, [[0, 1, 1], [1 / 3, 1, 1], [2 / 3, 1, 0.5], [0, 0, 0.5],
                                                      [0, 0.5, 1]])
    np.testing.assert_allclose(rgb_to_lab(pixels((1, 1, 1), (0, 0, 0)))[:, 0].T, [[100, 0, 0], [0, 0, 0]], atol=0.01)
    np.testing.assert_allclose(convert_color(pixels((0.2, 0.3, 0.5)), "rgI")[:, 0].T, [[0.2, 0.3, 1 / 3]], rtol=1e-6)


def test_are_scikit_images():
    color = require("skimage.color")
    rgb = np.random.default_rng(0).random((3, 9, 11))
    rgb[:, 0, :3] = [[0], [0.5], [1]][1]  # grays
    np.testing.assert_allclose(rgb_to_hsv(rgb), color.rgb2hsv(rgb.transpose(1, 2, 0)).transpose(2, 0, 1), atol=1e-12)
    np.testing.assert_allclose(rgb_to_lab(rgb), color.rgb2lab(rgb.transpose(1, 2, 0)).transpose(2, 0, 1), atol=1e-3)


@pytest.mark.parametrize("name", COLOR_SPACES)
def test_channels_are_in_0_to_1(name):
    rgb = np.random.default_rng(1).random((3, 8, 8)).astype(np.float32)
    rgb[:, 0] = [[0] * 8, [0] * 8, [1] * 8]
    channels = convert_color(rgb, name)
    assert channels.shape == ({"H": 1, "I": 1}.get(name, 3), 8, 8) and channels.dtype == np.float32
    assert np.isfinite(channels).all() and channels.min() >= 0 and channels.max() <= 1


def test_errors():
    with pytest.raises(ValueError, match="convert_color: unknown color space 'XYZ'; choose one of RGB, HSV"):
        convert_color(np.zeros((3, 1, 1)), "XYZ")
    with pytest.raises(ValueError, match=r"convert_color: the image must be RGB, \(3, H, W\), got \(1, 4, 4\)"):
        convert_color(np.zeros((1, 4, 4)), "HSV")
