"""``Subset``: the chosen items of a data set, read once."""
import copy

import numpy as np
import pytest

from minicv.data import Subset
from minicv.data.generated.shape_boxes import ShapeBoxes


class Counting:
    class_names = ("disc", "square")

    def __init__(self):
        self.read = []

    def __len__(self):
        return 5

    def __getitem__(self, i):
        self.read.append(i)
        return 10 * i


def test_items_are_those_at_the_indices_and_read_once():
    dataset = Counting()
    some = Subset(dataset, [3, 1])
    assert [some[0], some[1], some[-1]] == [30, 10, 10] and len(some) == 2
    assert dataset.read == [3, 1] and list(some) == [30, 10]
    assert some.class_names == ("disc", "square")
    with pytest.raises(IndexError, match="Subset: index 2 is out of range for 2 images"):
        some[2]


def test_a_transform_changes_each_item():
    assert list(Subset(Counting(), range(2, 4), transform=lambda value: value + 1)) == [21, 31]


def test_a_copy_and_an_unknown_attribute():
    some = Subset(Counting(), [4])
    assert copy.deepcopy(some)[0] == 40
    with pytest.raises(AttributeError, match="nothing"):
        _ = some.nothing


def test_of_a_detection_data_set():
    dataset = ShapeBoxes(4, 48)
    some = Subset(dataset, [2])
    np.testing.assert_array_equal(some[0].boxes, dataset[2].boxes)
    assert some.num_classes == dataset.num_classes
