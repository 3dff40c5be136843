"""Average pooling: values by hand, its adjoint, PyTorch over the arguments' cross product, and errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv import Tensor
from minicv.ops.avg_pool import avg_pool2d
from tests.ops.pooling import assert_like_torch, assert_own_adjoint, image, inf, numbers, pairs_of, pooled, sides
from tests.oracle import require


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
    x = image([[6, 12, 18, 24]])
    y = avg_pool2d(x, (1, 3), stride=(1, 2), padding=(0, 1), **options)
    np.testing.assert_allclose(y.data[0, 0, 0], expected, rtol=1e-15)


def test_an_infinity_stays_in_its_window():
    assert avg_pool2d(image([[inf, 1, 2, 4]]), (1, 2)).data[0, 0].tolist() == [[inf, 3]]


# ---------------------------------------------------------------------------------------------------------
# Adjoints: <A x, y> = <x, A' y>
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", [
    lambda x: avg_pool2d(x, 3, 2, 1), lambda x: avg_pool2d(x, (2, 3), ceil_mode=True, count_include_pad=False)])
def test_backward_is_the_adjoint(op):
    assert_own_adjoint(op)


# ---------------------------------------------------------------------------------------------------------
# PyTorch
# ---------------------------------------------------------------------------------------------------------
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


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
def test_errors_of_avg_pool2d():
    with pytest.raises(ValueError, match=r"avg_pool2d\(divisor_override=0\) would divide by zero"):
        avg_pool2d(Tensor(np.zeros((1, 1, 4, 4))), 2, divisor_override=0)
