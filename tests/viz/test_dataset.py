import matplotlib.pyplot as plt
import numpy as np
import pytest

from minicv.data import IGNORE, DetectionSample, Sample, open_dataset
from minicv.data.statistics import statistics
from minicv.viz.boxes import class_color
from minicv.viz.dataset import draw_class_counts, draw_dataset, draw_sample, shorten
from tests.data.test_statistics import Items, boxed, labeled


@pytest.fixture
def ax():
    yield plt.figure().gca()
    plt.close("all")


@pytest.mark.parametrize("name", ["cells", "street-scenes", "shape-boxes", "shapes"])
def test_every_kind_of_data_set_is_drawn(name):
    dataset = open_dataset(name, count=5)
    samples = [dataset[i] for i in range(5)]
    figure = draw_dataset(samples, statistics(dataset), dataset.class_names, "title")
    figure.canvas.draw()
    above = [ax for ax in figure.axes if ax.images]
    assert len(above) == 5 and all(sample.name in ax.get_title() for ax, sample in zip(above, samples, strict=True))
    texts = {text.get_text() for ax in figure.axes for text in [*ax.texts, *ax.get_yticklabels()]}
    assert set(dataset.class_names) <= texts
    titles = [ax.get_title() for ax in figure.axes if not ax.images and ax.axison]
    assert titles[1] == "sizes of images" and titles[-1] == "values of the pixels"
    assert len(titles) == (3 if name == "shapes" else 4)


def test_few_objects_have_their_names_and_difficult_ones_dots(ax):
    sample = DetectionSample(np.zeros((3, 10, 12), np.float32), np.array([[1, 1, 4, 4], [5, 5, 9, 9]], np.float32),
                             np.array([0, 1]), "a", difficult=np.array([False, True]))
    draw_sample(ax, sample, ["cat", "dog"])
    assert [text.get_text() for text in ax.texts] == ["cat", "dog"]
    assert [patch.get_linestyle() for patch in ax.patches] == ["-", ":"]
    ax.clear()
    draw_sample(ax, boxed([[0, 0, 2, 2]] * 9, [0] * 9), ["cat", "dog"])
    assert len(ax.patches) == 9 and not ax.texts


def test_large_images_are_drawn_small_with_their_boxes(ax):
    draw_sample(ax, boxed([[0, 0, 1280, 640]], [0], (640, 1280)), ["cat"])
    assert ax.images[0].get_array().shape[:2] == (320, 640)
    assert (ax.patches[0].get_width(), ax.patches[0].get_height()) == (640, 320)
    assert ax.get_title() == "a, 1280 x 640"


def test_void_is_nearly_white(ax):
    draw_sample(ax, Sample(np.zeros((3, 1, 2), np.float32), np.array([[0, IGNORE]]), None, "a"), ["cat", "dog", "cow"])
    drawn = ax.images[0].get_array()
    assert drawn[0, 1].min() > 170 and drawn[0, 0].max() < 170


def test_bars_have_the_colors_of_the_boxes_and_the_counts(ax):
    draw_class_counts(ax, statistics(Items([boxed([[0, 0, 2, 2]] * 3, [0, 1, 1])])), ["cat", "dog"])
    assert [bar.get_facecolor()[:3] for bar in ax.patches] == [tuple(class_color(k)) for k in (0, 1)]
    assert [text.get_text() for text in ax.texts] == ["1", "2"]


def test_void_has_a_bar(ax):
    draw_class_counts(ax, statistics(Items([labeled([[0, 1, 1, IGNORE]])])), ["cat", "dog"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "void"]
    assert [text.get_text() for text in ax.texts] == ["25.0%", "50.0%", "25.0%"]


def test_of_many_classes_the_most_frequent_are_shown(ax):
    names = [f"class {k}" for k in range(80)]
    labels = np.repeat(np.arange(80), np.arange(80))
    numbers = statistics(Items([boxed([[0, 0, 2, 2]] * len(labels), labels)], names))
    draw_class_counts(ax, numbers, names)
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["class 79", "class 78"]
    assert ax.get_title() == "objects of each class (and 60 more)" and len(ax.patches) == 20


def test_names_are_shortened_in_the_middle():
    assert shorten("a" * 40) == "a" * 12 + "…" + "a" * 12
