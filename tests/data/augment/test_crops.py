import numpy as np
import pytest

from minicv.data import Cells, Sample
from minicv.data.augment.crops import RandomCrops, pieces


def numbered(count, side):
    """Images whose pixels are all different, in whole numbers."""
    class Numbered(list):
        num_classes, class_names = 2, ("a", "b")

    def sample(i):
        values = np.arange(1, side * side + 1).reshape(side, side) + 1000 * i
        gray = values.astype(np.float32)
        return Sample(gray[None], values, values.astype(np.int32), f"n{i}", -gray)
    return Numbered(sample(i) for i in range(count))


def test_all_maps_show_the_same_window():
    windows = RandomCrops(numbered(3, 8), 5, 4, seed=2)
    assert len(windows) == 5 and windows.num_classes == 2 and windows.class_names == ("a", "b")
    for window in windows:
        assert window.label.shape == (4, 4)
        np.testing.assert_array_equal(np.diff(window.label, axis=0), 8)  # rows of the image are 8 numbers apart
        np.testing.assert_array_equal(np.diff(window.label, axis=1), 1)
        np.testing.assert_array_equal(window.image[0], window.label)
        np.testing.assert_array_equal(window.weight, -window.label)
        np.testing.assert_array_equal(window.instances.ravel(), np.arange(1, 17))  # one pixel each, numbered anew


def test_every_image_before_any_a_second_time_and_fewer_are_the_first():
    windows = RandomCrops(numbered(3, 8), 6, 3, seed=1)
    sources = [window.name for window in windows]
    assert sorted(sources[:3]) == ["n0", "n1", "n2"] and sources[3:] == sources[:3]
    for few, many in zip(RandomCrops(numbered(3, 8), 2, 3, seed=1), windows, strict=False):
        np.testing.assert_array_equal(few.label, many.label)
    other = RandomCrops(numbered(3, 8), 6, 3, seed=3)
    assert any((a.label != b.label).any() for a, b in zip(windows, other, strict=True))


def test_the_whole_image():
    cells = Cells(2, 40, seed=5)
    for window in RandomCrops(cells, 2, 40):
        original = next(s for s in cells if s.name == window.name)
        np.testing.assert_array_equal(window.label, original.label)
        np.testing.assert_array_equal(window.instances, original.instances)


def test_a_set_without_instances():
    image = Sample(np.zeros((3, 5, 5), np.float32), np.zeros((5, 5), int), None, "street")
    dataset = numbered(1, 5)
    dataset[0] = image
    assert RandomCrops(dataset, 1, 3)[0].instances is None


def test_a_cut_cell_becomes_two():
    u_shape = np.array([[4, 0, 4, 0], [4, 4, 4, 0], [0, 0, 0, 9]])
    np.testing.assert_array_equal(pieces(u_shape), [[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 2]])
    np.testing.assert_array_equal(pieces(u_shape[:1]), [[1, 0, 2, 0]])
    assert pieces(np.zeros((2, 2), int)).max() == 0


@pytest.mark.parametrize("count, size, message", [
    (1, 9, r"RandomCrops: n0 is \(8, 8\), smaller than 9 x 9"), (1, 0, "size 0"), (-1, 4, "count -1"),
])
def test_errors(count, size, message):
    with pytest.raises(ValueError, match=message):
        RandomCrops(numbered(1, 8), count, size)
    with pytest.raises(ValueError, match="0 images"):
        RandomCrops(numbered(0, 8), 1, 4)
