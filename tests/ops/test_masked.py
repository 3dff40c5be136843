"""What an op leaves out: its gradient is exactly 0, also under an infinite upstream gradient, and its value may be any.

Each ``Masked`` says which elements of the input count for nothing. Where the gradient of the results is infinite or NaN
these receive 0, and nothing that stands there, be it infinite or NaN, reaches the result or another gradient. Of what
counts PyTorch has the same gradient.
"""
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor, backend
from minicv.autograd.function import fast_versions
from minicv.autograd.graph import calls
from minicv.ops.activation import LeakyReLU, Sigmoid, Tanh
from minicv.ops.adaptive_pool import AdaptiveAvgPool2d
from minicv.ops.avg_pool import AvgPool2d
from minicv.ops.conv import Conv2d, ConvTranspose2d
from minicv.ops.dtypes import AsType
from minicv.ops.elementwise import Add, Div, Exp, Log, Mul, Neg, Sqrt, Sub
from minicv.ops.linear import Linear, MatMul
from minicv.ops.loss_elementwise import MSELoss
from minicv.ops.norm import BatchNorm, LocalResponseNorm
from minicv.ops.reduce import Mean, Sum
from minicv.ops.shape import Concatenate, Expand, Flip, Permute, Reshape
from minicv.ops.softmax import LogSoftmax, Softmax
from minicv.ops.unpool import UnpoolNearest
from tests.harness import FUNCTIONS, on_storey
from tests.oracle import require

inf, nan = np.inf, np.nan
BAD = (inf, -inf, nan)
WHOLE = {  # every element of every input counts
    LeakyReLU, Sigmoid, Tanh, AdaptiveAvgPool2d, AvgPool2d, Conv2d, ConvTranspose2d, AsType, Add, Div, Exp, Log, Mul,
    Neg, Sqrt, Sub, Linear, LocalResponseNorm, MatMul, Mean, MSELoss, BatchNorm, Sum, Concatenate, Expand, Flip,
    Permute, Reshape, LogSoftmax, Softmax, UnpoolNearest}


@dataclasses.dataclass
class Masked:
    """``op(x, on)`` for a Tensor x of these values, of which those where ``dead`` holds are left out.

    ``on(array)`` puts a constant where x lies, floats in its dtype.
    ``by_value``: the values themselves decide what is left out, so they cannot be replaced. ``torch_op`` is PyTorch's
    op, where it has one; None where its gradient of what counts is another, for the reason in ``why``.
    """

    name: str
    op: Callable
    torch_op: Callable | None
    x: list
    dead: list
    by_value: bool = False
    why: str = ""

    def __repr__(self):
        return self.name

    def arrays(self):
        x = np.array(self.x, float)
        return x, np.broadcast_to(np.array(self.dead, bool), x.shape)


def torch_functions():
    torch = require("torch")
    return torch, torch.nn.functional


def t(array):
    return require("torch").tensor(np.asarray(array))


C = np.array([True, False, True])
TARGET, VOID = np.array([0, 2, 1]), np.array([0, -100, 1])
SCORES, ROW = [[1.0, 2.0, 0.5], [0.3, 4.0, 1.0], [2.0, 0.1, 1.5]], [[False] * 3, [True] * 3, [False] * 3]
W0 = np.array([1.0, 0.5, 0.0])  # of the second pixel's class
SMALL = np.arange(1.0, 17).reshape(1, 1, 4, 4)
CORNERS = np.isin(SMALL, [6, 8, 14, 16])  # the largest of 2x2 windows
INDICES = np.array([[[[0, 3], [3, 9]]]])
BOXES = np.array([[0, 0.0, 0.0, 1.0, 1.0], [0, 20.0, 20.0, 21.0, 21.0]])  # of the second all bins are empty
CENTER = (slice(None), slice(None), slice(1, 3), slice(1, 3))
INSIDE = np.isin(SMALL, SMALL[CENTER])


def torch_where(a):
    return torch_functions()[0].where(t(C), a, 0.5)


def loss(name, target, of_torch=True, **options):
    """The op, and PyTorch's, of one input against constants."""
    def torch_op(x):
        arrays = {k: t(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return getattr(torch_functions()[1], name)(x, t(target), **arrays)
    def op(x, on):
        arrays = {k: on(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return getattr(F, name)(x, on(target), **arrays)
    return op, torch_op if of_torch else None


def every(*shape):
    return np.zeros(shape)


MASKED = [
    Masked("relu", lambda x, on: F.relu(x), lambda x: x.relu(), [3.0, -1.0, 0.0, -0.0], [0, 1, 1, 1], by_value=True),
    Masked("leaky_relu, slope 0", lambda x, on: F.leaky_relu(x, 0.0), lambda x: x.relu(), [3.0, -1.0], [0, 1], True),
    Masked("where, left", lambda x, on: F.where(on(C), x, 0.5), torch_where, [1.0, 2.0, 3.0], ~C),
    Masked("where, right", lambda x, on: F.where(on(~C), 0.5, x), torch_where, [1.0, 2.0, 3.0], ~C),
    Masked("where, repeated", lambda x, on: F.where(on(C), x, 0.5), None, [2.0], [0], why="summed over infinities"),
    Masked("clamp", lambda x, on: F.clamp(x, -1, 1), lambda x: x.clamp(-1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0],
           [1, 0, 0, 0, 1], by_value=True),
    Masked("clamp, bounds in the wrong order", lambda x, on: F.clamp(x, 1, -1), lambda x: x.clamp(1, -1), [-2.0, -1.0],
           [1, 1], by_value=True),
    Masked("clamp, lower bounds", lambda x, on: F.clamp(Tensor(on(np.array([1.0, 5.0]))), x),
           lambda x: t([1.0, 5.0]).clamp(x), [2.0, 2.0], [0, 1], by_value=True),
    Masked("clamp, upper bounds", lambda x, on: F.clamp(Tensor(on(np.array([1.0, 5.0]))), max=x),
           lambda x: t([1.0, 5.0]).clamp(max=x), [2.0, 2.0], [1, 0], by_value=True),
    Masked("maximum", lambda x, on: F.maximum(x, 1.0), lambda x: torch_functions()[0].maximum(x, t(1.0)),
           [0.0, 1, 2, nan], [1, 0, 0, 0], by_value=True),
    Masked("minimum", lambda x, on: F.minimum(x, 1.0), lambda x: torch_functions()[0].minimum(x, t(1.0)),
           [0.0, 1, 2, nan], [0, 0, 1, 0], by_value=True),
    Masked("abs at 0", lambda x, on: F.abs(x), lambda x: x.abs(), [-2.0, 0.0, -0.0, 1.0], [0, 1, 1, 0], by_value=True),
    Masked("pow 0", lambda x, on: F.pow(x, 0), lambda x: x ** 0, [2.0, 0.0, inf, nan], [1, 1, 1, 1]),
    Masked("amax", lambda x, on: F.amax(x, 1), lambda x: x.amax(1), [[1.0, 3.0, 3.0]], [[1, 0, 0]], by_value=True),
    Masked("amax of NaN", lambda x, on: F.amax(x, 1), None, [[1.0, nan, 3.0]], [[1, 0, 1]], True, "NaN for all there"),
    Masked("amin", lambda x, on: F.amin(x, 1), lambda x: x.amin(1), [[1.0, 3.0, 1.0]], [[0, 1, 0]], by_value=True),
    Masked("amin of NaN", lambda x, on: F.amin(x, 1), None, [[1.0, nan, 3.0]], [[1, 0, 1]], True, "NaN for all there"),
    Masked("getitem, a slice", lambda x, on: x[1:], lambda x: x[1:], [1.0, 2.0, 3.0], [1, 0, 0]),
    Masked("getitem, a mask", lambda x, on: x[on(C)], lambda x: x[t(C)], [1.0, 2.0, 3.0], ~C),
    Masked("getitem, places", lambda x, on: x[on(np.array([2, 0]))], lambda x: x[t([2, 0])], [1.0, 2.0, 3.0], ~C),
    Masked("crop", lambda x, on: F.center_crop(x, (2, 2)), lambda x: x[CENTER], SMALL, ~INSIDE),
    Masked("pad by less than 0", lambda x, on: F.pad(x, (-1, -1, -1, -1)), lambda x: x[CENTER], SMALL, ~INSIDE),
    Masked("max_pool2d", lambda x, on: F.max_pool2d(x, 2), lambda x: torch_functions()[1].max_pool2d(x, 2), SMALL,
           ~CORNERS, by_value=True),
    Masked("max_pool2d, strides over pixels", lambda x, on: F.max_pool2d(x, 1, 3),
           lambda x: torch_functions()[1].max_pool2d(x, 1, 3), SMALL, ~np.isin(SMALL, [1, 4, 13, 16])),
    Masked("avg_pool2d, strides over pixels", lambda x, on: F.avg_pool2d(x, 1, 3),
           lambda x: torch_functions()[1].avg_pool2d(x, 1, 3), SMALL, ~np.isin(SMALL, [1, 4, 13, 16])),
    Masked("adaptive_max_pool2d", lambda x, on: F.adaptive_max_pool2d(x, 2),
           lambda x: torch_functions()[1].adaptive_max_pool2d(x, 2), SMALL, ~CORNERS, by_value=True),
    Masked("max_unpool2d, an index taken again", lambda x, on: F.max_unpool2d(x, Tensor(on(INDICES)), 2), None,
           [[[[1.0, 2.0], [3.0, 4.0]]]], [[[[0, 1], [0, 0]]]], why="any of the two may stay"),
    Masked("unpool_bed_of_nails", lambda x, on: F.unpool_bed_of_nails(x, 2), None, SMALL, every(1, 1, 4, 4),
           why="PyTorch has none"),
    Masked("interpolate, nearest", lambda x, on: F.interpolate(x, (2, 2)),
           lambda x: torch_functions()[1].interpolate(x, (2, 2)), SMALL, ~np.isin(SMALL, [1, 3, 9, 11])),
    Masked("interpolate, bilinear", lambda x, on: F.interpolate(x, (2, 2), mode="bilinear", align_corners=True), None,
           SMALL, ~np.isin(SMALL, [1, 4, 13, 16]), why="0 times infinity there"),
    Masked("roi_pool", lambda x, on: F.roi_pool(x, BOXES, 1), None, SMALL, SMALL != 6, True, "PyTorch has none"),
    Masked("roi_align, outside the box", lambda x, on: F.roi_align(x, BOXES[:1], 1, sampling_ratio=1), None, SMALL,
           ~np.isin(SMALL, [1, 2, 3, 5, 6, 7, 9, 10, 11]), why="PyTorch has none"),
    Masked("cross_entropy, void", *loss("cross_entropy", VOID, reduction="none"), SCORES, ROW),
    Masked("cross_entropy, void, mean", *loss("cross_entropy", VOID), SCORES, ROW),
    Masked("cross_entropy, void, smoothed", *loss("cross_entropy", VOID, reduction="none", label_smoothing=0.2), SCORES,
           ROW),
    Masked("cross_entropy, a class of weight 0", *loss("cross_entropy", TARGET, weight=W0, reduction="sum"), SCORES,
           ROW),
    Masked("cross_entropy, a pixel of weight 0", *loss("cross_entropy", TARGET, False, pixel_weight=np.array([1, 0, 1]),
                                                       label_smoothing=0.1), SCORES, ROW, why="PyTorch has none"),
    Masked("cross_entropy, probabilities", *loss("cross_entropy", np.full((3, 3), 1 / 3), False, reduction="none",
                                                 pixel_weight=np.array([2.0, 0, 1])), SCORES, ROW,
           why="PyTorch has no pixel weights"),
    Masked("nll_loss, void", *loss("nll_loss", VOID, reduction="none"), SCORES,
           [[0, 1, 1], [1, 1, 1], [1, 0, 1]]),
    Masked("nll_loss, a class of weight 0", *loss("nll_loss", TARGET, weight=W0), SCORES,
           [[0, 1, 1], [1, 1, 1], [1, 0, 1]]),
    Masked("binary cross entropy, weight 0", *loss("binary_cross_entropy_with_logits", np.array([1.0, 0.0, 1.0]),
                                                   weight=np.array([2.0, 0.0, 1.0])), [1.0, 2.0, 3.0], [0, 1, 0]),
    Masked("binary cross entropy, positives of weight 0", *loss(
        "binary_cross_entropy_with_logits", np.array([1.0, 0.0, 1.0]), pos_weight=np.array(0.0), reduction="sum"),
        [1.0, 2.0, 3.0], [1, 0, 1]),
    Masked("smooth_l1_loss, beta 0, at the kink", *loss("smooth_l1_loss", np.array([1.0, 0.0]), beta=0.0,
                                                        reduction="none"), [1.0, 2.0], [1, 0], by_value=True),
    Masked("hinge_loss beyond the margin", *loss("hinge_loss", np.array([1.0, -1.0, 1.0]), False, reduction="none"),
           [2.0, 3.0, 0.0], [1, 0, 0], True, "PyTorch has none"),
    Masked("dropout", lambda x, on: with_seed(F.dropout, x), None, [[1.0, 2.0, 3.0, 4.0]], [[0, 0, 1, 0]],
           why="0 times infinity there"),
    Masked("dropout2d", lambda x, on: with_seed(F.dropout2d, x), None, np.ones((1, 4, 2, 2)),
           np.array([0, 0, 1, 0]).reshape(1, 4, 1, 1), why="0 times infinity there"),
    Masked("dropout, p 1", lambda x, on: F.dropout(x, 1.0), None, [1.0, 2.0], [1, 1], why="0 times infinity there"),
]
each_case = pytest.mark.parametrize("case", MASKED, ids=repr)


@pytest.fixture(autouse=True, params=["plain", "fast"] if fast_versions() else ["plain"])
def storey(request):
    """All of this holds on both storeys."""
    with on_storey(request.param):
        yield request.param
each_device = pytest.mark.parametrize("device", ["numpy", "strict"])


def with_seed(op, x):
    with backend.seeded(4):
        return op(x)


def like(x):
    def on(array):
        return backend.to_device(array.astype(x.dtype) if array.dtype.kind == "f" else array, x.device)
    return on


def gradient(case, x, upstream, device="numpy"):
    """The result and x's gradient, as NumPy arrays, where that of each result is ``upstream``."""
    x = Tensor(backend.to_device(x, device), requires_grad=True)
    y = case.op(x, like(x))
    y.backward(backend.to_device(np.full(y.shape, upstream), device))
    return y.numpy(), backend.to_numpy(x.grad)


@each_case
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("upstream", BAD)
def test_what_is_left_out_gets_0_under_any_upstream(case, upstream, dtype):
    x, dead = case.arrays()
    for device in ("numpy", "strict"):
        with np.errstate(invalid="ignore"):  # inf - inf among what counts
            got = gradient(case, x.astype(dtype), np.dtype(dtype).type(upstream), device)[1]
        np.testing.assert_array_equal(got[dead], 0)


@each_case
@pytest.mark.parametrize("value", BAD)
@each_device
def test_what_is_left_out_may_have_any_value(case, value, device):
    x, dead = case.arrays()
    if case.by_value:
        return
    y, expected = gradient(case, x, 1.0)
    y_with, got = gradient(case, np.where(dead, value, x), 1.0, device)
    np.testing.assert_allclose(y_with, y, rtol=1e-14)
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    np.testing.assert_array_equal(got[dead], 0)


@each_case
def test_what_counts_has_pytorchs_gradient(case):
    if case.torch_op is None:
        assert case.why
        return
    torch, (x, dead) = require("torch"), case.arrays()
    for upstream in (1.0, *BAD):
        leaf = torch.tensor(x, requires_grad=True)
        y = case.torch_op(leaf)
        y.backward(torch.full(y.shape, upstream, dtype=y.dtype))
        with np.errstate(invalid="ignore"):
            result, got = gradient(case, x, upstream)
        np.testing.assert_allclose(result, y.detach().numpy(), rtol=1e-13)
        theirs = leaf.grad.numpy()
        known = ~dead & (np.isnan(upstream) | ~np.isnan(theirs))  # there inf - inf where ours may have a digit left
        np.testing.assert_allclose(got[known], theirs[known], rtol=1e-13)


@pytest.mark.parametrize("device", ["numpy", "strict"])
def test_infinity_reaches_the_windows_it_lies_in(device):
    """Of local response normalization over 3 channels."""
    x = np.array([[1.0, 2.0, 3.0, 4.0, inf]])
    with np.errstate(invalid="ignore"):
        y = F.local_response_norm(Tensor(backend.to_device(x, device)), 3).numpy()
        assert np.isfinite(y).tolist() == [[True, True, True, True, False]] and y[0, 3] == 0  # 4 / infinity
        leaf = Tensor(backend.to_device(np.arange(1.0, 6)[None], device), requires_grad=True)
        F.local_response_norm(leaf, 3).backward(backend.to_device(np.array([[inf, 1.0, 1, 1, 1]]), device))
    assert np.isfinite(backend.to_numpy(leaf.grad)).tolist() == [[False, False, True, True, True]]


@pytest.mark.parametrize("device", ["numpy", "strict"])
@pytest.mark.parametrize("value", BAD)
def test_infinity_reaches_the_pixels_that_bilinear_interpolation_weighs(value, device):
    torch, functional = torch_functions()
    x, gy = np.arange(60.0).reshape(1, 1, 6, 10), np.ones((1, 1, 12, 20))
    x[0, 0, 2, 4] = gy[0, 0, 5, 7] = value
    leaf, theirs = Tensor(backend.to_device(x, device), requires_grad=True), torch.tensor(x, requires_grad=True)
    y = F.interpolate(leaf, scale_factor=2, mode="bilinear")
    y.backward(backend.to_device(gy, device))
    expected = functional.interpolate(theirs, scale_factor=2, mode="bilinear")
    expected.backward(torch.tensor(gy))
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(backend.to_numpy(leaf.grad), theirs.grad.numpy(), rtol=1e-13)
    assert (~np.isfinite(y.numpy())).sum() == 16 and (~np.isfinite(backend.to_numpy(leaf.grad))).sum() == 4


def test_every_function_leaves_something_out_here_or_nothing(storey):
    seen = set()
    for case in MASKED:
        x = Tensor(case.arrays()[0], requires_grad=True)
        seen |= {type(call) for call in calls(case.op(x, like(x)))}
    functions = FUNCTIONS if storey == "plain" else [fast_versions().get(f, f) for f in FUNCTIONS]
    assert not {f.__name__ for f in functions if f not in seen and not issubclass(f, tuple(WHOLE))}
    assert set(FUNCTIONS) >= WHOLE


@pytest.mark.parametrize("op", [F.relu, lambda x: F.clamp(x, min=0.0), lambda x: F.maximum(x, 0.0),
                                lambda x: -F.minimum(-x, 0.0), lambda x: F.where(x.data > 0, x, 0.0)])
def test_the_root_of_a_dead_unit(op):
    """The root's slope at 0 is infinite; what does not depend on x has no slope."""
    x = Tensor(np.array([4.0, -1.0]), requires_grad=True)
    with np.errstate(divide="ignore"):
        F.sqrt(op(x)).sum().backward()
    assert x.grad.tolist() == [0.25, 0]


def test_an_ignored_pixel_may_be_anything_in_a_whole_network():
    """NaN in the scores of ignored pixels: the loss and all gradients are those of the other pixels."""
    rng = np.random.default_rng(0)
    scores, target = rng.standard_normal((2, 3, 4, 4)), rng.integers(0, 3, (2, 4, 4))
    target[:, 1:3] = 255
    poisoned = np.where(target[:, None] == 255, nan, scores)
    results = []
    for values in (scores, poisoned):
        x = Tensor(values, requires_grad=True)
        y = F.cross_entropy(x, target, ignore_index=255)
        y.backward()
        results.append((y.item(), x.grad))
    assert results[0][0] == results[1][0] and np.array_equal(results[0][1], results[1][1])
    assert backend.apply_mask(np.array([inf, nan, 1.0]), np.array([False, False, True])).tolist() == [0, 0, 1]
