import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicv.data.augment.bicubic import bicubic


def test_nodes_keep_their_values():
    grid = np.arange(9.0).reshape(3, 3) ** 2
    np.testing.assert_allclose(bicubic(grid, (5, 9))[::2, ::4], grid, atol=1e-5)


def test_half_way_between_two_nodes_by_hand():
    # Keys's kernel at 0.5 and 1.5 is 9/16 and -1/16. Nodes 0, 0, 1, 0 along a row, sampled at 1.5:
    # (-0 + 9 * 0 + 9 * 1 - 0) / 16 = 9/16; at 0.5, the border node repeats: (-0 + 9 * 0 + 9 * 0 - 1) / 16.
    row = bicubic(np.array([[0.0, 0, 1, 0]] * 2), (2, 7))[0]
    np.testing.assert_allclose(row, [0, -1 / 16, 0, 9 / 16, 1, 9 / 16, 0], atol=1e-6)


@given(
    nodes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_a_constant_stays_constant(nodes, shape):
    field = bicubic(np.full((2, *nodes), 3.0), shape)
    np.testing.assert_allclose(field, np.full((2, *shape), 3.0), rtol=1e-6)


def test_quadratics_come_back_away_from_the_border():
    # a = -1/2 reproduces quadratics exactly (Keys 1981): x^2 at the middle interval of 0, 1, 4, 9.
    row = bicubic(np.array([[0.0, 1, 4, 9]] * 2), (2, 13))[0]  # every quarter
    np.testing.assert_allclose(row[4:9], np.array([1, 1.25, 1.5, 1.75, 2]) ** 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_result_is_float32(dtype):
    assert bicubic(np.ones((3, 3), dtype), (4, 4)).dtype == np.float32
