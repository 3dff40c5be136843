"""Prediction at several scales and mirrored: the average of the probabilities (DeepLabv3, sec. 4.2)."""
import numpy as np
import pytest

from minicv.data.augment.detection import resize_image
from tests.models.segmentation.test_tiles import build, image

SCALES = (0.75, 1, 1.25)


def probabilities(model, some, **options):
    (result,) = model.predict([some], **options)
    np.testing.assert_array_equal(result.labels, result.probabilities.argmax(axis=0))
    return result.probabilities


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3plus", "unet"])
def test_the_average_by_hand(name):
    """Each scale and its mirror image is predicted alone, brought back to the image's size, and averaged."""
    model, some = build(name), image(37, 50)
    expected = np.zeros((3, 37, 50))
    for size in ((28, 38), (37, 50), (46, 62)):  # rounded, halves to even: 27.75, 37.5; 46.25, 62.5
        scaled = resize_image(some, size)
        expected += resize_image(probabilities(model, scaled), (37, 50))
        mirrored = probabilities(model, np.ascontiguousarray(scaled[:, :, ::-1]))
        expected += resize_image(np.ascontiguousarray(mirrored[:, :, ::-1]), (37, 50))
    found = probabilities(model, some, scales=SCALES, flip=True)
    np.testing.assert_allclose(found, expected / 6, atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    assert abs(found - probabilities(model, some)).max() > 1e-3  # it does average


def test_one_scale_and_no_mirror_image_is_the_plain_prediction():
    model, some = build("pspnet"), image(33, 40)
    np.testing.assert_array_equal(probabilities(model, some, scales=(1,)), probabilities(model, some))


def test_the_mirror_image_gives_the_mirrored_result():
    model, some = build("fcn8s"), image(40, 48)
    found = probabilities(model, some, flip=True)
    mirrored = probabilities(model, np.ascontiguousarray(some[:, :, ::-1]), flip=True)
    np.testing.assert_allclose(mirrored[:, :, ::-1], found, atol=1e-6)


def test_tiles_are_of_the_scaled_image():
    """Tiles give what the whole image gives, at every scale."""
    model, some = build("fcn8s"), image(240, 48)
    whole, tiled = (probabilities(model, some, tile=tile, scales=(0.5, 1)) for tile in (None, 64))
    assert abs(whole - tiled).max() < 2e-5


@pytest.mark.parametrize(("options", "message"), [
    ({"scales": ()}, r"predict\(scales=\(\)\): needs factors above 0, at most 8"),
    ({"scales": (1, 0)}, r"predict\(scales=\(1, 0\)\): needs"), ({"scales": (float("nan"),)}, "needs factors above 0"),
    ({"scales": (9,)}, "at most 8"),
    ({"average": True, "flip": True}, "average has the mirror image among its 8 versions; leave out flip")])
def test_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        build("pspnet").predict([], **options)
