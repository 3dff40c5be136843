"""Unpooling: the docstring's image, adjoints, PyTorch, and errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv import Tensor
from minicv.ops.avg_pool import avg_pool2d
from minicv.ops.interpolate import interpolate
from minicv.ops.max_pool import max_pool2d
from minicv.ops.unpool import max_unpool2d, unpool_bed_of_nails, unpool_nearest
from tests.oracle import require

SMALL = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])


def gradient(f, x: np.ndarray, gy: np.ndarray) -> np.ndarray:
    x = Tensor(x, requires_grad=True)
    f(x).backward(gy)
    return x.grad


# ---------------------------------------------------------------------------------------------------------
# By hand
# ---------------------------------------------------------------------------------------------------------
def test_nearest():
    assert unpool_nearest(Tensor(SMALL), 2).data[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2],
                                                                    [3, 3, 4, 4], [3, 3, 4, 4]]
    # backward sums each block of 0 .. 15: 0 + 1 + 4 + 5, 2 + 3 + 6 + 7, ...
    gy = np.arange(16.0).reshape(1, 1, 4, 4)
    assert gradient(lambda x: unpool_nearest(x, 2), SMALL, gy)[0, 0].tolist() == [[10, 18], [42, 50]]


def test_bed_of_nails():
    assert unpool_bed_of_nails(Tensor(SMALL), 2).data[0, 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0],
                                                                         [3, 0, 4, 0], [0, 0, 0, 0]]
    gy = np.arange(16.0).reshape(1, 1, 4, 4)
    assert gradient(lambda x: unpool_bed_of_nails(x, 2), SMALL, gy)[0, 0].tolist() == [[0, 2], [8, 10]]


def test_max_unpooling_puts_values_where_the_maxima_were():
    x = Tensor(np.array([[[[0, 1, 9, 2], [1, 7, 2, 3], [1, 8, 4, 5], [0, 1, 5, 6.0]]]]))
    y, indices = max_pool2d(x, 2, return_indices=True)
    assert y.data[0, 0].tolist() == [[7, 9], [8, 6]] and indices.data[0, 0].tolist() == [[5, 2], [9, 15]]
    assert max_unpool2d(Tensor(SMALL), indices, 2).data[0, 0].tolist() == [[0, 0, 2, 0], [0, 1, 0, 0],
                                                                           [0, 3, 0, 0], [0, 0, 0, 4]]
    gy = np.arange(16.0).reshape(1, 1, 4, 4)
    assert gradient(lambda x: max_unpool2d(x, indices, 2), SMALL, gy)[0, 0].tolist() == [[5, 2], [9, 15]]


def test_of_repeated_indices_the_last_value_stays_and_has_the_gradient():
    indices = Tensor(np.array([[[[3, 0], [3, 3]]]]))
    y = max_unpool2d(Tensor(SMALL), indices, 2, stride=1)  # 1 - 1 + 2 = 3 rows
    assert y.data[0, 0].tolist() == [[2, 0, 0], [4, 0, 0], [0, 0, 0]]
    gy = np.arange(1, 10.0).reshape(1, 1, 3, 3)
    assert gradient(lambda x: max_unpool2d(x, indices, 2, 1), SMALL, gy)[0, 0].tolist() == [[0, 1], [0, 4]]


def test_a_value_that_does_not_stay_leaves_nothing_behind():
    indices = Tensor(np.array([[[[0, 0]]]]))
    for lost in (np.inf, np.nan):
        assert max_unpool2d(Tensor(np.array([[[[lost, 5]]]])), indices, 1).data[0, 0].tolist() == [[5, 0]]


def test_equal_indices_in_other_planes_do_not_meet():
    x = np.arange(1, 7.0).reshape(2, 3, 1, 1)
    y = max_unpool2d(Tensor(x), Tensor(np.full((2, 3, 1, 1), 3)), 2)
    assert y.data[:, :, 1, 1].tolist() == [[1, 2, 3], [4, 5, 6]] and y.data.sum() == 21


# ---------------------------------------------------------------------------------------------------------
# Adjoints: <A x, y> = <x, A' y>
# ---------------------------------------------------------------------------------------------------------
@settings(deadline=None)
@given(size=st.tuples(st.integers(1, 4), st.integers(1, 4)), scale=st.tuples(st.integers(1, 3), st.integers(1, 3)),
       seed=st.integers(0, 9))
def test_each_is_the_adjoint_of_a_pooling(size, scale, seed):
    rng, (H, W), (s, t) = np.random.default_rng(seed), size, scale
    x, y = rng.standard_normal((2, 3, s * H, t * W)), rng.standard_normal((2, 3, H, W))

    def assert_adjoint(Ax, Aty):
        assert Ax.shape == y.shape and Aty.shape == x.shape
        np.testing.assert_allclose(np.vdot(Ax, y), np.vdot(x, Aty), rtol=1e-12, atol=1e-12)

    X, Y = Tensor(x), Tensor(y)
    assert_adjoint(s * t * avg_pool2d(X, scale).data, unpool_nearest(Y, scale).data)
    assert_adjoint(x[:, :, ::s, ::t], unpool_bed_of_nails(Y, scale).data)
    pooled, indices = max_pool2d(X, scale, return_indices=True)
    assert_adjoint(pooled.data, max_unpool2d(Y, indices, scale).data)
    # and the backward of each is the other's forward
    np.testing.assert_array_equal(gradient(lambda x: max_pool2d(x, scale), x, y), max_unpool2d(Y, indices, scale).data)
    np.testing.assert_array_equal(gradient(lambda y: max_unpool2d(y, indices, scale), y, x), pooled.data)
    np.testing.assert_allclose(gradient(lambda x: avg_pool2d(x, scale), x, y), unpool_nearest(Y, scale).data / (s * t),
                               rtol=1e-15)


# ---------------------------------------------------------------------------------------------------------
# Other ways to the same
# ---------------------------------------------------------------------------------------------------------
@settings(deadline=None)
@given(scale=st.tuples(st.integers(1, 3), st.integers(1, 3)), seed=st.integers(0, 9))
def test_nearest_is_nearest_interpolation(scale, seed):
    x = Tensor(np.random.default_rng(seed).standard_normal((2, 3, 4, 3)))
    by_interpolation = interpolate(x, scale_factor=scale, mode="nearest")
    np.testing.assert_array_equal(unpool_nearest(x, scale).data, by_interpolation.data)


@settings(deadline=None)
@given(shape=st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
       kernel=st.integers(1, 4), gap=st.integers(0, 2), data=st.data())
def test_max_unpool2d_is_pytorchs(shape, kernel, gap, data):
    """With indices that occur once, as PyTorch's result for others is undefined."""
    torch = require("torch")
    F = torch.nn.functional
    padding, stride = data.draw(st.integers(0, kernel // 2)), kernel + gap
    if min(shape[2:]) + 2 * padding < kernel:
        return
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(shape))
    y, indices = F.max_pool2d(x, kernel, stride, padding, return_indices=True)
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "output_size": shape[2:]}
    values = np.random.default_rng(1).standard_normal(y.shape)
    T, X = torch.from_numpy(values).requires_grad_(), Tensor(values, requires_grad=True)
    expected, actual = F.max_unpool2d(T, indices, **options), max_unpool2d(X, Tensor(indices.numpy()), **options)
    np.testing.assert_array_equal(actual.data, expected.detach().numpy())
    gy = np.random.default_rng(2).standard_normal(shape)
    actual.backward(gy)
    expected.backward(torch.from_numpy(gy))
    np.testing.assert_array_equal(X.grad, T.grad.numpy())


@pytest.mark.parametrize("output_size", [None, (7, 8), (1, 1, 8, 7), (5, 6), (9, 8), (3, 3)])
def test_output_sizes_are_pytorchs(output_size):
    torch = require("torch")
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    indices = np.arange(12).reshape(1, 1, 3, 4)
    try:  # (3 - 1) * 2 - 0 + 2 = 6 rows, 8 columns, each one more or less
        expected = torch.nn.functional.max_unpool2d(torch.from_numpy(x), torch.from_numpy(indices), 2,
                                                    output_size=output_size).shape
    except ValueError:
        with pytest.raises(ValueError, match=r"max_unpool2d\(output_size=.*pooling gives 3x4 from 6x8"):
            max_unpool2d(Tensor(x), Tensor(indices), 2, output_size=output_size)
    else:
        assert max_unpool2d(Tensor(x), Tensor(indices), 2, output_size=output_size).shape == tuple(expected)


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("index", [-1, 16])
def test_an_index_outside_is_an_error(index):
    indices = np.array([[[[0, 1], [2, index]]]])
    with pytest.raises(ValueError, match=f"max_unpool2d: indices range from {min(0, index)} to {max(2, index)}, "
                                         "but the 4x4 output has positions 0 to 15"):
        max_unpool2d(Tensor(SMALL), Tensor(indices), 2)


def test_errors():
    x = Tensor(SMALL)
    with pytest.raises(ValueError, match=r"indices must be int64 of input's shape \(1, 1, 2, 2\).*\(1, 1, 2, 1\)"):
        max_unpool2d(x, Tensor(np.zeros((1, 1, 2, 1), int)), 2)
    with pytest.raises(ValueError, match="indices must be int64.*got float64"):
        max_unpool2d(x, x, 2)
    for op in (unpool_nearest, unpool_bed_of_nails):
        with pytest.raises(ValueError, match=rf"{op.__name__}\(scale_factor\) must be an integer of at least 1.*1.5"):
            op(x, (1.5, 2))
        with pytest.raises(ValueError, match=rf"{op.__name__}: input must be \(N, C, H, W\)"):
            op(Tensor(np.zeros((2, 2))), 2)
