"""What the poolings share: blocks make no difference, and errors."""
import itertools

import numpy as np
import pytest

from minicv import Tensor
from minicv.fast import pooling, windows
from minicv.ops.adaptive_pool import adaptive_avg_pool2d, adaptive_max_pool2d
from minicv.ops.avg_pool import avg_pool2d
from minicv.ops.max_pool import max_pool2d

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
    monkeypatch.setattr(pooling, "parallel", parallel)
    y.backward(y.data)
    assert len(touched) > 2


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
    with pytest.raises(ValueError, match=rf"{name}: input must be \(N, C, H, W\).*got \(4, 5\)"):
        op(Tensor(np.zeros((4, 5))), 2)
    with pytest.raises(TypeError, match=f"{name}: input must be floats.*int64"):
        op(Tensor(np.zeros((1, 1, 4, 4), int)), 2)
    with pytest.raises(ValueError, match=f"{name}: input must be.*at least one pixel"):
        op(Tensor(np.zeros((1, 1, 0, 4))), 2, padding=1)
