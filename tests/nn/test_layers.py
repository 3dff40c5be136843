import inspect

import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor, nn
from tests.oracle import require


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


LAYERS = [
    ("Conv2d", (4, 6, 3), {}, (2, 4, 7, 8)),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2}, (2, 4, 9, 8)),
    ("Conv2d", (4, 6, 3), {"padding": "same", "bias": False}, (2, 4, 7, 8)),
    ("Conv2d", (3, 2, 5, 2, 1), {}, (1, 3, 9, 9)),  # stride and padding by position
    ("ConvTranspose2d", (4, 6, 2), {"stride": 2}, (2, 4, 3, 5)),
    ("ConvTranspose2d", (4, 6, (4, 3)),
     {"stride": (3, 2), "padding": (1, 0), "output_padding": (2, 1), "groups": 2, "dilation": (1, 2)}, (2, 4, 3, 5)),
    ("ConvTranspose2d", (3, 2, 3, 2, 1, 1, 1, False), {}, (1, 3, 4, 4)),  # all by position
    ("Linear", (5, 3), {}, (2, 4, 5)),
    ("Linear", (5, 3), {"bias": False}, (5,)),
    ("ReLU", (), {}, (2, 3)),
    ("LeakyReLU", (), {}, (2, 3)),
    ("LeakyReLU", (0.2,), {}, (2, 3)),
    ("MaxPool2d", (2,), {}, (1, 2, 5, 6)),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, (2, 2, 6, 7)),
    ("MaxPool2d", (2, (2, 1)), {"dilation": 2}, (1, 2, 6, 7)),
]


@pytest.mark.parametrize(("name", "arguments", "options", "shape"), LAYERS)
def test_the_same_arguments_and_weights_give_what_pytorch_gives(name, arguments, options, shape):
    torch = require("torch")
    ours, theirs = getattr(nn, name)(*arguments, **options), getattr(torch.nn, name)(*arguments, **options)
    state = {key: random(*value.shape) for key, value in theirs.state_dict().items()}
    ours.load_state_dict(state)
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    x = random(*shape)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    # float32, sums of at most 75 products of size 1: about 75 roundings of 6e-8 of numbers up to 30
    np.testing.assert_allclose(ours(Tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["BatchNorm2d", "Conv2d", "ConvTranspose2d", "Dropout", "LeakyReLU", "Linear",
                                  "MaxPool2d"])
def test_arguments_are_named_and_ordered_as_in_pytorch(name):
    theirs = inspect.signature(getattr(require("torch").nn, name)).parameters
    ours = inspect.signature(getattr(nn, name)).parameters
    assert list(ours) == list(theirs)[:len(ours)]
    for argument, parameter in ours.items():
        assert parameter.default == theirs[argument].default, argument


def test_batch_norm_trains_and_evaluates_as_in_pytorch():
    torch = require("torch")
    ours, theirs = nn.BatchNorm2d(3, eps=0.1, momentum=0.3), torch.nn.BatchNorm2d(3, eps=0.1, momentum=0.3)
    weight, bias, x = random(3), random(3) + 1, random(4, 3, 5, 6) * 2 + 3
    ours.weight.data, ours.bias.data = weight, bias
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(weight))
        theirs.bias.copy_(torch.from_numpy(bias))
    for step in range(3):  # the running averages move in each
        y, expected = ours(Tensor(x + step)), theirs(torch.from_numpy(x + step))
        np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)  # float32
    state = ours.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var"]
    for name, value in state.items():
        np.testing.assert_allclose(value, theirs.state_dict()[name].numpy(), rtol=1e-5)
    assert (state["running_mean"] != 0).all() and (state["running_var"] != 1).all()
    y, expected = ours.eval()(Tensor(x)), theirs.eval()(torch.from_numpy(x))
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    for name, value in ours.state_dict().items():  # evaluation leaves them alone
        np.testing.assert_array_equal(value, state[name])


def test_a_state_dict_does_not_follow_the_running_averages():
    layer = nn.BatchNorm2d(2)
    before = layer.state_dict()
    layer(Tensor(random(2, 2, 3, 3) + 5))
    assert not before["running_mean"].any() and layer.running_mean.all()


def test_loaded_running_averages_are_the_layers_own():
    """batch_norm changes them in place: two layers loaded from one state must not share them."""
    one, two, source = nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.BatchNorm2d(2).state_dict()
    one.load_state_dict(source)
    two.load_state_dict(source)
    one(Tensor(random(2, 2, 3, 3) + 5))
    assert not two.running_mean.any() and not source["running_mean"].any()


def test_dropout_is_for_training_only():
    layer = nn.Dropout(0.25)
    x = Tensor(np.ones((100, 100), np.float32))
    minicv.seed(0)
    y = layer(x).numpy()
    assert set(np.unique(y).tolist()) == {0.0, float(np.float32(1 / 0.75))}  # scaled so that the mean stays 1
    # 10,000 draws: the share has a standard deviation of sqrt(0.25 * 0.75 / 10,000) = 0.0043; five of them
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.022)
    assert layer.eval()(x) is x


def test_max_pool2d_can_return_where_the_maxima_were():
    x = np.zeros((1, 1, 2, 4), np.float32)
    x[0, 0, 1, 0], x[0, 0, 0, 3] = 5, 7
    y, indices = nn.MaxPool2d(2, return_indices=True)(Tensor(x))
    assert y.numpy().tolist() == [[[[5, 7]]]]
    assert indices.numpy().tolist() == [[[[4, 3]]]]  # h * W + w: 1 * 4 + 0 and 0 * 4 + 3


def test_conv2d_is_the_op_with_its_parameters():
    layer = nn.Conv2d(3, 2, 3, padding=1)
    x = Tensor(random(1, 3, 5, 5))
    np.testing.assert_array_equal(layer(x).numpy(), F.conv2d(x, layer.weight, layer.bias, padding=1).numpy())
    assert layer.weight.shape == (2, 3, 3, 3) and layer.bias.shape == (2,)


def test_gradients_reach_weight_bias_and_input():
    for layer, shape in ((nn.Conv2d(3, 2, 3), (1, 3, 4, 4)), (nn.ConvTranspose2d(3, 2, 2), (1, 3, 4, 4)),
                         (nn.Linear(3, 2), (4, 3))):
        x = Tensor(random(*shape), requires_grad=True)
        layer(x).sum().backward()
        assert x.grad.shape == shape
        assert layer.weight.grad.shape == layer.weight.shape
        # y = ... + b for every output pixel, so d sum / d b_k counts them: 2x2 of the 3x3 conv, 5x5 of the transposed
        # one with stride 1, and the 4 rows of the linear layer
        pixels = {"Conv2d": 4, "ConvTranspose2d": 25, "Linear": 4}[type(layer).__name__]
        np.testing.assert_allclose(layer.bias.grad, pixels)


def test_without_bias():
    for layer in (nn.Conv2d(2, 3, 1, bias=False), nn.ConvTranspose2d(2, 3, 1, bias=False), nn.Linear(2, 3, bias=False)):
        assert layer.bias is None and list(layer.state_dict()) == ["weight"]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: groups=2 must divide in_channels=3 and out_channels=4"),
    (lambda: nn.Conv2d(4, 3, 3, groups=2), "Conv2d: groups=2 must divide in_channels=4 and out_channels=3"),
    (lambda: nn.Conv2d(4, 4, 3, groups=0), "Conv2d: groups=0 must divide .* all at least 1"),
    (lambda: nn.Conv2d(0, 4, 3), "Conv2d: .* in_channels=0 .* all at least 1"),
    (lambda: nn.ConvTranspose2d(4, -2, 3), "ConvTranspose2d: .* out_channels=-2, all at least 1"),
    (lambda: nn.ConvTranspose2d(3, 6, 2, groups=3, stride=2)(Tensor(random(1, 2, 4, 4))),
     r"conv_transpose2d: input \(1, 2, 4, 4\) has 2 channels, .* takes 3"),
    (lambda: nn.Conv2d(3, 4, 0), r"Conv2d\(kernel_size\) must be an integer of at least 1, or a pair of them; got 0"),
    (lambda: nn.ConvTranspose2d(3, 4, (2, 0)), r"ConvTranspose2d\(kernel_size\) must be .* got \(2, 0\)"),
    (lambda: nn.ConvTranspose2d(3, 4, 2, 0), r"ConvTranspose2d\(stride\) must be an integer of at least 1.* got 0"),
    (lambda: nn.MaxPool2d(2, stride=0)(Tensor(random(1, 1, 4, 4))), r"max_pool2d\(stride\) must be .* got 0"),
    (lambda: nn.Linear(0, 2), "Linear: in_features=0 and out_features=2 must be at least 1"),
    (lambda: nn.Conv2d(3, 2, 3)(Tensor(random(1, 4, 5, 5))),
     r"conv2d: input \(1, 4, 5, 5\) has 4 channels, weight \(2, 3, 3, 3\) with groups=1 takes 3"),
    (lambda: nn.Conv2d(3, 2, 3)(Tensor(random(1, 3, 2, 5))),
     "conv2d: the padded input is 2x5, smaller than the dilated kernel 3x3"),
])
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sizes_may_be_numpys_integers():
    assert nn.Conv2d(3, 4, np.int64(3)).weight.shape == (4, 3, 3, 3)
    assert nn.ConvTranspose2d(3, 4, np.int32(2), stride=np.int64(2)).weight.shape == (3, 4, 2, 2)


def test_no_graph_without_gradients():
    with minicv.no_grad():
        assert nn.Linear(2, 2)(Tensor(random(1, 2))).node is None
