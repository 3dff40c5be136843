import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.detection import Detections, sample_boxes
from tests.strict_device import strict


def draw(labels, count, fraction, seed=0):
    return sample_boxes(np.array(labels), count, fraction, np.random.default_rng(seed))


def test_by_hand():
    labels = [1, 0, -1, 1, 0, 0, 1, 0, -1, 0]
    positive, negative = draw(labels, 4, 0.5)
    assert len(positive) == 2 and len(negative) == 2
    positive, negative = draw(labels, 8, 0.5)  # 4 wanted, 3 there: negatives fill up
    assert positive.tolist() == [0, 3, 6] and len(negative) == 5
    positive, negative = draw(labels, 100, 0.25)
    assert positive.tolist() == [0, 3, 6] and negative.tolist() == [1, 4, 5, 7, 9]
    assert [len(v) for v in draw(labels, 7, 0.25)] == [1, 5]  # 1.75 is rounded down
    assert [len(v) for v in draw([-1, -1], 4, 0.5)] == [0, 0]
    assert [len(v) for v in draw([0, 0, 1], 2, 0.0)] == [0, 2]


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=40), st.integers(0, 50), st.floats(0, 1), st.integers(0, 9))
@settings(deadline=None)
def test_properties(labels, count, fraction, seed):
    labels = np.array(labels, np.int64)
    positive, negative = draw(labels, count, fraction, seed)
    assert (labels[positive] == 1).all() and (labels[negative] == 0).all()
    assert len(positive) == min((labels == 1).sum(), int(count * fraction))
    assert len(negative) == min((labels == 0).sum(), count - len(positive))
    assert len({*positive.tolist(), *negative.tolist()}) == len(positive) + len(negative)  # none twice
    again = draw(labels, count, fraction, seed)
    assert again[0].tolist() == positive.tolist() and again[1].tolist() == negative.tolist()


def test_every_box_has_the_same_chance():
    rng, times = np.random.default_rng(0), np.zeros(10)
    for _ in range(2000):
        positive, negative = sample_boxes(np.array([1] * 4 + [0] * 6), 5, 0.4, rng)
        times[positive] += 1
        times[negative] += 1
    # 2 of 4 and 3 of 6: each is drawn in half of the rounds; the standard deviation is sqrt(2000) / 2 = 22
    assert (abs(times - 1000) < 5 * 22).all()


def test_device_and_errors():
    labels = np.array([1, 0, 0, -1])
    there = sample_boxes(strict.asarray(labels), 2, 0.5, np.random.default_rng(0))
    assert all(type(index) is np.ndarray and index.dtype == np.int64 for index in there)
    with pytest.raises(ValueError, match=r"sample_boxes: needs .*got -1 and 0.5"):
        draw([1], -1, 0.5)
    with pytest.raises(ValueError, match=r"sample_boxes: labels must be one per box, \(R,\), got \(1, 2\)"):
        draw([[1, 0]], 1, 0.5)


def test_detections():
    found = Detections(np.zeros((3, 4), np.float32), np.array([0.9, 0.5, 0.1], np.float32), np.array([2, 0, 1]),
                       np.zeros((3, 5, 6), bool))
    assert len(found) == 3
    best = found[found.scores > 0.3]
    assert best.labels.tolist() == [2, 0] and best.masks.shape == (2, 5, 6)
    assert len(Detections.empty()) == 0 and Detections.empty().masks is None
    assert Detections.empty((5, 6)).masks.shape == (0, 5, 6)
    with pytest.raises(ValueError, match=r"Detections: needs boxes \(R, 4\).*got \(3, 4\), \(2,\) and \(3,\)"):
        Detections(found.boxes, found.scores[:2], found.labels)
    with pytest.raises(ValueError, match=r"Detections: masks must be \(3, H, W\), one per box, got \(2, 5, 6\)"):
        Detections(found.boxes, found.scores, found.labels, found.masks[:2])
