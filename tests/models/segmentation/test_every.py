"""What holds for every network that labels pixels, as it comes from ``models.build``."""
import re

import numpy as np
import pytest

import minicv
from minicv import Tensor, models, no_grad
from tests.models.segmentation.dispatched import check_dispatched, check_strict_step

NAMES = models.names("segmentation")


def compact(name, **options):
    minicv.seed(0)
    return models.build(name, **options)


def shape(model, n, *sides):
    """Of a batch: the smallest images that give outputs of these sides."""
    return (n, model.in_channels, *(model.input_size(side) for side in sides))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_compact_preset_equals_the_same_model_dispatched_to_pytorch(name, train):
    """Scores, losses and all gradients, batch norm over the batch and by its running statistics."""
    model = compact(name)
    check_dispatched(model, shape(model, 3, 33, 46), train)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_the_compact_preset_on_the_strict_device(name):
    check_strict_step(lambda: compact(name), shape(compact(name), 3, 32, 37))


@pytest.mark.parametrize("size", [(32, 32), (32, 33), (33, 47), (61, 35), (64, 96), (97, 32), (127, 63)])
@pytest.mark.parametrize("name", NAMES)
@no_grad()
def test_any_size_from_32_up_works_or_the_sizes_that_work_are_named(name, size):
    model = compact(name).eval()
    x = np.random.default_rng(0).standard_normal((1, model.in_channels, *size)).astype(np.float32)
    try:
        y = model(Tensor(x))
    except ValueError as error:
        assert name == "unet", error  # of valid convolutions; all others take any size
        sides = [int(n) for n in re.search(r"Sides that work: ([\d, ]+)$", str(error))[1].split(", ")]
        for n in sides:
            assert model.output_size(n) > 0
            assert model(Tensor(np.zeros((1, model.in_channels, n, n), np.float32))).shape[2] == model.output_size(n)
    else:
        assert y.shape == (1, model.num_classes, *(model.output_size(n) for n in size)) and np.isfinite(y.data).all()
    image = np.random.default_rng(1).random((model.in_channels, *size), np.float32)
    result, = model.predict([image])  # which brings its own context
    assert result.labels.shape == size and result.probabilities.shape == (model.num_classes, *size)
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_losses_leave_void_out(name):
    """Where all but one pixel is void, the loss is that pixel's."""
    model = compact(name).eval()
    size = shape(model, 2, 32, 37)
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    with no_grad():
        scores = model(Tensor(x)).numpy()
        label = np.full((2, *scores.shape[2:]), 255)
        label[1, 5, 7] = 1
        e = np.exp(scores[1, :, 5, 7].astype(np.float64))
        expected = -np.log(e[1] / e.sum())
        # float32: of scores of up to 10, differences to 1e-6
        assert model.losses(Tensor(x), label)["loss"].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
