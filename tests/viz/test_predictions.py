"""What a network found, written on the image: every letter inside, a legend, and a word where nothing was found."""
import numpy as np
import pytest
from PIL import Image, ImageDraw

from minicv.data.sample import DetectionSample
from minicv.detection import Detections
from minicv.viz.boxes import COLORS
from minicv.viz.fonts import text_size
from minicv.viz.images import PALETTE
from minicv.viz.predictions import place_text, render_detections, render_segmentation, shortened

gray = np.full((3, 20, 30), 0.5, np.float32)


def test_image_of_detections():
    found = Detections(np.array([[4, 6, 14, 18], [0, 0, 30, 20]], np.float32), np.array([0.9, 0.4], np.float32),
                       np.array([0, 1]))
    rgb = render_detections(gray, found, ("a", "b"), scale=4)
    assert rgb.shape == (80, 120, 3) and rgb.dtype == np.uint8
    assert (rgb[50, 4 * 4] == COLORS[0]).all() and (rgb[50, 4 * 14 - 1] == COLORS[0]).all()  # both sides of the first
    assert (rgb[60, 30] == 128).all()  # nothing inside
    sample = DetectionSample(gray, found.boxes, found.labels, "x", np.ones((2, 20, 30), bool))
    assert render_detections(gray, sample, ("a", "b")).shape == (20, 30, 3)



def test_of_a_single_class_the_name_would_only_hide_neighbors():
    found = Detections(np.array([[4, 20, 60, 60]], np.float32), np.array([0.5], np.float32), np.array([0]))
    one, two = (render_detections(np.zeros((3, 80, 120)), found, names) for names in (("disc",), ("disc", "b")))
    row = 17  # in the label, above the box
    painted = [int((picture[row] > 0).any(axis=1).sum()) for picture in (one, two)]
    assert 10 < painted[0] < painted[1] - 15  # "0.50" and "disc 0.50"


def test_nothing_found_is_said():
    large = np.full((3, 60, 200), 0.5, np.float32)
    empty = render_detections(large, Detections.empty(), ("a", "b"))
    assert 300 < (empty != 128).any(axis=2).sum() < 4000 and (empty[30:] == 128).all()
    truth = DetectionSample(large, np.zeros((0, 4), np.float32), np.zeros(0, int), "x")
    assert (render_detections(large, truth, ("a", "b")) == 128).all()  # nobody looked for something


@pytest.mark.parametrize("corner", [(0, 0), (-30, -30), (95, 0), (0, 95), (200, 200), (40, 50)])
def test_texts_stay_inside_the_image(corner):
    picture = Image.new("RGB", (100, 100), "white")
    place_text(picture, ImageDraw.Draw(picture), corner, "cell 0.9", size=12, background=(200, 0, 0))
    painted = (np.asarray(picture) != 255).any(axis=2)
    wide, high = text_size("cell 0.9", 12)
    assert painted.any(axis=1).sum() == high and painted.any(axis=0).sum() == wide + 4


def test_long_names_are_shortened():
    assert shortened("cell", 12, 100) == "cell" and shortened("cell", 12, 1) == ""
    short = shortened("a very long name of a class", 12, 100)
    assert short.endswith("…") and "a very long name".startswith(short[:-1]) and text_size(short, 12)[0] <= 100


def test_image_of_labels():
    labels = np.zeros((20, 30), int)
    labels[5:10, 5:10] = 1
    tinted = (0.55 * 128 + 0.45 * PALETTE[1].astype(float)).astype(np.uint8)
    shown = render_segmentation(gray, labels, ("membrane", "cell"), 10)
    assert shown.shape[0] > 200 and shown.shape[1:] == (300, 3) and shown.dtype == np.uint8
    assert (shown[50:100, 50:100] == tinted).all() and (shown[:50, :300] == 128).all()
    legend = shown[200:]
    assert (legend == PALETTE[1]).all(axis=2).sum() > 80 and (legend == PALETTE[2]).all(axis=2).sum() == 0
    several = render_segmentation(gray, labels, ("sky", "road", "car"), 10)[:200]  # every class has a color
    assert (several[60, 60] != several[0, 0]).any() and (several[0, 0] != 128).any()
    assert (render_segmentation(gray, labels, ("background", "road", "car"), 10)[0, 0] == 128).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3)])
def test_legends_of_thin_images_can_be_read(shape):
    shown = render_segmentation(np.zeros((1, *shape)), np.zeros(shape, int), ("a rather long name", "b"))
    assert shown.shape[1] == max(260, shape[1]) and shape[0] + 15 < shown.shape[0] < shape[0] + 40


def test_as_many_classes_as_a_label_can_have():
    names = [f"class number {k}" for k in range(300)]
    labels = np.arange(300).reshape(10, 30)
    assert render_segmentation(gray[:, :10], labels, names, 10).shape[0] > 300
