import numpy as np
import pytest

from minicv import Tensor, models
from minicv.models.segmentation.deeplab import ASPP, DeepLabConfig
from minicv.models.summary import summarize
from minicv.nn import init


def paper(name="deeplabv3", **options):
    with init.blank():
        return models.build(name, "paper", **options)


# ------------------------------------------------------------------------------------------------- the papers' numbers

RESNET50, RESNET101, XCEPTION = (n - 2048 * 1000 - 1000 for n in (25_557_032, 44_549_160, 39_916_312))
NORM = 2 * 256
# ASPP: the 1x1, three 3x3, image pooling's 1x1, and the 1x1 from 5 x 256 channels, each with batch norm
PLAIN = 2 * (2048 * 256 + NORM) + 3 * (9 * 2048 * 256 + NORM) + 1280 * 256 + NORM
# With separable convolutions the 3x3 are a depthwise 3x3 and a 1x1, each with batch norm
SEPARABLE = 2 * (2048 * 256 + NORM) + 3 * (9 * 2048 + 2 * 2048 + 2048 * 256 + NORM) + 1280 * 256 + NORM
# The decoder: 256 low-level channels to 48; 256 + 48 = 304 to 256, 256 to 256
REDUCE = 256 * 48 + 2 * 48
DECODER = REDUCE + 9 * 304 * 256 + NORM + 9 * 256 * 256 + NORM
SEPARABLE_DECODER = REDUCE + 9 * 304 + 2 * 304 + 304 * 256 + NORM + 9 * 256 + 2 * 256 + 256 * 256 + NORM
SCORES = 256 * 21 + 21
AUXILIARY = 1024 * 256 * 9 + NORM + 256 * 21 + 21


@pytest.mark.parametrize(("name", "options", "parameters"), [
    ("deeplabv3", {}, RESNET101 + PLAIN + SCORES),
    ("deeplabv3", {"backbone": "resnet50"}, RESNET50 + PLAIN + SCORES),
    ("deeplabv3", {"backbone": "resnet50", "auxiliary": 0.4}, RESNET50 + PLAIN + SCORES + AUXILIARY),
    ("deeplabv3plus", {}, XCEPTION + SEPARABLE + SEPARABLE_DECODER + SCORES),
    ("deeplabv3plus", {"backbone": "resnet101", "separable": False}, RESNET101 + PLAIN + DECODER + SCORES)])
def test_parameters(name, options, parameters):
    assert paper(name, **options).num_parameters() == parameters


def test_parameters_as_numbers():
    assert RESNET101 + PLAIN + SCORES == 58_040_661
    assert RESNET50 + PLAIN + SCORES == 39_048_533
    # torchvision's deeplabv3_resnet50 has one more conv 3x3 with batch norm in front of the scores
    assert RESNET50 + PLAIN + SCORES + AUXILIARY + 9 * 256 * 256 + NORM == 42_004_074
    assert XCEPTION + SEPARABLE + SEPARABLE_DECODER + SCORES == 41_055_413


@pytest.mark.parametrize(("output_stride", "side", "rates"), [
    (32, 17, (3, 6, 9)), (16, 33, (6, 12, 18)), (8, 65, (12, 24, 36))])
def test_sizes_and_rates_of_v3(output_stride, side, rates):
    """513 -> 257, 129, 65, 33, 17; v3, sec. 3.3: "the rates are doubled when output stride = 8"."""
    model = paper(output_stride=output_stride)
    assert tuple(branch[0].dilation for branch in model.aspp.convs)[1:] == rates
    summary = summarize(model, (3, 513, 513))
    shapes = {row.name: row.shape for row in summary.rows if row.name}
    assert shapes["backbone.layer4.2.bn3"] == (2048, side, side)
    assert shapes["aspp.pooled.0"] == (256, 1, 1) and shapes["aspp.project.0"] == (256, side, side)
    assert shapes["head"] == (21, side, side) and summary.output == (21, 513, 513)


def test_sizes_of_v3plus():
    shapes = {row.name: row.shape for row in summarize(paper("deeplabv3plus"), (3, 513, 513)).rows if row.name}
    assert shapes["backbone.conv5.pointwise"] == (2048, 33, 33) and shapes["aspp.project.0"] == (256, 33, 33)
    assert shapes["decoder.reduce.0"] == (48, 129, 129)  # 4 times finer
    assert shapes["decoder.conv1.0.depthwise"] == (304, 129, 129)
    assert shapes["decoder.conv2.0.pointwise"] == (256, 129, 129) and shapes["head"] == (21, 129, 129)


def test_a_single_rate_three_times_has_the_same_parameters_and_work():
    pyramid, single = (summarize(paper(rates=rates), (3, 513, 513)) for rates in ((6, 12, 18), (6, 6, 6)))
    assert (pyramid.parameters, pyramid.macs) == (single.parameters, single.macs)


def test_finer_maps_cost_work_and_no_parameters():
    """From output stride 16 to 8 layer4's convolutions meet four times as many pixels."""
    coarse, fine = (summarize(paper(output_stride=n), (3, 512, 512)) for n in (16, 8))
    assert coarse.parameters == fine.parameters
    macs = [{row.name: row.macs for row in s.rows if row.name}["backbone.layer4.1.conv2"] for s in (coarse, fine)]
    assert macs == [512 * 512 * 9 * n * n for n in (32, 64)]


# ---------------------------------------------------------------------------------------------------------------- ASPP

def test_branches_look_at_their_rates():
    """A dot of input and kernels of ones: where the 3x3 of each rate finds it."""
    for rate in (1, 2, 3):
        aspp = ASPP(1, DeepLabConfig(channels=1, rates=(rate,), image_pooling=False, pool_norm=False)).eval()
        conv = aspp.convs[1][0]
        conv.weight.data = np.ones_like(conv.weight.data)
        x = np.zeros((1, 1, 9, 9), "f4")
        x[0, 0, 4, 4] = 1
        y = aspp.convs[1](Tensor(x)).data[0, 0]
        found = {4 - rate, 4, 4 + rate}
        assert set(zip(*map(np.ndarray.tolist, np.nonzero(y)), strict=True)) == {(i, j) for i in found for j in found}


def test_where_the_rate_exceeds_the_map_only_the_middle_weight_acts():
    """v3, sec. 3.3: such a 3x3 "degenerates to a simple 1x1 filter"; hence image pooling."""
    aspp = ASPP(2, DeepLabConfig(channels=3, rates=(10,), pool_norm=False)).eval()
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 9)).astype("f4")
    wide = aspp.convs[1][0]
    y = wide(Tensor(x)).data
    np.testing.assert_allclose(y, np.einsum("oi,nihw->nohw", wide.weight.data[:, :, 1, 1], x), rtol=1e-5, atol=1e-6)
    image = aspp.pooled[0]
    image.weight.data, wide.weight.data = abs(image.weight.data), abs(wide.weight.data)
    before = aspp(Tensor(abs(x))).data
    x[0, :, 0, 0] += 100
    after = aspp(Tensor(abs(x))).data
    assert (before[..., -1, -1] != after[..., -1, -1]).any()  # image pooling still sees all of it


def test_without_image_pooling_there_is_one_branch_less():
    assert paper(image_pooling=False).aspp.project[0].weight.shape == (256, 1024, 1, 1)
    assert paper(rates=(12,), image_pooling=False).aspp.project[0].weight.shape == (256, 512, 1, 1)
