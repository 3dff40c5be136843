import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.models.detection.trunk import Trunk
from minicv.nn import init

SMALL = {"width": 4}


@pytest.mark.parametrize(("name", "stage", "stride", "channels"), [
    ("vgg16", "relu5_3", 16, 32), ("vgg16", "pool4", 16, 32), ("vgg16", "conv1_1", 1, 4), ("resnet18", "layer1", 4, 4),
    ("resnet18", "layer3", 16, 16), ("resnet50", "layer2", 8, 32)])
def test_is_the_classifier_up_to_the_stage(name, stage, stride, channels):
    """The same weights in the whole classifier: its map of that name."""
    minicv.seed(0)
    trunk = Trunk(3, name, stage, SMALL)
    assert (trunk.stride, trunk.channels) == (stride, channels)
    options = {"hidden": 4, "pooled": 1} if name == "vgg16" else {}
    whole = models.build(name, "paper", num_classes=1, **SMALL, **options)
    whole.load_state_dict({**whole.state_dict(), **trunk.net.state_dict()})
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 48)).astype(np.float32))
    trunk.eval(), whole.eval()
    expected = whole.stages(x)[stage].data
    np.testing.assert_array_equal(trunk(x).data, expected)
    assert expected.shape == (2, channels, 64 // stride, 48 // stride)


def test_paper_sizes():
    with init.blank():
        vgg, resnet = Trunk(3), Trunk(3, "resnet50", "layer3")
    assert (vgg.stride, vgg.channels, vgg.num_parameters()) == (16, 512, 14714688)
    assert (resnet.stride, resnet.channels) == (16, 1024)


def test_published_weights_load_and_the_rest_is_passed_over(tmp_path):
    from safetensors.numpy import save_file

    from minicv.training import load_pretrained
    for name, stage in (("vgg16", "relu3_3"), ("resnet18", "layer2")):
        minicv.seed(1)
        options = {"hidden": 4, "pooled": 1} if name == "vgg16" else {}
        whole = models.build(name, "paper", num_classes=5, **SMALL, **options)
        save_file(whole.state_dict(), tmp_path / "w.safetensors")
        trunk = Trunk(3, name, stage, SMALL)
        load_pretrained(trunk.net, tmp_path / "w.safetensors")
        state = whole.state_dict()
        assert all((value == state[key]).all() for key, value in trunk.net.state_dict().items())


def test_a_frozen_trunk_has_no_graph_and_keeps_its_averages():
    trunk = Trunk(3, "vgg16", "relu2_1", {"depth": 11, "width": 4, "batch_norm": True})
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32))
    trunk.frozen = True
    before, y = trunk.state_dict(), trunk(x)
    assert not y.requires_grad and trunk.net.training
    assert all((value == before[name]).all() for name, value in trunk.state_dict().items())
    trunk.frozen = False
    assert trunk(x).requires_grad
    assert any((value != before[name]).any() for name, value in trunk.state_dict().items())


@pytest.mark.parametrize(("arguments", "message"), [
    (("lenet",), r"Trunk\('lenet'\): there are vgg16, resnet18"),
    (("vgg16", "relu6_1"), r"Trunk\(stage='relu6_1'\): the stages are conv1_1, relu1_1"),
    (("resnet18", "layer5"), r"Trunk\(stage='layer5'\): the stages are layer1, layer2, layer3, layer4"),
    (("vgg16", "relu5_3", {"deep": 1}), "no option deep"),
])
def test_errors(arguments, message):
    with init.blank(), pytest.raises(ValueError, match=message):
        Trunk(3, *arguments)
