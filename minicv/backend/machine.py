"""What this machine computes with, and how fast: its processor, GPU, cores, BLAS and memory."""
from __future__ import annotations

import contextlib
import importlib
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import blas
from .devices import current_device
from .workers import cores, num_threads, parallel_map


def gpu() -> str:
    """Return CuPy's version and the device's name, or why there is none."""
    try:
        cupy = importlib.import_module("cupy")
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
        return f"CuPy {cupy.__version__}, {properties['name'].decode()}"
    except ImportError:
        return "none: CuPy is not installed (pip install -e '.[cuda]' on a machine with an NVIDIA GPU)"
    except Exception as error:  # whatever the driver raises
        return f"none: CuPy is installed but finds no usable device ({error})"


def processor() -> str:
    """Return the processor's name."""
    with contextlib.suppress(OSError):  # Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_machine() -> str:
    """Return one line about what computed a result: processor, cores, NumPy, and the GPU or the BLAS kernel."""
    device = gpu() if current_device() != "numpy" else f"OpenBLAS {blas.kernel() or '(none)'}"
    return f"{processor()}, {num_threads()} of {cores()} cores, NumPy {np.__version__}, {device}"


def best_of(work: Callable[[], object], seconds: float = 0.4) -> float:
    """Return the seconds of the fastest of several calls, repeated for about ``seconds``."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def product_rate(threads: int) -> float:
    """Return GFLOP/s (2 per multiply-accumulate) of float32 products of 1024 x 1024 matrices, one on each thread."""
    n = 1024
    a, b = np.ones((n, n), np.float32), np.ones((n, n), np.float32)
    outs = [np.empty((n, n), np.float32) for _ in range(threads)]
    return 2e-9 * n ** 3 * threads / best_of(lambda: parallel_map(lambda out: np.matmul(a, b, out=out), outs))


def bandwidth(threads: int) -> float:
    """Return GB/s, read and written, of copying 64 MB on each thread: more than the caches hold."""
    pairs = [(np.ones(1 << 24, np.float32), np.empty(1 << 24, np.float32)) for _ in range(threads)]
    return 2e-9 * threads * pairs[0][0].nbytes / best_of(
        lambda: parallel_map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
