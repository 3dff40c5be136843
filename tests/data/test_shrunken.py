"""Large images are read once and kept small; boxes, masks and areas follow."""
import copy

import numpy as np
import pytest

from minicv.data import DetectionSample
from minicv.data.shrunken import Shrunken


class Photos:
    """Counts how often each image is read."""

    class_names, num_classes = ("cow",), 1

    def __init__(self, count=3, size=(60, 80)):
        self.reads, self.count, self.size = [], count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads.append(index)
        image = np.random.default_rng(index).random((3, *self.size), np.float32)
        masks = np.zeros((1, *self.size), bool)
        masks[0, 20:40, 8:32] = True
        return DetectionSample(image, np.array([[8, 20, 32, 40]], np.float32), np.array([0]), f"{index}", masks,
                               area=np.array([480], np.float32))


def quarter(size):
    return size[0] // 4, size[1] // 4


def test_it_reads_once_and_scales_the_objects():
    photos = Photos()
    small = Shrunken(photos, quarter)
    first, again = small[1], small[-2]
    assert photos.reads == [1] and len(small) == 3 and small.class_names == ("cow",)
    for sample in (first, again):
        assert sample.image.shape == (3, 15, 20) and sample.image.dtype == np.float32 and sample.name == "1"
        np.testing.assert_array_equal(sample.boxes, [[2, 5, 8, 10]])
        np.testing.assert_array_equal(sample.area, [30])
        assert sample.masks[0, 5:10, 2:8].all() and sample.masks.sum() == 30
    np.testing.assert_array_equal(first.image, again.image)  # kept or read, the pixels are the same
    np.testing.assert_allclose(first.image.mean(), Photos()[1].image.mean(), atol=2e-3)
    again.image[:] = again.boxes[:] = 0  # a sample may be changed
    np.testing.assert_array_equal(small[1].image, first.image)
    assert small[1].boxes.any()


def test_images_that_need_no_shrinking_stay_as_they_are():
    photos = Photos()
    same = Shrunken(photos, lambda size: None)
    np.testing.assert_array_equal(same[0].image, photos[0].image)
    same[0]
    assert photos.reads == [0, 0, 0]


def test_memory_is_bounded():
    photos = Photos()
    small = Shrunken(photos, quarter, max_bytes=2 * (3 * 15 * 20 * 2 + 15 * 20))
    for i in (0, 1, 2, 0, 1, 2):
        small[i]
    assert photos.reads == [0, 1, 2, 2]


def test_it_ends_and_can_be_copied():
    small = Shrunken(Photos(), quarter)
    assert len(list(small)) == 3 == len(copy.deepcopy(small))
    with pytest.raises(IndexError, match="out of range for 3 images"):
        small[3]
