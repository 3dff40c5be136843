import time

import numpy as np
import pytest

import minicv
from minicv import Tensor, models, nn
from minicv.models.backbones.alexnet import AlexNet
from minicv.models.segmentation.convolutionalize import as_convolution, convolutionalize
from minicv.models.segmentation.patchwise import slide
from minicv.models.summary import summarize
from minicv.nn import init


def images(*shape):
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("name", models.names("backbones"))
def test_same_parameters_and_same_output(name):
    minicv.seed(0)
    classifier = models.build(name, width=8).eval()
    net = convolutionalize(classifier, 64)
    assert net.num_parameters() == classifier.num_parameters()
    x = images(2, 3, 64, 64)
    with minicv.no_grad():
        expected, found = classifier(x).numpy(), net(x).numpy()
    assert found.shape == (2, 10, 1, 1)
    np.testing.assert_allclose(found[:, :, 0, 0], expected, rtol=0, atol=1e-4 * abs(expected).max())  # float32


@pytest.mark.parametrize(("name", "round_up", "grid"), [
    ("alexnet", False, 9), ("alexnet", True, 10), ("vgg16", False, 9), ("googlenet", False, 10)])
def test_grid_of_an_image_of_500(name, round_up, grid):
    """The 10x10 of sec. 3.1 is of software that rounds up: 500 -> conv1 124 -> 62, 31, 15 -> fc6 10; or 61, 30, 14, 9.

    VGG16: 250, 125, 62, 31, 15 -> 9. GoogLeNet: 250, 125, 63 (it does round up), 32, 16 -> its mean over 7x7, 10."""
    with init.blank():
        net = convolutionalize(models.build(name, "paper", width=8), 224).eval()
    for module in net.modules():
        if isinstance(module, nn.MaxPool2d) and round_up:
            module.ceil_mode = True
    assert summarize(net, (3, 500, 500)).output == (1000, grid, grid)


def test_the_grid_equals_the_sliding_window_where_nothing_is_padded():
    """AlexNet without padding: 227 -> 55 -> 27 -> 23 -> 11 -> 9 -> 7 -> 5 -> 2, so fc6 is 2x2. Steps of 32 pixels."""
    minicv.seed(0)
    classifier = AlexNet(num_classes=5, width=4, hidden=16, pooled=2).eval()
    for layer in classifier.features:
        if isinstance(layer, nn.Conv2d):
            layer.padding = 0
    net, x = convolutionalize(classifier), images(1, 3, 227 + 32, 227 + 64)
    with minicv.no_grad():
        grid, windows = net(x).numpy(), slide(classifier, x, 227, 32).numpy()
    assert grid.shape == windows.shape == (1, 5, 2, 3)
    np.testing.assert_allclose(grid, windows, rtol=0, atol=1e-4 * abs(windows).max())


def test_claim_F2_a_grid_of_10x10_is_more_than_5_times_as_fast_as_its_windows():
    """Sec. 3.1: 22 ms against 100 times 1.2 ms. Here by a sixteenth of the work."""
    minicv.seed(0)
    classifier = models.build("alexnet", width=8, pooled=6).eval()
    net, x, seconds = convolutionalize(classifier), images(1, 3, 227 + 9 * 32, 227 + 9 * 32), []
    with minicv.no_grad():
        for way in (lambda: slide(classifier, x, 227, 32, batch=10), lambda: net(x)):
            assert way().shape == (1, 10, 10, 10)  # the first time asks for memory
            start = time.process_time()  # of this process alone, whatever else runs
            way()
            seconds.append(time.process_time() - start)
    assert seconds[0] > 5 * seconds[1]  # 14 to 18 times here
    windows, grid = summarize(classifier, (3, 227, 227)).macs, summarize(net, x.shape[1:]).macs
    assert 15 < 100 * windows / grid < 17  # counts, always the same


def test_a_filter_is_a_row_of_weights():
    """By hand: 2 channels of 2x2, a neuron that reads channel 1, row 0, column 1, alone."""
    linear = nn.Linear(8, 1)
    linear.weight.data = np.zeros((1, 8), np.float32)
    linear.weight.data[0, 1 * 4 + 0 * 2 + 1] = 3
    linear.bias.data = np.array([0.5], np.float32)
    conv = as_convolution(linear, 2)
    x = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)  # channel 1: 9 ... 17
    # windows start at (0, 0), (0, 1), (1, 0), (1, 1); channel 1, one to the right: 10, 11, 13, 14
    assert conv(Tensor(x)).numpy()[0, 0].tolist() == [[30.5, 33.5], [39.5, 42.5]]
    assert conv.bias is linear.bias and np.shares_memory(conv.weight.data, linear.weight.data)


def test_errors():
    with pytest.raises(ValueError, match=r"a layer of 8 inputs does not fit a map of 3x3 pixels"):
        as_convolution(nn.Linear(8, 1), 3)
    with pytest.raises(TypeError, match=r"convolutionalize: UNet has neither"):
        convolutionalize(models.build("unet"))
