"""torchvision's networks, of random weights and statistics, loaded as ``--start`` does: equal outputs, and back."""
import numpy as np
import pytest

from minicv import Tensor, models
from minicv import ops as F
from minicv.autograd import no_grad
from minicv.nn import init
from minicv.training import export_weights, load_pretrained
from tests.torchvision_oracle import models as torchvision_models
from tests.torchvision_oracle import random_network, torch

TOLERANCE = 2e-5  # of the largest value, float32
CLASSIFIERS = ("resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "alexnet", "vgg16", "vgg16_bn", "googlenet", "resnet34", "resnet50", "resnet101")))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """saved(name) -> torchvision's network, and the file of its weights. Only the last is kept: they are large."""
    folder, kept = tmp_path_factory.mktemp("torchvision"), {}

    def get(name):
        if name not in kept:
            for _, path in kept.values():
                path.unlink()
            kept.clear()
            network = random_network(name)
            torch.save(network.state_dict(), folder / f"{name}.pth")
            kept[name] = network, folder / f"{name}.pth"
        return kept[name]
    yield get
    for _, path in kept.values():
        path.unlink()


@pytest.fixture(autouse=True)
def without_gradients():
    with no_grad(), torch.no_grad():
        yield


def started(name, path, **options):
    """The paper's network, started from a file, and the lines that say what was taken."""
    with init.blank():
        model = models.build(name, "paper", **options).eval()
    return model, load_pretrained(model, path).lines()


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("f4")


def close(ours, theirs):
    theirs = theirs.numpy()
    assert ours.shape == theirs.shape
    assert abs(ours.numpy() - theirs).max() <= TOLERANCE * abs(theirs).max() > 0


def check_back(ours, theirs, x, path, out=lambda y: y):
    """Exported, the weights load in torchvision, strict, with the same outputs; and here again."""
    from safetensors.torch import load_file
    for to, load in (("torch", lambda path: torch.load(path, weights_only=True)), ("safetensors", load_file)):
        assert export_weights(path, ours, to)
        for t in theirs.state_dict().values():
            t.zero_()
        theirs.load_state_dict(load(path), strict=True)
        for p in ours.parameters():
            p.data[...] = 0
        assert not load_pretrained(ours, path).random
        close(ours(Tensor(x)), out(theirs(torch.tensor(x))))


# ---------------------------------------------------------------------------------------------------------
# Whole networks
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(saved, tmp_path, name):
    theirs, path = saved(name)
    options = {"batch_norm": True} if name == "vgg16_bn" else {}
    ours, lines = started(name.removesuffix("_bn"), path, num_classes=10, **options)
    assert lines[1:] == ["left in the file: nothing", "start at random: nothing"]
    x = random(2, 3, 96, 80)
    close(ours(Tensor(x)), theirs(torch.tensor(x)))
    check_back(ours, theirs, x, tmp_path / "back")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"])
def test_segmentation_networks_whole(saved, tmp_path, name):
    theirs, path = saved(name)
    network, _, backbone = name.partition("_")
    options = {"levels": ()} if network == "fcn" else {
        "backbone_options": {}, "output_stride": 8, "head_conv": True, "auxiliary": 0.4}
    ours, lines = started("pspnet" if network == "fcn" else network, path, backbone=backbone, num_classes=10, **options)
    assert lines[1:] == ["left in the file: nothing", "start at random: nothing"]
    x = random(1, 3, 57, 70)
    expected = theirs(torch.tensor(x))
    close(ours(Tensor(x)), expected["out"])
    middle = ours.auxiliary_head(ours.backbone.feature_maps(Tensor(x))["middle"])
    close(F.interpolate(middle, (57, 70), mode="bilinear"), expected["aux"])
    check_back(ours, theirs, x, tmp_path / "back", lambda y: y["out"])


@pytest.mark.slow
def test_a_segmentation_network_in_others(saved):
    """Its backbone in a detector and in a classifier; with a pyramid, and with other classes, the rest of it."""
    _, path = saved("fcn_resnet50")
    for name, options, left, new in (
            ("mask_rcnn", {}, "backbone.layer4, classifier, aux_classifier", "rpn"),
            ("resnet50", {}, "classifier, aux_classifier", "fc"),
            ("pspnet", {"num_classes": 10}, "classifier.0, classifier.1", "head.0"),
            ("pspnet", {"num_classes": 3, "levels": ()}, "classifier.4, aux_classifier.4", "head.2")):
        _, lines = started(name, path, **options)
        assert lines[1].startswith(f"left in the file: {left} (") and new in lines[2], lines


# ---------------------------------------------------------------------------------------------------------
# Classifiers in other networks
# ---------------------------------------------------------------------------------------------------------
def layer(network, name, x):
    """The output of one of a network's layers for x."""
    found = []
    handle = network.get_submodule(name).register_forward_hook(lambda module, inputs, output: found.append(output))
    network(torch.tensor(x))
    handle.remove()
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn"])
def test_vgg16_in_detectors(saved, name):
    """The map, and fc6 and fc7 on a pooled map."""
    theirs, path = saved("vgg16")
    ours, lines = started(name, path, num_classes=3)
    assert lines[0] == f"taken from {path}: backbone, head.fc6, head.fc7 (30 arrays, 134,260,544 numbers)"
    assert lines[1] == "left in the file: classifier.6 (2 arrays)"
    assert lines[2].startswith("start at random: head.score, head.box_deltas" + ", rpn" * (name == "faster_rcnn"))
    x, roi = random(1, 3, 64, 96), random(2, 512, 7, 7)
    close(ours.backbone(Tensor(x)), theirs.features[:-1](torch.tensor(x)))
    close(ours.head.features(Tensor(roi)), theirs.classifier[:5](torch.tensor(roi).flatten(1)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stages"), [("vgg16", 5), ("alexnet", 6)])
def test_fcn(saved, name, stages):
    """Fully connected layers as convolutions: at one place the classifier's output, on a larger map a grid of them."""
    theirs, path = saved(name)
    ours, lines = started("fcn32s", path, backbone=name, num_classes=3)
    assert lines[0].startswith(f"taken from {path}: backbone, head (")
    assert lines[2] == "start at random: score (2 arrays, 12,291 numbers)"
    x = random(1, 3, 191, 191)  # pools round up; with this size AlexNet's have nothing to round
    if name == "vgg16":
        x = random(1, 3, 96, 64)
    close(list(ours.backbone.stages(Tensor(x)).values())[-1], theirs.features(torch.tensor(x)))
    side, channels = (7, 512) if name == "vgg16" else (6, 256)
    map = random(1, channels, side, side + 1)
    for i in range(2):
        window = torch.tensor(map[..., i:i + side]).flatten(1)
        close(ours.head(Tensor(map))[:, :, 0, i], theirs.classifier[:stages](window))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn"])
def test_vgg16_in_deconvnet(saved, name):
    theirs, path = saved(name)
    ours, lines = started("deconvnet", path, num_classes=3)
    assert lines[0].startswith(f"taken from {path}: conv, fc6, fc7 (") and lines[1] == (
        "left in the file: classifier.6 (2 arrays)")
    x = random(1, 3, 224, 224)
    y = Tensor(x)
    for convs in ours.conv:
        y = F.max_pool2d(convs(y), 2)
    expected = theirs.features(torch.tensor(x))
    close(y, expected)
    close(ours.fc7(ours.fc6(y))[:, :, 0, 0], theirs.classifier[:5](expected.flatten(1)))


@pytest.mark.slow
def test_alexnet_in_rcnn_and_sppnet(saved):
    theirs, path = saved("alexnet")
    ours, lines = started("rcnn", path, num_classes=3)
    assert lines[1] == "left in the file: classifier.6 (2 arrays)"
    x = random(2, 3, 227, 227)
    *_, last = ours.net.stages(Tensor(x)).values()
    close(ours.fc7(ours.net.pooled(last, 6)), theirs.classifier[:6](theirs.features(torch.tensor(x)).flatten(1)))
    for levels, taken in (((1, 2, 3, 6), "backbone ("), ((6,), "backbone, head.fc6, head.fc7 (")):
        ours, lines = started("sppnet", path, backbone="alexnet", cut_at="relu5", levels=levels, num_classes=3)
        assert lines[0].startswith(f"taken from {path}: {taken}")
        close(ours.backbone(Tensor(x)), theirs.features[:-1](torch.tensor(x)))
    pool5 = random(2, 256 * 36)
    close(ours.fc7(Tensor(pool5)), theirs.classifier[:6](torch.tensor(pool5)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_resnets_in_dilated_networks_and_detectors(saved, name):
    """Also with strides replaced by dilation, which torchvision does for bottlenecks only."""
    theirs, path = saved(name)
    x = random(1, 3, 64, 96)
    for network in ("pspnet", "deeplabv3", "deeplabv3plus"):
        stride = 32 if name in ("resnet18", "resnet34") else 8
        ours, lines = started(network, path, backbone=name, backbone_options={}, output_stride=stride)
        assert lines[0].startswith(f"taken from {path}: backbone (") and lines[1] == "left in the file: fc (2 arrays)"
        if stride == 8:
            dilated = getattr(torchvision_models, name)(num_classes=10, replace_stride_with_dilation=[0, 1, 1]).eval()
            dilated.load_state_dict(theirs.state_dict())
        maps = ours.backbone.feature_maps(Tensor(x))
        for stage, found in (("layer1", maps["low"]), ("layer3", maps["middle"]), ("layer4", maps["last"])):
            close(found, layer(theirs if stride == 32 else dilated, stage, x))
    ours, lines = started("mask_rcnn", path, backbone=name, num_classes=3)
    assert lines[1].startswith("left in the file: layer4, fc (")
    close(ours.backbone(Tensor(x)), layer(theirs, "layer3", x))


@pytest.mark.slow
def test_resnet50_and_googlenet_in_fcn(saved):
    for name, stage, ours_stage in (("resnet50", "layer4", "layer4"), ("googlenet", "conv3", "conv3")):
        theirs, path = saved(name)
        options = {"transform_input": True} if name == "googlenet" else {}
        theirs.transform_input = True  # ResNet has no such switch
        ours, lines = started("fcn32s", path, backbone=name, num_classes=3, **options)
        assert lines[1] == "left in the file: fc (2 arrays)"
        x = random(1, 3, 65, 97)  # sides at which no pool has anything to round
        close(ours.backbone.stages(Tensor(x))[ours_stage], layer(theirs, stage, x))
        theirs.transform_input = False
