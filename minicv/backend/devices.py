"""The switch between NumPy and CuPy, and minicv's random numbers.

Only this file, ``training.nccl`` and the doctor import CuPy. All other code asks ``xp_of(array)`` for the module that
owns an array, and is written once for both devices.
"""
from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray

# ---------------------------------------------------------------------------------------------------------
# Devices: a name, the module that computes there, and its array type
# ---------------------------------------------------------------------------------------------------------
_modules: dict[str, ModuleType] = {"numpy": np}
_names: dict[type, str] = {np.ndarray: "numpy"}
_current = "numpy"
_rng = np.random.default_rng(0)


def register_device(name: str, module: ModuleType, array_type: type) -> None:
    """Add a device. ``cupy`` is added on first use; the tests add a strict stand-in."""
    _modules[name] = module
    _names[array_type] = name


def _import_cupy() -> ModuleType:
    """Return CuPy. Raise ``RuntimeError``, in one line, if it, the driver, a GPU or a library of CUDA is missing."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError("minicv.use('cupy'): CuPy cannot be imported; install it with "
                           "`pip install -e '.[cuda]'` on a machine with an NVIDIA GPU") from error
    try:
        cupy.cuda.runtime.getDeviceCount()  # needs a driver and a GPU
        cupy.cuda.nvrtc.getVersion()
        importlib.import_module("cupy.cublas")
    except Exception as error:  # ImportError, or whatever the driver raises
        raise RuntimeError(f"minicv.use('cupy'): CuPy {cupy.__version__} cannot compute here "
                           f"({str(error).partition(chr(10))[0]}); it needs an NVIDIA GPU with its driver, and the "
                           "CUDA libraries that `pip install -e '.[cuda]'` installs") from error
    return cupy


def _load(name: str) -> ModuleType:
    if name == "cupy" and name not in _modules:
        cupy = _import_cupy()
        register_device("cupy", cupy, cupy.ndarray)
    if name not in _modules:
        raise ValueError(f"minicv.use({name!r}): unknown device; use one of {sorted({*_modules, 'cupy'})}")
    return _modules[name]


def use(name: str) -> None:
    """Choose the device of new parameters: ``"numpy"`` or ``"cupy"``."""
    global _current
    _load(name)
    _current = name


def current_device() -> str:
    """Return the name of the device in use."""
    return _current


def xp() -> ModuleType:
    """Return the array module of the device in use (numpy or cupy)."""
    return _modules[_current]


def is_array(value: object) -> bool:
    """Return whether a value is an array of a known device."""
    return type(value) in _names or isinstance(value, np.ndarray)


def device_of(array: Array) -> str:
    """Return the name of the device that holds an array."""
    name = _names.get(type(array))
    if name is None:
        if isinstance(array, np.ndarray | np.generic):
            return "numpy"
        raise TypeError(f"expected an array of {sorted(_modules)}, got {type(array).__name__}")
    return name


def xp_of(array: Array) -> ModuleType:
    """Return the module that owns an array: ``numpy`` or ``cupy``."""
    return _modules[device_of(array)]


def to_numpy(array: Array) -> np.ndarray:
    """Return a NumPy array with the same values; a copy if the array lies on a GPU."""
    return np.asarray(array) if device_of(array) == "numpy" else array.get()


def to_device(array: Array, name: str | None = None) -> Array:
    """Return the array on the named device (default: the one in use); the same object if it is there already."""
    name = name or _current
    return array if device_of(array) == name else _load(name).asarray(to_numpy(array))


def select_same_gpu() -> Callable[[], object]:
    """Return a function for a new thread to call first: there, too, CuPy then computes on this thread's GPU."""
    return _modules["cupy"].cuda.Device().use if "cupy" in _modules else lambda: None


# ---------------------------------------------------------------------------------------------------------
# Random numbers: drawn on the host from one generator, so a seed gives the same numbers on any device
# ---------------------------------------------------------------------------------------------------------
def seed(n: int) -> None:
    """Seed minicv's random numbers (initial weights, dropout)."""
    global _rng
    _rng = np.random.default_rng(n)


@contextlib.contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Inside, seed minicv's random numbers with ``numbers``; afterwards they continue as before."""
    global _rng
    before, _rng = _rng, np.random.default_rng(numbers)
    try:
        yield
    finally:
        _rng = before


def rng() -> np.random.Generator:
    """Return the generator behind initial weights and dropout."""
    return _rng
