"""The tests of conv2d once more, with sizes for which it would not take Winograd's way by itself."""
import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor
from minicv.backend import workers
from minicv.fast.convolution import shifted, winograd
from minicv.ops import conv
from tests import harness
from tests.ops.test_conv import (  # noqa: F401
    test_a_convolution_by_hand,
    test_conv2d_against_pytorch,
    test_conv_and_transposed_conv_are_adjoint,
    test_conv_transpose2d_against_pytorch,
    test_large_float32_layers_agree_with_pytorch,
)

CASES = [case for case in conv.CASES if case.op is F.conv2d]


@pytest.fixture(scope="module", autouse=True)
def at_every_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "MIN_CHANNELS", 1)
        patch.setattr(winograd, "MIN_PIXELS", 1)
        yield


@pytest.mark.parametrize("check", [harness.check_gradient, harness.check_device])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_each_case(case, check):
    check(case)


def layer(N, C, H, W, O, dtype=np.float64, **options):
    """conv2d of seeded numbers, forward and backward: (y, gx, gw)."""
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((N, C, H, W)).astype(dtype), requires_grad=True)
    w = Tensor(rng.standard_normal((O, C, 3, 3)).astype(dtype), requires_grad=True)
    y = F.conv2d(x, w, **options)
    y.backward(rng.standard_normal(y.shape).astype(dtype))
    return y.data, x.grad, w.grad


def without_winograd(*sizes, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "MIN_PIXELS", 1 << 40)
        return layer(*sizes, **options)


def test_by_hand():
    x, w = Tensor(np.array([1.0, 2, 3, 4]).reshape(1, 1, 4, 1)), Tensor(np.array([1.0, 10, 100]).reshape(1, 1, 3, 1))
    # 1 + 2*10 + 3*100 = 321, 2 + 3*10 + 4*100 = 432
    assert F.conv2d(x, w).data.ravel().tolist() == [321, 432]


@pytest.mark.parametrize("H, dilation, pairs", [(8, 1, True), (7, 1, False), (8, 2, True), (6, 2, False)])
def test_it_is_taken_for_pairs_of_rows(H, dilation, pairs, monkeypatch):
    made, tiles = [], winograd.RowPairs
    monkeypatch.setattr(winograd, "RowPairs", lambda *args, **options: made.append(1) or tiles(*args, **options))
    layer(1, 2, H, 5, 3, padding=dilation, dilation=dilation)
    assert len(made) == (3 if pairs else 0)  # forward and the two gradients


@pytest.mark.parametrize("sizes, options", [
    ((3, 5, 10, 9, 4), {"padding": 1}),  # images of a block share rows of zeros
    ((2, 3, 12, 11, 4), {"padding": (2, 0)}),
    ((2, 3, 16, 7, 2), {"padding": 4, "dilation": (4, 2)}),
    ((2, 3, 12, 11, 2), {"padding": 1, "stride": (1, 2)}),
    ((1, 70, 6, 5, 66), {"padding": 1}),  # one tap at a time in the weight's gradient
    ((2, 16, 130, 200, 16), {"padding": 1}),  # several blocks
    ((2, 8, 96, 300, 8), {"padding": 2, "dilation": 2}),
])
def test_it_is_the_same_convolution(sizes, options):
    for a, b in zip(layer(*sizes, **options), without_winograd(*sizes, **options), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * np.abs(b).max())


def test_blocks_hold_pairs_of_rows():
    x = np.zeros((1, 512, 600, 16), np.float32)
    for unit in 1, 2, 8:
        spans = shifted.output_blocks(x, x.shape, (1, 1), unit=unit)
        assert len(spans) > 4 and spans[0][2] == 0 and spans[-1][3] == 512
        assert all(r0 % unit == 0 and r0 < r1 for _, _, r0, r1 in spans)
        assert all(a[3] == b[2] for a, b in zip(spans, spans[1:], strict=False))


def test_float32_loses_no_digits():
    sizes, options = (2, 64, 32, 32, 64), {"padding": 1}
    exact = layer(*sizes, **options)
    ours, plain = layer(*sizes, np.float32, **options), without_winograd(*sizes, np.float32, **options)
    for e, a, b in zip(exact, ours, plain, strict=True):
        assert a.dtype == np.float32
        assert np.abs(a - e).mean() < 3 * np.abs(b - e).mean()  # Lavin and Gray (2015), table 4: about the same


def test_the_number_of_threads_makes_no_difference(monkeypatch):
    results = []
    for threads in 1, 2:
        monkeypatch.setattr(workers, "num_threads", lambda threads=threads: threads)
        results.append(layer(4, 16, 64, 64, 16, np.float32, padding=1))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
