"""Products, views and additions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicv import backend


@given(M=st.integers(0, 150), K=st.integers(0, 150), N=st.integers(0, 150))
def test_product_is_the_matrix_product(M, K, N):
    a = np.arange(M * K, dtype=float).reshape(M, K) % 7
    b = np.arange(K * N, dtype=float).reshape(K, N) % 5
    assert np.array_equal(backend.parallel_matmul(a, b), a @ b)


@pytest.mark.parametrize("M, K, N", [(300, 100, 60), (60, 100, 300), (2, 1000, 1000), (1000, 1000, 2)])
def test_a_large_product_is_dealt_out_to_threads(four_threads, M, K, N):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((K, M)).T, rng.standard_normal((N, K)).T
    np.testing.assert_allclose(backend.parallel_matmul(a, b), a @ b, rtol=0, atol=1e-11)


def test_matmul_into_views_of_any_layout():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 4, 5))
    memory = np.zeros((5, 2, 6))
    out = memory.transpose(1, 2, 0)[:, ::2]  # (2, 3, 5)
    backend.matmul(a, b, out)
    np.testing.assert_allclose(out, a @ b, atol=1e-14)
    assert not memory[:, :, 1::2].any()


def test_strided_views_in_elements():
    x = np.arange(6, dtype=np.float32)
    windows = backend.as_strided(x, (4, 3), (1, 1))
    assert np.array_equal(windows, [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]) and np.shares_memory(windows, x)


def test_add_at_sums_what_meets():
    x = np.zeros((2, 3))
    backend.add_at(x, (slice(None), np.array([1, 1, 2])), np.array([1.0, 2.0, 4.0]))
    assert np.array_equal(x, [[0, 3, 4], [0, 3, 4]])
