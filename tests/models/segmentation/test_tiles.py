"""Tiles of every network that labels pixels: they give what the whole image gives, cut where memory is short."""
import warnings

import numpy as np
import pytest

import minicv
from minicv import models
from minicv.backend import memory
from minicv.models.segmentation import base
from minicv.models.segmentation.patchwise import PixelwiseNet
from minicv.models.summary import receptive_radius
from tests import strict_device  # noqa: F401 - makes the device "strict" known

MiB = 2 ** 20


def build(name, **options):
    """A compact network for three classes, whose scores differ from pixel to pixel without training."""
    minicv.seed(3)
    model = PixelwiseNet(3) if name == "pixelwise" else models.build(name, num_classes=3, in_channels=3, **options)
    rng = np.random.default_rng(1)
    for _, p in model.named_parameters():
        if not p.data.any():  # FCN's scores start at zero
            p.data = rng.normal(0, 0.05, p.shape).astype(np.float32)
    return model


def image(height, width, seed=0):
    return np.random.default_rng(seed).random((3, height, width), dtype=np.float32)


def compare(model, input_image, tile):
    """The largest difference of a probability, tiled against whole, and the share of pixels with another label."""
    whole, tiled = (model.predict([input_image], t)[0] for t in (None, tile))
    assert np.ptp(whole.probabilities, axis=(1, 2)).max() > 0.01  # an even map would make every comparison true
    return abs(whole.probabilities - tiled.probabilities).max(), np.mean(whole.labels != tiled.labels)


LOCAL = [("unet", {}), ("unet", {"padding": "same"}), ("fcn32s", {}), ("fcn16s", {}), ("fcn8s", {}),
         ("fcn32s", {"backbone": "resnet50", "width": 8}), ("deconvnet", {}), ("deconvnet", {"unpooling": "nearest"}),
         ("pixelwise", {})]
DILATED = [("pspnet", {"levels": ()}), ("deeplabv3", {"image_pooling": False}),
           ("deeplabv3", {"image_pooling": False, "output_stride": 16}), ("deeplabv3plus", {"image_pooling": False})]


@pytest.mark.parametrize(("name", "options"), LOCAL)
def test_tiles_equal_the_whole_image(name, options):
    """For sides of any size, to the last digits of float32."""
    model = build(name, **options)
    for size in ((480, 48), (459, 41)):
        difference, switched = compare(model, image(*size), 64)
        assert difference < 2e-5 and switched < 1e-4


@pytest.mark.parametrize(("name", "options"), DILATED)
def test_tiles_of_dilated_networks_equal_the_whole_image(name, options):
    """Where the sides are multiples of the output stride.

    On other sides the whole image's last map is stretched to them, by up to half a position, and that of a tile is not.
    """
    model = build(name, **options)
    assert compare(model, image(720, 48), 64)[0] < 2e-4  # float32: scores of up to 100
    assert compare(model, image(715, 45), 64)[1] < 0.1  # of noise; on images of streets 0.002


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3", "deeplabv3plus"])
def test_pooling_over_the_whole_map_sees_a_tile_and_its_context_only(name):
    model = build(name)
    assert 0 < compare(model, image(720, 48), 64)[1] < 0.1


def test_without_context_tiles_differ_at_their_borders():
    model, input_image = build("fcn8s"), image(160, 64)
    whole, = model.predict([input_image])
    cut, = model.predict([input_image], 32, context=0)
    assert abs(cut.probabilities - whole.probabilities).max() > 1e-3
    for tile, context in ((None, 8), (32, -1)):
        with pytest.raises(ValueError, match=rf"FCN8s.predict\(tile={tile}, context={context}\): context is 0 or more"):
            model.predict([input_image], tile, context=context)
    with pytest.raises(ValueError, match=r"UNet.predict\(tile=8, context=0\): context is .* whose output has the size"):
        build("unet").predict([input_image], 8, context=0)


def test_how_far_an_output_looks():
    assert receptive_radius(PixelwiseNet(2, depth=4), (3, 20, 20)) == 4
    for padding, context in (("valid", 0), ("same", 16)):  # of 3x3 convs
        assert models.build("unet", depth=1, padding=padding).context() == pytest.approx(context, abs=6)
    for name, options in [*LOCAL, *DILATED]:
        model = build(name, **options)
        assert model.context() % model.tile_step == 0 and (model.context() > 0) == model.pads()


# ------------------------------------------------------------------------------------------------ memory that is short

@pytest.mark.parametrize(("name", "size"), [
    ("unet", (700, 600)), ("fcn8s", (700, 600)), ("deeplabv3plus", (1000, 300))])
def test_an_image_too_large_for_the_memory_is_predicted_in_tiles(monkeypatch, name, size):
    model, input_image = build(name, **({"image_pooling": False} if name == "deeplabv3plus" else {})), image(*size)
    whole, = model.predict([input_image])
    monkeypatch.setattr(base, "free_memory", lambda like: 1 << 50)
    assert model._fitting_tile(size) == (None, None)
    pixels = model.input_size(size[0]) * model.input_size(size[1])
    need = model._bytes_per_pixel * pixels
    measured = memory.peak_memory(lambda: model.predict([input_image]), next(model.parameters()).data)
    assert need / 2 < measured < 2 * need and model.input_size(base.PROBE) ** 2 < pixels
    model.context()
    seen = []
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, x: seen.append(x.shape[2:]) or forward(self, x))
    monkeypatch.setattr(base, "free_memory", lambda like: int(need))
    with pytest.warns(UserWarning, match=rf"predict: an image of {size[0]} x {size[1]} pixels would take about [0-9.]+ "
                                         r"GiB in one piece, .* are free; it is predicted in tiles of \d+ pixels"):
        tiled, = model.predict([input_image])
    assert len(seen) > 1 and max(h * w for h, w in seen) * model._bytes_per_pixel <= base.SHARE * need
    assert np.mean(tiled.labels != whole.labels) < (0.01 if name == "deeplabv3plus" else 1e-4)


@pytest.mark.parametrize("free", [None, 1 << 50])
def test_no_tiles_where_memory_is_enough_or_unknown(monkeypatch, free):
    model = build("pixelwise")
    monkeypatch.setattr(base, "free_memory", lambda like: free)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.predict([image(600, 500)])[0].labels.shape == (600, 500)


def test_however_little_memory_is_free_tiles_have_a_side_worth_the_work(monkeypatch):
    model = build("pixelwise")
    monkeypatch.setattr(base, "free_memory", lambda like: 1)
    with pytest.warns(UserWarning, match="in tiles of 64 pixels"):
        model.predict([image(600, 500)])


@pytest.mark.parametrize("name", ["fcn8s", "pspnet"])
def test_tiles_on_the_strict_device(name):
    """Context, tiles and probabilities without a NumPy function on a device array; its free memory is not known."""
    model, input_image = build(name), image(160, 40)
    expected, = model.predict([input_image], 64)
    moved = build(name).to("strict")
    assert memory.free_memory(next(moved.parameters()).data) is None and moved.context() == model.context()
    np.testing.assert_allclose(moved.predict([input_image], 64)[0].probabilities, expected.probabilities, atol=1e-5)
