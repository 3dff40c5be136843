"""``minicv doctor``: what this machine computes with, how fast, and what to set if something is slow."""
from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import __version__, backend
from ..backend import blas


def best_of(work: Callable[[], object], seconds: float = 0.4) -> float:
    """The shortest time of one call, repeating for a while."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def product_rate(threads: int) -> float:
    """GFLOP/s (2 per multiply-accumulate) of float32 matrix products of 1024, one on each of ``threads`` threads."""
    n = 1024
    a, b = np.ones((n, n), np.float32), np.ones((n, n), np.float32)
    outs = [np.empty((n, n), np.float32) for _ in range(threads)]
    return 2e-9 * n ** 3 * threads / best_of(lambda: backend.parallel_map(lambda out: np.matmul(a, b, out=out), outs))


def bandwidth(threads: int) -> float:
    """GB/s, read and written, of copying 64 MB on each of ``threads`` threads: more than the caches hold."""
    pairs = [(np.ones(1 << 24, np.float32), np.empty(1 << 24, np.float32)) for _ in range(threads)]
    return 2e-9 * threads * pairs[0][0].nbytes / best_of(
        lambda: backend.parallel_map(lambda pair: np.copyto(pair[1], pair[0]), pairs))


def gpu() -> str:
    """CuPy's version and the device's name, or why there is none."""
    try:
        import importlib
        cupy = importlib.import_module("cupy")
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
        return f"CuPy {cupy.__version__}, {properties['name'].decode()}"
    except ImportError:
        return "none: CuPy is not installed (pip install -e '.[cuda]' on a machine with an NVIDIA GPU)"
    except Exception as error:  # whatever the driver says
        return f"none: CuPy is installed but finds no usable device ({error})"


def processor() -> str:
    """The processor's name as the system tells it."""
    with contextlib.suppress(OSError):  # Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """One line that says what computed a result: processor, cores, NumPy, and what multiplied its matrices."""
    where = gpu() if backend.current_device() != "numpy" else f"OpenBLAS {blas.kernel() or '(none)'}"
    return f"{processor()}, {backend.num_threads()} of {backend.cores()} cores, NumPy {np.__version__}, {where}"


def advice(kernel: str | None, recommended: str | None, threads: int, cores: int) -> list[str]:
    """What to set, one sentence each; empty if all is well."""
    lines = []
    if recommended and kernel != recommended:
        why = (f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} is set" if "OPENBLAS_CORETYPE" in os.environ
               else "NumPy was imported before minicv")
        lines.append(f"OpenBLAS uses its {kernel} kernel although this processor has AVX-512 ({why}): "
                     f"set OPENBLAS_CORETYPE={recommended}")
    if kernel is None:
        lines.append("NumPy's BLAS is not OpenBLAS: minicv leaves the threads to it; a NumPy from PyPI brings OpenBLAS")
    elif threads < cores:
        lines.append(f"minicv uses {threads} of {cores} cores: unset MINICV_THREADS, or set it to {cores}")
    return lines


def report() -> list[tuple[str, str]]:
    """(what, finding) for every line that ``minicv doctor`` prints."""
    threads, cores = backend.num_threads(), backend.cores()
    kernel, recommended = blas.kernel(), blas.recommended_kernel()
    rows = [("minicv", __version__),
            ("Python", f"{platform.python_version()} on {platform.system()}, {platform.machine()}"),
            ("NumPy", np.__version__),
            ("BLAS kernel", f"{kernel or 'unknown'}" + (f" (recommended: {recommended})" if recommended else "")),
            ("threads", f"{threads} of {cores} cores"), ("GPU", gpu()),
            ("matrix product", f"{product_rate(1):.0f} GFLOP/s on one thread, "
                               f"{product_rate(threads):.0f} on {threads}"),
            ("memory", f"{bandwidth(1):.0f} GB/s on one thread, {bandwidth(threads):.0f} on {threads}")]
    return rows + [("advice", line) for line in advice(kernel, recommended, threads, cores) or ["nothing to change"]]


def main() -> int:
    """Print the report."""
    for what, finding in report():
        print(f"{what:<15} {finding}")
        sys.stdout.flush()
    return 0
