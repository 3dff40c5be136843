import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the choice of a backend that needs no screen

from minicv.data import CamVid, StreetScenes  # noqa: E402
from minicv.viz import PALETTE, class_colors, color_labels, draw_confusion_matrix, segmentation_sheet  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


# Machado, Oliveira and Fernandes (IEEE TVCG 2009), severity 1, on linear RGB
BLIND = {"nobody": np.eye(3),
         "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                             [-0.003882, -0.048116, 1.051998]]),
         "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                             [-0.011820, 0.042940, 0.968881]])}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of linear sRGB


def seen(colors, matrix):
    """CIELAB of sRGB colors (K, 3) in 0..255 as a color-blind person sees them."""
    c = colors / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ matrix.T
    x, y, z = (np.clip(linear, 0, 1) @ XYZ.T / (0.9505, 1, 1.089)).T
    fx, fy, fz = (np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116) for t in (x, y, z))
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=1)


@pytest.mark.parametrize("matrix", BLIND.values(), ids=BLIND)
@pytest.mark.parametrize("classes", [8, CamVid.class_names, StreetScenes.class_names],
                         ids=["palette", "camvid", "streets"])
def test_all_eyes_can_tell_the_colors_apart(classes, matrix):
    lab = seen(np.vstack([class_colors(classes), [255, 255, 255]]), matrix)
    distance = np.linalg.norm(lab[:, None] - lab, axis=2) + 1000 * np.eye(len(lab))
    assert distance.min() > 15  # about 2 can just be seen; the palette's own smallest is 17


def test_colors():
    assert sorted(class_colors(8).tolist()) == sorted(PALETTE.tolist())
    assert len({tuple(color) for color in class_colors(24).tolist()}) == 24
    np.testing.assert_array_equal(class_colors(30)[24:], class_colors(6))  # and then the same again
    np.testing.assert_array_equal(class_colors(["cat", "dog"]), class_colors(2))
    names = ["road", "sky"]
    np.testing.assert_array_equal(class_colors(names), [[190, 190, 190], [86, 180, 233]])
    assert class_colors(CamVid.class_names).shape == (11, 3) and class_colors(3).dtype == np.uint8


def test_label_maps_by_hand():
    colors = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    picture = color_labels(np.array([[0, 1, 255]]), colors)
    assert picture.dtype == np.uint8 and picture.tolist() == [[[1, 2, 3], [4, 5, 6], [255, 255, 255]]]
    with pytest.raises(ValueError, match="color_labels: classes 0 to 2, but 2 colors"):
        color_labels(np.array([[0, 2, 255]]), colors)
    with pytest.raises(ValueError, match="color_labels: classes 0 to 255, but 2 colors"):
        color_labels(np.array([[0, 255]]), colors, ignore_index=None)


def test_sheet():
    samples = list(StreetScenes(2, (30, 40)))
    truth = [sample.label for sample in samples]
    figure = segmentation_sheet([sample.image for sample in samples],
                              {"truth": truth, "net": [np.zeros_like(t) for t in truth]}, StreetScenes.class_names)
    assert len(figure.axes) == 2 * 3  # rows: images; columns: image, truth, net
    assert [ax.get_title() for ax in figure.axes] == ["image", "truth", "net", "", "", ""]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(),
                                  color_labels(truth[0], class_colors(StreetScenes.class_names)))
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == [f"{k} {name}" for k, name in enumerate(StreetScenes.class_names)] + ["void"]
    assert [text.get_text() for text in figure.axes[2].texts] == ["0"]  # one region, in its middle
    x, y = figure.axes[2].texts[0].get_position()
    assert 10 < x < 30 and 10 < y < 20
    without = segmentation_sheet([sample.image for sample in samples], {"truth": truth}, StreetScenes.class_names,
                               with_images=False)
    assert [ax.get_title() for ax in without.axes] == ["truth", ""]
    np.testing.assert_array_equal(without.axes[1].images[0].get_array(),
                                  color_labels(truth[1], class_colors(StreetScenes.class_names)))


def test_large_regions_carry_their_number():
    label = np.zeros((20, 20), int)
    label[4:12, 4:12] = 1  # 64 of 400 pixels
    label[16, 16] = 2
    figure = segmentation_sheet([np.zeros((1, 20, 20))], {"truth": [label]}, ["a", "b", "c"], smallest=0.1)
    numbers = {text.get_text(): text.get_position() for text in figure.axes[1].texts}
    assert set(numbers) == {"0", "1"}
    assert all(5 < where < 11 for where in numbers["1"])


def test_a_sheet_of_maps_that_do_not_fit():
    image, label = np.zeros((3, 4, 6)), np.zeros((4, 6), int)
    for maps in ([label, label], [label.T]):
        with pytest.raises(ValueError, match="segmentation_sheet: 'net' needs a label map of its size for each "
                                             "image"):
            segmentation_sheet([image], {"truth": [label], "net": maps}, ["a"])


def test_confusion_figure_by_hand():
    # Class b: 3 of 4 right, a: all of 12 right, c is not there. IU: a 12/13, b 3/4.
    ax = draw_confusion_matrix([[12, 0, 0], [1, 3, 0], [0, 0, 0]], ["a", "b", "c"], title="net")
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["100", "25", "75", "75.0", "92", "25.0", "75", "0.0", "-", "pixels\n%", "IU\n%"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[100, 0, 0], [25, 75, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"draw_confusion_matrix: needs pixels, and 2 x 2 numbers for 2 names, got "
                                         r"\(3, 3\)"):
        draw_confusion_matrix(np.ones((3, 3)), ["a", "b"])
    with pytest.raises(ValueError, match="draw_confusion_matrix: needs pixels"):
        draw_confusion_matrix(np.zeros((2, 2)), ["a", "b"])
