import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor, models, nn
from minicv.models.segmentation.fcn import MAPS, Skip, kernel_size
from minicv.models.summary import summarize
from minicv.nn import init
from minicv.optim import SGD
from minicv.training import CheckpointError, take_weights
from tests.models.segmentation.dispatched import check_dispatched, check_strict_step, lively
from tests.models.torch_unet import torch_with_one_thread  # noqa: F401 - the fixture torch

FCNS, BACKBONES = ("fcn32s", "fcn16s", "fcn8s"), ("alexnet", "googlenet", "resnet50", "vgg16")


def paper(name="fcn32s", **options):
    with init.blank():
        return models.build(name, "paper", **options)


def small(name="fcn8s", backbone="vgg16", **options):
    minicv.seed(0)
    return models.build(name, backbone=backbone, **{"num_classes": 3, "width": 8, **options})


# ------------------------------------------------------------------------------------------------- the paper's numbers

# By hand, K = 21: the backbone and fc6, fc7 of the classifier, without its last layer of 1000 classes, and a 1x1 score.
#   VGG16      138,357,544 - (4096 * 1000 + 1000) + (4096 * 21 + 21) = 134,346,581    "134M", table 1
#   AlexNet     61,100,840 - (4096 * 1000 + 1000) + (4096 * 21 + 21) =  57,089,877    "57M"
#   GoogLeNet    6,624,904 - (1024 * 1000 + 1000) + (1024 * 21 + 21) =   5,621,429    "6M"
# A skip of c channels adds c * 21 + 21, and a kernel of 4x4 (VGG) or 3x3 (AlexNet) for 21 x 21 classes.
@pytest.mark.parametrize(("backbone", "parameters", "skip16", "skip8"), [
    ("vgg16", 134_346_581, 512 * 21 + 21 + 441 * 16, 256 * 21 + 21 + 441 * 16),
    ("alexnet", 57_089_877, 192 * 21 + 21 + 441 * 9, 64 * 21 + 21 + 441 * 9),
    ("googlenet", 5_621_429, 832 * 21 + 21 + 441 * 16, 480 * 21 + 21 + 441 * 9)])
def test_parameters(backbone, parameters, skip16, skip8):
    found = [paper(name, backbone=backbone).num_parameters() for name in FCNS]
    assert found == [parameters, parameters + skip16, parameters + skip16 + skip8]


@pytest.mark.parametrize(("name", "backbone", "offsets"), [
    ("fcn32s", "vgg16", [19]), ("fcn16s", "vgg16", [5, 27]), ("fcn8s", "vgg16", [5, 9, 31]),
    ("fcn32s", "alexnet", [18])])
def test_published_offsets(name, backbone, offsets):
    """The numbers in the authors' network definitions, from pad 100 on. By hand for FCN-32s on VGG16: the first pixel
    of conv1_1's map is -100 + 1, five poolings add 1/2 (1 + 2 + 4 + 8 + 16), fc6 3 * 32, so the first score is at 12.5;
    the 64 kernel_size of the upsampling reach 31.5 further, 31.5 - 12.5 = 19."""
    model = paper(name, backbone=backbone, width=8, hidden=8)
    assert model.offsets == offsets
    if name == "fcn32s":
        assert model.first == {"vgg16": 12.5, "alexnet": 13.0}[backbone]


@pytest.mark.parametrize(("backbone", "field"), [("alexnet", 355), ("vgg16", 404)])  # FCN, table 1
def test_receptive_field_of_the_scores(backbone, field):
    rows = summarize(paper(backbone=backbone, width=8, hidden=8), (3, 500, 500)).rows
    assert next(row.field for row in rows if row.name == "score") == (field, field)


def test_receptive_field_of_googlenet_and_where_table_1_has_907():
    rows = summarize(paper(backbone="googlenet", width=8), (3, 500, 500)).rows
    assert next(row.field for row in rows if row.name == "score") == (379, 379)
    field, jump = 1, 1
    for kernel, stride in [(7, 2), (3, 2), (3, 1), (3, 2), *[(5, 1)] * 2, (3, 2), *[(5, 1)] * 5, (3, 2), *[(5, 1)] * 2,
                           (7, 1)]:  # GoogLeNet's own kernels, with its 3x3 pools and its average over 7x7
        field, jump = field + (kernel - 1) * jump, jump * stride
    assert field == 907


@pytest.mark.parametrize("name", FCNS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_paper_preset_on_any_size(name, backbone):
    model = paper(name, backbone=backbone, width=8, **({"hidden": 8} if backbone in ("alexnet", "vgg16") else {}))
    assert model.input_size(1) == 1
    for shape in ((500, 375), (224, 224), (33, 101), (1, 2)):
        assert summarize(model, (3, *shape)).output == (21, *shape)


def test_scores_start_at_zero_and_upsampling_bilinear():
    model = small()
    assert not model(Tensor(np.ones((1, 3, 40, 40), np.float32))).numpy().any()  # all classes alike
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 7)).astype(np.float32)
    np.testing.assert_allclose(  # 4 kernel_size, away from the border: interpolation, FCN, sec. 3.3
        model.skips[0].up(Tensor(x)).numpy()[:, :, 3:-3, 3:-3],
        F.interpolate(Tensor(x), scale_factor=2, mode="bilinear").numpy()[:, :, 2:-2, 2:-2], rtol=0, atol=1e-6)
    assert model.skips[0].up.weight.shape == (3, 3, 4, 4) and model.skips[0].up.bias is None


@pytest.mark.parametrize(("distance", "factor", "expected"), [
    (6.5, 2, 4), (5.0, 2, 3), (12.5, 32, 64), (13.0, 32, 63), (-23.5, 8, 16)])
def test_kernels_that_make_positions_meet(distance, factor, expected):
    assert kernel_size(distance, factor) == expected


@pytest.mark.parametrize(("distance", "offset"), [(6.5, 5), (1.5, 0), (-0.5, -2), (1.0, 0), (0.0, -1)])
def test_a_skip_adds_what_lies_at_one_place(distance, offset):
    """A coarse map and a fine one that both say where they are: after a sum of both, twice that."""
    skip = Skip(1, 1, distance)
    assert skip.offset == offset
    skip.score.weight.data = np.ones((1, 1, 1, 1))
    skip.up.weight.data = skip.up.weight.data.astype(np.float64)
    skip.score.bias.data = np.zeros(1)
    coarse = np.broadcast_to(2 * np.arange(9.0) + distance, (1, 1, 9, 9)).copy()  # in positions of the fine map
    fine = np.broadcast_to(np.arange(30.0), (1, 1, 30, 30)).copy()
    columns = skip(Tensor(coarse), Tensor(fine)).numpy()[0, 0, 8] - fine[0, 0, 8, 0]
    inside = columns[3:-3]  # bilinear interpolation of a line is the line, except at the border
    np.testing.assert_allclose(inside, 2 * (max(0, offset) + 3 + np.arange(len(inside))), rtol=0, atol=1e-12)


# ----------------------------------------------------------------------------------------- the same net, made otherwise

@pytest.mark.parametrize(("name", "shape"), [("fcn32s", (2, 3, 40, 53)), ("fcn16s", (1, 3, 33, 64)),
                                             ("fcn8s", (2, 3, 35, 46))])
def test_equals_a_plain_pytorch_construction_with_the_published_crops(name, shape, torch):
    from tests.models.segmentation.torch_fcn import torch_fcn
    minicv.seed(0)
    model = lively(models.build(name, "paper", width=8, hidden=12, num_classes=4, dropout=0.0))
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal(shape), requires_grad=True)
    y = model(x)
    cotangent = rng.standard_normal(y.shape)
    y.backward(cotangent)
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in model.state_dict().items()}
    tx = torch.tensor(x.data, requires_grad=True)
    ty = torch_fcn(torch, tx, weights, model.STRIDE)
    ty.backward(torch.tensor(cotangent))
    scale = abs(ty).max().item()
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(x.grad, tx.grad.numpy(), rtol=0, atol=1e-10 * abs(tx.grad).max().item())
    for name, p in model.named_parameters():
        expected = weights[name].grad.numpy()
        assert expected.any(), name
        np.testing.assert_allclose(p.grad, expected, rtol=0, atol=1e-10 * abs(expected).max(), err_msg=name)


@pytest.mark.slow
def test_the_whole_paper_network_equals_pytorch(torch):
    """FCN-8s with all 134 million parameters, float32."""
    from tests.models.segmentation.torch_fcn import torch_fcn
    minicv.seed(0)
    model = models.build("fcn8s", "paper").eval()
    rng = np.random.default_rng(0)
    for score in (model.score, *(skip.score for skip in model.skips)):
        score.weight.data = rng.standard_normal(score.weight.shape, np.float32)
    x = rng.standard_normal((1, 3, 64, 81), np.float32)
    with minicv.no_grad():
        y = model(Tensor(x)).numpy()
    weights = {name: torch.from_numpy(value) for name, value in model.state_dict().items()}
    expected = torch_fcn(torch, torch.from_numpy(x), weights, 8).numpy()
    # float32: sums of up to 25088 products through 16 layers
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("name", "backbone", "options"), [
    ("fcn32s", "vgg16", {}), ("fcn8s", "vgg16", {}), ("fcn16s", "alexnet", {"batch_norm": False}),
    ("fcn8s", "alexnet", {}), ("fcn8s", "googlenet", {}), ("fcn8s", "resnet50", {})])
def test_scores_and_all_gradients_equal_those_by_pytorchs_operations(name, backbone, options, train):
    width = 16 if backbone == "googlenet" else 8  # with 8, a branch of 2 channels is dead
    check_dispatched(small(name, backbone, width=width, **options), (2, 3, 45, 65), train)


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet", "vgg16"])
def test_a_training_step_on_the_strict_device(backbone):
    check_strict_step(lambda: small("fcn8s", backbone), (2, 3, 40, 64))


# ---------------------------------------------------------------------------------------------------------------- sizes

@pytest.mark.parametrize("name", FCNS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_compact_preset_on_any_size_from_32_up(name, backbone):
    with init.blank():
        model = models.build(name, backbone=backbone, num_classes=2, width=8)
    assert model.input_size(1) <= 32
    for n in [*range(32, 66, 3), 32 + 1, 63, 64, 97, 127, 160]:
        assert summarize(model, (3, n, 2 * n - 31)).output == (2, n, 2 * n - 31)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_pixel_is_near_a_position(backbone):
    """Each pixel's weights add up to at least a half where padding is the compact preset's (ResNet: something)."""
    with init.blank():
        model = models.build("fcn32s", backbone=backbone, num_classes=1, width=8)
    model.score.bias.data = np.ones(1, np.float32)  # a score of 1 at every position
    for n in (32, 33, 50, 63, 64, 65, 90):
        with minicv.no_grad():
            y = model.eval()(Tensor(np.zeros((1, 3, n, 64), np.float32))).numpy()
        assert y[:, :, :, 40].min() > (0 if backbone == "resnet50" else 0.45)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: small(backbone="resnet18"), r"backbone='resnet18': choose one of alexnet, googlenet, resnet50"),
    (lambda: small(backbone="googlenet", hidden=3), r"backbone googlenet: no option hidden"),
    (lambda: small(backbone_preset="huge"), r"backbone vgg16: preset 'huge' is unknown; choose one of paper, compact"),
    (lambda: small(padding=0), r"FCN\(padding=0, num_classes=3\): vgg16 has a padding of 1 of its own"),
    (lambda: small(num_classes=0), r"num_classes=0\): .* at least 1 class"),
    (lambda: small()(Tensor(np.zeros((1, 1, 40, 40), "f4"))),
     r"FCN8s: the input must be \(N, 3, H, W\), each at least 1, got \(1, 1"),
    (lambda: small()(Tensor(np.zeros((3, 40, 40), "f4"))),
     r"FCN8s: the input must be \(N, 3, H, W\), each at least 1, got \(3, 40"),
    (lambda: small(backbone="alexnet")(Tensor(np.zeros((1, 3, 20, 40), "f4"))),
     r"FCN8s: an input side of 20 does not work; the smallest that works is 31"),
    (lambda: small("fcn32s", pooled=7, padding=40)(Tensor(np.zeros((1, 3, 224, 224), "f4"))),
     r"FCN: \d+ scores, the first at pixel 72.5, do not reach all of 224 pixels; build it with more padding"),
    (lambda: small().fine_tune("all"), r"fine_tune\('all'\): 'everything' or 'output'"),
])
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------------------------------------------------- training

def test_stages_32s_16s_8s():
    """FCN-16s begins with FCN-32s's scores, but for the interpolation in two steps; all its own weights are kept."""
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 160, 170)).astype(np.float32))
    before = lively(small("fcn32s"), np.float32).eval()
    scores = before(x).numpy()
    for name in ("fcn16s", "fcn8s"):
        model = small(name).eval()
        take_weights(model, before.state_dict())
        state = model.state_dict()
        for key, value in before.state_dict().items():
            np.testing.assert_array_equal(state[key], value)
        before, y = model, model(x).numpy()
        inside = (..., slice(48, -48), slice(48, -48))  # where no border is near, twice 2x is 4x, up to a kink
        assert abs(y[inside] - scores[inside]).max() < 0.1 * np.ptp(scores[inside])
    for score in (s.score for s in before.skips):
        assert not score.weight.data.any()
    assert take_weights(small("fcn16s"), before.state_dict()).left == [
        name for name in before.state_dict() if name.startswith("skips.1.")]


def test_alexnet_with_batch_norm_takes_over_a_classifier_without():
    minicv.seed(1)
    classifier, model = models.build("alexnet", num_classes=10, width=8), small("fcn8s", "alexnet", batch_norm=True)
    take_weights(model, classifier.state_dict())
    for name, module in classifier.features.named_modules():
        if isinstance(module, nn.Conv2d):
            np.testing.assert_array_equal(getattr(model.backbone.features, name)[0].weight.data, module.weight.data)
            np.testing.assert_array_equal(getattr(model.backbone.features, name)[0].bias.data, module.bias.data)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_initialized_from_a_classifier_the_maps_are_the_classifiers(backbone):
    minicv.seed(1)
    classifier = models.build(backbone, num_classes=10, width=8).eval()
    model = small("fcn32s", backbone, batch_norm=backbone == "vgg16", padding=3).eval()
    take_weights(model, classifier.state_dict())
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32))
    ours, theirs = model.backbone.stages(x), classifier.stages(x)
    for name in theirs:
        np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy())
    if backbone in ("alexnet", "vgg16"):
        side = classifier.side
        last = list(theirs.values())[-1][:, :, :side, :side]
        layers = list(classifier.classifier)[:-1]
        expected = nn.Sequential(*layers)(F.flatten(last, 1)).numpy()
        np.testing.assert_allclose(model.head(last).numpy()[:, :, 0, 0], expected, rtol=0, atol=1e-5)


def test_a_classifier_of_other_layers_is_refused():
    with pytest.raises(CheckpointError, match=r"features.0.weight is \(8, 3, 11, 11\), and fcn32s has \(8, 3, 3, 3\)"):
        take_weights(small("fcn32s"), models.build("alexnet", width=8).state_dict())


def test_parameter_groups_double_the_rate_of_biases():
    model = small()
    weights, biases = model.parameter_groups(0.01)
    assert (weights["lr"], biases["lr"]) == (0.01, 0.02)
    assert [g["lr"] for g in model.parameter_groups()] == [1, 2]  # multiples of a config's rate
    together = {id(p) for g in (weights, biases) for p in g["params"]}
    assert together == {id(p) for p in model.parameters()}
    assert all(p.ndim == 1 for p in biases["params"]) and any(p is model.score.bias for p in biases["params"])
    assert any(p is model.backbone.features[0].weight for p in weights["params"])


def test_fine_tuning_the_output_leaves_the_rest_alone():
    model = small(dropout=0.0, batch_norm=True)
    model.fine_tune("output")
    before = model.train().state_dict()
    x, label = np.random.default_rng(0).standard_normal((1, 3, 40, 40)).astype("f4"), np.ones((1, 40, 40), int)
    optimizer = SGD(model.parameter_groups(0.1), 0.1)
    for _ in range(2):  # in the first step, scores of zero pass no gradient on to the upsampling
        optimizer.zero_grad()
        model.losses(Tensor(x), label)["loss"].backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert changed == {name for name in before if name.startswith(("score.", "skips."))}
    model.fine_tune("everything")
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


def test_training_lowers_the_loss_of_every_stage():
    rng = np.random.default_rng(0)
    label = np.zeros((4, 48, 48), int)
    label[:, 16:, :24] = 1
    x = (label[:, None] * np.array([1, -1, 0.5]).reshape(1, 3, 1, 1) + 0.1 * rng.standard_normal((4, 3, 48, 48)))
    before = None
    for name in FCNS:
        model = small(name, num_classes=2, dropout=0.0)
        if before is not None:
            take_weights(model, before.state_dict())
        optimizer, losses = SGD(model.parameter_groups(0.02), 0.02, momentum=0.9), []
        for _ in range(12):
            optimizer.zero_grad()
            loss = model.losses(Tensor(x.astype(np.float32)), label)["loss"]
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        # log 2 is knowing nothing; each stage goes on from what the one before has learned
        assert losses[-1] < losses[0] and losses[-1] < 0.55 < np.log(2), (name, losses)
        before = model


def test_at_once_scales_the_skipped_maps():
    """0.01 of pool4: a hundredth of the gradient for its score's weights."""
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 40, 40)).astype("f4"))
    gradients = []
    for at_once in (False, True):
        model = small(at_once=at_once).eval()
        model(x).backward(np.random.default_rng(1).standard_normal((1, 3, 40, 40)).astype("f4"))
        gradients.append([skip.score.weight.grad for skip in model.skips])
    for (plain, scaled), factor in zip(zip(*gradients, strict=True), (0.01, 0.0001), strict=True):
        np.testing.assert_allclose(scaled, factor * plain, rtol=1e-4, atol=1e-9)


def test_predict_takes_images_of_any_size():
    model = lively(small(), np.float32)
    images = [np.random.default_rng(i).random((3, *size)).astype("f4") for i, size in enumerate([(40, 33), (64, 64)])]
    for image, result in zip(images, model.predict(images), strict=True):
        assert result.labels.shape == image.shape[1:] and result.probabilities.shape == (3, *image.shape[1:])
        np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, rtol=1e-5)


def test_every_backbone_is_a_classifier():
    assert set(MAPS) == set(BACKBONES) <= set(models.names("backbones"))
