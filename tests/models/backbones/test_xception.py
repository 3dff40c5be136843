import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor, models
from minicv.models.summary import summarize
from minicv.nn import init
from minicv.optim import SGD
from tests.oracle import require


def paper(**options):
    with init.blank():
        return models.build("xception", "paper", **options)


def separable(c, o):
    """Depthwise 3x3, 1x1, and two batch norms."""
    return 9 * c + 2 * c + c * o + 2 * o


def block(c, *channels):
    """Three separable convolutions and, where the channels change, a 1x1 with batch norm in the shortcut."""
    shortcut = c * channels[-1] + 2 * channels[-1] if channels[0] != 728 or c != channels[-1] else 0
    return sum(separable(a, b) for a, b in zip((c, *channels), channels, strict=False)) + shortcut


def test_parameters():
    assert separable(728, 728) == 6_552 + 1_456 + 529_984 + 1_456 == 539_448
    entry = 864 + 64 + 18_432 + 128 + block(64, *[128] * 3) + block(128, *[256] * 3) + block(256, *[728] * 3)
    exit_flow = block(728, 728, 1024, 1024) + separable(1024, 1536) + separable(1536, 1536) + separable(1536, 2048)
    assert entry + 16 * 3 * 539_448 + exit_flow + 2048 * 1000 + 1000 == 39_916_312
    model = paper()
    assert model.num_parameters() == 39_916_312  # 39.92 M in other libraries
    weights = [n for n, p in model.named_parameters() if p.ndim == 4 and "depthwise" not in n and "shortcut" not in n]
    assert len(weights) + 1 == 2 + 3 * 3 + 16 * 3 + 3 + 3 + 1 == 66  # "65", with the last layer 66


def test_sizes_of_figure_4():
    model = models.build("xception", "paper", width=1).eval()
    maps = model.stages(Tensor(np.zeros((1, 3, 299, 299), "f4")))
    assert {name: y.shape[1:] for name, y in maps.items()} == {
        "conv2": (2, 150, 150), "block1": (4, 75, 75), "block2_inner": (8, 75, 75), "block2": (8, 38, 38),
        "block3": (22, 19, 19), "middle": (22, 19, 19), "exit_block": (32, 10, 10), "conv5": (64, 10, 10)}


def test_separable_convolutions_save_work():
    """K K C + C M weights instead of K K C M: 9 x 728 + 728 x 728 against 9 x 728 x 728, 8.9 times fewer."""
    row = {r.name: r for r in summarize(paper(), (3, 299, 299)).rows}
    pixels = 19 * 19
    depthwise, pointwise = (row[f"middle.0.conv1.{name}"] for name in ("depthwise", "pointwise"))
    assert (depthwise.parameters, pointwise.parameters) == (9 * 728, 728 * 728)
    assert (depthwise.macs, pointwise.macs) == (9 * 728 * pixels, 728 * 728 * pixels)


@pytest.mark.parametrize(("output_stride", "options"), [
    (32, {}), (16, {"strides": (2, 1), "dilations": (1, 2)}), (8, {"strides": (1, 1), "dilations": (2, 4)})])
@pytest.mark.parametrize("train", [True, False])
def test_agrees_with_pytorch(tmp_path, output_stride, options, train):
    require("torch")
    from tests.models.backbones import agreement, plain_torch
    ours = models.build("xception", width=8, middle=2, output_stride=output_stride)
    theirs = plain_torch.Xception(10, divisor=4, middle=2, **options)
    agreement.check_agreement(ours, theirs, (2, 3, 67, 70), train, tmp_path / "w.pth")


def test_names_and_shapes_of_the_paper_preset():
    require("torch")
    from tests.models.backbones import agreement, plain_torch
    assert agreement.names_and_shapes(paper()) == agreement.torch_names_and_shapes(plain_torch.Xception)


@pytest.mark.parametrize(("output_stride", "times"), [(16, 2), (8, 4)])
def test_weights_of_one_output_stride_run_at_another(output_stride, times):
    """Every second or fourth output of the dilated network is an output of the strided one."""
    minicv.seed(0)
    strided = models.build("xception", width=4, multi_grid=(1, 2, 4)).eval()
    dilated = models.build("xception", width=4, multi_grid=(1, 2, 4), output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 130, 99)).astype("f4"))
    expected, dense = (m.feature_maps(x)["last"].data for m in (strided, dilated))
    assert expected.shape[2:] == (5, 4) and dense.shape[2:] == tuple(-(-n // output_stride) for n in (130, 99))
    np.testing.assert_allclose(dense[:, :, ::times, ::times], expected, rtol=1e-3,
                               atol=1e-5 * abs(expected).max())  # float32, sums in another order


def test_compact_learns_ten_images():
    """By heart: images of noise, one per class."""
    minicv.seed(0)
    model = models.build("xception")
    x = Tensor(np.random.default_rng(0).standard_normal((10, 3, 64, 64)).astype("f4"))
    optimizer, losses = SGD(model.parameters(), 0.05, momentum=0.9), []
    for _ in range(30):
        loss = F.cross_entropy(model(x), np.arange(10))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2 > 8 * losses[-1], losses  # knowing nothing is log 10 = 2.3


@pytest.mark.parametrize("options", [{"output_stride": 4}, {"middle": 0}, {"multi_grid": (1, 2)},
                                     {"multi_grid": (0, 1, 1)}])
def test_errors(options):
    with pytest.raises(ValueError, match=r"Xception\(output_stride=.*: output_stride is 32, 16, 8, middle at least 1"):
        paper(**options)
