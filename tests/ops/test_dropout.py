"""Dropout: the mask, its mean, its seed."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minicv
from minicv import Tensor
from minicv.ops.dropout import dropout, dropout2d

ONES = np.ones((4, 8, 32, 32), np.float32)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_share_of_zeros_and_mean(p):
    minicv.seed(0)
    y = dropout(Tensor(ONES), p).data
    n = y.size  # 32768 independent draws: 4 standard deviations are 4 sqrt(p (1-p) / n)
    assert abs((y == 0).mean() - p) < 4 * np.sqrt(p * (1 - p) / n)
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-4)  # p is a multiple of 1/65536


def test_a_whole_channel_or_nothing():
    minicv.seed(0)
    y = dropout2d(Tensor(np.ones((50, 40, 3, 2))), 0.25).data
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1, :1], y.shape))
    assert abs((y[:, :, 0, 0] == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)
    assert set(np.unique(y)) == {0, 4 / 3}


@pytest.mark.parametrize("op", [dropout, dropout2d])
def test_gradient_passes_where_the_input_did(op):
    x = Tensor(ONES, requires_grad=True)
    y = op(x, 0.5)
    y.backward(3 * ONES)
    np.testing.assert_array_equal(x.grad, 3 * y.data)
    assert {0, 2} == set(np.unique(y.data))


def test_seed():
    minicv.seed(7)
    first, second = dropout(Tensor(ONES)).data, dropout(Tensor(ONES)).data
    minicv.seed(7)
    np.testing.assert_array_equal(dropout(Tensor(ONES)).data, first)
    assert (first != second).mean() > 0.4  # two masks with p = 0.5 differ in half of the numbers


def test_mask_does_not_depend_on_memory_layout():
    masks = []
    for x in (ONES, np.ascontiguousarray(ONES.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        minicv.seed(3)
        masks.append(dropout(Tensor(x)).data)
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("op", [dropout, dropout2d])
def test_ends(op):
    x = Tensor(ONES, requires_grad=True)
    np.testing.assert_array_equal(op(x, 1.0).data, 0)
    assert op(x, 0.0) is x
    assert op(x, 0.5, training=False) is x
    op(x, 1.0).backward(ONES)
    np.testing.assert_array_equal(x.grad, 0)


@given(st.lists(st.integers(0, 5), max_size=5), st.floats(0, 1))
def test_any_shape(shape, p):
    x = np.full(shape, 3.0)
    y = dropout(Tensor(x), p).data
    assert y.shape == x.shape
    assert ((y == 0) | (y >= 3)).all()


def test_errors():
    for p in (-0.1, 1.5):
        with pytest.raises(ValueError, match=rf"dropout\(p={p}\) must lie in \[0, 1\]: it is the probability "
                                             "of a zero"):
            dropout(Tensor(ONES), p)
    with pytest.raises(ValueError, match=r"dropout2d: input must be \(N, C, H, W\), got \(3, 4\)"):
        dropout2d(Tensor(np.ones((3, 4))))
    with pytest.raises(TypeError, match=r"dropout: input must be floats, got int64"):
        dropout(Tensor(np.ones(3, np.int64)))
