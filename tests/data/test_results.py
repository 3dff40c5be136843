import json

import numpy as np
import pytest

from minicv.data import DetectionSample
from minicv.data.files.rle import decode_rle
from minicv.data.results import BEYOND, Results
from minicv.detection import Detections


def found(masks=None):
    return Detections(np.array([[1, 2, 4, 8], [0, 0, 0.1, 1]], np.float32), np.array([0.9, 0.1], np.float32),
                      np.array([1, 0]), masks)


def test_cocos_files_by_hand(tmp_path):
    masks = np.zeros((2, 10, 12), bool)
    masks[0, 2:8, 1:4] = True
    results = Results(["cat", "dog"])
    results.add("photos/a.jpg", (10, 12), found(masks))
    results.add("photos/b.jpg", (5, 6), Detections.empty((5, 6)))
    results.write_coco(tmp_path / "r.json", tmp_path / "i.json")
    one, two = json.loads((tmp_path / "r.json").read_text())
    np.testing.assert_array_equal(decode_rle(one.pop("segmentation")), masks[0])
    assert one == {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 6], "score": float(np.float32(0.9))}
    assert two["bbox"][2] == float(np.float32(0.1))  # all its digits
    images = json.loads((tmp_path / "i.json").read_text())
    assert images == {
        "images": [{"id": 1, "file_name": "photos/a.jpg", "height": 10, "width": 12},
                   {"id": 2, "file_name": "photos/b.jpg", "height": 5, "width": 6}],
        "annotations": [], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}


@pytest.mark.parametrize("own", ["area", "masks", None])
def test_true_objects_by_hand(own):
    boxes = np.array([[1, 2, 4, 8], [0, 0, 2, 2], [0, 0, 3, 3]], np.float32)
    masks = np.zeros((3, 10, 12), bool)
    masks[0, 2:8, 1:3] = True
    truth = DetectionSample(np.zeros((3, 10, 12), np.float32), boxes, np.array([1, 0, 0]), "a",
                            masks if own == "masks" else None, difficult=np.array([False, True, False]),
                            crowd=np.array([False, False, True]),
                            area=np.array([5, 6, 7], np.float32) if own == "area" else None)
    results = Results(["cat", "dog"], category_ids=[18, 44])
    results.add("a.jpg", (10, 12), found(), truth, image_id=397133)
    area = {"area": 5.0, "masks": 12.0, None: 18.0}[own]
    assert [(o["id"], o["image_id"], o["category_id"], o["iscrowd"]) for o in results.objects] == [
        (1, 397133, 44, 0), (2, 397133, 18, 0), (3, 397133, 18, 1)]
    assert [o["area"] for o in results.objects][:2] == [area, BEYOND]  # the difficult one is in no range of areas
    assert ("segmentation" in results.objects[0]) == (own == "masks")


def test_vocs_files_by_hand(tmp_path):
    """A box of the pixels 2 to 4 and 3 to 8, counted from 1: continuous, 1 to 4 and 2 to 8."""
    results = Results(["cat", "dog/wolf"])
    results.add("photos/2007_000001.jpg", (10, 12), found())
    files = results.write_voc(tmp_path)
    assert [file.name for file in files] == ["comp4_det_test_cat.txt", "comp4_det_test_dog_wolf.txt"]
    assert files[1].read_text() == "2007_000001 0.900000 2.00 3.00 4.00 8.00\n"
    assert files[0].read_text() == "2007_000001 0.100000 1.00 1.00 0.10 1.00\n"
