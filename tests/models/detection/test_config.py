import dataclasses

import pytest

from minicv import models
from minicv.models.detection.config import Config


def all_configs(cls=Config):
    return {cls}.union(*(all_configs(sub) for sub in cls.__subclasses__()))


@pytest.mark.parametrize("name", models.names("detection"))
def test_options_are_plain_keywords_kept_in_a_frozen_config(name):
    model = models.build(name, num_classes=2)
    assert model.config.num_classes == model.num_classes == 2
    assert models.model_options(type(model)).keys() == {field.name for field in dataclasses.fields(model.config)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.config.num_classes = 3
    with pytest.raises(ValueError, match=rf"{type(model).__name__}Config\(in_channels=0\): each must be at least 1"):
        models.build(name, in_channels=0)


def test_a_part_gets_the_config_whole():
    model = models.build("faster_rcnn", pre_nms_top_n=(7, 5))
    assert model.rpn.config is model.config and model.config.pre_nms_top_n == (7, 5)


def test_every_option_is_explained_where_it_is_introduced():
    for name in models.names():
        models.model_class(name)
    for cls in all_configs():
        inherited = {field.name for base in cls.__bases__ if base is not object for field in dataclasses.fields(base)}
        for field in dataclasses.fields(cls):
            if field.name not in inherited:
                assert f"``{field.name}``" in cls.__doc__, (cls.__name__, field.name)


@pytest.mark.parametrize(("options", "message"), [
    ({"background_iou": (0.6, 0.5)}, r"background_iou=\(0.6, 0.5\), foreground_fraction=0.25\): the IoUs must rise"),
    ({"foreground_fraction": 1.5}, "the fraction be in 0..1"),
    ({"nms_iou": 1.5}, r"FasterRCNNConfig\(nms_iou=1.5\): must be in 0..1"),
    ({"pre_nms_top_n": (0, 5)}, r"pre_nms_top_n=\(0, 5\), .*: the numbers must be at least 1"),
    ({"rpn_nms_iou": -0.1}, "rpn_nms_iou=-0.1.*the IoU in 0..1"),
])
def test_options_that_do_not_work(options, message):
    with pytest.raises(ValueError, match=message):
        models.build("faster_rcnn", **options)
