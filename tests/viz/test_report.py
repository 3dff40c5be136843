"""The report's page: one file with everything inside, whatever the names, and pictures that show the errors."""
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minicv.data import IGNORE, DetectionSample, Sample
from minicv.detection import Detections
from minicv.metrics.detection_analysis import DetectionAnalysis
from minicv.metrics.segmentation_analysis import SegmentationAnalysis
from minicv.viz import html
from minicv.viz.evaluation import (
    KIND_COLORS,
    RIGHT_COLOR,
    WRONG,
    draw_ap_by_iou,
    draw_precision_recall,
    error_marks,
    render_errors,
    render_label_errors,
)
from minicv.viz.report import detection_page, segmentation_page

NAMES = ["cat & <mouse>", "dog"]


@pytest.fixture
def ax():
    yield plt.figure().gca()
    plt.close("all")


def images(count=2, size=(60, 80), name="photo"):
    """A cat and a dog; the detections are the cat, a cat where the dog is, and one of nothing."""
    boxes = np.array([[5, 5, 25, 25], [40, 30, 70, 55]], np.float32)
    sample = DetectionSample(np.zeros((3, *size), np.float32), boxes, np.array([0, 1]), name)
    found = Detections(np.array([[5, 5, 25, 25], [40, 30, 70, 54], [50, 2, 60, 12]], np.float32),
                       np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1]))
    return [sample] * count, found


def detector(count=2, names=NAMES, **options):
    dataset, found = images(count, **options)
    analysis = DetectionAnalysis(names)
    for sample in dataset:
        analysis.update(found, sample)
    return analysis, dataset


def test_a_page_of_a_detector():
    page = detection_page(*detector(), "faster_rcnn on <pets>")
    assert page.count("<h1>faster_rcnn on &lt;pets&gt;</h1>") == 1 and "cat &amp; &lt;mouse&gt;" in page
    assert "<mouse>" not in page and page.count("<img ") == 3  # curves, two images
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith("data:image/") for source in sources)  # nothing outside the file
    assert not re.search(r"https?://|<script|@import|url\(", page)
    assert "1 right; 1 wrong class, 1 nothing there" in page and "dog 0.70" in page
    for tag in ("table", "tr", "td", "th", "figure", "div", "p", "span"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_a_detector_without_errors_or_objects():
    analysis = DetectionAnalysis(NAMES)
    sample = images()[0][0]
    analysis.update(Detections(sample.boxes, np.ones(2, np.float32), sample.labels), sample)
    assert "No image has an error." in detection_page(analysis, [sample], "all right")
    nothing = DetectionAnalysis(NAMES)
    nothing.update(Detections.empty(), sample.select(np.zeros(2, bool)))
    assert "–" in detection_page(nothing, [sample], "nothing to find")


def test_many_classes_fit_a_page():
    """The confusion matrix has the 20 classes with the most confusions, and one row and column for the others."""
    names = [f"class {k}" for k in range(80)]
    analysis, dataset = detector(names=names)
    page = detection_page(analysis, dataset, "many")
    (matrix,) = re.findall(r'<table class="matrix">.*?</table>', page, re.S)
    assert matrix.count("<tr>") == 1 + 20 + 1 + 1 and "60 others" in matrix and "missed" in matrix
    assert 'title="class 1 as class 0: 2"' in matrix  # the dogs
    many = SegmentationAnalysis(names)
    sample = Sample(np.zeros((3, 4, 4), np.float32), np.full((4, 4), 7), None, "x")
    many.update(np.full((4, 4), 70), sample)
    (matrix,) = re.findall(r'<table class="matrix">.*?</table>', segmentation_page(many, [sample], "x"), re.S)
    assert matrix.count("<tr>") == 1 + 20 + 1 and 'title="class 7 as class 70: 16"' in matrix


def test_a_page_of_a_network_that_labels_pixels():
    analysis = SegmentationAnalysis(NAMES)
    sample = Sample(np.zeros((3, 4, 6), np.float32), np.zeros((4, 6), int), None, "photo \udcff 세포")
    analysis.update(np.eye(4, 6, dtype=int), sample)
    page = segmentation_page(analysis, [sample], "unet on pets")
    page.encode("utf-8")
    assert "photo ? 세포</b>: mean IU 0.417; cat &amp; &lt;mouse&gt; taken for dog: 16.7%" in page
    assert page.count("<img ") == 1 and "frequency-weighted IU" in page


def test_errors_are_drawn_where_they_are():
    (sample, *_), found = images()
    analysis, _ = detector(1)
    (judged,) = analysis.worst
    assert [(kind, words) for kind, _, words in error_marks(judged, sample, NAMES)] == [
        ("class", "cat & <mouse> 0.80 is dog"), ("background", "dog 0.70")]
    drawn = render_errors(sample, judged, NAMES)
    assert drawn.shape == (11 * 60, 11 * 80, 3)  # 900 // 80 times
    assert tuple(drawn[11 * 15, 11 * 5]) == RIGHT_COLOR
    assert tuple(drawn[11 * 45, 11 * 40]) == KIND_COLORS["class"]
    assert tuple(drawn[11 * 8, 11 * 50]) == KIND_COLORS["background"]
    large = DetectionSample(np.zeros((3, 600, 1800), np.float32), sample.boxes, sample.labels, "large")
    assert render_errors(large, judged, NAMES).shape == (300, 900, 3)


def test_a_missed_object_is_drawn():
    (sample, *_), _ = images()
    analysis = DetectionAnalysis(NAMES)
    analysis.update(Detections.empty(), sample)
    (judged,) = analysis.worst
    assert [(kind, words) for kind, _, words in error_marks(judged, sample, NAMES)] == [
        ("missed", NAMES[0]), ("missed", NAMES[1])]
    assert tuple(render_errors(sample, judged, NAMES)[11 * 20, 11 * 5]) == KIND_COLORS["missed"]


def test_wrong_labels_are_red_and_void_white():
    label = np.zeros((2, 3), int)
    label[1, 2] = IGNORE
    given = np.array([[0, 0, 1], [0, 0, 1]])
    sample = Sample(np.zeros((3, 2, 3), np.float32), label, None, "x")
    drawn = render_label_errors(sample, given, ["cat", "dog", "cow"])
    times = 225 // 3
    assert drawn.shape == (2 * times, 4 * 3 * times + 3 * 6, 3)
    wrong = drawn[::times, -3 * times::times][:2]
    np.testing.assert_array_equal(wrong[0, 2], (0.75 * WRONG).astype(np.uint8))
    assert (wrong[0, :2] == 90).all() and wrong[1, 2].min() > 170


def test_curves_of_few_and_many_classes(ax):
    curve = np.linspace(1, 0, 101)
    draw_precision_recall(ax, {"a": curve, "b": 0 * curve}, "title")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a 0.50", "b 0.00", "mean 0.25"]
    ax.clear()
    draw_precision_recall(ax, {f"c{k}": curve * k / 20 for k in range(20)}, "title")
    assert [text.get_text() for text in ax.get_legend().get_texts()][:3] == ["c0 0.00", "c1 0.03", "c2 0.05"]
    assert len(ax.lines) == 21
    ax.clear()
    draw_precision_recall(ax, {}, "nothing")
    ax.clear()
    draw_ap_by_iou(ax, [0.5, 0.75], {"boxes": [0.5, 0.25], "masks": [0.4, 0.1]})
    assert ax.lines[1].get_xydata().tolist() == [[0.5, 0.4], [0.75, 0.1]]


def test_cells_of_a_matrix():
    text = html.matrix(np.array([[199, 1], [0, 0]]), ["a", "b"], ["a", "b"], "count")
    assert ">100<" in text and ">&lt;1<" in text and 'title="a as b: 1"' in text  # 99.5% and 0.5%
    assert ">99<" in html.matrix(np.array([[99, 1]]), ["a"], ["a", "b"])
