import dataclasses

import numpy as np
import pytest

from minicv.data import write_png
from minicv.data.errors import DataError, DataWarning
from minicv.data.files.images import image_size
from minicv.data.readers.detection import DetectionReader, Record, boxes_of_masks, usable_boxes
from minicv.data.sample import DetectionSample


def sample(R=3):
    return DetectionSample(np.zeros((3, 4, 5), np.float32), np.arange(4.0 * R).reshape(R, 4), np.arange(R), "x",
                           np.zeros((R, 4, 5), bool), area=np.ones(R))


def test_sample():
    s = sample()
    assert not s.difficult.any() and not s.crowd.any() and s.crowd.shape == (3,)
    some = dataclasses.replace(s, difficult=np.array([True, False, False]), crowd=np.array([False, False, True]))
    assert some.for_training().labels.tolist() == [1]
    assert some.for_training().masks.shape == (1, 4, 5)
    assert some.select(np.array([2, 0])).difficult.tolist() == [False, True]
    assert len(sample(0).for_training().boxes) == 0
    with pytest.raises(ValueError, match=r"DetectionSample: x has boxes \(3, 4\), labels \(2,\)"):
        dataclasses.replace(s, labels=np.zeros(2, int))


class Things(DetectionReader):
    """A data set of records; the first adds problems."""

    class_names = "thing",

    def __init__(self, records, problems=(), keep=False):
        super().__init__([lambda found, r=r: found.extend(problems) or r for r in records], keep)


def test_usable_boxes_by_hand():
    problems = []
    boxes, left = usable_boxes([[1, 2, 3, 4], [3, 4, 1, 2], [-2, 1, 4, 9], [5, 1, 5, 4], [12, 1, 14, 3]], (6, 10),
                               ["a.xml"] * 5, problems)
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4], [1, 2, 3, 4], [0, 1, 4, 6]])
    assert boxes.dtype == np.float32 and left.tolist() == [True, True, True, False, False]
    assert problems == [
        "a.xml: box [3.0, 4.0, 1.0, 2.0] (x1, y1, x2, y2) has swapped corners; reordered",
        "a.xml: box [-2.0, 1.0, 4.0, 9.0] (x1, y1, x2, y2) extends beyond the 10 x 6 image; clipped",
        "a.xml: box [5.0, 1.0, 5.0, 4.0] (x1, y1, x2, y2) has no area; left out",
        "a.xml: box [12.0, 1.0, 14.0, 3.0] (x1, y1, x2, y2) lies outside the 10 x 6 image; left out",
    ]
    problems = []
    assert usable_boxes([[3, 3, 3 + 1e-9, 4]], (6, 10), ["a.xml"], problems)[1].tolist() == [False]
    assert problems == ["a.xml: box [3.0, 3.0, 3.0, 4.0] (x1, y1, x2, y2) has no area; left out"]  # in float32
    problems = []
    boxes, _ = usable_boxes([[-0.4, 0, 10.9, 6]], (6, 10), ["a.xml"], problems, slack=1)
    assert problems == [] and boxes.tolist() == [[0, 0, 10, 6]]
    assert usable_boxes([], (6, 10), ["a.xml"], problems)[0].shape == (0, 4)
    with pytest.raises(DataError, match="a.xml: a box has a coordinate that is not finite"):
        usable_boxes([[0, 0, np.nan, 1]], (6, 10), ["a.xml"], problems)


def test_boxes_of_masks_by_hand():
    masks = np.zeros((3, 4, 6), bool)
    masks[0, 1, 2] = True  # one pixel, from 2 to 3 and from 1 to 2
    masks[1, 0, 5] = masks[1, 3, 1] = True
    np.testing.assert_array_equal(boxes_of_masks(masks), [[2, 1, 3, 2], [1, 0, 6, 4], [0, 0, 0, 0]])
    assert boxes_of_masks(masks[:0]).shape == (0, 4)


def test_images(tmp_path):
    write_png(tmp_path / "a.png", np.full((3, 4, 6), 51, np.uint8))
    record = Record("a", tmp_path / "a.png", (4, 6), np.ones((1, 4), np.float32), np.zeros(1, np.int64))
    images = Things([record, record], keep=True)
    first = images[0]
    assert first.image.shape == (3, 4, 6) and first.image[0, 0, 0] == np.float32(51 / 255) and first.masks is None
    first.boxes[:] = 7
    assert images[-2].boxes.tolist() == [[1, 1, 1, 1]]  # a change of one does not show in the next
    (tmp_path / "a.png").unlink()
    assert images[0].name == "a"  # kept
    with pytest.raises(DataError, match=r"a\.png: no such file; 1 more are missing"):
        Things([record, record])
    write_png(tmp_path / "a.png", np.zeros((3, 5, 6), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: size \(5, 6\) .* differs from that of its annotation, \(4, 6\)"):
        Things([record])[0]
    with pytest.warns(DataWarning, match=r"7 annotations are wrong: p0; p1; p2; p3; p4; and 2 more"):
        assert len(Things([record], [f"p{k}" for k in range(7)]).problems) == 7
    assert image_size(tmp_path / "a.png") == (5, 6)
