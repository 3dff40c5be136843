import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minicv.metrics.instances import count_instances


def test_by_hand():
    truth = np.array([[1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 0, 4, 4, 4, 4]])
    guess = np.array([[5, 5, 5, 5, 5, 5, 0, 0, 7, 0, 0, 8, 8, 8, 0]])
    # cell 1: all 3 pixels in piece 5 of 6, IoU 3/6, not above 0.5; cell 2: 2 of 3 pixels in piece 5, IoU 2/7: these two
    # are merged; cell 3: 1 of 2 pixels in piece 7, not most of it, IoU 1/2; cell 4: IoU 3/4, found
    assert count_instances(guess, truth) == (4, 1, 2)


def test_two_cells_mostly_on_background_are_not_merged():
    truth = np.array([[1, 1, 1, 0, 2, 2, 2]])
    assert count_instances(np.zeros_like(truth), truth) == (2, 0, 0)
    assert count_instances(np.array([[0, 0, 9, 9, 9, 0, 0]]), truth) == (2, 0, 0)


def test_a_prediction_without_background():
    truth = np.array([[3, 3], [0, 5]])
    assert count_instances(np.full((2, 2), 4), truth) == (2, 0, 2)  # IoU 2/4 and 1/4
    assert count_instances(np.full((2, 2), 4), np.zeros((2, 2), int)) == (0, 0, 0)


@given(arrays(np.int64, (5, 6), elements=st.integers(0, 4)), st.permutations(range(1, 6)))
def test_numbers_do_not_matter_and_the_truth_finds_itself(truth, numbers):
    total = len(set(truth.ravel().tolist()) - {0})
    renamed = np.array([0, *numbers])[truth] * 10
    assert count_instances(renamed, truth) == (total, total, 0)
    everything = count_instances(np.ones_like(truth), truth)
    assert everything.merged == (total if total > 1 else 0)


@pytest.mark.parametrize("guess, message", [
    (np.zeros((2, 3), int), r"count_instances: .*\(2, 3\).*\(2, 2\)"),
    (np.zeros((2, 2)), "count_instances: prediction_labels"),
])
def test_errors(guess, message):
    with pytest.raises((ValueError, TypeError), match=message):
        count_instances(guess, np.zeros((2, 2), int))
