"""The switch between devices, and random numbers."""
import sys

import numpy as np
import pytest

import minicv
from minicv import backend
from minicv.backend import devices
from tests.strict_device import StrictArray, strict


# ---------------------------------------------------------------------------------------------------------
# Devices
# ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def in_use():
    before = backend.current_device()
    yield
    minicv.use(before)


def test_numpy_is_the_device_unless_another_is_chosen(in_use):
    assert backend.current_device() == "numpy" and backend.xp() is np
    minicv.use("strict")
    assert backend.current_device() == "strict" and backend.xp() is strict
    assert type(backend.to_device(np.zeros(2))) is StrictArray


def test_an_unknown_device_is_an_error_that_lists_them(in_use):
    with pytest.raises(ValueError, match=r"use\('abacus'\): unknown device; use one of \['cupy', 'numpy', 'strict'\]"):
        minicv.use("abacus")
    assert backend.current_device() == "numpy"


def test_without_cupy_the_error_says_how_to_get_it(in_use, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    monkeypatch.setattr(devices, "_modules", {"numpy": np})
    with pytest.raises(RuntimeError, match=r"CuPy cannot be imported; install it with `pip install -e '.\[cuda\]'`"):
        minicv.use("cupy")
    assert backend.current_device() == "numpy"


@pytest.mark.parametrize("value", [[1.0], 1.0, None, "array"])
def test_what_is_no_array(value):
    assert not backend.is_array(value)
    with pytest.raises(TypeError, match="expected an array of .*numpy.*, got"):
        backend.xp_of(value)


def test_where_arrays_are():
    assert backend.xp_of(np.zeros(2)) is np and backend.xp_of(np.float32(1)) is np
    assert backend.device_of(strict.zeros(2)) == "strict"


def test_moving_arrays():
    host = np.arange(3.0)
    assert backend.to_device(host, "numpy") is host and backend.to_numpy(host) is host
    device = backend.to_device(host, "strict")
    assert backend.to_device(device, "strict") is device
    assert type(backend.to_device(device, "numpy")) is np.ndarray and np.array_equal(backend.to_numpy(device), host)


# ---------------------------------------------------------------------------------------------------------
# Random numbers
# ---------------------------------------------------------------------------------------------------------
def test_a_seed_gives_the_same_numbers_again():
    minicv.seed(3)
    first = backend.rng().standard_normal(4)
    minicv.seed(3)
    assert np.array_equal(backend.rng().standard_normal(4), first)
    assert not np.array_equal(backend.rng().standard_normal(4), first)
    minicv.seed(4)
    assert not np.array_equal(backend.rng().standard_normal(4), first)
