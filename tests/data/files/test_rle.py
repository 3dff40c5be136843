import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.data.files.rle import decode_rle, encode_rle, fill_polygon, pack, unpack
from tests.oracle import require


@st.composite
def masks(draw):
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.random(shape) < draw(st.sampled_from([0, 0.02, 0.5, 1]))


def test_by_hand():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)  # columns: 00, 10, 11
    assert encode_rle(mask) == {"size": [2, 3], "counts": "2111"}  # 2, 1, 1, and 2 - 1
    assert unpack(encode_rle(~mask)["counts"]) == [0, 2, 1, 1, 2]  # none outside at first
    np.testing.assert_array_equal(decode_rle({"size": [2, 3], "counts": [2, 1, 1, 2]}), mask)
    # 35 = 1 * 32 + 3: groups 3 (and more), 1 -> characters 48 + 32 + 3 = "S", 48 + 1 = "1"
    assert unpack("S1") == [35] and pack([35]) == "S1"
    # the fourth is the difference from the second: 2 - 1, where -1 is the group 31 without "more": 48 + 31 = "O"
    assert unpack("524O") == [5, 2, 4, 1] and pack([5, 2, 4, 1]) == "524O"
    # 16 alone would read as -16: a second group of 0 follows
    assert pack([16]) == "`0" and unpack("`0") == [16]


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools


@given(masks())
@settings(deadline=None)  # the first call imports the oracle
def test_there_and_back_and_pycocotools(mask):
    coco = require("pycocotools.mask")
    rle = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    np.testing.assert_array_equal(decode_rle(packed), mask)
    np.testing.assert_array_equal(decode_rle({**packed, "counts": packed["counts"].decode()}), mask)
    assert rle == {"size": packed["size"], "counts": packed["counts"].decode()}  # byte for byte


@given(st.lists(st.integers(0, 1 << 40), max_size=9))
def test_packed_lengths_of_any_size(counts):
    assert unpack(pack(counts)) == counts


def test_wrong():
    with pytest.raises(ValueError, match="decode_rle: the runs have 5 pixels, a mask of 2 x 3 has 6"):
        decode_rle({"size": [2, 3], "counts": [2, 3]})
    with pytest.raises(ValueError, match="ends in the middle of a number"):
        unpack("S")
    with pytest.raises(ValueError, match=r"encode_rle: mask must be bool \(H, W\), got int64 \(2, 2\)"):
        encode_rle(np.zeros((2, 2), int))


@pytest.mark.parametrize("rle", [
    {}, [], None, {"size": [2, 3]}, {"size": [2], "counts": [6]}, {"size": [2, "3"], "counts": [6]},
    {"size": [2, 3], "counts": [1.5, 4.5]}, {"size": [2, 3], "counts": {"a": 6}},
    {"size": [2, 3], "counts": [10 ** 30]}])
def test_what_is_no_mask_is_named(rle):
    with pytest.raises(ValueError, match=r'decode_rle: a mask is {"size": \[H, W\], "counts": lengths or packed text}'):
        decode_rle(rle)


def test_a_mask_cannot_fill_the_memory():
    with pytest.raises(ValueError, match="a mask of 100000 x 100000; 0 to 89478485 pixels"):
        decode_rle({"size": [10 ** 5, 10 ** 5], "counts": [10 ** 10]})


def test_a_polygon_without_numbers():
    with pytest.raises(ValueError, match="fill_polygon: a coordinate is not finite"):
        fill_polygon([0, 0, float("nan"), 1, 2, 2], (3, 3))


def test_polygons_by_hand():
    square = fill_polygon([1, 1, 4, 1, 4, 3, 1, 3], (4, 5))
    expected = np.zeros((4, 5), bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(square, expected)
    # a triangle (0,0) (4,0) (0,4): of row i, the middles x < 4 - (i + 0.5)
    np.testing.assert_array_equal(fill_polygon([0, 0, 4, 0, 0, 4], (4, 4)).sum(axis=1), [3, 2, 1, 0])
    np.testing.assert_array_equal(fill_polygon([-5, -5, 9, -5, 9, 9, -5, 9], (3, 4)), True)  # cut off at the borders
    np.testing.assert_array_equal(fill_polygon([10, 0, 12, 0, 12, 3], (3, 4)), False)
    assert not fill_polygon([1, 1, 2, 2], (3, 3)).any()  # a line


def test_polygons_are_pycocotools_but_for_the_outline():
    coco = require("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = rng.uniform(10, 30, 9)
        polygon = np.stack([40 + radius * np.cos(angle), 35 + radius * np.sin(angle)], 1).ravel().tolist()
        theirs = coco.decode(coco.frPyObjects([polygon], 70, 80))[..., 0] > 0
        ours = fill_polygon(polygon, (70, 80))
        around = np.abs(np.diff(np.pad(theirs, 1).astype(int), axis=0)).sum() * 2
        assert (ours != theirs).sum() < 0.5 * around
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9
