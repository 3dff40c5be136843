import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.autograd import no_grad
from minicv.models.segmentation.pspnet import ROWS, PSPNetConfig, PyramidPooling
from minicv.models.summary import summarize
from minicv.nn import init
from tests.models.segmentation.dispatched import check_dispatched


def paper(**options):
    with init.blank():
        return models.build("pspnet", "paper", **options)


# ------------------------------------------------------------------------------------------------- the paper's numbers

BACKBONE = 25_557_032 - 2048 * 1000 - 1000  # ResNet-50 without its last layer
AUXILIARY = 1024 * 256 * 9 + 2 * 256  # conv 3x3 and batch norm, and then a 1x1 to the classes with biases


def head(channels, classes):
    """conv 3x3 to 512, batch norm; conv 1x1 to the classes; the auxiliary head's conv 1x1"""
    return channels * 512 * 9 + 2 * 512 + 512 * classes + classes + 256 * classes + classes


@pytest.mark.parametrize(("row", "channels", "pyramid"), [
    ("baseline", 2048, 0), ("B1+MAX", 2 * 2048, 0), ("B1+AVE", 2 * 2048, 0), ("B1236+MAX", 5 * 2048, 0),
    ("B1236+AVE", 5 * 2048, 0), ("B1236+MAX+DR", 2 * 2048, 4 * (2048 * 512 + 2 * 512)),
    ("B1236+AVE+DR", 2 * 2048, 4 * (2048 * 512 + 2 * 512))])
def test_every_row_of_table_1_is_a_network(row, channels, pyramid):
    """Without reduction each level adds 2048 channels; with it the four add 512 each."""
    options = ROWS[row][2]
    model = paper(**options)
    assert model.num_parameters() == BACKBONE + AUXILIARY + pyramid + head(channels, 150)
    assert model.pyramid.out_channels == channels


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_table_1_equals_the_same_network_dispatched_to_pytorch(row):
    minicv.seed(0)
    model = models.build("pspnet", num_classes=3, channels=8, backbone_options={"width": 8, "layers": (1, 1, 1, 1)},
                         **ROWS[row][2])
    check_dispatched(model, (2, 3, 57, 50), train=True)


def test_table_1_has_the_papers_numbers():
    assert list(ROWS) == ["baseline", "B1+MAX", "B1+AVE", "B1236+MAX", "B1236+AVE", "B1236+MAX+DR", "B1236+AVE+DR"]
    assert {name: row[:2] for name, row in ROWS.items() if name in ("baseline", "B1236+AVE+DR")} == {
        "baseline": (37.23, 78.01), "B1236+AVE+DR": (41.68, 80.04)}
    with init.blank():
        default = models.build("pspnet", "paper")
    assert default.num_parameters() == paper(**ROWS["B1236+AVE+DR"][2]).num_parameters() == 49_057_132


def test_the_baseline_is_torchvisions_fcn_resnet50():
    assert paper(num_classes=21, levels=()).num_parameters() == 35_322_218


def test_sizes_of_figure_3():
    summary = summarize(paper(), (3, 473, 473))
    shapes = {row.name: row.shape for row in summary.rows if row.name}
    assert shapes["backbone.layer4.2.bn3"] == (2048, 60, 60)  # 473 -> 237, 119, 60
    assert [shapes[f"pyramid.convs.{i}.0"] for i in range(4)] == [(512, n, n) for n in (1, 2, 3, 6)]
    assert shapes["head.0.0"] == (512, 60, 60) and shapes["head.2"] == (150, 60, 60)
    assert summary.output == (150, 473, 473)


# --------------------------------------------------------------------------------------------------------- the pyramid

@pytest.mark.parametrize(("pool", "whole", "halves"), [
    # The map 0..15 row by row. Its four quarters: (0 1 4 5), (2 3 6 7), (8 9 12 13), (10 11 14 15).
    ("average", 7.5, [[2.5, 4.5], [10.5, 12.5]]), ("max", 15, [[5, 7], [13, 15]])])
def test_levels_by_hand(pool, whole, halves):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    y = PyramidPooling(1, PSPNetConfig(levels=(1, 2), pool=pool, reduce=False, pool_norm=False))(Tensor(x)).data
    np.testing.assert_array_equal(y[0, 0], x[0, 0])  # the map itself
    np.testing.assert_allclose(y[0, 1], whole)
    # from 2 to 4 pixels: positions -0.25 (clamped), 0.25, 0.75, 1.25 (clamped)
    up = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(y[0, 2], up @ np.array(halves) @ up.T)


def test_reduced_levels_are_weighted_sums_of_channels():
    rng = np.random.default_rng(0)
    pyramid = PyramidPooling(4, PSPNetConfig(levels=(1, 2), pool_norm=False))
    assert pyramid.out_channels == 4 + 2 * 2  # each level to 4 / 2
    x = rng.standard_normal((2, 4, 6, 5)).astype("f4")
    for conv in pyramid.convs:
        conv[0].bias.data = rng.standard_normal(2).astype("f4")
    y = pyramid(Tensor(x)).data
    conv = pyramid.convs[0][0]
    expected = np.maximum(x.mean((2, 3)) @ conv.weight.data[:, :, 0, 0].T + conv.bias.data, 0)  # (2, 2)
    np.testing.assert_allclose(y[:, 4:6], np.broadcast_to(expected[:, :, None, None], (2, 2, 6, 5)), rtol=1e-5,
                               atol=1e-6)


@no_grad()
def test_the_pyramid_tells_every_pixel_of_every_other():
    """A dot at one corner: the baseline's score at the other does not change, the pyramid's does."""
    x = np.zeros((1, 3, 32, 400), "f4")
    dot = x.copy()
    dot[:, :, :8, :8] = 5
    changed = {}
    for levels in ((), (1,), (1, 2, 3, 6)):
        model = models.build("pspnet", levels=levels, backbone="resnet18", num_classes=2, channels=8,
                             backbone_options={"width": 4, "layers": (1, 1, 1, 1)}).eval()
        changed[levels] = abs(model(Tensor(dot)).data - model(Tensor(x)).data)[..., -8:].max()
    assert changed[()] == 0 < min(changed[(1,)], changed[(1, 2, 3, 6)])
