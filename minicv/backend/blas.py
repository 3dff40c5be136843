"""The BLAS library behind NumPy: which kernel it uses, and its number of threads.

OpenBLAS chooses its kernel by the processor's name, and uses its AVX2 kernel ("Haswell") on AVX-512 processors that it
does not know. Its AVX-512 kernel ("SkylakeX") was 1.7 to 2 times as fast on those measured. The kernel is chosen once,
while NumPy is loaded, so ``import minicv`` chooses it if NumPy has not been imported yet.
"""
from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}


def recommended_kernel(cpuinfo: str | None = None) -> str | None:
    """Return the best value of OPENBLAS_CORETYPE on this processor; None if OpenBLAS chooses well by itself."""
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text()
        except OSError:
            return None
    first = dict(line.split(":", 1) for line in cpuinfo.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in first.items()}
    known = fields.get("vendor_id") == "GenuineIntel"
    return "SkylakeX" if not known and set(fields.get("flags", "").split()) >= AVX512 else None


def choose_kernel() -> None:
    """Set OPENBLAS_CORETYPE as recommended, unless the user has set it or NumPy is already loaded."""
    kernel = recommended_kernel()
    if kernel and "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_CORETYPE", kernel)


def _library_function(name: str) -> Any:
    """Return the function ``openblas_NAME`` of the library that NumPy is linked with; None if that is not OpenBLAS."""
    path = import_module("numpy._core._multiarray_umath").__file__
    library = ctypes.CDLL(path)  # a handle also finds the symbols of its dependencies
    for symbol in (f"scipy_openblas_{name}64_", f"scipy_openblas_{name}", f"openblas_{name}64_", f"openblas_{name}"):
        if hasattr(library, symbol):
            return getattr(library, symbol)
    return None


def kernel() -> str | None:
    """Return the kernel in use, such as ``"SkylakeX"`` or ``"Haswell"``; None if NumPy's BLAS is not OpenBLAS."""
    function = _library_function("get_corename")
    if function is None:
        return None
    function.restype = ctypes.c_char_p
    return function().decode()


def thread_setter() -> Callable[[int], None] | None:
    """Return the function that sets the number of threads of NumPy's OpenBLAS; None for another BLAS."""
    setter = _library_function("set_num_threads")
    if setter is not None:
        setter.argtypes, setter.restype = [ctypes.c_int], None
    return setter
