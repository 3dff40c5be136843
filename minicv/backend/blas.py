"""What minicv has to know about the BLAS library behind NumPy: which kernel it takes, and its threads.

OpenBLAS chooses its matrix product by processor name, and takes its AVX2 kernel ("Haswell") on AVX-512 processors that
it does not know. Its AVX-512 kernel ("SkylakeX") was 1.7 to 2 times as fast on those measured. The choice is made
once, while NumPy is being loaded, so ``import minicv`` makes it if NumPy has not been imported yet.
"""
from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}


def recommended_kernel(cpuinfo: str | None = None) -> str | None:
    """The value that OPENBLAS_CORETYPE should have on this processor, or None where OpenBLAS chooses well."""
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
    """Set OPENBLAS_CORETYPE as recommended, unless the user has set it or NumPy has been loaded already."""
    kernel = recommended_kernel()
    if kernel and "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_CORETYPE", kernel)


def _library_function(name: str) -> Callable | None:
    """OpenBLAS's ``openblas_NAME`` in the library that NumPy itself is linked with, None in another BLAS."""
    from numpy._core import _multiarray_umath
    library = ctypes.CDLL(_multiarray_umath.__file__)  # a handle finds the symbols of its dependencies too
    for symbol in (f"scipy_openblas_{name}64_", f"scipy_openblas_{name}", f"openblas_{name}64_", f"openblas_{name}"):
        if hasattr(library, symbol):
            return getattr(library, symbol)
    return None


def kernel() -> str | None:
    """The kernel in use, such as ``"SkylakeX"`` or ``"Haswell"``; None if NumPy's BLAS is not OpenBLAS."""
    function = _library_function("get_corename")
    if function is None:
        return None
    function.restype = ctypes.c_char_p
    return function().decode()


def thread_setter() -> Callable[[int], None] | None:
    """The function that sets the number of threads of NumPy's OpenBLAS; None in another BLAS."""
    setter = _library_function("set_num_threads")
    if setter is not None:
        setter.argtypes, setter.restype = [ctypes.c_int], None
    return setter
