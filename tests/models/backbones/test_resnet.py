import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.models.backbones.resnet import Basic, Bottleneck
from minicv.nn import init
from tests.oracle import require

LAYERS = {"resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}
BASIC = ("resnet18", "resnet34")


def paper(name, **options):
    with init.blank():
        return models.build(name, "paper", **options)


def twin(name, **options):
    from tests.models.backbones import plain_torch
    block = plain_torch.BasicBlock if name in BASIC else plain_torch.Bottleneck
    return plain_torch.ResNet(LAYERS[name], block, **options)


@pytest.mark.parametrize(("name", "parameters"), [
    ("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032), ("resnet101", 44_549_160)])
def test_parameters(name, parameters):
    model = paper(name)
    assert model.num_parameters() == parameters
    weights = [n for n, p in model.named_parameters() if p.ndim > 1 and "downsample" not in n]
    assert len(weights) == int(name.removeprefix("resnet"))  # layers, shortcuts not counted


@pytest.mark.parametrize("name", LAYERS)
def test_names_are_torchvisions(name):
    require("torch")
    from tests.models.backbones import agreement
    assert agreement.names_and_shapes(paper(name)) == agreement.torch_names_and_shapes(lambda: twin(name))


@pytest.mark.parametrize(("name", "train", "dilate"), [
    ("resnet18", True, (False, False, False)), ("resnet50", False, (False, False, False)),
    ("resnet50", True, (False, False, False)), ("resnet50", True, (False, True, True))])
def test_agrees_with_pytorch(tmp_path, name, train, dilate):
    require("torch")
    from tests.models.backbones import agreement
    ours = paper(name, num_classes=10, replace_stride_with_dilation=dilate)
    theirs = twin(name, num_classes=10, dilate=dilate)
    agreement.check_agreement(ours, theirs, (2, 3, 33, 36), train, tmp_path / "w.pth")


def test_sizes_of_table_1():
    model = models.build("resnet50", "paper", width=2).eval()
    maps = model.stages(Tensor(np.zeros((1, 3, 224, 224), "f4")))
    assert {name: y.shape[1:] for name, y in maps.items()} == {
        "conv1": (2, 112, 112), "layer1": (8, 56, 56), "layer2": (16, 28, 28), "layer3": (32, 14, 14),
        "layer4": (64, 7, 7)}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("dilate", "times"), [((False, False, True), 2), ((False, True, True), 4), ((True,) * 3, 8)])
def test_dilation_computes_the_same_at_more_places(name, dilate, times):
    """Every second (fourth, eighth) output of the dilated network is an output of the strided one."""
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 70, 101)).astype("f4"))
    minicv.seed(0)
    strided = models.build(name, width=4).eval()
    dilated = models.build(name, width=4, replace_stride_with_dilation=dilate).eval()
    dilated.load_state_dict(strided.state_dict())
    expected, dense = (m.stages(x)["layer4"].data for m in (strided, dilated))
    assert dense.shape[2:] != expected.shape[2:]
    np.testing.assert_allclose(dense[:, :, ::times, ::times], expected, rtol=1e-4, atol=1e-5)  # sums in another order


@pytest.mark.parametrize(("output_stride", "dilations"), [
    # layer3, layer4: of each block's 3x3; the first one behind a stride left out still reads the finer map
    (32, [(1, 1, 1, 1, 1, 1), (1, 2, 4)]), (16, [(1, 1, 1, 1, 1, 1), (1, 4, 8)]),
    (8, [(1, 2, 2, 2, 2, 2), (2, 8, 16)])])
def test_output_stride_and_multi_grid(output_stride, dilations):
    model = models.build("resnet50", "paper", width=1, output_stride=output_stride, multi_grid=(1, 2, 4)).eval()
    convs = [tuple(block.conv2.dilation for block in layer) for layer in (model.layer3, model.layer4)]
    assert convs == dilations
    maps = model.feature_maps(Tensor(np.zeros((1, 3, 129, 97), "f4")))
    assert {name: y.shape[1:] for name, y in maps.items()} == {
        "low": (4, 33, 25), "middle": (16, *(-(-n // min(output_stride, 16)) for n in (129, 97))),
        "last": (32, *(-(-n // output_stride) for n in (129, 97)))}
    assert [model.channels[stage] for stage in model.FEATURE_MAPS.values()] == [4, 16, 32]


@pytest.mark.parametrize("output_stride", [16, 8])
def test_weights_of_one_output_stride_run_at_another(output_stride):
    """With multi-grid, too: the same numbers at more places."""
    minicv.seed(0)
    options = {"width": 4, "layers": (1, 1, 2, 3), "multi_grid": (1, 2, 4)}
    strided = models.build("resnet50", **options).eval()
    dilated = models.build("resnet50", **options, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 130, 99)).astype("f4"))
    expected, dense, times = strided.stages(x)["layer4"].data, dilated.stages(x)["layer4"].data, 32 // output_stride
    assert dense.shape[2:] != expected.shape[2:]
    np.testing.assert_allclose(dense[:, :, ::times, ::times], expected, rtol=1e-4, atol=1e-5)  # sums in another order


@pytest.mark.parametrize(("options", "message"), [
    ({"output_stride": 4}, r"ResNet\(output_stride=4, .*: output_stride is 32, 16, 8, or left out where repl"),
    ({"output_stride": 8, "replace_stride_with_dilation": (False, True, True)}, r"output_stride=8, replace"),
    ({"multi_grid": (1, 2)}, r"ResNet\(multi_grid=\(1, 2\)\): needs a factor of at least 1 for each of layer4's 3 bl"),
    ({"multi_grid": (1, 0, 1)}, r"ResNet\(multi_grid=\(1, 0, 1\)\): needs"),
])
def test_errors_of_dilation(options, message):
    with pytest.raises(ValueError, match=message):
        paper("resnet50", **options)


@pytest.mark.parametrize("options", [
    {"layers": (1, 2, 3)}, {"layers": (1, 0, 1, 1)}, {"replace_stride_with_dilation": (True, False)}])
def test_errors(options):
    with pytest.raises(ValueError, match=r"ResNet\(layers=.*: needs four numbers of blocks, each at least 1, and"):
        paper("resnet50", **options)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_plain_network_has_the_same_layers_but_no_shortcuts(name):
    shapes = [[(n, p.shape) for n, p in paper(name, residual=r).named_parameters()] for r in (True, False)]
    assert shapes[1] == [(n, s) for n, s in shapes[0] if "downsample" not in n] != shapes[0]


@pytest.mark.parametrize("block", [Basic, Bottleneck])
def test_blocks_of_zeros_pass_x_on_only_over_the_shortcut(block):
    x = Tensor(np.random.default_rng(0).random((1, 8, 4, 4), dtype=np.float32))
    with init.blank():
        residual, plain = (block(8, 8 // block.expansion, 1, 1, 1, r) for r in (True, False))
    np.testing.assert_array_equal(residual(x).data, x.data)  # relu(0 + x), and x is not negative
    np.testing.assert_array_equal(plain(x).data, 0 * x.data)
