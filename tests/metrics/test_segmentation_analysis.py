import json

import numpy as np
import pytest

from minicv.data import IGNORE, Sample
from minicv.files import to_json
from minicv.metrics.segmentation_analysis import SegmentationAnalysis


def analysis(**options):
    """Three images of four pixels: all right; two cats taken for dogs; void and a wrong pixel."""
    result = SegmentationAnalysis(["cat", "dog", "cow"], **options)
    for n, (label, given) in enumerate([([[0, 0, 1, 1]], [[0, 0, 1, 1]]), ([[0, 0, 0, 1]], [[0, 1, 1, 1]]),
                                        ([[IGNORE, IGNORE, 1, 0]], [[0, 1, 1, 1]])]):
        sample = Sample(np.zeros((3, 1, 4), np.float32), np.array(label), None, f"image {n}")
        result.update(np.array(given), sample)
    return result


def test_measures_by_hand():
    """Cats: 6, of which 3 are found; dogs: 4, all found, and 3 cats taken for them."""
    measures = analysis().measures()
    assert measures["pixel_accuracy"] == pytest.approx(0.7)
    assert (measures["iu cat"], measures["iu dog"]) == (0.5, pytest.approx(4 / 7)) and "iu cow" not in measures
    cat, dog, cow = analysis().class_rows()
    assert (cat["pixels"], cat["predicted"], cat["accuracy"], cat["IU"]) == (0.6, 0.3, 0.5, 0.5)
    assert dog["accuracy"] == 1 and np.isnan(cow["accuracy"]) and np.isnan(cow["IU"])


def test_worst_images_by_their_own_mean_iu():
    result = analysis()
    assert [(image.name, image.index) for image in result.worst] == [("image 2", 2), ("image 1", 1), ("image 0", 0)]
    assert result.worst[0].mean_iu == pytest.approx(0.25)  # a cat taken for a dog: 0 and 1/2
    assert result.worst[0].confusions == [(0.5, 0, 1)] and result.worst[1].confusions == [(0.5, 0, 1)]
    assert result.worst[2].confusions == []
    assert [image.name for image in analysis(worst=1).worst] == ["image 2"]


def test_an_image_of_void_has_no_place_among_the_worst():
    result = SegmentationAnalysis(["cat", "dog"])
    result.update(np.zeros((2, 2), int), Sample(np.zeros((3, 2, 2), np.float32), np.full((2, 2), IGNORE), None, "void"))
    assert result.worst == [] and result.images == 1 and np.isnan(result.measures()["mean_iu"])


def test_everything_is_json():
    document = json.loads(to_json(analysis().document()))
    assert document["confusion matrix"]["counts"] == [[3, 3, 0], [0, 4, 0], [0, 0, 0]]
    assert document["worst images"][0]["confusions"] == [{"share": 0.5, "truth": "cat", "predicted": "dog"}]
    assert document["classes"][2]["IU"] is None
