import matplotlib.pyplot as plt
import numpy as np
import pytest

from minicv.data import DetectionSample
from minicv.detection import Detections
from minicv.viz.boxes import (
    COLORS,
    class_color,
    draw_boxes,
    draw_heat_map,
    draw_image,
    draw_predictions,
    overlay_masks,
)

gray = np.full((3, 20, 30), 0.5, np.float32)


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_boxes_lie_in_pixels(ax):
    draw_image(ax, gray, "t")
    assert ax.get_images()[0].get_extent() == [0, 30, 20, 0] and ax.get_title() == "t"
    draw_boxes(ax, np.array([[2, 3, 10, 8], [0, 0, 30, 20]]), [0, 2], ["a", ""])
    first, second = ax.patches
    assert (first.get_x(), first.get_y(), first.get_width(), first.get_height()) == (2, 3, 8, 5)
    assert second.get_edgecolor()[:3] == tuple(class_color(2)) and [t.get_text() for t in ax.texts] == ["a"]


def test_predictions_have_class_and_score(ax):
    boxes, labels = np.array([[2, 3, 10, 8]], np.float32), np.array([1])
    draw_predictions(ax, gray, Detections(boxes, np.array([0.876], np.float32), labels), ["disc", "cross"], "t")
    assert [t.get_text() for t in ax.texts] == ["cross 0.88"] and ax.get_title() == "t"
    draw_predictions(ax, gray, DetectionSample(gray, boxes, labels, ""), ["disc", "cross"])  # the truth has no scores
    assert ax.texts[-1].get_text() == "cross"


def test_class_colors_repeat():
    assert (class_color(len(COLORS)) == class_color(0)).all()
    assert len({tuple(class_color(k)) for k in range(7)}) == 7


def test_masks_by_hand():
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 5:10, 5:10] = True
    rgb = overlay_masks(gray, mask, [1])
    assert (rgb[5, 7] == COLORS[1]).all()  # the outline in full color
    assert (rgb[7, 7] == (0.5 * 128 + 0.5 * COLORS[1].astype(float)).astype(int)).all()  # half and half inside
    assert (rgb[4, 7] == 128).all()


def test_a_heat_map_lies_on_the_image_beside_its_bar(ax):
    draw_heat_map(ax, gray, np.array([[0.0, 1.0]]), "t", high=2)
    below, heat = ax.get_images()
    assert (below.get_array() == 128).all() and heat.get_extent() == [0, 30, 20, 0]
    assert heat.get_array().tolist() == [[0, 1]] and heat.get_clim() == (0, 2)
    assert len(ax.figure.axes) == 2 and ax.get_title() == "t"
