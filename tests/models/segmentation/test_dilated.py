"""What PSPNet, DeepLabv3 and DeepLabv3+ have in common; what is special to each stands in its own file."""
import json

import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.nn import init
from minicv.optim import SGD
from minicv.training import load_checkpoint, save_checkpoint
from tests.models.segmentation.dispatched import check_dispatched, check_strict_step, lively
from tests.oracle import require

SMALL = {"width": 8, "layers": (1, 1, 2, 2)}  # of a ResNet
XCEPTION = {"width": 4, "middle": 1}
NETWORKS = [
    ("pspnet", {"channels": 16}), ("pspnet", {"channels": 16, "pool": "max", "reduce": False, "pool_norm": True}),
    ("pspnet", {"channels": 16, "levels": (), "backbone": "resnet18"}),
    ("deeplabv3", {"channels": 8, "auxiliary": 0.4}),
    ("deeplabv3plus", {"channels": 8, "output_stride": 16}),
    ("deeplabv3plus", {"channels": 8, "backbone": "xception", "separable": True, "pool_norm": True})]


def small(name, seed=0, **options):
    minicv.seed(seed)
    backbone = XCEPTION if options.get("backbone") == "xception" else SMALL
    return models.build(name, **{"backbone_options": backbone, "num_classes": 3, **options})


# ------------------------------------------------------------------------------------------------- PyTorch as an oracle

@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_losses_and_gradients_equal_those_by_pytorchs_operations(name, options, train):
    """The compact presets are in ``test_every.py``."""
    check_dispatched(small(name, **options), (2, 3, 61, 75), train)


MULTI_GRID = {"multi_grid": (1, 2, 4)}
TWINS = {
    "fcn": ("pspnet", lambda t, w: t.FCN(5, w), {"levels": ()}),
    "pspnet": ("pspnet", lambda t, w: t.PSPNet(5, w), {"auxiliary": 0.0}),
    "deeplabv3-16": ("deeplabv3", lambda t, w: t.DeepLabV3(5, 16, w), MULTI_GRID),
    "deeplabv3-8": ("deeplabv3", lambda t, w: t.DeepLabV3(5, 8, w), {"output_stride": 8, **MULTI_GRID}),
    "deeplabv3plus": ("deeplabv3plus", lambda t, w: t.DeepLabV3Plus(5, 16, w), {"separable": False, **MULTI_GRID})}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("width", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_with_resnet50_equals_plain_pytorch(tmp_path, twin, width, train):
    """All layers of ResNet-50 and of the heads; an eighth of the channels, and all of them."""
    require("torch")
    from tests.models.backbones import agreement
    from tests.models.segmentation import dilated_torch
    name, make, options = TWINS[twin]
    options = {"num_classes": 5, "backbone": "resnet50", **options}
    options["backbone_options"] = {"width": width, "multi_grid": options.pop("multi_grid", None)}
    if name != "pspnet":
        options |= {"channels": 4 * width, "bn_momentum": 0.1}  # as PyTorch's by default
    if name == "deeplabv3plus":
        options |= {"low_channels": 3 * width // 4, "decoder_channels": 4 * width}
    with init.blank():
        ours = models.build(name, "paper", **options)
    theirs = make(dilated_torch, width)
    if ours.auxiliary_head is not None:  # not part of forward, so it has no gradients to compare
        del theirs.auxiliary_head
        ours.auxiliary_head = None
    agreement.check_agreement(ours, theirs, (3, 3, 41, 50), train, tmp_path / "w.pth")


# ---------------------------------------------------------------------------------------------------------------- sizes

@pytest.mark.parametrize(("name", "options"), NETWORKS)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 32), (1, 1)])
def test_any_size_works(name, options, size):
    model = small(name, **options).eval()
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, *size)).astype("f4"))
    y = model(x)
    assert y.shape == (2, 3, *size) and np.isfinite(y.data).all()
    assert [model.output_size(n) for n in size] == [model.input_size(n) for n in size] == list(size)


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_predict(name, options):
    model, rng = small(name, **options), np.random.default_rng(0)
    images = [rng.random((3, 33, 40), dtype=np.float32), rng.random((3, 50, 35), dtype=np.float32)]
    for image, result in zip(images, model.predict(images), strict=True):
        assert result.labels.shape == image.shape[1:] and result.probabilities.shape == (3, *image.shape[1:])
        np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, rtol=1e-5)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(("name", "options"), NETWORKS)
@pytest.mark.parametrize("output_stride", [32, 16])
def test_weights_of_one_output_stride_run_at_another(name, options, output_stride):
    """The same names and shapes; and the backbone's map at output stride 8 holds the coarse one's numbers."""
    fine = lively(small(name, **{**options, "output_stride": 8}), np.float32).eval()
    coarse = small(name, seed=1, **{**options, "output_stride": output_stride}).eval()
    before, state = coarse.state_dict(), fine.state_dict()
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in state.items()}
    coarse.load_state_dict(state)
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 66, 95)).astype("f4"))
    dense, expected = (model.backbone.feature_maps(x)["last"].data for model in (fine, coarse))
    assert dense.shape[2:] == (9, 12)
    times = output_stride // 8
    assert expected.any()
    np.testing.assert_allclose(dense[:, :, ::times, ::times], expected, rtol=1e-3, atol=1e-5 * abs(expected).max())
    assert coarse(x).shape == fine(x).shape


# ------------------------------------------------------------------------------------------------------------- training

def test_losses_by_hand():
    """Cross entropy of what forward says, void left out, and 0.4 times that of the auxiliary head."""
    model = small("pspnet", channels=8).eval()  # no dropout
    rng = np.random.default_rng(0)
    x, label = Tensor(rng.standard_normal((2, 3, 33, 40)).astype("f4")), rng.integers(0, 3, (2, 33, 40))
    label[0, :9] = 255
    weight = rng.uniform(0.5, 2, label.shape).astype("f4")

    def cross_entropy(scores, weight):
        p = np.exp(scores.astype(float))
        p /= p.sum(axis=1, keepdims=True)
        n, i, j = np.nonzero(label != 255)
        return -(weight[n, i, j] * np.log(p[n, label[n, i, j], i, j])).sum() / weight[n, i, j].sum()

    from minicv.models.segmentation.dilated import upsample
    scores = model(x)
    auxiliary = upsample(model.auxiliary_head(model.backbone.feature_maps(x)["middle"]), x)
    for w in (None, weight):
        losses = model.losses(x, label, None if w is None else Tensor(w))
        w = np.ones(label.shape) if w is None else w
        assert losses.keys() == {"loss", "auxiliary"}
        np.testing.assert_allclose(losses["loss"].item(), cross_entropy(scores.data, w), rtol=1e-5)
        np.testing.assert_allclose(losses["auxiliary"].item(), 0.4 * cross_entropy(auxiliary.data, w), rtol=1e-5)
    assert small("pspnet", channels=8, auxiliary=0.0).losses(x, label).keys() == {"loss"}


def test_the_auxiliary_head_only_matters_in_training():
    model = small("pspnet", channels=8).eval()
    x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 40, 40)).astype("f4"))
    before = model(x).data
    for p in model.auxiliary_head.parameters():
        p.data = p.data + 1
    np.testing.assert_array_equal(model(x).data, before)


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_a_training_step_on_the_strict_device(name, options):
    check_strict_step(lambda: small(name, **options), (2, 3, 40, 48))


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_two_images_are_learned_in_batches_of_one_and_two(name, options):
    model = small(name, **{**options, "num_classes": 2, "dropout": 0.0, "pool_norm": False})
    rng = np.random.default_rng(0)
    label = (np.indices((2, 48, 64)).sum(axis=0) // 24) % 2
    x = rng.standard_normal((2, 3, 48, 64)) * 0.3 + (label[:, None] - 0.5)
    optimizer, losses = SGD(model.parameters(), 0.05, momentum=0.9), []
    for step in range(32):
        some = slice(None) if step % 2 else slice(step // 2 % 2, step // 2 % 2 + 1)
        terms = model.losses(Tensor(x[some].astype("f4")), label[some])
        optimizer.zero_grad()
        sum(terms.values(), start=Tensor(np.zeros((), "f4"))).backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[0] > 0.6 and max(losses[-2:]) < 0.5 * losses[0], losses


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_options_survive_a_checkpoint(name, options, tmp_path):
    model = small(name, **options)
    save_checkpoint(tmp_path / "m.safetensors", model)
    again, _ = load_checkpoint(tmp_path / "m.safetensors", expect=name)
    assert json.loads(json.dumps(model.build_args)) == again.build_args
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, again.state_dict()[key])


def test_weights_of_a_classifier_load_into_the_backbone(tmp_path):
    require("torch")
    from minicv.training import load_pretrained
    from tests.models.backbones.plain_torch import BasicBlock, ResNet, torch
    theirs = ResNet([2, 2, 2, 2], BasicBlock, num_classes=7)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    with init.blank():
        model = models.build("pspnet", "paper", backbone="resnet18")
    load_pretrained(model.backbone, tmp_path / "resnet18.pth")
    expected = theirs.layer4[1].conv2.weight.detach().numpy()
    np.testing.assert_array_equal(model.backbone.layer4.state_dict()["1.conv2.weight"], expected)


# --------------------------------------------------------------------------------------------------------------- errors

@pytest.mark.parametrize(("name", "options", "message"), [
    ("pspnet", {"backbone": "vgg16"}, r"backbone='vgg16': choose one of resnet18, resnet34, resnet50, resnet101"),
    ("deeplabv3", {"backbone_options": {"depth": 3}}, r"backbone resnet50: no option depth"),
    ("deeplabv3", {"backbone_options": {"layers": 3}}, r"backbone resnet50: layers=3; it must be Sequence\[int\]"),
    ("deeplabv3", {"output_stride": 4}, r"ResNet\(output_stride=4, .*: output_stride is 32, 16, 8"),
    ("pspnet", {"num_classes": 0}, r"PSPNetConfig\(num_classes=0\): each must be at least 1"),
    ("pspnet", {"auxiliary": -1.0}, r"PSPNetConfig\(auxiliary=-1.0\): must be at least 0"),
    ("pspnet", {"pool": "sum"}, r"PSPNetConfig\(levels=\(1, 2, 3, 6\), pool='sum'\): .* pool is 'average' or 'max'"),
    ("pspnet", {"levels": (1, 0)}, r"PSPNetConfig\(levels=\(1, 0\), .*: levels are numbers of bins, each at least 1"),
    ("pspnet", {"channels": 0}, r"PSPNetConfig\(channels=0\): must be at least 1"),
    ("deeplabv3", {"channels": 0}, r"DeepLabV3Config\(channels=0\): each must be at least 1"),
    ("deeplabv3plus", {"rates": (6, 0)}, r"DeepLabPlusConfig\(rates=\(6, 0\)\): each must be at least 1"),
    ("deeplabv3plus", {"low_channels": 0}, r"DeepLabPlusConfig\(low_channels=0\): each must be at least 1"),
])
def test_options_that_do_not_work(name, options, message):
    with init.blank(), pytest.raises(ValueError, match=message):
        models.build(name, **options)


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (3, 64, 64), (1, 3, 0, 64)])
def test_inputs_that_do_not_work(shape):
    model = small("pspnet", channels=8)
    for call in (model, lambda x: model.losses(x, np.zeros((1, 64, 64), int))):
        with pytest.raises(ValueError, match=r"PSPNet: the input must be \(N, 3, H, W\), each at least 1, got"):
            call(Tensor(np.zeros(shape, "f4")))


def test_a_batch_of_one_with_batch_norm_on_pooled_maps_is_refused():
    with pytest.raises(ValueError, match=r"batch_norm\(training=True\): .*a single value per channel"):
        small("pspnet", channels=8, pool_norm=True)(Tensor(np.zeros((1, 3, 64, 64), "f4")))
