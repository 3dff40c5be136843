import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.detection import base_anchors, grid_anchors, match_anchors, match_proposals
from tests.detection.strategies import boxes as some_boxes
from tests.oracle import require
from tests.strict_device import strict

truth = np.array([[0, 0, 10, 10.0]])


def test_anchors_by_hand():
    anchors = np.array([[0, 0, 10, 8], [0, 0, 10, 7], [0, 0, 10, 3], [0, 0, 10, 2.9], [50, 50, 60, 60.0]])
    # IoU 0.8 positive; 0.7 is not higher than 0.7: neither; 0.3 is not lower than 0.3: neither; 0.29, 0: negative
    labels, matched = match_anchors(anchors, truth)
    assert labels.tolist() == [1, -1, -1, 0, 0] and labels.dtype == matched.dtype == np.int64
    assert matched.tolist() == [0] * 5


def test_every_anchor_that_ties_at_an_objects_best_is_positive():
    # both have half of the object and the IoU 50 / 150 = 1/3; a third is at 40 / 160 = 1/4, which is lower than 0.3
    anchors = np.array([[-5, 0, 5, 10], [5, 0, 15, 10], [6, 0, 16, 10.0]])
    assert match_anchors(anchors, truth)[0].tolist() == [1, 1, 0]
    # one that is best for an object, if at 1/9, is positive even below the negative threshold
    assert match_anchors(np.array([[8, 0, 18, 10], [9, 0, 19, 10.0]]), truth)[0].tolist() == [1, 0]


def test_rounding_parts_no_ties():
    anchors = grid_anchors(base_anchors((32, 64)), (20, 20), 16)  # float32; sides like 32 / sqrt(2)
    rng = np.random.default_rng(0)
    for _ in range(40):
        x, y = rng.integers(4, 16) * 16, (rng.integers(4, 16) + 0.5) * 16  # in the middle between two anchors of a row
        w, h = rng.integers(10, 40, 2)
        labels, _ = match_anchors(anchors, np.array([[x - w, y - h, x + w, y + h]], np.float32), positive_iou=1.0)
        assert labels.tolist().count(1) % 2 == 0


def test_an_anchor_learns_the_object_that_is_closest_to_it():
    two = np.array([[0, 0, 10, 10], [8, 0, 18, 10.0]])
    anchors = np.array([[1, 0, 11, 10], [40, 0, 50, 10.0]])
    # IoU with the objects: 90/110 and 30/170. It is the best that either has, and it learns the first
    labels, matched = match_anchors(anchors, two)
    assert labels.tolist() == [1, 0] and matched.tolist() == [0, 0]


def test_an_object_without_area_matches_nothing():
    anchors = np.array([[0, 0, 10, 10], [50, 50, 60, 60.0]])
    bad = np.array([[5, 5, 5, 5], [9, 9, 3, 3.0]])
    assert match_anchors(anchors, bad)[0].tolist() == [0, 0]
    assert match_proposals(anchors, bad, background_iou=(0, 0.5))[0].tolist() == [0, 0]


def test_proposals_by_hand():
    proposals = np.array([[0, 0, 10, 5], [0, 0, 10, 4.9], [0, 0, 10, 1], [0, 0, 10, 0.9]])
    # IoU 0.5 is foreground; 0.49 and 0.1 are in [0.1, 0.5); 0.09 is left out
    assert match_proposals(proposals, truth)[0].tolist() == [1, 0, 0, -1]
    assert match_proposals(proposals, truth, 0.5, (0, 0.5))[0].tolist() == [1, 0, 0, 0]  # R-CNN
    assert match_proposals(proposals, truth, 0.7, (0.1, 0.3))[0].tolist() == [-1, -1, 0, -1]


def test_images_without_objects_and_without_boxes():
    none = np.zeros((0, 4))
    for match, some in ((match_anchors, {}), (match_proposals, {"background_iou": (0, 0.5)})):
        labels, matched = match(np.tile(truth, (3, 1)), none, **some)
        assert labels.tolist() == [0, 0, 0] and matched.tolist() == [0, 0, 0]
        labels, matched = match(none, truth, **some)
        assert labels.shape == matched.shape == (0,)
    assert match_proposals(truth, none)[0].tolist() == [-1]  # IoU 0 is below Fast R-CNN's 0.1


@given(some_boxes(), some_boxes(max_size=5), st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.5, 0.25)]))
@settings(deadline=None)
def test_is_torch(boxes, truth, thresholds):
    torch, torch_boxes = require("torch"), require("tests.detection.torch_boxes")
    high, low = thresholds
    labels, matched = match_anchors(boxes, truth, high, low)
    expected, expected_matched = torch_boxes.match_anchors(torch.tensor(boxes), torch.tensor(truth), high, low)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(matched, expected_matched)
    np.testing.assert_array_equal(match_proposals(boxes, truth, high, (0.1, low))[0], torch_boxes.match_proposals(
        torch.tensor(boxes), torch.tensor(truth), high, 0.1, low))


def test_on_the_strict_device():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 9, (9, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    for match in (match_anchors, match_proposals):
        for objects in (boxes[:3], boxes[:0]):
            there = match(strict.asarray(boxes), strict.asarray(objects))
            for ours, expected in zip(there, match(boxes, objects), strict=True):
                np.testing.assert_array_equal(ours.get(), expected)


def test_wrong_thresholds():
    with pytest.raises(ValueError, match="match_anchors: needs 0 <= negative_iou <= positive_iou <= 1, got 0.8 "
                                         "and 0.7"):
        match_anchors(truth, truth, 0.7, 0.8)
    with pytest.raises(ValueError, match=r"match_proposals: .*got background_iou \(0.1, 0.6\) and foreground_iou 0.5"):
        match_proposals(truth, truth, 0.5, (0.1, 0.6))
