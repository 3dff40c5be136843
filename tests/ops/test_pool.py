"""Pooling: values by hand, PyTorch over the arguments' cross product, adjoints, and errors."""
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
from minicv import Tensor
from minicv.ops import pool
from minicv.ops.pool import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    bins,
    max_pool2d,
    spatial_pyramid_pool,
    window_spread,
    window_sum,
)
from tests.oracle import require

inf, nan = np.inf, np.nan


def picture(rows) -> Tensor:
    """One channel of one picture, float64."""
    return Tensor(np.array([[rows]], float), requires_grad=True)


def pooled(op, rows, *args, **options):
    """The op's output on one picture, and the gradient where that of the outputs is 1, 2, 4, 8, ..."""
    x = picture(rows)
    y = op(x, *args, **options)
    y.backward(2.0 ** np.arange(y.size).reshape(y.shape))
    return y.data[0, 0].tolist(), x.grad[0, 0].tolist()


# ---------------------------------------------------------------------------------------------------------
# Max pooling by hand
# ---------------------------------------------------------------------------------------------------------
def test_max_2x2():
    y, gx = pooled(max_pool2d, [[1, 2, 5, 0],
                                [4, 3, 6, 7],
                                [9, 8, 0, 1]], 2)  # the third row is left over
    assert y == [[4, 7]]
    assert gx == [[0, 0, 0, 0], [1, 0, 0, 2], [0, 0, 0, 0]]


def test_overlapping_windows_add_their_gradients():
    y, gx = pooled(max_pool2d, [[1, 2, 1], [2, 9, 2], [1, 2, 1]], 2, stride=1)
    assert y == [[9, 9], [9, 9]]
    assert gx[1][1] == 1 + 2 + 4 + 8 and np.sum(gx) == 15


def test_the_first_of_ties_wins_row_by_row():
    # Column by column (1, 0) would come before (0, 1)
    y, gx = pooled(max_pool2d, [[0, 5], [5, 5]], 2)
    assert y == [[5]] and gx == [[0, 1], [0, 0]]
    # As after ReLU: all zero
    assert pooled(max_pool2d, [[0, 0], [0, 0]], 2)[1] == [[1, 0], [0, 0]]
    # -0 is not smaller than 0
    assert pooled(max_pool2d, [[-0.0, 0], [0, 0]], 2)[1] == [[1, 0], [0, 0]]


def test_padding_never_wins():
    y, gx = pooled(max_pool2d, [[-3, -4], [-5, -6]], 2, padding=1)
    assert y == [[-3, -4], [-5, -6]] and gx == [[1, 2], [4, 8]]
    # not even against minus infinity; then it is the first input that wins
    y, gx = pooled(max_pool2d, [[-inf, -inf], [-inf, -inf]], 3, stride=1, padding=1)
    assert y == [[-inf, -inf], [-inf, -inf]] and gx == [[15, 0], [0, 0]]


def test_nan_wins_over_everything_and_the_last_one_takes_the_gradient():
    y, gx = pooled(max_pool2d, [[inf, nan, 1, 2], [nan, 3, 4, 5]], 2)
    np.testing.assert_array_equal(y, [[nan, 5]])
    assert gx == [[0, 0, 0, 0], [1, 0, 0, 2]]


def test_an_infinite_gradient_stays_with_the_maximum():
    x = picture([[1, 2], [3, 4]])
    max_pool2d(x, 2).backward(np.array([[[[inf]]]]))
    assert x.grad.tolist() == [[[[0, 0], [0, inf]]]]


@pytest.mark.parametrize("padding, floor, ceil", [
    # windows of 2, stride 2, over 0 1 2 3 4, or . 0 1 2 3 4 .
    (0, [1, 3], [1, 3, 4]),  # with ceil_mode also the window (4, outside)
    (1, [0, 2, 4], [0, 2, 4]),  # (. 0) (1 2) (3 4); the next would start in the padding
])
def test_ceil_mode(padding, floor, ceil):
    x = picture([[0, 1, 2, 3, 4]])
    options = {"kernel_size": (1, 2), "stride": (1, 2), "padding": (0, padding)}
    assert max_pool2d(x, **options).data[0, 0, 0].tolist() == floor
    assert max_pool2d(x, **options, ceil_mode=True).data[0, 0, 0].tolist() == ceil


def test_dilation():
    # Taps 0, 2, 4 apart from each window's start: max(0, 7, 1), max(9, 2, 3)
    assert max_pool2d(picture([[0, 9, 7, 2, 1, 3]]), (1, 3), 1, dilation=2).data[0, 0].tolist() == [[7, 9]]


def test_indices_are_positions_in_the_plane():
    x = np.zeros((2, 3, 4, 5))
    x[1, 2, 3, 1] = 1  # 3 * 5 + 1
    y, indices = max_pool2d(Tensor(x), 2, return_indices=True)
    assert y.shape == indices.shape == (2, 3, 2, 2) and indices.dtype == np.int64
    assert indices.data[1, 2].tolist() == [[0, 2], [16, 12]]
    assert indices.data[0, 0].tolist() == [[0, 2], [10, 12]]


def test_indices_do_not_depend_on_whether_a_gradient_is_wanted():
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 6))
    with minicv.no_grad():
        without = max_pool2d(Tensor(x), 3, 2, 1, return_indices=True)
    with_gradient = max_pool2d(Tensor(x, requires_grad=True), 3, 2, 1, return_indices=True)
    for a, b in zip(without, with_gradient, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


overlaps = pytest.mark.parametrize("options", [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 2, "stride": 3}, {"kernel_size": 2, "stride": 1, "dilation": 5}])


@overlaps
@pytest.mark.parametrize("block_bytes", [1, 4000, 20000])
def test_blocks_make_no_difference(monkeypatch, options, block_bytes):
    """Rows of one picture in many blocks, or several pictures in one: gradients meet where blocks share rows."""
    values = np.random.default_rng(0).integers(0, 4, (5, 3, 23, 8)).astype(float)  # one picture has 4416 bytes

    def run(op, **options):
        x = Tensor(values, requires_grad=True)
        y = op(x, **options)
        y.backward(np.arange(y.size, dtype=float).reshape(y.shape))
        return y.data, x.grad

    def results():
        yield run(max_pool2d, **options)
        yield run(avg_pool2d, **{name: v for name, v in options.items() if name != "dilation"})
        yield run(adaptive_max_pool2d, output_size=5)
        yield run(adaptive_avg_pool2d, output_size=5)

    whole = list(results())
    monkeypatch.setattr(pool, "BLOCK_BYTES", block_bytes)
    for (y, gx), (y_parts, gx_parts) in zip(whole, results(), strict=True):
        np.testing.assert_array_equal(y_parts, y)
        np.testing.assert_array_equal(gx_parts, gx)


@overlaps
def test_blocks_that_run_at_the_same_time_write_to_different_places(monkeypatch, options):
    touched = []

    def add_at(target, index, values):
        touched.append(set(index.tolist()))

    def parallel(work, blocks):
        touched.clear()
        for block in blocks:
            work(block)
        for a, b in itertools.combinations(touched, 2):
            assert a.isdisjoint(b)

    x = Tensor(np.random.default_rng(0).standard_normal((2, 8, 40, 20)), requires_grad=True)
    monkeypatch.setattr(pool, "BLOCK_BYTES", 1)  # blocks as small as they may be
    y = max_pool2d(x, **options)
    monkeypatch.setattr(pool, "add_at", add_at)
    monkeypatch.setattr(pool, "parallel", parallel)
    y.backward(y.data)
    assert len(touched) > 2


def test_max_pooling_keeps_one_byte_per_output():
    y = max_pool2d(Tensor(np.ones((2, 4, 8, 8), np.float32), requires_grad=True), 3, 2, 1)
    assert [(a.dtype, a.size) for a in y.node.saved] == [(np.uint8, y.size)]


# ---------------------------------------------------------------------------------------------------------
# Average pooling by hand
# ---------------------------------------------------------------------------------------------------------
def test_avg_2x2():
    y, gx = pooled(avg_pool2d, [[1, 2, 5, 0], [4, 3, 6, 7]], 2)
    assert y == [[10 / 4, 18 / 4]]
    assert gx == [[1 / 4, 1 / 4, 2 / 4, 2 / 4], [1 / 4, 1 / 4, 2 / 4, 2 / 4]]


@pytest.mark.parametrize("options, expected", [
    # windows of 3, stride 2, padding 1 over . 6 12 18 24 . : (. 6 12) (12 18 24), with ceil_mode also (24 . |)
    ({}, [18 / 3, 54 / 3]),
    ({"count_include_pad": False}, [18 / 2, 54 / 3]),
    ({"ceil_mode": True}, [18 / 3, 54 / 3, 24 / 2]),  # what is past the padding never counts
    ({"ceil_mode": True, "count_include_pad": False}, [18 / 2, 54 / 3, 24 / 1]),
    ({"divisor_override": 4}, [18 / 4, 54 / 4]),
    ({"divisor_override": -1}, [-18, -54]),
])
def test_what_the_average_divides_by(options, expected):
    x = picture([[6, 12, 18, 24]])
    y = avg_pool2d(x, (1, 3), stride=(1, 2), padding=(0, 1), **options)
    np.testing.assert_allclose(y.data[0, 0, 0], expected, rtol=1e-15)


def test_an_infinity_stays_in_its_window():
    assert avg_pool2d(picture([[inf, 1, 2, 4]]), (1, 2)).data[0, 0].tolist() == [[inf, 3]]
    assert adaptive_avg_pool2d(picture([[inf, 1, 2, 4]]), (1, 2)).data[0, 0].tolist() == [[inf, 3]]


# ---------------------------------------------------------------------------------------------------------
# Adaptive pooling and the pyramid by hand
# ---------------------------------------------------------------------------------------------------------
def test_bins_may_share_pixels():
    # 7 pixels, 3 bins: floor(0), floor(7/3), floor(14/3) up to ceil(7/3), ceil(14/3), 7
    assert bins(7, 3) == [(0, 3), (2, 5), (4, 7)]
    assert bins(2, 3) == [(0, 1), (0, 2), (1, 2)]
    x = [[0, 3, 6, 1, 2, 3, 10]]
    y, gx = pooled(adaptive_avg_pool2d, x, (1, 3))
    np.testing.assert_allclose(y, [[9 / 3, 9 / 3, 15 / 3]], rtol=1e-15)
    np.testing.assert_allclose(3 * np.array(gx), [[1, 1, 1 + 2, 2, 2 + 4, 4, 4]], rtol=1e-15)
    assert pooled(adaptive_max_pool2d, x, (1, 3)) == ([[6, 6, 10]], [[0, 0, 1 + 2, 0, 0, 0, 4]])


def test_adaptive_max_takes_the_first_of_ties_and_gives_its_position():
    y, indices = adaptive_max_pool2d(picture([[0, 5, 5, 1], [5, 5, 5, 2]]), (1, 2), return_indices=True)
    assert y.data.tolist() == [[[[5, 5]]]] and indices.data.tolist() == [[[[1, 2]]]]


def test_pyramid_order_levels_then_channels_then_bins():
    x = np.array([[[[1, 2], [3, 4]], [[5, 8], [7, 6]]]], float)
    # level 1: 4 of the first channel, 8 of the second; level 2: every pixel, row by row
    assert spatial_pyramid_pool(Tensor(x), (1, 2)).data.tolist() == [[4, 8, 1, 2, 3, 4, 5, 8, 7, 6]]
    assert spatial_pyramid_pool(Tensor(x), (2, 1), mode="avg").data.tolist() == [[1, 2, 3, 4, 5, 8, 7, 6, 2.5, 6.5]]


@pytest.mark.parametrize("levels, count", [((1, 2, 4), 21), ((1, 2, 3, 6), 50)])
@pytest.mark.parametrize("size", [(13, 13), (10, 10), (7, 31), (1, 1)])
def test_pyramid_has_21_or_50_bins_for_any_size(levels, count, size):
    assert spatial_pyramid_pool(Tensor(np.zeros((2, 5, *size))), levels).shape == (2, 5 * count)


@given(n=st.integers(1, 7), m=st.integers(1, 5), rest=st.integers(0, 1), seed=st.integers(0, 9))
def test_pyramid_is_the_sliding_window_of_section_2_3(n, m, rest, seed):
    """SPPNet, sec. 2.3: on an a x a map, window ceil(a/n), stride floor(a/n); for 13x13 and n = 3, 2, 1 those of fig. 4
    (5 with stride 4, 7 with stride 6, 13)."""
    a = n * m + min(rest, n - 1)
    x = Tensor(np.random.default_rng(seed).standard_normal((1, 2, a, a)))
    by_window = max_pool2d(x, math.ceil(a / n), stride=a // n)
    assert by_window.shape == (1, 2, n, n)
    np.testing.assert_array_equal(spatial_pyramid_pool(x, [n]).data, by_window.data.reshape(1, -1))


@given(n=st.integers(1, 7), a=st.integers(1, 40))
def test_pyramid_leaves_no_pixel_out(n, a):
    covered = np.zeros(a)
    for begin, end in bins(a, n):
        assert end > begin
        covered[begin:end] += 1
    assert covered.min() >= 1


# ---------------------------------------------------------------------------------------------------------
# Adjoints: <A x, y> = <x, A' y>
# ---------------------------------------------------------------------------------------------------------
@given(i=st.integers(1, 9), k=st.integers(1, 4), stride=st.integers(1, 4), data=st.data(), axis=st.sampled_from([1, 2]))
def test_spread_is_the_adjoint_of_the_sum(i, k, stride, data, axis):
    padding = data.draw(st.integers(0, k // 2))
    if i + 2 * padding < k:
        return
    o, rng = pool.pool_size(i, k, stride, padding, 1, data.draw(st.booleans())), np.random.default_rng(i)
    x, y = (rng.standard_normal((2, n, 3, 2) if axis == 1 else (2, 3, n, 2)) for n in (i, o))
    Ax, Aty = window_sum(x, axis, o, k, stride, padding), window_spread(y, axis, i, k, stride, padding)
    np.testing.assert_allclose(np.vdot(Ax, y), np.vdot(x, Aty), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", [
    lambda x: avg_pool2d(x, 3, 2, 1), lambda x: avg_pool2d(x, (2, 3), ceil_mode=True, count_include_pad=False),
    lambda x: adaptive_avg_pool2d(x, (3, 2)), lambda x: spatial_pyramid_pool(x, (1, 3), mode="avg"),
])
def test_backward_of_an_average_is_its_adjoint(op):
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((2, 3, 7, 8)), requires_grad=True)
    Ax = op(x)
    y = rng.standard_normal(Ax.shape)
    Ax.backward(y)
    np.testing.assert_allclose(np.vdot(Ax.data, y), np.vdot(x.data, x.grad), rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------
# PyTorch
# ---------------------------------------------------------------------------------------------------------
sides = st.integers(1, 9)
pairs_of = {least: st.one_of(st.integers(least, 4), st.tuples(st.integers(least, 4), st.integers(least, 4)))
            for least in (0, 1)}
values = st.sampled_from(["normal", "ties", "special"])


def numbers(kind: str, shape, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "ties":
        return rng.integers(-2, 3, shape).astype(float)
    if kind == "special":
        return rng.choice([1.0, 2.0, nan, -inf, inf], shape, p=[0.2, 0.2, 0.1, 0.4, 0.1])
    return rng.standard_normal(shape)


def assert_like_torch(ours, theirs, x: np.ndarray, tolerance: float) -> None:
    """The same results and gradients from ``ours(Tensor)`` and ``theirs(torch.Tensor)``, or an error from both."""
    torch = require("torch")
    X, T = Tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
    try:
        expected = theirs(T)
    except RuntimeError:
        with pytest.raises(ValueError):
            ours(X)
        return
    y, expected = ours(X), expected if isinstance(expected, tuple) else (expected,)
    y = y if isinstance(y, tuple) else (y,)
    for a, e in zip(y, expected, strict=True):
        np.testing.assert_allclose(a.data, e.detach().numpy(), rtol=0, atol=tolerance)
    gy = np.random.default_rng(1).standard_normal(y[0].shape)
    y[0].backward(gy)
    expected[0].backward(torch.from_numpy(gy))
    np.testing.assert_allclose(X.grad, T.grad.numpy(), rtol=0, atol=tolerance)


@settings(deadline=None, max_examples=200)
@given(shape=st.tuples(st.integers(1, 2), st.integers(1, 3), sides, sides), kernel=pairs_of[1], stride=pairs_of[1],
       padding=st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))),
       dilation=pairs_of[1], ceil=st.booleans(), own_stride=st.booleans(), kind=values, seed=st.integers(0, 9))
def test_max_pool2d_is_pytorchs(shape, kernel, stride, padding, dilation, ceil, own_stride, kind, seed):
    max_pool = require("torch").nn.functional.max_pool2d
    stride = stride if own_stride else None
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil,
               "return_indices": True}
    x = numbers(kind, shape, seed)
    try:
        size = max_pool(require("torch").from_numpy(x), **options)[0].shape[2:]
    except RuntimeError:
        size = (0, 0)
    if all_taps_miss(shape[2:], size, kernel, stride or kernel, padding, dilation):
        with pytest.raises(ValueError, match="all . taps of a window miss"):  # where PyTorch's index is outside
            max_pool2d(Tensor(x), **options)
    else:
        assert_like_torch(lambda x: max_pool2d(x, **options), lambda x: max_pool(x, **options), x, 1e-12)


def all_taps_miss(size, windows, kernel, stride, padding, dilation) -> bool:
    """Whether all of the map lies between the taps of a window: with dilation 2, padding 1 and a map of 1 pixel."""
    for axis, (i, o) in enumerate(zip(size, windows, strict=True)):
        k, s, p, d = (v if isinstance(v, int) else v[axis] for v in (kernel, stride, padding, dilation))
        if any(not any(0 <= s * a - p + d * t < i for t in range(k)) for a in range(o)):
            return True
    return False


@settings(deadline=None, max_examples=100)
@given(shape=st.tuples(st.integers(0, 2), st.integers(1, 3), sides, sides), kernel=pairs_of[1], stride=pairs_of[1],
       padding=st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))),
       ceil=st.booleans(), own_stride=st.booleans(), include=st.booleans(),
       divisor=st.one_of(st.none(), st.integers(1, 9)), seed=st.integers(0, 9))
def test_avg_pool2d_is_pytorchs(shape, kernel, stride, padding, ceil, own_stride, include, divisor, seed):
    torch = require("torch")
    options = {"kernel_size": kernel, "stride": stride if own_stride else None, "padding": padding, "ceil_mode": ceil,
               "count_include_pad": include, "divisor_override": divisor}
    assert_like_torch(lambda x: avg_pool2d(x, **options), lambda x: torch.nn.functional.avg_pool2d(x, **options),
                      numbers("normal", shape, seed), 1e-12)


@settings(deadline=None, max_examples=60)
@given(shape=st.tuples(st.integers(0, 2), st.integers(1, 3), sides, sides),
       size=st.one_of(st.integers(1, 12), st.tuples(st.integers(1, 12), st.integers(1, 12)),
                      st.tuples(st.none(), st.integers(1, 12))), kind=values, seed=st.integers(0, 9))
def test_adaptive_pooling_is_pytorchs(shape, size, kind, seed):
    torch = require("torch")
    F = torch.nn.functional
    assert_like_torch(lambda x: adaptive_avg_pool2d(x, size), lambda x: F.adaptive_avg_pool2d(x, size),
                      numbers("normal", shape, seed), 1e-12)
    assert_like_torch(lambda x: adaptive_max_pool2d(x, size, True), lambda x: F.adaptive_max_pool2d(x, size, True),
                      numbers(kind, shape, seed), 1e-12)


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", [max_pool2d, avg_pool2d])
def test_errors_of_both(op):
    name, x = op.__name__, Tensor(np.zeros((1, 1, 4, 5)))
    with pytest.raises(ValueError, match=rf"{name}\(kernel_size\) must be an integer of at least 1.*got 0"):
        op(x, 0)
    with pytest.raises(ValueError, match=rf"{name}\(stride\) must be an integer of at least 1.*got \(1, 2, 3\)"):
        op(x, 2, (1, 2, 3))
    with pytest.raises(ValueError, match=rf"{name}\(padding=\(0, 2\)\) is more than half of the kernel, 2x3"):
        op(x, (2, 3), padding=(0, 2))
    with pytest.raises(ValueError, match=f"{name}: no window of 7 pixels fits into 4 and a padding of 1"):
        op(x, 7, padding=1)
    with pytest.raises(ValueError, match=rf"{name}: input must be floats \(N, C, H, W\).*shape \(4, 5\)"):
        op(Tensor(np.zeros((4, 5))), 2)
    with pytest.raises(ValueError, match=f"{name}: input must be floats.*int64"):
        op(Tensor(np.zeros((1, 1, 4, 4), int)), 2)
    with pytest.raises(ValueError, match=f"{name}: input must be.*at least one pixel"):
        op(Tensor(np.zeros((1, 1, 0, 4))), 2, padding=1)


def test_errors_of_max_pool2d():
    with pytest.raises(ValueError, match="dilation 2 and padding 1 all 2 taps of a window miss the 1 pixels"):
        max_pool2d(Tensor(np.zeros((1, 1, 4, 1))), (1, 2), padding=(0, 1), dilation=(1, 2))


def test_errors_of_avg_pool2d():
    with pytest.raises(ValueError, match=r"avg_pool2d\(divisor_override=0\) would divide by zero"):
        avg_pool2d(Tensor(np.zeros((1, 1, 4, 4))), 2, divisor_override=0)


@pytest.mark.parametrize("op", [adaptive_avg_pool2d, adaptive_max_pool2d])
def test_errors_of_adaptive_pooling(op):
    x = Tensor(np.zeros((1, 1, 4, 5)))
    with pytest.raises(ValueError, match=rf"{op.__name__}\(output_size\) must be an integer of at least 1.*0"):
        op(x, 0)
    with pytest.raises(ValueError, match=rf"{op.__name__}\(output_size=\(1, 2, 3\)\) must be one size or two"):
        op(x, (1, 2, 3))
    with pytest.raises(ValueError, match=rf"{op.__name__}: input must be.*\(1, 4, 5\)"):
        op(Tensor(np.zeros((1, 4, 5))), 2)


def test_errors_of_spatial_pyramid_pool():
    x = Tensor(np.zeros((1, 1, 4, 5)))
    with pytest.raises(ValueError, match=r"spatial_pyramid_pool\(mode='sum'\): 'max' or 'avg'"):
        spatial_pyramid_pool(x, (1, 2), mode="sum")
    for levels in ((), (1, 0), (1.5,)):
        with pytest.raises(ValueError, match=r"spatial_pyramid_pool\(levels=.*must be integers of at least 1"):
            spatial_pyramid_pool(x, levels)
