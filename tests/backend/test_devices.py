"""The switch between devices, and random numbers."""
import sys
import threading
import types

import numpy as np
import pytest

import minicv
from minicv import backend
from minicv.backend import devices
from minicv.training.loop import prefetch
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


@pytest.mark.parametrize("broken, message", [
    ("driver", r"CuPy 14.0 cannot compute here \(cudaErrorNoDevice\); it needs an NVIDIA GPU with its driver"),
    ("nvrtc", r"\(no libnvrtc.so.12\); .* and the CUDA libraries that `pip install -e '.\[cuda\]'` installs"),
    ("cublas", r"\(no libcublas.so.12\); ")])
def test_without_a_gpu_or_a_library_one_line_says_what_is_missing(in_use, monkeypatch, broken, message):
    def raises(text):
        def call():
            raise RuntimeError(text + "\nmore lines")
        return call
    runtime = types.SimpleNamespace(getDeviceCount=raises("cudaErrorNoDevice") if broken == "driver" else lambda: 1)
    nvrtc = types.SimpleNamespace(getVersion=raises("no libnvrtc.so.12") if broken == "nvrtc" else lambda: (12, 9))
    cupy = types.SimpleNamespace(__version__="14.0", cuda=types.SimpleNamespace(runtime=runtime, nvrtc=nvrtc))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(devices, "_modules", {"numpy": np})
    monkeypatch.setattr(devices.importlib, "import_module", lambda name: raises("no libcublas.so.12")())
    with pytest.raises(RuntimeError, match=message) as caught:
        minicv.use("cupy")
    assert "\n" not in str(caught.value) and backend.current_device() == "numpy"


def test_threads_that_prepare_examples_use_the_gpu_of_the_thread_that_asks(monkeypatch):
    """As CuPy has it, each thread has a GPU of its own, at first 0."""
    used = threading.local()

    class Device:
        def __init__(self):
            self.id = getattr(used, "id", 0)

        def use(self):
            used.id = self.id
    monkeypatch.setitem(devices._modules, "cupy", types.SimpleNamespace(cuda=types.SimpleNamespace(Device=Device)))
    used.id = 1
    assert list(prefetch(lambda i: getattr(used, "id", 0), iter(range(3)), 2)) == [1, 1, 1]


def test_without_cupy_there_is_no_gpu_to_select(monkeypatch):
    monkeypatch.setattr(devices, "_modules", {"numpy": np})
    assert backend.select_same_gpu()() is None


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
