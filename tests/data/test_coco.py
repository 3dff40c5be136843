import json

import numpy as np
import pytest

from minicv.data import open_dataset, write_png
from minicv.data.coco import CocoDetection
from minicv.data.errors import DataError, DataWarning

SQUARE = [[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]


def annotation(bbox=(2, 1, 4, 3), category=3, id=7, **more):
    return {"id": id, "image_id": 1, "category_id": category, "bbox": list(bbox), "area": 11.5, "iscrowd": 0,
            "segmentation": SQUARE, **more}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    write_png(tmp_path / "val2017/b.png", np.full((3, 6, 10), 255, np.uint8))
    return tmp_path


def write(root, *annotations, text=None):
    images = [{"id": 1, "file_name": "b.png", "height": 6, "width": 10}]
    categories = [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}]
    (root / "annotations/instances_val2017.json").write_text(text if text is not None else json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}))


def test_read(root):
    rle = {"size": [6, 10], "counts": [0, 6, 54]}  # the first column
    write(root, annotation(), annotation((0, 0, 1, 6), 1, 8, iscrowd=1, segmentation=rle))
    pictures = open_dataset(f"coco:{root}", "val")
    assert pictures.class_names == ("person", "car") and len(pictures) == 1  # by number: 1, 3 -> 0, 1
    sample = pictures[0]
    assert sample.boxes.tolist() == [[2, 1, 6, 4], [0, 0, 1, 6]] and sample.labels.tolist() == [1, 0]
    assert sample.crowd.tolist() == [False, True] and sample.area.tolist() == [11.5, 11.5] and sample.name == "b"
    expected = np.zeros((2, 6, 10), bool)
    expected[0, 1:4, 2:6] = expected[1, :, 0] = True
    np.testing.assert_array_equal(sample.masks, expected)
    assert sample.for_training().labels.tolist() == [1]
    assert CocoDetection(root, "val", masks=False)[0].masks is None


def test_no_objects(root):
    write(root)
    sample = CocoDetection(root, "val")[0]
    assert sample.boxes.shape == (0, 4) and sample.masks.shape == (0, 6, 10)


@pytest.mark.parametrize("bbox, boxes, problem", [
    ((2, 1, 0, 3), [], "has no area, left out"),
    ((6, 4, -4, -3), [[2, 1, 6, 4]], "swapped corners, put in order"),
    ((-3, 1, 6, 2), [[0, 1, 3, 3]], "reaches out of the picture of 10 x 6, cut off"),
    ((20, 1, 6, 2), [], "lies outside the picture of 10 x 6, left out"),
])
def test_what_is_wrong_is_told_and_reading_goes_on(root, bbox, boxes, problem):
    write(root, annotation(bbox))
    with pytest.warns(DataWarning, match=rf"val2017\.json: b\.png, annotations\[0\] \(id 7\): box .*{problem}"):
        pictures = CocoDetection(root, "val")
    sample = pictures[0]
    assert sample.boxes.tolist() == boxes and len(sample.labels) == len(sample.area) == len(boxes)


def test_parts_of_a_pixel_outside_are_rounding(root):
    write(root, annotation((-0.2, 1, 4, 5.7)))
    pictures = CocoDetection(root, "val")
    np.testing.assert_allclose(pictures[0].boxes, [[0, 1, 3.8, 6]], rtol=1e-6)
    assert pictures.problems == []


@pytest.mark.parametrize("content, message", [
    ("", "not readable as JSON"),
    ("[1]", "needs the lists images, annotations, categories"),
    ('{"images": [], "categories": []}', "needs the lists"),
])
def test_what_cannot_be_read(root, content, message):
    write(root, text=content)
    with pytest.raises(DataError, match=rf"instances_val2017\.json: .*{message}"):
        CocoDetection(root, "val")


def test_wrong_annotations(root):
    write(root, annotation(category=99))
    with pytest.raises(DataError, match=r"\(id 7\): is of the unknown class 99; categories has the ids 1, 3"):
        CocoDetection(root, "val")
    write(root, annotation(image_id=5))
    with pytest.raises(DataError, match=r"is of an image that is not listed: 5; images has the ids 1"):
        CocoDetection(root, "val")
    write(root, annotation((1, 2, 3)))
    with pytest.raises(DataError, match=r"\(id 7\): needs a bbox of 4 numbers up to 1e\+09, got \[1, 2, 3\]"):
        CocoDetection(root, "val")
    write(root, annotation(segmentation={"size": [6, 10], "counts": [1, 2]}))
    with pytest.raises(DataError, match=r"\(id 7\): a mask that cannot be read \(decode_rle: the runs have 3 pixels"):
        CocoDetection(root, "val")


def test_files(root):
    with pytest.raises(ValueError, match=r"COCO: 0 files instances_train\*\.json in .*; splits there: none"):
        CocoDetection(root)
    write(root, annotation())
    (root / "val2017/b.png").rename(root / "c.png")
    with pytest.raises(DataError, match=r"b\.png: no such file"):
        CocoDetection(root, "val")
    (root / "val2017").rmdir()
    with pytest.raises(DataError, match="val2017: no such folder; COCO is expected as"):
        CocoDetection(root, "val")
