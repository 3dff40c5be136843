import json

import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor, backend, models
from minicv.models.backbones import Classification
from minicv.models.backbones.classifier import normalize
from minicv.nn import init
from minicv.optim import SGD
from minicv.training import load_checkpoint, save_checkpoint
from tests.models.same import assert_same, doubled, numpys_and_the_strict_devices

BACKBONES = models.names("backbones")


def test_names():
    assert BACKBONES == ["alexnet", "googlenet", "resnet101", "resnet18", "resnet34", "resnet50", "vgg16",
                         "xception"]


@pytest.mark.parametrize("name", BACKBONES)
def test_smallest_image(name):
    with init.blank():
        model = models.build(name).eval()
    n = model.MIN_SIZE
    assert model(Tensor(np.zeros((2, 3, n, n + 9), "f4"))).shape == (2, 10)
    for shape in ((1, 3, n - 1, 99), (1, 3, 99, n - 1), (1, 4, 99, 99), (3, 99, 99)):
        with pytest.raises(ValueError, match=rf"the input must be \(N, 3, H, W\), H and W at least {n}, got"):
            model(Tensor(np.zeros(shape, "f4")))


@pytest.mark.parametrize("name", BACKBONES)
def test_options_survive_a_checkpoint(name, tmp_path):
    model = models.build(name, num_classes=3, in_channels=2, width=8)
    save_checkpoint(tmp_path / "m.safetensors", model)
    again, _ = load_checkpoint(tmp_path / "m.safetensors", expect=name)
    assert json.loads(json.dumps(model.build_args)) == again.build_args
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, again.state_dict()[key])


@pytest.mark.parametrize(("name", "lr"), [
    ("alexnet", 0.002), ("googlenet", 0.02), ("resnet18", 0.02), ("resnet50", 0.02), ("vgg16", 0.02)])
def test_compact_learns_ten_images(name, lr):
    """By heart: images of noise, one per class, within a few steps."""
    minicv.seed(0)
    model = models.build(name, **({} if name.startswith("resnet") else {"dropout": 0.0}))
    x = Tensor(np.random.default_rng(0).standard_normal((10, *model.INPUT["compact"])).astype("f4"))
    optimizer = SGD(model.parameters(), lr, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(model(x), np.arange(10))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > np.log(10) > 2 * losses[-1], losses  # log 10: knowing nothing


@pytest.mark.parametrize(("name", "options"), [
    ("alexnet", {"lrn": True}), ("googlenet", {"transform_input": True}), ("resnet18", {}), ("resnet50", {}),
    ("vgg16", {}), ("xception", {"output_stride": 8})])
def test_a_training_step_on_the_strict_device(name, options):
    """It refuses what CuPy refuses; the numbers are NumPy's (float64: batch norm of two magnifies rounding)."""
    x, labels = np.random.default_rng(0).standard_normal((2, 3, 70, 64)), np.array([3, 7])

    def step(model):
        minicv.seed(1)  # of dropout
        device = next(model.parameters()).device
        loss = F.cross_entropy(model(Tensor(x).to(device)), backend.to_device(labels, device))
        loss.backward()
        return {"loss": loss.data} | {key: p.grad for key, p in model.named_parameters()}

    here, there = numpys_and_the_strict_devices(lambda: doubled(models.build(name, width=8, **options)), step)
    assert_same(there, here, 1e-9, 1e-3)  # a bias before batch norm has no gradient


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_predict(name):
    model = models.build(name)
    rng = np.random.default_rng(0)
    images = [rng.random((3, 64, 64), dtype=np.float32), rng.random((3, 90, 70), dtype=np.float32)]
    assert model.training
    results = model.predict(images)
    assert model.training and all(module.training for module in model.modules())
    model.eval()
    for image, result in zip(images, results, strict=True):
        scores = model(Tensor(normalize(image)[None])).data[0].astype(np.float64)
        expected = np.exp(scores) / np.exp(scores).sum()
        assert isinstance(result, Classification)
        np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)
        assert result.label == expected.argmax() and isinstance(result.label, int)
    assert model.predict([]) == []
    with pytest.raises(ValueError, match=r"predict: an image must be \(3, H, W\), got \(64, 64\)"):
        model.predict([images[0][0]])


def test_normalize():
    image = np.full((3, 1, 1), 0.5, np.float32)
    # (0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225
    np.testing.assert_allclose(normalize(image).ravel(), [0.065502, 0.196429, 0.417778], rtol=1e-4)
    assert normalize(image).dtype == np.float32
    # gray: mean (0.485 + 0.456 + 0.406) / 3 = 0.449, deviation (0.229 + 0.224 + 0.225) / 3 = 0.226
    np.testing.assert_allclose(normalize(image[:1]).ravel(), [0.051 / 0.226], rtol=1e-4)


def test_blank_weights_are_zero_and_only_inside(tmp_path):
    with init.blank():
        assert all((p.data == 0).all() or (p.data == 1).all() for p in models.build("resnet18").parameters())
    minicv.seed(3)
    before = models.build("alexnet").state_dict()
    minicv.seed(3)
    with pytest.raises(ValueError), init.blank():
        models.build("vgg16", depth=1)
    for name, array in models.build("alexnet").state_dict().items():
        np.testing.assert_array_equal(array, before[name])
