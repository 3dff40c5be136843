import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.models.backbones import BACKBONES, build_backbone
from minicv.nn import init

SMALL = {"width": 4}


@pytest.mark.parametrize(("name", "stage", "stride", "channels"), [
    ("vgg16", "relu5_3", 16, 32), ("vgg16", "pool4", 16, 32), ("vgg16", "conv1_1", 1, 4), ("resnet18", "layer1", 4, 4),
    ("resnet18", "layer3", 16, 16), ("resnet50", "layer2", 8, 32)])
def test_is_the_classifier_up_to_the_stage(name, stage, stride, channels):
    """The same weights in the whole classifier: its map of that name."""
    minicv.seed(0)
    backbone = build_backbone(name, stage, **SMALL)
    assert (backbone.stride, backbone.out_channels) == (stride, channels)
    options = {"hidden": 4, "pooled": 1} if name == "vgg16" else {}
    whole = models.build(name, "paper", num_classes=1, **SMALL, **options)
    whole.load_state_dict({**whole.state_dict(), **backbone.state_dict()})
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 48)).astype(np.float32))
    backbone.eval(), whole.eval()
    expected = whole.stages(x)[stage].data
    np.testing.assert_array_equal(backbone(x).data, expected)
    assert expected.shape == (2, channels, 64 // stride, 48 // stride)


def test_paper_sizes():
    with init.blank():
        vgg, resnet = build_backbone("vgg16", "relu5_3"), build_backbone("resnet50", "layer3")
    assert (vgg.stride, vgg.out_channels, vgg.num_parameters()) == (16, 512, 14714688)
    assert (resnet.stride, resnet.out_channels) == (16, 1024)


def test_published_weights_load_and_the_rest_is_passed_over(tmp_path):
    from safetensors.numpy import save_file

    from minicv.training import load_pretrained
    for name, stage in (("vgg16", "relu3_3"), ("resnet18", "layer2")):
        minicv.seed(1)
        options = {"hidden": 4, "pooled": 1} if name == "vgg16" else {}
        whole = models.build(name, "paper", num_classes=5, **SMALL, **options)
        save_file(whole.state_dict(), tmp_path / "w.safetensors")
        backbone = build_backbone(name, stage, **SMALL)
        load_pretrained(backbone, tmp_path / "w.safetensors")
        state = whole.state_dict()
        assert all((value == state[key]).all() for key, value in backbone.state_dict().items())


def test_a_frozen_backbone_has_no_graph_and_keeps_its_averages():
    backbone = build_backbone("vgg16", "relu2_1", depth=11, width=4, batch_norm=True)
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32))
    backbone.frozen = True
    before, y = backbone.state_dict(), backbone(x)
    assert not y.requires_grad and backbone.training
    assert all((value == before[name]).all() for name, value in backbone.state_dict().items())
    backbone.frozen = False
    assert backbone(x).requires_grad
    assert any((value != before[name]).any() for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", BACKBONES)
def test_without_its_head_every_backbone_returns_its_last_map(name):
    preset = {"vgg16": {"batch_norm": True}}.get(name, {})
    backbone = build_backbone(name, preset="compact", **preset).eval()
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32))
    np.testing.assert_array_equal(backbone(x).data, list(backbone.stages(x).values())[-1].data)
    assert backbone(x).ndim == 4


@pytest.mark.parametrize(("name", "stage", "options", "message"), [
    ("lenet", "head", {}, r"backbone='lenet': choose one of alexnet, googlenet"),
    ("vgg16", "head", {"choices": ["resnet18"]}, r"backbone='vgg16': choose one of resnet18$"),
    ("vgg16", "relu6_1", {}, r"VGG: no stage 'relu6_1' to cut at; it has conv1_1, relu1_1"),
    ("resnet18", "layer5", {}, r"ResNet18: no stage 'layer5' to cut at; it has layer1, layer2, layer3, layer4"),
    ("vgg16", "relu5_3", {"deep": 1}, r"backbone vgg16: no option deep; it has num_classes, in_channels, depth"),
    ("vgg16", "relu5_3", {"depth": 2.5}, r"backbone vgg16: depth=2.5; it must be int"),
    ("vgg16", "relu5_3", {"preset": "tiny"}, r"backbone vgg16: preset 'tiny' is unknown; choose one of paper, compact"),
])
def test_errors(name, stage, options, message):
    with init.blank(), pytest.raises(ValueError, match=message):
        build_backbone(name, stage, **options)


def test_only_the_head_of_googlenet_and_xception_can_be_removed():
    with init.blank(), pytest.raises(TypeError, match=r"Xception.cut\('block2'\): only 'head' can be removed"):
        build_backbone("xception", "block2")
