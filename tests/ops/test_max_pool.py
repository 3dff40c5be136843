"""Max pooling: values by hand, PyTorch over the arguments' cross product, and errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
from minicv import Tensor
from minicv.ops.max_pool import max_pool2d
from tests.ops.pooling import assert_like_torch, image, inf, nan, numbers, pairs_of, pooled, sides, values
from tests.oracle import require


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
    x = image([[1, 2], [3, 4]])
    max_pool2d(x, 2).backward(np.array([[[[inf]]]]))
    assert x.grad.tolist() == [[[[0, 0], [0, inf]]]]


@pytest.mark.parametrize("padding, floor, ceil", [
    # windows of 2, stride 2, over 0 1 2 3 4, or . 0 1 2 3 4 .
    (0, [1, 3], [1, 3, 4]),  # with ceil_mode also the window (4, outside)
    (1, [0, 2, 4], [0, 2, 4]),  # (. 0) (1 2) (3 4); the next would start in the padding
])
def test_ceil_mode(padding, floor, ceil):
    x = image([[0, 1, 2, 3, 4]])
    options = {"kernel_size": (1, 2), "stride": (1, 2), "padding": (0, padding)}
    assert max_pool2d(x, **options).data[0, 0, 0].tolist() == floor
    assert max_pool2d(x, **options, ceil_mode=True).data[0, 0, 0].tolist() == ceil


def test_dilation():
    # Taps 0, 2, 4 apart from each window's start: max(0, 7, 1), max(9, 2, 3)
    assert max_pool2d(image([[0, 9, 7, 2, 1, 3]]), (1, 3), 1, dilation=2).data[0, 0].tolist() == [[7, 9]]


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


# ---------------------------------------------------------------------------------------------------------
# PyTorch
# ---------------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=200)
@given(shape=st.tuples(st.integers(0, 2), st.integers(1, 3), sides, sides), kernel=pairs_of[1], stride=pairs_of[1],
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


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
def test_errors_of_max_pool2d():
    with pytest.raises(ValueError, match="dilation 2 and padding 1, all 2 taps of a window miss the 1 pixels"):
        max_pool2d(Tensor(np.zeros((1, 1, 4, 1))), (1, 2), padding=(0, 1), dilation=(1, 2))
