import matplotlib.pyplot as plt
import numpy as np
import pytest

from minicv.data.sample import DetectionSample
from minicv.detection import Detections
from minicv.viz import detection_sheet, draw_detections


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def truth(masks=None, **parts):
    """Two objects of class 0 and one of class 1 on 12 rows and 16 columns."""
    boxes = np.array([[1, 1, 5, 5], [9, 1, 13, 5], [2, 7, 6, 11]], np.float32)
    return DetectionSample(np.zeros((3, 12, 16), np.float32), boxes, np.array([0, 0, 1]), "x", masks, **parts)


def answers(masks=None):
    """The first object, then something where nothing is."""
    return Detections(np.array([[1, 1, 5, 6], [11, 8, 15, 11]], np.float32), np.array([0.9, 0.8], np.float32),
                      np.array([0, 1]), masks)


def filled(boxes):
    masks = np.zeros((len(boxes), 12, 16), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def test_boxes_are_drawn_where_they_are_and_mistakes_are_marked():
    ax = plt.figure().gca()
    assert draw_detections(ax, answers(), truth()) == (1, 1, 2)
    corners = [(p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()) for p in ax.patches]
    assert corners == [(1, 1, 5, 5), (9, 1, 13, 5), (2, 7, 6, 11), (1, 1, 5, 6), (11, 8, 15, 11)]
    assert [p.get_fill() for p in ax.patches] == [True] * 3 + [False] * 2
    assert [p.get_hatch() is not None for p in ax.patches] == [False, True, True, False, False]
    assert [p.get_linestyle() == "-" for p in ax.patches[3:]] == [True, False]
    cross, = ax.lines
    assert cross.get_xydata().tolist() == [[13, 9.5]] and cross.get_marker() == "x"
    assert ax.get_xlim() == (0, 16) and ax.get_ylim() == (12, 0)
    assert not ax.images  # nothing of the image itself


def test_what_counts_depends_on_the_iou_and_not_on_difficult_objects():
    # 4 x 4 of 4 x 5 pixels: IoU 16 / 20 = 0.8
    assert draw_detections(plt.figure().gca(), answers(), truth(), 0.81) == (0, 2, 3)
    assert draw_detections(plt.figure().gca(), answers(), truth(difficult=np.array([False, True, False]))) == (1, 1, 1)
    assert draw_detections(plt.figure().gca(), Detections.empty(), truth()) == (0, 0, 3)


def test_masks_are_outlined_at_the_edges_of_their_pixels():
    ax = plt.figure().gca()
    masks = filled(answers().boxes)
    assert draw_detections(ax, answers(masks), truth(filled(truth().boxes))) == (1, 1, 2)
    assert not ax.patches and len(ax.collections) == 5
    assert [c.hatches != [None] for c in ax.collections[:3]] == [False, True, True]
    x, y = ax.collections[3].get_paths()[0].vertices.T
    assert (x.min(), x.max(), y.min(), y.max()) == (1, 5, 1, 6)
    nothing = answers(np.zeros_like(masks))  # a mask without a pixel has no outline
    assert draw_detections(plt.figure().gca(), nothing, truth(filled(truth().boxes))) == (0, 2, 3)


def test_sheet():
    both = {"one": [answers(), answers()], "other": [Detections.empty(), answers()]}
    figure = detection_sheet([truth(), truth()], both, ["cat", "dog"], ["best", "worst"])
    assert [ax.get_title() for ax in figure.axes] == [
        "best\n1 found, 1 false, 2 missed", "worst\n1 found, 1 false, 2 missed", "0 found, 0 false, 3 missed",
        "1 found, 1 false, 2 missed"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["one", "", "other", ""]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[:2] == ["cat", "dog"] and words[-2:] == ["hatched: missed", "dashed, crossed: false alarm"]
    with pytest.raises(ValueError, match="detection_sheet: 'one' needs detections in each of 2 images, got 1"):
        detection_sheet([truth(), truth()], {"one": [answers()]}, ["cat", "dog"])
