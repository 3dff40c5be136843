import json

import numpy as np
import pytest

from minicv.files import to_json
from minicv.metrics.detection_analysis import COLUMNS, DetectionAnalysis
from tests.metrics.test_detection import found, truth

A, B, FAR = [0, 0, 10, 10], [20, 0, 60, 40], [80, 80, 90, 90]


def analysis(**options):
    """Three images: both objects found; one missed and one of nothing; an error with a low score."""
    result = DetectionAnalysis(["cat", "dog"], **options)
    result.update(found([A, B], [0.9, 0.8], [0, 1]), truth([A, B], [0, 1]))
    result.update(found([A, FAR], [0.9, 0.7], [0, 1]), truth([A, B], [0, 1]))
    result.update(found([A, FAR], [0.9, 0.3], [0, 0]), truth([A], [0]))
    return result


def test_measures_by_hand():
    measures = analysis().measures()
    assert list(measures)[:4] == ["mAP@0.5", "AP@0.5 cat", "AP@0.5 dog", "COCO AP"] and len(measures) == 15
    assert measures["AP@0.5 cat"] == 1 and measures["AP@0.5 dog"] == 0.5  # one of two, with precision 1
    assert measures["COCO APsmall"] == pytest.approx(1)  # only cats are small
    assert np.isnan(measures["COCO APlarge"]) and measures["COCO AR1"] == pytest.approx(0.75)


def test_rows_of_the_classes():
    cat, dog = analysis().class_rows()
    assert list(cat) == ["class", "objects", "AP@0.5", *COLUMNS]
    assert (cat["class"], cat["objects"], dog["objects"], dog["AR100"]) == ("cat", 3, 2, 0.5)
    assert np.isnan(dog["APsmall"]) and dog["APmedium"] == pytest.approx(51 / 101)


def test_counts_and_worst_images_are_of_the_shown_score():
    result = analysis()
    assert result.right == 4 and result.error_counts == {
        "class": 0, "location": 0, "both": 0, "duplicate": 0, "background": 1, "missed": 1}
    assert result.matrix.tolist() == [[3, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert [(image.index, image.errors) for image in result.worst] == [(1, 2)]
    low = analysis(score=0.2)
    assert [(image.index, image.errors) for image in low.worst] == [(1, 2), (2, 1)]
    assert [image.index for image in analysis(score=0.2, worst=1).worst] == [1]


def test_masks_have_their_own_numbers():
    masks = np.zeros((2, 100, 100), bool)
    masks[0, :10, :10] = masks[1, :40, 20:60] = True
    result = DetectionAnalysis(["cat", "dog"])
    result.update(found([A, B], [0.9, 0.8], [0, 1], masks[[0, 0]]), truth([A, B], [0, 1], masks))
    measures = result.measures()
    assert measures["COCO AP50"] == pytest.approx(1) and measures["mask AP50"] == pytest.approx(0.5)
    assert result.ap_by_iou()["mask"] == pytest.approx([0.5] * 10) and len(measures) == 27
    assert result.class_rows()[1]["mask AP"] == 0


def test_everything_is_json():
    document = json.loads(to_json(analysis().document()))
    assert document["AP by IoU"]["COCO"] == pytest.approx([(1 + 51 / 101) / 2] * 10)
    assert document["precision"]["0.50"]["dog"] == [1] * 51 + [0] * 50 and len(document["recall"]) == 101
    assert document["confusion matrix"]["columns"] == ["cat", "dog", "missed"]
    assert document["errors"]["missed"] == {"count": 1, "cost": pytest.approx(0.5 * 50 / 101)}
    assert document["worst images"] == [{"name": "x", "errors": {
        "class": 0, "location": 0, "both": 0, "duplicate": 0, "background": 1, "missed": 1}}]
    assert document["classes"][1]["APlarge"] is None
