"""What a network takes of the weights of others, and what it says about it. With torchvision's own: test_torchvision.py
"""
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import minicv
from minicv import Tensor, models, nn
from minicv.training import CheckpointError, load_pretrained, take_weights
from minicv.training.weights import Weights
from minicv.training.weights.take import describe

TINY = {"in_channels": 3, "min_size": 48, "max_size": 64, "anchor_scales": (16.0,)}


class Net(nn.Module):
    def __init__(self):
        self.conv, self.bn = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)


def net_state():
    rng = np.random.default_rng(0)
    state = {name: rng.random(array.shape).astype("f4") for name, array in Net().state_dict().items()}
    return {**state, "bn.num_batches_tracked": np.array(7), "aux.fc.weight": np.ones((2, 2), "f4")}


def state_of(name, *preset, **options):
    minicv.seed(7)
    return models.build(name, *preset, **options).state_dict()


def test_load_pretrained(tmp_path):
    path, state, net = tmp_path / "net.safetensors", net_state(), Net()
    save_file(state, path)
    assert load_pretrained(net, path).lines() == [
        f"taken from {path}: conv, bn (6 arrays, 28 numbers)", "left in the file: aux (1 array)",
        "start at random: nothing"]
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert net.conv.weight.data.flags.writeable and net.bn.running_mean.flags.writeable


@pytest.mark.parametrize(("change", "message"), [
    ({"bn.bias": None}, "has no bn.bias for Net"),
    ({"conv.weight": np.ones((2, 3, 2, 2), "f4")}, r"conv.weight is \(2, 3, 2, 2\), and Net has \(2, 1, 3, 3\) there"),
    (dict.fromkeys(net_state()), "holds nothing for the backbone of Net; its arrays are x and 0 more, the network's ")])
def test_a_network_without_a_backbone_takes_all_or_nothing(tmp_path, change, message):
    state, net = {**net_state(), **change, "x": np.ones(1)}, Net()
    before = net.state_dict()
    save_file({name: array for name, array in state.items() if array is not None}, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match=rf"net.safetensors: {message}"):
        load_pretrained(net, tmp_path / "net.safetensors")
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_arrays_in_words():
    assert describe({}, []) == "nothing"
    assert describe({"a.b.weight": 2, "a.b.bias": 1, "a.c.bias": 3}, ["a.d.bias"]) == "a.b, a.c (3 arrays, 6 numbers)"
    assert describe({"a.b.weight": 0}, ["a.b.bias"]) == "a.b.weight (1 array)"
    assert describe({f"{c}.weight": 0 for c in "abcdefg"}, []) == "a, b, c, d, e and 2 more (7 arrays)"


@pytest.mark.parametrize(("name", "options", "other", "random"), [
    ("unet", {"width": 2, "depth": 1}, {"num_classes": 4}, "head"),
    ("yolo", {"layers": "3x4 max 3x5 max", "image_size": 24, "hidden": 8}, {"num_classes": 4}, "fc2"),
    ("fcn16s", {"width": 2}, {"num_classes": 4}, "score, skips"),
    ("deconvnet", {"width": 2}, {"num_classes": 4}, "score"),
    ("pspnet", {"backbone_options": {"width": 4}}, {"num_classes": 4}, "auxiliary_head.2, head.2"),
    ("pspnet", {"backbone_options": {"width": 4}}, {"levels": (1, 2, 3)}, "pyramid, head.0"),
    ("deeplabv3", {"backbone_options": {"width": 4}, "head_conv": True}, {"head_conv": False}, "head_conv"),
    ("deeplabv3plus", {"backbone_options": {"width": 4}}, {"low_channels": 5}, "decoder.reduce, decoder.conv1"),
    ("faster_rcnn", TINY, {"num_classes": 3}, "head.score, head.box_deltas"),
    ("faster_rcnn", TINY, {"anchor_scales": (16.0, 32.0)}, "rpn.score, rpn.box_deltas"),
    ("rcnn", {}, {"num_classes": 3}, "net.classifier.6, svm_weight, svm_bias, svm_scale, box_weight and 1 more"),
    ("sppnet", {}, {"levels": (1, 2)}, "head.fc6, svm_weight, svm_bias, svm_scale, box_weight and 1 more"),
])
def test_a_network_with_other_classes_or_layers(name, options, other, random):
    """The layers that differ start anew; the others are the file's."""
    model, state = models.build(name, **options), state_of(name, **{**options, **other})
    taken = take_weights(model, state)
    assert taken.lines()[2].startswith(f"start at random: {random} (")
    own = model.state_dict()
    assert taken.taken.keys() | taken.random.keys() == own.keys() and not taken.taken.keys() & taken.random.keys()
    for each in taken.taken:
        np.testing.assert_array_equal(own[each], state[each])


def test_the_backbone_of_one_network_in_another():
    state = state_of("faster_rcnn")
    assert take_weights(models.build("mask_rcnn"), state).lines()[2].startswith("start at random: mask_head (")
    taken = take_weights(models.build("fast_rcnn"), state)
    assert not taken.random and {name.split(".")[0] for name in taken.left} == {"rpn"}
    taken = take_weights(models.build("sppnet"), state)
    assert taken.lines()[0].startswith("taken from the weights: backbone, head.fc7")


def test_the_backbone_of_a_network_in_a_classifier():
    classifier, state = models.build("resnet50", "paper", width=4), state_of("pspnet", "paper", backbone_options={
        "width": 4})
    taken = take_weights(classifier, state)
    assert taken.lines()[2] == "start at random: fc (2 arrays, 129,000 numbers)"
    np.testing.assert_array_equal(classifier.layer4.state_dict()["0.conv2.weight"],
                                  state["backbone.layer4.0.conv2.weight"])


def test_fully_connected_layers_follow_on_the_last_convolution_only():
    """And fc7 on fc6. A head on an earlier map of equally many channels would otherwise get fc6 for another map."""
    state = state_of("vgg16", width=2, depth=16, hidden=8, pooled=2, batch_norm=False)
    options = {"backbone_options": {"width": 2}, "hidden": 8, "roi_size": 2}
    for cut_at, sizes, expected in (("relu5_3", {}, "backbone, head.fc6, head.fc7 ("), ("relu4_3", {}, "backbone ("),
                                    ("relu5_3", {"roi_size": 3}, "backbone ("),
                                    ("relu5_3", {"hidden": 9}, "backbone (")):
        model = models.build("fast_rcnn", "paper", cut_at=cut_at, **{**options, **sizes})
        assert take_weights(model, state).lines()[0].startswith(f"taken from the weights: {expected}"), (cut_at, sizes)


def test_layers_without_biases_do_not_fit():
    """Neither fully connected ones, nor the convolutions of DeconvNet's VGG, whose biases become batch norm's."""
    state = state_of("vgg16", width=2, depth=16, hidden=8, pooled=2, batch_norm=False)
    del state["classifier.3.bias"]
    options = {"width": 2, "convs": (2, 2, 3, 3, 3), "hidden": 8}
    assert take_weights(models.build("deconvnet", **options), state).lines()[0].startswith(
        "taken from the weights: conv, fc6 (")
    model = models.build("fast_rcnn", "paper", backbone_options={"width": 2}, hidden=8, roi_size=2)
    assert take_weights(model, state).lines()[0].startswith("taken from the weights: backbone, head.fc6 (")
    del state["features.2.bias"]
    with pytest.raises(CheckpointError, match="the weights: has no conv.0.1.conv.weight"):
        take_weights(models.build("deconvnet", **options), state)
    with pytest.raises(CheckpointError, match="the weights: has no backbone.features.2.bias for fast_rcnn"):
        take_weights(model, state)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(value):
    state = state_of("unet", width=2, depth=1)
    state["head.bias"][0] = value
    with pytest.raises(CheckpointError, match="the weights: has NaN or infinite numbers in head.bias"):
        take_weights(models.build("unet", width=2, depth=1), state)


def test_scores_are_left_with_their_biases():
    """A bias that has the right size by chance does not go where its weights do not fit."""
    state = state_of("deeplabv3", backbone_options={"width": 4}, channels=8)
    model = models.build("deeplabv3", backbone_options={"width": 4}, channels=16)
    assert {"head.weight", "head.bias"} <= take_weights(model, state).random.keys()


def test_batch_norm_goes_with_the_layer_before_it():
    """The averages of a layer that starts anew are of no use, and would stay wrong if they were frozen."""
    state = state_of("pspnet", backbone_options={"width": 4}, levels=())
    model = models.build("pspnet", backbone_options={"width": 4})
    taken = take_weights(model, state)
    assert {"head.0.0.weight", "head.0.1.weight", "head.0.1.running_mean"} <= taken.random.keys()
    assert taken.left == [name for name in state if name.startswith("head.0.")] and "head.2.weight" in taken.taken


def test_kernels_for_colors_are_added_up_for_gray_images():
    """The gray network sees in a gray value what the other one sees in three equal ones."""
    color, gray = (models.build("deeplabv3", in_channels=n, backbone_options={"width": 4}).eval() for n in (3, 1))
    taken = take_weights(gray, color.state_dict())
    assert taken.lines()[0].endswith("; the three colors of the first layer added up, as the images are gray")
    x = np.random.default_rng(0).standard_normal((1, 1, 32, 32)).astype("f4")
    expected = color(Tensor(np.repeat(x, 3, axis=1))).numpy()
    np.testing.assert_allclose(gray(Tensor(x)).numpy(), expected, rtol=0, atol=2e-6 * abs(expected).max())


@pytest.mark.parametrize(("name", "state", "message"), [
    ("pspnet", ("resnet50", "compact"), r"conv1.weight is \(16, 3, 7, 7\), and pspnet has \(24, 3, 7, 7\) there"),
    ("unet", ("resnet18", "compact"), "holds nothing for the backbone of unet; its arrays are conv1.weight and "),
    ("unet", ("unet", "paper"), r"contract.0.conv1.weight is \(64, 1, 3, 3\), and unet has \(16, 1, 3, 3\) there"),
    ("deeplabv3", ("resnet50", "compact"), r"conv1.weight is \(16, "),
    ("mask_rcnn", ("faster_rcnn", "compact"), "has no backbone.features.22.weight, .* for mask_rcnn"),
])
def test_a_backbone_that_does_not_fit(name, state, message):
    options = {"cut_at": "head"} if name == "mask_rcnn" else {}
    model = models.build(name, **options)
    before = model.state_dict()
    with nn.init.blank(), pytest.raises(CheckpointError, match=rf"^the weights: {message}"):
        take_weights(model, models.build(state[0], state[1]).state_dict())
    for each, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[each])


def test_the_guide_shows_what_is_printed():
    text = (Path(__file__).parents[3] / "docs" / "guides" / "pretrained.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.S)
    with nn.init.blank():
        model = models.build("faster_rcnn", num_classes=5, backbone="resnet18", cut_at="layer3", backbone_options={})
        weights = Weights(models.build("resnet18", "paper").state_dict(), "resnet18-f37072fd.pth")
    assert shown.splitlines() == take_weights(model, weights).lines()
