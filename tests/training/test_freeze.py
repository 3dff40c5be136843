"""``freeze="backbone"``: its parameters and its batch norm's statistics stay; the optimizer does not know them."""
import numpy as np
import pytest

import minicv
from minicv import models, nn
from minicv.data import StreetScenes
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.models import is_backbone
from minicv.training import (
    ConfigError,
    DetectionConfig,
    DetectionTask,
    SegmentationConfig,
    SegmentationTask,
    TrainConfig,
    Training,
)
from tests.models.detection.learning import PROPOSING, TINY

DILATED = {"backbone_options": {"width": 4, "layers": (1, 1, 1, 1)}}
NETWORKS = {
    "unet": {"width": 2, "depth": 1, "in_channels": 3}, "deconvnet": {"width": 2}, "fcn8s": {"width": 2},
    "pspnet": DILATED, "deeplabv3": {**DILATED, "output_stride": 16},
    "yolo": {"layers": "3x4 max 3x5 max", "image_size": 24, "hidden": 8}, "fast_rcnn": TINY,
    "faster_rcnn": {**TINY, **PROPOSING, "allowed_border": 1e9},
    "rcnn": {"warp_size": 32, "context": 2.0, "backbone_options": {
        "depth": 11, "width": 4, "hidden": 16, "pooled": 1, "batch_norm": True}},
    "sppnet": {name: value for name, value in TINY.items() if name != "roi_size"}}


def task(name, **config):
    minicv.seed(3)
    common = {"steps": 2, "batch": 2, "lr": 0.01, "momentum": 0.9, **config}
    if name in models.names("segmentation"):
        data = StreetScenes(2, 40)
        model = models.build(name, **{**NETWORKS[name], "num_classes": data.num_classes})
        return SegmentationTask(model, data, SegmentationConfig(tile=20, **common))
    data = ShapeBoxes(2, 48)
    model = models.build(name, **{**NETWORKS[name], "num_classes": data.num_classes})
    boxes = np.array([[0, 0, 20, 20], [8, 8, 40, 40], [20, 4, 44, 30]], np.float32)
    proposer = (lambda image: boxes) if model.needs_proposals else None
    return DetectionTask(model, data, DetectionConfig(**common), proposer)


@pytest.mark.parametrize("decay_biases", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_backbone_stays_and_has_no_state(name, decay_biases):
    job = task(name, freeze="backbone", decay_biases=decay_biases)
    model, training = job.model, Training(job)
    before = model.state_dict()
    list(training)
    changed = {each for each, array in model.state_dict().items() if (array != before[each]).any()}
    assert changed and not [each for each in changed if is_backbone(model, each)]
    trained = [p for each, p in model.named_parameters() if not is_backbone(model, each)]
    groups = [p for group in training.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in groups} == {id(p) for p in trained} and len(groups) == len(trained)
    state = training.optimizer.state_dict()
    assert len(state) <= len(trained) and all(int(key.split(".")[0]) < len(trained) for key in state)
    assert all(p.grad is None for each, p in model.named_parameters() if is_backbone(model, each))


@pytest.mark.parametrize("name", ["pspnet", "faster_rcnn", "fcn8s"])
def test_a_later_training_that_does_not_freeze_trains_the_backbone(name):
    job = task(name, freeze="backbone")
    list(Training(job))
    before = job.model.state_dict()
    job.config = job.config.replace(freeze=None)
    list(Training(job))
    assert all(p.requires_grad for p in job.model.parameters())
    changed = {each for each, array in job.model.state_dict().items() if (array != before[each]).any()}
    assert any(is_backbone(job.model, each) and each.endswith("running_mean") for each in changed)
    assert any(is_backbone(job.model, each) and each.endswith("weight") for each in changed)


def test_batch_norm_outside_the_backbone_learns_unless_it_is_frozen_too():
    for freeze_bn in (False, True):
        job = task("pspnet", freeze="backbone", freeze_bn=freeze_bn)
        norms = [f"{name}." for name, m in job.model.named_modules() if isinstance(m, nn.BatchNorm2d)]
        before = job.model.state_dict()
        list(Training(job))
        changed = {each for each, array in job.model.state_dict().items() if (array != before[each]).any()}
        assert any(each.startswith(tuple(norms)) for each in changed) != freeze_bn


def test_other_parts_are_refused():
    with pytest.raises(ConfigError, match=r"TrainConfig\(freeze='head'\): must be 'backbone' or None"):
        TrainConfig(freeze="head")
