import math

import numpy as np
import pytest

import minicv
from minicv import nn
from minicv.nn import init

# The sample standard deviation of n normal numbers has a relative spread of 1/sqrt(2n): 0.0016 for n = 200,000. Six
# times that, 0.01, is never met by chance; the wrong factor (1/N, or fan out for fan in) is far away from it.
SPREAD = 0.01


def test_normal():
    minicv.seed(0)
    x = init.normal((500, 400), 0.3)
    assert x.shape == (500, 400) and x.dtype == np.float32
    assert x.std() == pytest.approx(0.3, rel=SPREAD)
    assert abs(x.mean()) < 6 * 0.3 / math.sqrt(200_000)
    share = np.mean(abs(x) < 0.3)  # within one standard deviation: 0.6827 of a normal distribution, 0.58 of a uniform
    assert share == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize(("shape", "n"), [
    ((2000, 100), 100),  # linear: N is the number of inputs
    ((256, 96, 3, 3), 96 * 9),  # U-Net, sec. 3: "for a 3x3 convolution and 64 feature channels ... N = 9 * 64 = 576"
    ((400, 20, 1, 25), 500),
])
def test_he_normal(shape, n):
    minicv.seed(1)
    assert init.fan_in(shape) == n
    assert init.he_normal(shape).std() == pytest.approx(math.sqrt(2 / n), rel=SPREAD)


def test_he_normal_with_another_fan():
    minicv.seed(1)
    assert init.he_normal((400, 500), fan=8).std() == pytest.approx(0.5, rel=SPREAD)  # sqrt(2/8)


@pytest.mark.parametrize(("layer", "n"), [
    (lambda: nn.Conv2d(96, 240, 3), 864),  # 96 * 9
    (lambda: nn.Conv2d(96, 900, 3, groups=4), 216),  # each output sees 96/4 channels: 24 * 9
    (lambda: nn.Linear(400, 500), 400),
    # U-Net's up-conv: with stride 2 each output pixel is reached by one tap of the 2x2 kernel from each channel.
    (lambda: nn.ConvTranspose2d(300, 170, 2, stride=2), 300),
    (lambda: nn.ConvTranspose2d(120, 200, 4, stride=2), 480),  # FCN's 2x upsampling: 4 * 4 / (2 * 2) = 4 taps
    (lambda: nn.ConvTranspose2d(150, 150, 3), 1350),  # stride 1: all 9 taps
    (lambda: nn.ConvTranspose2d(240, 200, (4, 2), stride=(2, 1), groups=2), 480),  # 120 channels * 8 / 2
])
def test_layers_start_with_std_sqrt_2_over_n_and_no_bias(layer, n):
    minicv.seed(2)
    layer = layer()
    assert layer.weight.size > 100_000
    # twice the spread at most: the smallest weight here has half of the 200,000 numbers
    assert layer.weight.data.std() == pytest.approx(math.sqrt(2 / n), rel=SPREAD * math.sqrt(2))
    assert not layer.bias.data.any()


def test_he_initialization_keeps_the_mean_square_through_relu_layers():
    """He et al. (2015), sec. 2.2: E[x^2] is the same after each layer, so a deep net neither dies nor explodes."""
    minicv.seed(3)
    body = nn.Sequential(*(m for _ in range(10) for m in (nn.Linear(600, 600), nn.ReLU())))
    x = minicv.Tensor(np.random.default_rng(0).standard_normal((200, 600)).astype(np.float32))
    # A layer doubles it (variance 2/N, N inputs), and ReLU halves it again. Over seeds 0 to 5 the ten layers' ratio was
    # 0.7 to 3.1; a std of sqrt(1/N) would give 2^-10 = 0.001.
    assert 0.2 < np.mean(body(x).numpy() ** 2) / np.mean(x.numpy() ** 2) < 5


def test_zeros_and_ones():
    for make, value in ((init.zeros, 0), (init.ones, 1)):
        x = make((2, 3))
        assert x.shape == (2, 3) and x.dtype == np.float32 and (x == value).all()


def test_a_seed_reproduces_the_weights_and_another_does_not():
    def weights(seed):
        minicv.seed(seed)
        net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 2, 2), nn.Linear(4, 5))
        return np.concatenate([p.data.ravel() for p in net.parameters() if p.ndim > 1])

    np.testing.assert_array_equal(weights(5), weights(5))
    assert (weights(5) != weights(6)).all()


def test_two_layers_do_not_start_alike():
    minicv.seed(0)
    assert (nn.Linear(4, 4).weight.data != nn.Linear(4, 4).weight.data).all()
