import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.detection import (
    box_area,
    box_intersection,
    box_iou,
    clip_boxes_to_image,
    decode_boxes,
    encode_boxes,
    inside_image,
    remove_small_boxes,
)
from minicv.detection.boxes import box_iou_loop
from tests.detection.strategies import boxes as some_boxes
from tests.oracle import require
from tests.strict_device import strict


def test_iou_by_hand():
    a = np.array([[0, 0, 4, 2], [0, 0, 1, 1.0]])
    b = np.array([[2, 1, 6, 3], [0, 0, 4, 2], [4, 0, 8, 2], [0.5, 0, 1.5, 1.0]])
    # first row: 2x1 in common, 8 + 8 - 2 = 14; the same box; touching at x = 4; 1x1 inside: 1 / 8
    # second row: apart; 1 / 8; apart; 1/2 in common, 1 + 1 - 1/2 = 3/2
    np.testing.assert_allclose(box_iou(a, b), [[2 / 14, 1, 0, 1 / 8], [0, 1 / 8, 0, 1 / 3]], rtol=1e-15)
    np.testing.assert_array_equal(box_intersection(a, b), [[2, 8, 0, 1], [0, 1, 0, 0.5]])
    np.testing.assert_array_equal(box_area(b), [8, 8, 8, 1])  # (6 - 2) (3 - 1), no "+ 1"


def test_degenerate_boxes_have_no_area_and_overlap_nothing():
    bad = np.array([[3, 3, 3, 5], [5, 5, 2, 2], [1, 1, 1, 1]], np.float32)
    np.testing.assert_array_equal(box_area(bad), 0)  # swapped corners: not (-3) (-3) = 9
    np.testing.assert_array_equal(box_iou(bad, np.concatenate([bad, [[0, 0, 9, 9]]]).astype(np.float32)), 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_boxes_and_dtype(dtype):
    none, one = np.zeros((0, 4), dtype), np.array([[0, 0, 2, 2]], dtype)
    assert box_iou(none, one).shape == (0, 1) and box_iou(one, none).shape == (1, 0)
    for result in (box_iou(one, one), box_area(one), encode_boxes(one, one), decode_boxes(one, one),
                   clip_boxes_to_image(none, (3, 3)), encode_boxes(none, none)):
        assert result.dtype == dtype


@given(some_boxes(), some_boxes())
@settings(deadline=None)
def test_iou_is_the_loop_and_torch(a, b):
    torch, torch_boxes = require("torch"), require("tests.detection.torch_boxes")
    iou = box_iou(a, b)
    np.testing.assert_array_equal(iou, box_iou_loop(a, b))
    np.testing.assert_allclose(iou, torch_boxes.iou(torch.tensor(a), torch.tensor(b)).numpy(), rtol=1e-14)
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_array_equal(iou, box_iou(b, a).T)


def test_clip_by_hand():
    boxes = np.array([[-3, 1, 5, 9], [12, 2, 14, 3], [1, 1, 2, 2.5]])
    # image 6 high, 10 wide; the second lies wholly to the right: no width is left
    np.testing.assert_array_equal(clip_boxes_to_image(boxes, (6, 10)),
                                  [[0, 1, 5, 6], [10, 2, 10, 3], [1, 1, 2, 2.5]])
    np.testing.assert_array_equal(inside_image(boxes, (6, 10)), [False, False, True])
    np.testing.assert_array_equal(inside_image(boxes, (6, 10), allowed_border=3), [True, False, True])  # 3 out
    np.testing.assert_array_equal(remove_small_boxes(boxes, 1.5), [0])  # 8x8, 2x1, 1x1.5


def test_encode_by_hand():
    # P: center (5, 10), 10 x 20. G: center (7, 5), 20 x 10. t = (2 / 10, -5 / 20, log 2, log 1/2)
    P, G = np.array([[0, 0, 10, 20.0]]), np.array([[-3, 0, 17, 10.0]])
    t = encode_boxes(G, P)
    np.testing.assert_allclose(t, [[0.2, -0.25, np.log(2), -np.log(2)]], rtol=1e-15)
    np.testing.assert_allclose(decode_boxes(t, P), G, rtol=1e-15)
    np.testing.assert_allclose(encode_boxes(G, P, (10, 10, 5, 5)), t * [10, 10, 5, 5], rtol=1e-15)
    np.testing.assert_allclose(decode_boxes(t * [10, 10, 5, 5], P, (10, 10, 5, 5)), G, rtol=1e-15)


@given(some_boxes(min_size=1), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_encode_and_decode_are_inverses_and_torchs(truth, seed):
    torch, torch_boxes = require("torch"), require("tests.detection.torch_boxes")
    truth[:, 2:] += 0.25  # positive sides
    center = np.random.default_rng(seed).uniform(-5, 5, (len(truth), 2))
    size = np.random.default_rng(seed + 1).uniform(1, 9, (len(truth), 2))
    proposals = np.concatenate([center - size / 2, center + size / 2], 1)
    t = encode_boxes(truth, proposals)
    np.testing.assert_allclose(t, torch_boxes.encode(torch.tensor(truth), torch.tensor(proposals)), atol=1e-12)
    np.testing.assert_allclose(decode_boxes(t, proposals),
                               torch_boxes.decode(torch.tensor(t), torch.tensor(proposals)), atol=1e-12)
    np.testing.assert_allclose(decode_boxes(t, proposals), truth, atol=1e-12)


def test_offsets_per_class_broadcast():
    P = np.array([[0, 0, 4, 4], [2, 2, 4, 8.0]])
    t = np.random.default_rng(0).normal(size=(2, 3, 4))
    every = decode_boxes(t, P[:, None])
    assert every.shape == (2, 3, 4)
    np.testing.assert_array_equal(every[1, 2], decode_boxes(t[1, 2][None], P[[1]])[0])


def test_degenerate_boxes_give_finite_offsets():
    bad, good = np.array([[3, 3, 3, 3], [5, 5, 1, 1.0]]), np.array([[0, 0, 2, 2], [0, 0, 2, 2.0]])
    for t in (encode_boxes(bad, good), encode_boxes(good, bad), encode_boxes(bad, bad)):
        assert np.isfinite(t).all()
    grown = decode_boxes(np.array([[0, 0, 1e6, 1e6]], np.float32), good[:1].astype(np.float32))
    # exp(log(1000 / 16)) = 62.5 times as wide: 125 around the center at 1
    np.testing.assert_allclose(grown, [[1 - 62.5, 1 - 62.5, 1 + 62.5, 1 + 62.5]], rtol=1e-5)


def test_what_is_not_boxes():
    with pytest.raises(TypeError, match=r"box_area: boxes must be a floating point array .*got int64"):
        box_area(np.zeros((2, 4), int))
    with pytest.raises(ValueError, match=r"box_iou: boxes2 must have the shape .*got \(0,\) .*\(0, 4\)"):
        box_iou(np.zeros((1, 4)), np.zeros(0))
    with pytest.raises(ValueError, match=r"encode_boxes: proposals .*got \(3, 5\)"):
        encode_boxes(np.zeros((3, 4)), np.zeros((3, 5)))


def test_on_the_strict_device():
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 9, (2, 5, 4)).astype(np.float32)
    there = [strict.asarray(v) for v in (a, b)]
    for f in (box_iou, encode_boxes, decode_boxes):
        np.testing.assert_array_equal(f(*there).get(), f(a, b))
    for f in (lambda v: clip_boxes_to_image(v, (5, 6)), lambda v: inside_image(v, (5, 6)), box_area):
        np.testing.assert_array_equal(f(there[0]).get(), f(a))


@pytest.mark.parametrize("dtype, scale", [("float32", 1e-38), ("float32", 1e-30), ("float32", 1e-20), ("float32", 1e18),
                                          ("float32", 1e30), ("float16", 1e-4), ("float16", 100)])
def test_iou_of_boxes_whose_area_float32_cannot_hold(dtype, scale):
    boxes = (scale * np.array([[0, 0, 400, 300], [0, 0, 200, 300], [100, 0, 400, 300], [0, 0, 0, 300]])).astype(dtype)
    iou = box_iou(boxes, boxes)
    assert iou.dtype == dtype
    expected = [[1, 1 / 2, 3 / 4, 0], [1 / 2, 1, 1 / 4, 0], [3 / 4, 1 / 4, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(iou, expected, rtol=0.02 if dtype == "float16" else 1e-5)  # the sides are rounded, too


def test_targets_far_from_zero_keep_their_digits():
    proposals = np.array([[4000.25, 4000.5, 4016.25, 4008.5]], np.float32)
    boxes = proposals + np.array([0.125, -0.25, 0.15625, -0.25], np.float32)
    shift = encode_boxes(boxes, proposals)[0, :2].tolist()
    assert shift == [0.140625 / 16, -0.25 / 8]  # a center at 4008.390625 would be rounded to 1/2048 or 1/4096
