import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.detection import batched_nms, box_iou, nms
from minicv.detection.nms import CHUNK, nms_loop
from tests.detection.strategies import boxes as some_boxes
from tests.oracle import require
from tests.strict_device import strict


def many(count, seed=0, size=1000.0):
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, size, (count, 2)), rng.uniform(5, 120, (count, 2))
    return np.concatenate([corner, corner + side], 1).astype(np.float32), rng.random(count).astype(np.float32)


def test_by_hand():
    boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [2, 0, 6, 4], [9, 9, 10, 10.0]])
    # IoU of neighbors: 12 / (16 + 16 - 12) = 0.6; of the first and the third: 8 / 24 = 1/3
    scores = np.array([0.7, 0.9, 0.8, 0.1])
    assert nms(boxes, scores, 0.5).tolist() == [1, 3]  # 1 drops 0 and 2
    assert nms(boxes, scores, 0.6).tolist() == [1, 2, 0, 3]  # equal to the threshold stays
    assert nms(boxes, np.array([0.9, 0.8, 0.7, 0.1]), 0.5).tolist() == [0, 2, 3]  # 1 is dropped, so it drops nobody


def test_of_equal_scores_the_first_wins():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4.0]])
    assert nms(boxes, np.array([0.5, 0.7, 0.7]), 0.5).tolist() == [1]
    assert batched_nms(boxes, np.full(3, 0.5), np.array([7, 2, 7]), 0.5).tolist() == [0, 1]


def test_classes_do_not_meet():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4.0]])
    scores = np.array([0.3, 0.9, 0.5])
    assert batched_nms(boxes, scores, np.array([0, 1, 0]), 0.5).tolist() == [1, 2]
    assert batched_nms(boxes, scores, np.array([0, 1, 2]), 0.5).tolist() == [1, 2, 0]
    assert batched_nms(boxes, scores, np.array([0, 1, 2]), 0.5, max_keep=2).tolist() == [1, 2]


@given(st.data(), st.sampled_from([0, 0.25, 1 / 3, 0.5, 0.75, 1]))
@settings(deadline=None)
def test_is_the_loop_and_torch(data, threshold):
    torch, torch_boxes = require("torch"), require("tests.detection.torch_boxes")
    boxes = data.draw(some_boxes(max_size=20))
    scores = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(boxes), max_size=len(boxes)))) / 9  # ties
    keep = nms(boxes, scores, threshold)
    assert keep.dtype == np.int64
    assert keep.tolist() == nms_loop(boxes, scores, threshold).tolist()
    assert keep.tolist() == torch_boxes.nms(torch.tensor(boxes), torch.tensor(scores), threshold).tolist()
    assert nms(boxes, scores, threshold, max_keep=3).tolist() == keep[:3].tolist()


def test_several_blocks_are_torchs():
    torch, torch_boxes = require("torch"), require("tests.detection.torch_boxes")
    boxes, scores = many(3 * CHUNK + 17, size=300.0)
    expected = torch_boxes.nms(torch.tensor(boxes), torch.tensor(scores), 0.3).tolist()
    assert CHUNK < len(expected) < len(boxes)
    assert nms(boxes, scores, 0.3).tolist() == expected
    assert nms(boxes, scores, 0.3, max_keep=CHUNK + 1).tolist() == expected[:CHUNK + 1]


def test_twenty_thousand_boxes_fit():
    boxes, scores = many(20_000)
    tracemalloc.start()
    start = time.perf_counter()
    keep = nms(boxes, scores, 0.7)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(keep) > 10_000  # so most had to be compared with all
    assert peak < 100e6  # all pairs in float32: 1.6 GB
    assert seconds < 30  # takes a few; a matrix row at a time took minutes


def test_an_iou_of_exactly_the_threshold_stays_where_torchvision_drops_it():
    boxes, scores = np.array([[0, 0, 10, 1], [0, 0, 1, 1]], np.float32), np.array([0.9, 0.8], np.float32)
    iou = box_iou(boxes[:1], boxes[1:])[0, 0]
    assert iou.dtype == np.float32 and iou == np.float32(0.1) and float(iou) > 0.1  # torchvision: a double threshold
    assert nms(boxes, scores, 0.1).tolist() == [0, 1]
    assert nms(boxes, scores, np.nextafter(np.float32(0.1), np.float32(0))).tolist() == [0]


def test_empty_and_wrong():
    none = np.zeros((0, 4), np.float32)
    assert nms(none, np.zeros(0), 0.5).shape == (0,)
    assert batched_nms(none, np.zeros(0), np.zeros(0, int), 0.5).dtype == np.int64
    boxes, scores = many(3)
    with pytest.raises(ValueError, match=r"nms: scores must be one number per box, \(3,\), got \(2,\)"):
        nms(boxes, scores[:2], 0.5)
    with pytest.raises(ValueError, match=r"nms: 1 of the 3 scores are NaN"):
        nms(boxes, np.array([0, np.nan, 1]), 0.5)
    with pytest.raises(ValueError, match=r"batched_nms: idxs must be integers .*got float64 \(3,\)"):
        batched_nms(boxes, scores, np.zeros(3), 0.5)


def test_on_the_strict_device():
    boxes, scores = many(2 * CHUNK, size=200.0)
    classes = np.arange(len(boxes)) % 3
    there = [strict.asarray(v) for v in (boxes, scores, classes)]
    np.testing.assert_array_equal(nms(*there[:2], 0.3).get(), nms(boxes, scores, 0.3))
    np.testing.assert_array_equal(batched_nms(*there, 0.3).get(), batched_nms(boxes, scores, classes, 0.3))
