import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the choice of a backend that needs no screen

from minicv.viz import PALETTE, color_instances, label_edges, overlay_labels, show_images  # noqa: E402
from minicv.viz.images import to_rgb  # noqa: E402

ORANGE, SKY, LAST = [230, 159, 0], [86, 180, 233], [204, 121, 167]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_gray_to_rgb():
    # 0.5 * 255 = 127.5 rounds up; values beyond [0, 1] are cut off
    expected = [[[0, 0, 0], [128, 128, 128], [255, 255, 255]]]
    np.testing.assert_array_equal(to_rgb(np.array([[-1, 0.5, 2.0]])), expected)
    np.testing.assert_array_equal(to_rgb(np.array([[[0.0, 0.5, 1.0]]])), expected)
    color = np.array([1.0, 0.0, 0.2]).reshape(3, 1, 1)
    np.testing.assert_array_equal(to_rgb(color), [[[255, 0, 51]]])
    assert to_rgb(color).dtype == np.uint8


def test_overlay_tints_every_class_but_0():
    image = np.full((1, 1, 4), 0.6)  # 153
    result = overlay_labels(image, np.array([[0, 1, 2, 8]]), strength=0.5)
    assert result.shape == (1, 4, 3) and result.dtype == np.uint8
    # halfway from (153, 153, 153) to the color, rounded down; class 8 starts the seven colors anew
    np.testing.assert_array_equal(result[0], [[153, 153, 153], [191, 156, 76], [119, 166, 193], [191, 156, 76]])
    rgb = overlay_labels(image, np.array([[0, 1, 2, 7]]), strength=1)
    np.testing.assert_array_equal(rgb[0, 1:], [ORANGE, SKY, LAST])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_overlay_takes_labels_of_any_integer_type(dtype):
    labels = np.array([[0, 1]]).astype(dtype)
    np.testing.assert_array_equal(overlay_labels(np.zeros((1, 1, 2)), labels, strength=1)[0], [[0, 0, 0], ORANGE])


def test_overlay_of_a_color_image_changes_nothing_else():
    image = np.random.default_rng(0).random((3, 4, 5))
    before, labels = image.copy(), np.zeros((4, 5), int)
    np.testing.assert_array_equal(overlay_labels(image, labels), to_rgb(image))
    np.testing.assert_array_equal(image, before)


def test_outline():
    labels = np.array([[1, 1, 2],
                       [1, 1, 2],
                       [3, 3, 3]])
    np.testing.assert_array_equal(label_edges(labels), [[False, True, False],
                                                    [True, True, True],
                                                    [False, False, False]])
    assert not label_edges(np.ones((3, 3), int)).any()


def test_color_instances():
    colors = color_instances(np.array([[0, 1, 2], [8, 2, 1]]))
    assert colors.shape == (2, 3, 3) and colors.dtype == np.uint8
    assert (colors[0, 0] == 0).all()  # background
    np.testing.assert_array_equal(colors[0, 1], colors[1, 2])
    distinct = {tuple(c) for c in colors.reshape(-1, 3).tolist()}
    assert len(distinct) == 4  # 1 and 8 share a color, but not its brightness
    np.testing.assert_array_equal(colors, color_instances(np.array([[0, 1, 2], [8, 2, 1]])))
    assert not color_instances(np.zeros((2, 2), int)).any()


def test_the_palette_has_eight_different_colors():
    assert len(set(map(tuple, PALETTE.tolist()))) == 8 and PALETTE[0].tolist() == [0, 0, 0]


def test_panels():
    image = np.random.default_rng(0).random((1, 6, 7))
    figure = show_images({"gray": image, "map": image[0], "color": to_rgb(image), "planes": image.repeat(3, 0),
                     "fifth": image}, vmin=0, vmax=1)
    axes = figure.axes
    assert len(axes) == 8  # two rows of four
    assert [ax.get_title() for ax in axes] == ["gray", "map", "color", "planes", "fifth", "", "", ""]
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 1, 1, 0, 0, 0]
    shapes = [ax.images[0].get_array().shape for ax in axes[:5]]
    assert shapes == [(6, 7, 3), (6, 7), (6, 7, 3), (6, 7, 3), (6, 7, 3)]
    assert axes[1].images[0].get_clim() == (0, 1) and axes[1].images[0].get_cmap().name == "gray"
    assert len(show_images({"a": image, "b": image, "c": image}, columns=2).axes) == 4
    assert show_images({"a": image[0]}, cmap="viridis").axes[0].images[0].get_cmap().name == "viridis"
