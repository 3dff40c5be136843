import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.models.backbones.googlenet import INCEPTION
from minicv.nn import init
from minicv.training import load_pretrained
from tests.oracle import require


def paper(**options):
    with init.blank():
        return models.build("googlenet", "paper", **options)


def test_parameters():
    # A convolution of a inputs, b outputs and k x k taps has a b k k weights and 2 b numbers of its batch norm.
    def conv(a, b, k):
        return a * b * k * k + 2 * b

    total, c = conv(3, 64, 7) + conv(64, 64, 1) + conv(64, 192, 3), 192
    for one, red3, three, red5, five, proj in INCEPTION.values():
        total += conv(c, one, 1) + conv(c, red3, 1) + conv(red3, three, 3) + conv(c, red5, 1) + conv(red5, five, 3)
        total += conv(c, proj, 1)
        c = one + three + five + proj
    assert c == 1024
    assert paper().num_parameters() == total + 1024 * 1000 + 1000 == 6_624_904


def test_names_are_torchvisions(tmp_path):
    require("torch")
    from tests.models.backbones import agreement, plain_torch
    theirs = agreement.torch_names_and_shapes(plain_torch.GoogLeNet)
    assert agreement.names_and_shapes(paper()) == theirs
    with plain_torch.torch.device("meta"):
        whole = plain_torch.GoogLeNet(aux_logits=True)
    assert sum(p.numel() for p in whole.parameters()) == 13_004_888


def test_auxiliary_classifiers_in_the_file_are_passed_over(tmp_path):
    require("torch")
    from tests.models.backbones import plain_torch
    theirs = plain_torch.GoogLeNet(num_classes=2, aux_logits=True)
    plain_torch.torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = paper(num_classes=2)
    load_pretrained(ours, tmp_path / "w.pth")
    np.testing.assert_array_equal(ours.inception4c.branch3[1].conv.weight.data,
                                  theirs.inception4c.branch3[1].conv.weight.detach().numpy())


@pytest.mark.parametrize("train", [False, True])
def test_agrees_with_pytorch(tmp_path, train):
    require("torch")
    from tests.models.backbones import agreement, plain_torch
    ours = paper(num_classes=10, transform_input=train)
    theirs = plain_torch.GoogLeNet(10, transform_input=train)
    agreement.check_agreement(ours, theirs, (2, 3, 50, 64), train, tmp_path / "w.pth")


def test_sizes_of_table_1():
    model = models.build("googlenet", "paper", width=8).eval()
    maps = model.stages(Tensor(np.zeros((1, 3, 224, 224), "f4")))
    assert {name: y.shape[1:] for name, y in maps.items() if name in (
        "conv1", "conv3", "inception3b", "inception4a", "inception4e", "inception5b")} == {
        "conv1": (8, 112, 112), "conv3": (24, 56, 56), "inception3b": (60, 28, 28), "inception4a": (64, 14, 14),
        "inception4e": (104, 14, 14), "inception5b": (128, 7, 7)}  # an eighth of 64, 192, 480, 512, 832, 1024
    assert list(maps)[-1] == "inception5b"


@pytest.mark.parametrize(("options", "message"), [
    ({"width": 12}, r"GoogLeNet\(width=12\): must be a multiple of 8"),
    ({"in_channels": 1, "transform_input": True}, r"GoogLeNet\(transform_input=True\) is for RGB, got in_channels=1")])
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        paper(**options)


def test_the_papers_5x5_and_local_response_normalization():
    with minicv.nn.init.blank():
        model = models.build("googlenet", "paper", branch3_kernel=5)
    five, three = model.inception3a.branch3, models.build("googlenet").inception3a.branch3
    assert five[1].conv.weight.shape == (32, 16, 5, 5) and three[1].conv.weight.shape[2:] == (3, 3)
    assert model.num_parameters() == 7005832 and model.dropout == 0.4  # table 1: dropout of 40%
    x = minicv.Tensor(np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32))
    model = models.build("googlenet", lrn=True).eval()
    maps = model.stages(x)
    before = minicv.ops.local_response_norm(minicv.ops.max_pool2d(maps["conv1"], 3, 2, ceil_mode=True), 5)
    after = minicv.ops.local_response_norm(model.conv3(model.conv2(before)), 5)  # behind pool 1, before pool 2: Fig. 3
    np.testing.assert_array_equal(maps["conv3"].data, after.data)
    with pytest.raises(ValueError, match=r"GoogLeNet\(branch3_kernel=7\): 3, torchvision's, or 5, the paper's"):
        models.build("googlenet", branch3_kernel=7)
