import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.models.segmentation.deconvnet import ensemble
from minicv.models.summary import summarize
from minicv.nn import init
from minicv.training import take_weights
from tests.models.segmentation.dispatched import check_dispatched, check_strict_step, lively


def small(**options):
    minicv.seed(0)
    return models.build("deconvnet", **{"num_classes": 3, "width": 8, "hidden": 24, "convs": (1, 2, 1), **options})


# ------------------------------------------------------------------------------------------------- the paper's numbers

# By hand, weights without biases:
#   VGG16's 13 convolutions    14,714,688 - 4,224 biases = 14,710,464
#   fc6 512*49*4096            102,760,448      fc7 4096^2  16,777,216      deconv-fc6, as fc6   102,760,448
#   deconv5  3 * 9 * 512^2       7,077,888
#   deconv4  2 * 9 * 512^2 + 9 * 512 * 256      5,898,240
#   deconv3  2 * 9 * 256^2 + 9 * 256 * 128      1,474,560
#   deconv2  9 * 128^2 + 9 * 128 * 64             221,184
#   deconv1  2 * 9 * 64^2                          73,728
#   scale and shift of batch norm for 4224 + 2 * 4096 + 512 + 3 * 512 + 1280 + 640 + 192 + 128 = 16,704 channels: 33,408
#   the last 1x1               64 * 21 + 21 =       1,365
PARAMETERS = (14_710_464 + 2 * 102_760_448 + 16_777_216 + 7_077_888 + 5_898_240 + 1_474_560 + 221_184 + 73_728
              + 33_408 + 1_365)


def test_paper_preset_has_252_million_parameters():
    with init.blank():
        model = models.build("deconvnet", "paper")
    assert model.num_parameters() == PARAMETERS == 251_788_949


# DeconvNet, table 2: side and channels after every layer but the unpoolings
TABLE_2 = [(224, 64)] * 2 + [(112, 64)] + [(112, 128)] * 2 + [(56, 128)] + [(56, 256)] * 3 + [(28, 256)] \
    + [(28, 512)] * 3 + [(14, 512)] + [(14, 512)] * 3 + [(7, 512)] + [(1, 4096)] * 2 + [(7, 512)] \
    + [(14, 512)] * 3 + [(28, 512)] * 2 + [(28, 256)] + [(56, 256)] * 2 + [(56, 128)] + [(112, 128), (112, 64)] \
    + [(224, 64)] * 2 + [(224, 21)]


def test_maps_have_the_sizes_of_table_2():
    with init.blank():
        rows = summarize(models.build("deconvnet", "paper"), (3, 224, 224)).rows
    maps = [row.shape for row in rows if not row.op.startswith(("max_unpool", "batch_norm"))]
    assert maps == [(channels, side, side) for side, channels in TABLE_2]
    assert [row.shape[1] for row in rows if row.op.startswith("max_unpool")] == [14, 28, 56, 112, 224]


# ----------------------------------------------------------------------------------------- the same net, made otherwise

@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("options", [{}, {"unpooling": "nearest"}, {"unpooling": "nails"}])
def test_scores_and_all_gradients_equal_those_by_pytorchs_operations(options, train):
    check_dispatched(small(**options), (3, 3, 33, 46), train)


@pytest.mark.parametrize("unpooling", ["switches", "nearest", "nails"])
def test_a_training_step_on_the_strict_device(unpooling):
    check_strict_step(lambda: small(unpooling=unpooling), (3, 3, 34, 41))


def test_numbers_return_to_where_the_maxima_were():
    """The largest of each 2x2 block at its place, by switches; elsewhere zeros."""
    x = np.array([[3, 1, 0], [0, 2, 4], [5, 0, 0]], np.float32).reshape(1, 1, 3, 3)  # pooled: 3
    pooled, switches = minicv.ops.max_pool2d(Tensor(x), 2, return_indices=True)
    assert pooled.numpy().tolist() == [[[[3]]]]
    expected = {"switches": [[3, 0, 0], [0, 0, 0], [0, 0, 0]], "nails": [[3, 0, 0], [0, 0, 0], [0, 0, 0]],
                "nearest": [[3, 3, 3], [3, 3, 3], [3, 3, 3]]}
    for unpooling, y in expected.items():
        assert small(unpooling=unpooling).unpool(pooled, switches, (3, 3)).numpy()[0, 0].tolist() == y
    x[0, 0, 1, 1] = 9
    pooled, switches = minicv.ops.max_pool2d(Tensor(x), 2, return_indices=True)
    assert small().unpool(pooled, switches, (3, 3)).numpy()[0, 0].tolist() == [[0, 0, 0], [0, 9, 0], [0, 0, 0]]


# ---------------------------------------------------------------------------------------------------------------- sizes

@pytest.mark.parametrize("unpooling", ["switches", "nearest", "nails"])
def test_compact_preset_on_any_size_from_32_up(unpooling):
    with init.blank():
        model = models.build("deconvnet", num_classes=2, width=4, unpooling=unpooling)
    assert model.input_size(1) == 32 == model.input_size(32) and model.input_size(50) == 50
    for n in (32, 33, 34, 35, 47, 63, 97):
        assert summarize(model, (3, n, 2 * n - 32)).output == (2, n, 2 * n - 32)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: small(unpooling="max"), r"DeconvNet\(unpooling='max'\): 'switches', 'nearest' or 'nails'"),
    (lambda: small(width=0), r"DeconvNet\(num_classes=3, in_channels=3, width=0, .*each must be at least 1"),
    (lambda: small(convs=(2, 0)), r"convs=\(2, 0\).*each must be at least 1"),
    (lambda: models.build("deconvnet", width=4)(Tensor(np.zeros((1, 3, 31, 64), "f4"))),
     r"DeconvNet: an input side of 31 does not work; the smallest that works is 32"),
    (lambda: small()(Tensor(np.zeros((1, 1, 64, 64), "f4"))),
     r"DeconvNet: the input must be \(N, 3, H, W\), each at least 1, got"),
    (lambda: take_weights(small(), models.build("vgg16", width=8).state_dict()),
     r"the weights: holds nothing for the backbone of deconvnet; its arrays are features.0.weight and \d+ more"),
])
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --------------------------------------------------------------------------------------------- initialization, ensemble

@pytest.mark.parametrize("batch_norm", [False, True])
def test_initialized_from_vgg_the_maps_are_vggs(batch_norm):
    minicv.seed(0)
    vgg = lively(models.build("vgg16", width=4, hidden=8, batch_norm=batch_norm), np.float32).eval()
    model = models.build("deconvnet", width=4, hidden=8, convs=(2, 2, 3, 3, 3), side=2).eval()
    layout = [p.data.strides for p in model.parameters()]
    take_weights(model, vgg.state_dict())
    assert [p.data.strides for p in model.parameters()] == layout  # init.khwc_layout, which is fast
    assert not np.shares_memory(model.fc7.conv.weight.data, vgg.classifier[3].weight.data)
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32))
    y, maps = x, vgg.stages(x)
    for i, convs in enumerate(model.conv, 1):
        y = minicv.ops.max_pool2d(convs(y), 2)
        expected = maps[f"pool{i}"].numpy()
        np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-5 * abs(expected).max())
    expected = minicv.nn.Sequential(*list(vgg.classifier)[:-1])(minicv.ops.flatten(y, 1)).numpy()
    found = model.fc7(model.fc6(y)).numpy()[:, :, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_an_ensemble_takes_the_mean_of_probabilities():
    nets = [small(), lively(small(unpooling="nearest"), np.float32)]
    images = [np.random.default_rng(i).random((3, 32 + i, 40)).astype("f4") for i in range(2)]
    single = [net.predict(images) for net in nets]
    for i, result in enumerate(ensemble(nets, images)):
        mean = (single[0][i].probabilities + single[1][i].probabilities) / 2
        np.testing.assert_allclose(result.probabilities, mean, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(result.labels, result.probabilities.argmax(axis=0))
    assert ensemble(nets, []) == []
