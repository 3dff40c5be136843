import dataclasses

import numpy as np
import pytest

from minicv.data import IGNORE, DetectionSample, PanopticSample, Sample, open_dataset
from minicv.data.statistics import BINS, as_sample, statistics


class Items(list):
    """A data set of the items of a list."""

    def __init__(self, items, class_names=("cat", "dog")):
        super().__init__(items)
        self.class_names, self.num_classes = class_names, len(class_names)


def labeled(label, value=0.5):
    label = np.array(label, np.int64)
    return Sample(np.full((3, *label.shape), value, np.float32), label, None, "a")


def boxed(boxes, labels, size=(10, 12)):
    return DetectionSample(np.zeros((3, *size), np.float32), np.array(boxes, np.float32).reshape(-1, 4),
                           np.array(labels, np.int64), "a")


def test_labels_by_hand():
    label = np.zeros((6, 8), int)
    label[:4, :4] = 1  # a region of 16 pixels, the rest 30, with two void pixels among them
    label[5, 6:] = IGNORE
    found = statistics(Items([labeled(label, 0.0), labeled(np.zeros((2, 3)), 1.0)]))
    assert (found.images, found.read, found.unit, found.void) == (2, 2, "pixels", 2)
    assert found.counts.tolist() == [36, 16] and found.containing.tolist() == [2, 1]
    assert found.sizes.tolist() == [[6, 8], [2, 3]]
    assert sorted(found.object_sizes.round(3)) == [4, round(30 ** 0.5, 3)]  # the 6 pixels of the second are a speck
    assert found.values[0, [0, -1]].tolist() == [48, 6] and found.values.sum() == 3 * 54
    lines = found.lines(("cat", "dog"))
    assert lines[0] == "2 images" and lines[1] == "size: 3 x 2 to 8 x 6 pixels"
    assert lines[-1].split() == ["void", "2", "3.7%"] and lines[-2].split() == ["dog", "16", "29.6%", "1"]


def test_boxes_by_hand():
    found = statistics(Items([boxed([[0, 0, 4, 9], [1, 1, 3, 3]], [0, 1]), boxed([], []), boxed([[0, 0, 2, 2]], [1])]))
    assert (found.unit, found.counts.tolist(), found.containing.tolist()) == ("objects", [1, 2], [1, 2])
    assert found.object_sizes.tolist() == [6, 2, 2]
    assert found.lines(("cat", "dog"))[-1].split() == ["dog", "2", "66.7%", "2"]


def test_values_have_their_mean_and_deviation():
    rng = np.random.default_rng(0)
    image = rng.uniform(0.2, 0.4, (1, 500, 600)).astype(np.float32)  # more pixels than are counted
    found = statistics(Items([Sample(image, np.zeros((500, 600), int), None, "a")]))
    assert found.values.shape == (1, BINS) and found.values.sum() <= 100_000
    assert found.mean == pytest.approx(0.3, abs=1 / BINS) and found.deviation == pytest.approx(0.058, abs=0.006)


def test_images_are_evenly_spaced():
    class Counting(Items):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    read = []
    found = statistics(Counting([boxed([], [])] * 11), most=3)
    assert read == [0, 5, 10] and (found.images, found.read) == (11, 3)
    assert found.lines(("cat", "dog"))[0] == "11 images, of which 3, evenly spaced, give the numbers below"
    with pytest.raises(ValueError, match="the data set has no image"):
        statistics(Items([]))


def test_segments_are_labels_and_shapes_count_images():
    segments = np.array([[0, 1], [2, 2]], np.int32)
    item = PanopticSample(np.zeros((3, 2, 2), np.float32), segments, np.array([1, 0]), np.zeros(2, bool), "a")
    assert as_sample(item).label.tolist() == [[IGNORE, 1], [0, 0]]
    shapes = statistics(open_dataset("shapes", count=20))
    assert shapes.unit == "images" and shapes.counts.tolist() == [2] * 10 and len(shapes.object_sizes) == 0
    assert dataclasses.asdict(shapes)["void"] == 0
