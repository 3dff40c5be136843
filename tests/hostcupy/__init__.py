"""The real CuPy without a GPU: README.md says what is replaced and why.

``start()``, before CuPy is imported, replaces the driver; ``count()`` counts what a piece of work asks of it.
"""
from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import build

_keep: list[Any] = []  # what C code points to
_driver: Any = None


def missing() -> str | None:
    """What this machine lacks to run CuPy on its processor, or None."""
    for program in ("gcc", "g++", "nm"):
        if shutil.which(program) is None:
            return f"hostcupy: {program} is not installed"
    if importlib.util.find_spec("cupy") is None:
        return "hostcupy: CuPy is not installed: pip install 'cupy-cuda12x==14.*'"
    return None


def start() -> None:
    """Replace the GPU. ``HOSTCUPY_DEVICES`` is the number of GPUs to pretend, by default 1."""
    global _driver
    if _driver is not None:
        return
    if "cupy" in sys.modules:
        raise RuntimeError("hostcupy.start() comes too late: CuPy is imported already")
    os.environ["CUPY_ACCELERATORS"] = ""  # no CUB and no cuTENSOR: their kernels need NVIDIA's compiler
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"  # CuPy keeps no kernels on disk; build.py does
    ctypes.CDLL(build.library("cublas"), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(build.library("nccl"), ctypes.RTLD_GLOBAL)
    _driver = ctypes.PyDLL(build.library("driver"), ctypes.RTLD_GLOBAL)
    ctypes.c_int.in_dll(_driver, "hostcupy_devices").value = int(os.environ.get("HOSTCUPY_DEVICES", "1"))
    runtime, driver = (importlib.import_module(f"cupy_backends.cuda.api.{name}") for name in ("runtime", "driver"))
    replace_functions(runtime)
    replace_functions(driver)
    _keep.append(runtime.PointerAttributes(-1, 0, 0, 0))
    ctypes.py_object.in_dll(_driver, "hostcupy_pointer_attributes").value = _keep[-1]
    for name in ("cublas", "nccl"):  # now: CuPy would look for NVIDIA's first
        importlib.import_module(f"cupy_backends.cuda.libs.{name}")
    importlib.import_module("cupy_backends.cuda.libs.nvrtc").getVersion = lambda: (12, 9)
    compiler = importlib.import_module("cupy.cuda.compiler")
    compiler._compile_using_nvrtc_no_warning = compile_kernels
    compiler._preprocess = lambda *arguments: ""  # NVRTC's own version, for CuPy's cache
    thrust = importlib.import_module("cupy.cuda.thrust")
    thrust.sort, thrust.argsort, thrust.lexsort = sort, argsort, lexsort


def start_if_asked() -> None:
    """For processes that a test starts: ``start()`` if the test runs on hostcupy."""
    if os.environ.get("HOSTCUPY"):
        start()


# ---------------------------------------------------------------------------------------------------------
# The driver: Cython modules call each other through tables of C functions, {name: (signature, address)}
# ---------------------------------------------------------------------------------------------------------
C_TYPES = {"PyObject *": ctypes.py_object, "int": ctypes.c_int, "unsigned int": ctypes.c_uint, "float": ctypes.c_float,
           "intptr_t": ctypes.c_ssize_t, "size_t": ctypes.c_size_t}


def replace_functions(module: Any) -> None:
    """Put the functions ``hc_NAME`` of driver.c in the place of the module's own, for Cython and for Python."""
    name_of, new = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_New
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    table = module.__pyx_capi__
    for name in [name for name in table if hasattr(_driver, f"hc_{name}")]:
        f, signature = getattr(_driver, f"hc_{name}"), ctypes.create_string_buffer(name_of(table[name]))
        _keep.append(signature)  # a capsule keeps the pointer only
        table[name] = new(ctypes.cast(f, ctypes.c_void_p), ctypes.cast(signature, ctypes.c_char_p), None)
        setattr(module, name, for_python(f, signature.value.decode()))


def for_python(f: Any, signature: str) -> Any:
    """The C function as one of Python. ``intptr_t (size_t, int __pyx_skip_dispatch)`` takes one argument there."""
    result, _, arguments = signature.rstrip(")").partition("(")
    given = [a for a in arguments.split(", ") if "__pyx" not in a and a != "void"]
    hidden = [ctypes.c_void_p for a in arguments.split(", ") if "__pyx" in a]
    f.restype = C_TYPES.get(result.strip(), ctypes.py_object)  # else a pointer to a Python object
    f.argtypes = [C_TYPES[a] for a in given] + hidden
    return lambda *values: f(*values[:len(given)], *[None] * len(hidden))


def compile_kernels(source, options=(), arch=None, filename="", name_expressions=None, *rest, **more):
    """In the place of NVRTC: the path of a library with the kernels, which ``moduleLoadData`` opens."""
    names, mapping = build.kernel_names(source), None
    if name_expressions:
        mapping = {name: f"expression{i}" for i, name in enumerate(sorted(name_expressions))}
    return build.kernels(source, {**{name: name for name in names}, **(mapping or {})}).encode(), mapping


# ---------------------------------------------------------------------------------------------------------
# Thrust: sorting along the last axis of contiguous memory
# ---------------------------------------------------------------------------------------------------------
def at(pointer: int, dtype, shape) -> np.ndarray:
    """Device memory as an array of NumPy."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype).reshape(shape)


def sort(dtype, data, keys, shape) -> None:
    at(data, dtype, shape).sort(axis=-1, kind="stable")


def argsort(dtype, index, data, keys, shape) -> None:
    at(index, np.intp, shape)[...] = at(data, dtype, shape).argsort(axis=-1, kind="stable")


def lexsort(dtype, index, keys, k, n) -> None:
    at(index, np.intp, (n,))[...] = np.lexsort(at(keys, dtype, (k, n)))


# ---------------------------------------------------------------------------------------------------------
# Counting
# ---------------------------------------------------------------------------------------------------------
@dataclasses.dataclass
class Counts:
    """What a piece of work asked of the GPU; ``peak``: the most bytes that it held of CuPy's pool at once."""

    launches: int = 0
    products: int = 0
    waits: int = 0
    to_host: int = 0
    to_host_bytes: int = 0
    to_device: int = 0
    to_device_bytes: int = 0
    peak: int = 0


def totals() -> dict[str, int]:
    names = [field.name for field in dataclasses.fields(Counts) if field.name not in ("products", "peak")]
    counted = {name: ctypes.c_long.in_dll(_driver, f"hostcupy_{name}").value for name in names}
    cublas = ctypes.CDLL(build.library("cublas"))
    return {**counted, "products": ctypes.c_long.in_dll(cublas, "hostcupy_products").value}


@contextlib.contextmanager
def count() -> Iterator[Counts]:
    """Count the work inside: complete once it has ended."""
    import cupy

    class Peak(cupy.cuda.MemoryHook):
        name = "peak"
        used = most = 0

        def malloc_postprocess(self, *, mem_size, **rest):
            self.used += mem_size
            self.most = max(self.most, self.used)

        def free_postprocess(self, *, mem_size, **rest):
            self.used -= mem_size

    counts, before = Counts(), totals()
    with Peak() as peak:
        yield counts
    for name, value in totals().items():
        setattr(counts, name, value - before[name])
    counts.peak = peak.most
