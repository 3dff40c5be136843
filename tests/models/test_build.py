
import numpy as np
import pytest

import minicv
from minicv import models
from minicv.models.segmentation.unet import UNet


def test_names():
    assert "unet" in models.names() and models.names() == sorted(models.names())


@pytest.mark.parametrize("name", models.names())
def test_every_model_has_both_presets_made_of_its_own_options(name):
    cls = models.model_class(name)
    assert {"compact", "paper"} <= set(cls.PRESETS)
    for options in cls.PRESETS.values():
        assert options.keys() <= models.model_options(cls).keys()


def test_the_preset_gives_the_options_and_options_win():
    assert isinstance(models.build("unet"), UNet)
    assert models.build("unet").head.weight.shape == (2, 16, 1, 1)  # compact: 16 channels, 2 classes
    assert models.build("unet", "compact", width=3, num_classes=5).head.weight.shape == (5, 3, 1, 1)
    assert models.build("unet", "paper", width=2).depth == 4


def test_the_choice_is_kept_for_checkpoints():
    model = models.build("unet", "compact", width=2)
    assert model.build_args == {"model": "unet", "preset": "compact", "options": {"width": 2}}


def test_a_seed_gives_the_weights():
    def weights(seed):
        minicv.seed(seed)
        return models.build("unet", width=2).contract[0].conv1.weight.data

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).all()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: models.build("u-net"), r"no model named 'u-net'; did you mean unet\?"),
    (lambda: models.model_class(""), r"no model named ''; there are: .*unet"),
    (lambda: models.build("unet", "tiny"), r"build\('unet', preset='tiny'\): the presets are paper, compact"),
    (lambda: models.build("unet", width=10 ** 7), r"build\('unet'\): width=10000000; no option may exceed 1,000,000"),
    (lambda: models.build("resnet18", layers=(2, 2, 10 ** 7, 2)), r"layers=\(2, 2, 10000000, 2\); no option may"),
    (lambda: models.build("unet", width="a"), r"build\('unet'\): width='a'; it must be int$"),
    (lambda: models.build("unet", width=2.5), r"build\('unet'\): width=2.5; it must be int$"),
    (lambda: models.build("unet", width=True), r"build\('unet'\): width=True; it must be int$"),
    (lambda: models.build("unet", dropout=float("nan")), r"build\('unet'\): dropout=nan; it must be float$"),
    (lambda: models.build("unet", skip=["sum"]), r"build\('unet'\): skip=\['sum'\]; it must be str$"),
    (lambda: models.build("pspnet", levels=3), r"build\('pspnet'\): levels=3; it must be Sequence\[int\]$"),
    (lambda: models.build("pspnet", levels=[1, "2"]), r"levels=\[1, '2'\]; it must be Sequence\[int\]$"),
    (lambda: models.build("pspnet", reduce=1), r"build\('pspnet'\): reduce=1; it must be bool$"),
    (lambda: models.build("pspnet", backbone_options=[8]),
     r"backbone_options=\[8\]; it must be dict\[str, Any\] \| None$"),
    (lambda: models.build("unet", depht=2, classes=3),
     r"build\('unet'\): no option classes, depht; it has in_channels, num_classes, width, depth, padding, dropout"),
])
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
