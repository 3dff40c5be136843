"""``minicv doctor``: what this machine computes with, how fast, and what to change if it is slow."""
from __future__ import annotations

import argparse
import os
import platform
from typing import Any

import numpy as np

from .. import backend
from ..backend import blas
from ..backend.machine import bandwidth, gpu, product_rate
from ..version import __version__


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser("doctor", help="show what this machine computes with, how fast, and what to change if it "
                              "is slow")
    add.set_defaults(run=run)


def advice(kernel: str | None, recommended: str | None, threads: int, cores: int) -> list[str]:
    """Return what to change, one sentence each; empty if nothing is."""
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
    """Return (name, finding) for every line that ``minicv doctor`` prints."""
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


def run(args: argparse.Namespace) -> int:
    """minicv doctor"""
    for name, finding in report():
        print(f"{name:<15} {finding}", flush=True)
    return 0
