import numpy as np
import pytest

from minicv.metrics import ObjectSizeScores

# 0 background, 1 and 2 things: a 1 of four pixels, a 1 of one pixel, a 2 of two.
TARGET = np.array([[1, 1, 0, 0, 1, 0, 0],
                   [1, 1, 0, 0, 0, 0, 0],
                   [0, 0, 0, 2, 2, 0, 0]])


def test_by_hand():
    prediction = np.array([[1, 1, 0, 0, 0, 0, 0],  # three of the large one; the small one is missed
                           [1, 0, 0, 0, 0, 0, 1],  # a 1 of one pixel where there is none
                           [0, 0, 2, 2, 2, 0, 0]])  # the 2 and one pixel more, a piece of three
    measured = ObjectSizeScores(3, edges=(3,), things=(1, 2))
    measured.update(prediction, TARGET)
    assert measured.objects.tolist() == [[0, 1, 1], [0, 1, 0]]  # small: a 1 and a 2; large: a 1
    assert measured.found.tolist() == [[0, 0, 1], [0, 1, 0]]
    np.testing.assert_allclose(measured.recall, [1 / 2, 1])
    # IU, small 1: right 0, union 1 of the truth + 1 wrong in a piece of 1. Large 1: 3 of 4, nothing wrong in a piece of
    # three.
    # Small 2: right 2, union 2: the wrong pixel lies in a piece of three, and is charged to the large ones.
    np.testing.assert_allclose(measured.per_class_iu, [[np.nan, 0, 1], [np.nan, 3 / 4, 0]])
    np.testing.assert_allclose(measured.mean_iu, [1 / 2, 3 / 4])  # no large 2 in the truth: class 1 alone


def test_half_of_an_object_is_not_found():
    prediction = np.where(np.arange(7) == 0, TARGET, 0)  # two of the four pixels of the large one
    measured = ObjectSizeScores(3, edges=(3,))
    measured.update(prediction, TARGET)
    assert measured.found[1, 1] == 0 and measured.objects[1, 1] == 1


def test_void():
    prediction = np.ones_like(TARGET)
    target = np.where(TARGET == 1, 1, 255)
    measured = ObjectSizeScores(2, edges=(2, 5))
    measured.update(prediction, target)
    # The prediction is one piece of 21, nothing of which is wrong where the truth counts.
    np.testing.assert_allclose(measured.per_class_iu[:, 1], [1, 1, np.nan])
    measured = ObjectSizeScores(2, edges=(2, 5), ignore_index=None)
    measured.update(prediction, np.where(TARGET == 1, 1, 0))
    np.testing.assert_allclose(measured.per_class_iu[:, 1], [1, 1, 0])


def test_instances_tell_touching_objects_apart():
    target = np.array([[1, 1, 1, 1, 1, 0]])
    for instances, objects in ((None, [0, 1]), (np.array([[7, 7, 4, 4, 4, 0]]), [1, 1]),
                               (np.array([[5, 5, 5, 5, 5, 5]]), [0, 1])):
        measured = ObjectSizeScores(2, edges=(3,), things=(1,))
        measured.update(np.array([[1, 1, 0, 0, 0, 0]]), target, instances)
        assert measured.objects[:, 1].tolist() == objects
        if instances is not None and objects == [1, 1]:
            np.testing.assert_allclose(measured.recall, [1, 0])


def test_objects_that_touch_at_a_corner_are_one():
    measured = ObjectSizeScores(2, edges=(2,))
    measured.update(np.eye(3, dtype=int), np.eye(3, dtype=int))
    assert measured.objects[:, 1].tolist() == [0, 1]


def test_a_stream_is_the_sum_of_its_images():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 3, (4, 2, 12, 9))
    stream, single = ObjectSizeScores(3, edges=(2, 6)), [ObjectSizeScores(3, edges=(2, 6)) for _ in maps]
    for (prediction, target), alone in zip(maps, single, strict=True):
        stream.update(prediction, target)
        alone.update(prediction, target)
    np.testing.assert_array_equal(stream.objects, sum(alone.objects for alone in single))
    np.testing.assert_array_equal(stream.found, sum(alone.found for alone in single))
    # Over all sizes together: the right pixels are those of the classes, whatever the pieces.
    assert stream._right.sum() == (maps[:, 0] == maps[:, 1]).sum()


def test_nothing_of_a_size_is_nan_without_a_warning():
    measured = ObjectSizeScores(2)
    measured.update(np.zeros((4, 4), int), np.zeros((4, 4), int))
    assert np.isnan(measured.recall[1:]).all() and np.isnan(measured.mean_iu[1:]).all()


def test_errors():
    with pytest.raises(ValueError, match=r"ObjectSizeScores: needs at least one class, rising edges, and things among "
                                         r"the classes, got 2, \(3, 3\) and"):
        ObjectSizeScores(2, edges=(3, 3))
    with pytest.raises(ValueError, match=r"things among the classes, got 2, .* and \(2,\)"):
        ObjectSizeScores(2, things=(2,))
    with pytest.raises(ValueError, match=r"ObjectSizeScores.update: prediction and target .* got \(2, 2\) and "
                                         r"\(3, 7\)"):
        ObjectSizeScores(2).update(np.zeros((2, 2), int), TARGET)
    with pytest.raises(ValueError, match="ObjectSizeScores.update: target must be one image"):
        ObjectSizeScores(2).update(TARGET[None], TARGET[None])
