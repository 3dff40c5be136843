"""What minicv computes with: a device (NumPy, or CuPy on a GPU), threads, and a few primitives.

``devices.py`` is the switch, ``workers.py`` the threads that work through blocks, ``arithmetic.py`` what has another
best form on each device: products, sums that keep their digits, masks.
"""
from . import blas

blas.choose_kernel()  # before NumPy is imported

from .arithmetic import (  # noqa: E402
    add_at,
    as_strided,
    in_range,
    keep,
    matmul,
    parallel_matmul,
    sum_rows,
    total,
    weigh,
)
from .devices import (  # noqa: E402
    Array,
    current,
    device_of,
    is_array,
    register,
    rng,
    seed,
    seeded,
    to_device,
    to_numpy,
    use,
    xp,
    xp_of,
)
from .workers import cores, parallel, parallel_chunks, threads  # noqa: E402

__all__ = [
    "Array", "add_at", "as_strided", "cores", "current", "device_of", "in_range", "is_array", "keep", "matmul",
    "parallel", "parallel_chunks", "parallel_matmul", "register", "rng", "seed", "seeded", "sum_rows", "threads",
    "to_device", "to_numpy", "total", "use", "weigh", "xp", "xp_of",
]
