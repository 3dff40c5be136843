"""A tensor as rows of pixels, and blocks of them."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicv.fast import rows


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.data())
def test_there_and_back(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.arange(int(np.prod(shape))).reshape(shape)
    matrix = rows.as_rows(x, dim)
    assert matrix.shape[1] == shape[dim]
    np.testing.assert_array_equal(rows.from_rows(matrix, tuple(shape), dim), x)


def test_channels_last_memory_is_not_copied():
    x = np.zeros((2, 4, 5, 3)).transpose(0, 3, 1, 2)
    assert np.shares_memory(rows.as_rows(x), x)
    assert rows.from_rows(rows.as_rows(x), x.shape).strides == x.strides


@given(st.integers(0, 40), st.integers(1, 9))
def test_blocks_cover_each_row_once(P, C):
    spans = rows.row_blocks(np.zeros((P, C)))
    assert [i for span in spans for i in range(P)[span]] == list(range(P))


@pytest.mark.parametrize("P", [0, 1, 7, 2730, 2731, 90000, 90001])  # 2730 rows of 3 fill a line
def test_channelwise_meets_every_row_once(P):
    C = 3
    m, v, out = np.arange(P * C, dtype=float).reshape(P, C), np.array([1.0, 10.0, 100.0]), np.zeros((P, C))

    def work(m, out, v):
        out += m * v
        return out.reshape(-1, C).sum(0)
    sums = rows.channelwise(work, [m, out], [v])
    np.testing.assert_array_equal(out, m * v)
    np.testing.assert_allclose(np.sum(sums, axis=0) if P else 0, (m * v).sum(0), rtol=1e-12)


@pytest.mark.parametrize("K", [1, 2, 32, 33])
def test_put_columns(K):
    z, out = np.arange(K * 5).reshape(K, 5), np.zeros((5, K))
    rows.assign_transposed(out, z)
    np.testing.assert_array_equal(out, z.T)
