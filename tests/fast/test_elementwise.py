"""Elementwise operations on arrays that are large enough to be split between threads."""
import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor


@pytest.mark.parametrize("op", [F.relu, F.sigmoid])
@pytest.mark.parametrize("layout", ["NCHW", "channels-last", "every second column"])
def test_all_parts_equal_the_plain_operation(op, layout):
    x = np.random.default_rng(0).normal(0, 40, (6, 128, 32, 32)).astype(np.float32)
    x[1, 2, 3, :4] = 0, -0.0, np.inf, np.nan
    x = {"NCHW": x, "channels-last": np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
         "every second column": x[..., ::2]}[layout]
    assert x.nbytes > 1 << 20

    def results():
        t = Tensor(x, requires_grad=True)
        y = op(t)
        y.backward(np.random.default_rng(1).normal(size=y.shape).astype(np.float32))
        return y.numpy(), t.grad
    fast = results()
    with minicv.plain():
        plain = results()
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-30)
