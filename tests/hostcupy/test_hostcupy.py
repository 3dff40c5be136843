"""hostcupy computes with CuPy what NumPy computes, and counts right; ``pytest -m gpu --hostcupy``."""
import os
import subprocess
import sys

import numpy as np
import pytest

from tests import hostcupy

pytestmark = pytest.mark.gpu
rng = np.random.default_rng(0)


@pytest.fixture
def cupy():
    if not os.environ.get("HOSTCUPY"):
        pytest.skip("about hostcupy itself: pytest -m gpu --hostcupy")
    import cupy
    return cupy


def test_every_float16_is_converted_and_rounded_as_numpys(cupy):
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(cupy.asarray(every).astype("float32").get(), every.astype(np.float32))
    for scale in (1, 1e-5, 1e-7, 3e4):  # small enough for digits to be lost, large enough for infinities
        x = (scale * rng.standard_normal(50_000)).astype(np.float32)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(cupy.asarray(x).astype("float16").get(), x.astype(np.float16))
    halves = np.float32([2049, 2051, 65519, 65520, 2**-25, 3 * 2**-25])  # halfway: to even
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(cupy.asarray(halves).astype("float16").get(), halves.astype(np.float16))


@pytest.mark.parametrize("size", [1, 5, 512, 513, 5000])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_masks_sums_and_sorting(cupy, size, dtype):
    x = rng.integers(0, 2 if dtype == "bool" else 50, size).astype(dtype)
    y, mask = cupy.asarray(x), x > 0
    np.testing.assert_array_equal(y[cupy.asarray(mask)].get(), x[mask])
    np.testing.assert_array_equal(cupy.nonzero(y)[0].get(), np.nonzero(x)[0])
    np.testing.assert_array_equal(cupy.cumsum(y, dtype="float64").get(), np.cumsum(x, dtype=np.float64))
    np.testing.assert_array_equal(cupy.sort(y).get(), np.sort(x))
    np.testing.assert_array_equal(y[cupy.argsort(y)].get(), np.sort(x))
    np.testing.assert_array_equal(cupy.unique(y).get(), np.unique(x))
    assert y.sum(dtype="float64").get() == x.sum(dtype=np.float64)
    assert y.max().get() == x.max() and y.argmin().get() == x.argmin()


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2)])
def test_reductions_along_axes(cupy, axis):
    x = rng.standard_normal((7, 130, 9))
    for name in ("sum", "max", "mean", "var"):
        np.testing.assert_allclose(getattr(cupy.asarray(x), name)(axis).get(), getattr(x, name)(axis), rtol=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 1e-5), ("float16", 1e-2)])
def test_products_in_every_layout(cupy, dtype, tolerance):
    a, b = rng.standard_normal((3, 6, 5)).astype(dtype), rng.standard_normal((3, 5, 4)).astype(dtype)
    expected = a.astype(float) @ b.astype(float)
    x, y = cupy.asarray(a), cupy.asarray(b)
    transposed = [cupy.ascontiguousarray(v.transpose(0, 2, 1)).transpose(0, 2, 1) for v in (x, y)]
    for left in (x, transposed[0]):
        for right in (y, transposed[1]):
            np.testing.assert_allclose((left @ right).get(), expected, atol=tolerance)
            np.testing.assert_allclose((left[1] @ right[1]).get(), expected[1], atol=tolerance)


def test_new_memory_is_nan(cupy):
    cupy.get_default_memory_pool().free_all_blocks()
    assert np.isnan(cupy.empty((3, 5), "float32").get()).all()


TWO_DEVICES = """
import threading
from tests import hostcupy
hostcupy.start()
import cupy
x, elsewhere = cupy.ones(3), []
def work():
    cupy.cuda.Device(1).use()
    elsewhere.append(cupy.ones(3))
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert (x.device.id, elsewhere[0].device.id, cupy.cuda.Device().id) == (0, 1, 0)
x + elsewhere[0]
"""


def test_each_thread_has_a_device_and_arrays_stay_on_theirs(cupy):
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES], env={**os.environ, "HOSTCUPY_DEVICES": "2"},
                          capture_output=True, text=True)
    assert "Peer access is unavailable between these devices" in done.stderr, done.stderr


def test_counts(cupy):
    x, host = cupy.ones((4, 5), "float32"), np.ones(6, np.float32)
    cupy.asnumpy(x @ x.T + 1)  # kernels are compiled, cuBLAS has its handle
    with hostcupy.count() as counts:
        y = x + 1
        z = y @ y.T
    assert (counts.launches, counts.products, counts.waits) == (1, 1, 0)
    assert counts.peak == 512 + 512  # y and z; CuPy's pool hands out 512 bytes at a time
    with hostcupy.count() as counts:
        cupy.asarray(host)
    assert (counts.to_device, counts.to_device_bytes, counts.launches) == (1, 24, 0)
    with hostcupy.count() as counts:
        float(z[0, 0])
    assert (counts.to_host, counts.to_host_bytes, counts.waits) == (1, 4, 1)
    with hostcupy.count() as counts:
        for _ in range(5):
            x + 1  # freed at once
    assert counts.launches == 5 and counts.peak == 512
