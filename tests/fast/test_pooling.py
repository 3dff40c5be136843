"""The fast poolings: blocks make no difference, sums over windows and their adjoint, what is kept for backward."""
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicv import Tensor
from minicv.fast import pooling, windows
from minicv.fast.pooling import window_spread, window_sum
from minicv.ops.adaptive_pool import adaptive_avg_pool2d, adaptive_max_pool2d
from minicv.ops.avg_pool import avg_pool2d
from minicv.ops.max_pool import max_pool2d
from minicv.ops.windows import pool_output_size

overlaps = pytest.mark.parametrize("options", [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 2, "stride": 3}, {"kernel_size": 2, "stride": 1, "dilation": 5}])


@overlaps
@pytest.mark.parametrize("block_bytes", [1, 4000, 20000])
def test_blocks_make_no_difference(monkeypatch, options, block_bytes):
    """Rows of one image in many blocks, or several images in one: gradients meet where blocks share rows."""
    values = np.random.default_rng(0).integers(0, 4, (5, 3, 23, 8)).astype(float)  # one image has 4416 bytes

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
    monkeypatch.setattr(windows, "BLOCK_BYTES", block_bytes)
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
    monkeypatch.setattr(windows, "BLOCK_BYTES", 1)  # blocks as small as they may be
    y = max_pool2d(x, **options)
    monkeypatch.setattr(pooling, "add_at", add_at)
    monkeypatch.setattr(pooling, "parallel_map", parallel)
    y.backward(y.data)
    assert len(touched) > 2


@given(i=st.integers(1, 9), k=st.integers(1, 4), stride=st.integers(1, 4), data=st.data(), axis=st.sampled_from([1, 2]))
def test_spread_is_the_adjoint_of_the_sum(i, k, stride, data, axis):
    padding = data.draw(st.integers(0, k // 2))
    if i + 2 * padding < k:
        return
    window = k, stride, padding, 1
    o, rng = pool_output_size(i, window, data.draw(st.booleans())), np.random.default_rng(i)
    x, y = (rng.standard_normal((2, n, 3, 2) if axis == 1 else (2, 3, n, 2)) for n in (i, o))
    Ax, Aty = window_sum(x, axis, o, window), window_spread(y, axis, i, window)
    np.testing.assert_allclose(np.vdot(Ax, y), np.vdot(x, Aty), rtol=1e-12, atol=1e-12)


def test_max_pooling_keeps_one_byte_per_output():
    y = max_pool2d(Tensor(np.ones((2, 4, 8, 8), np.float32), requires_grad=True), 3, 2, 1)
    assert [(a.dtype, a.size) for a in y.node.saved] == [(np.uint8, y.size)]
