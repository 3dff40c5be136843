"""What minicv computes with: a device (NumPy, or CuPy on a GPU), threads, and a few primitives.

``devices.py`` is the switch between NumPy and CuPy, ``workers.py`` the threads that work through blocks,
``arithmetic.py`` has products, accurate sums and masks, ``blas.py`` chooses the BLAS kernel, ``memory.py`` measures
free memory.
"""
from . import blas

blas.choose_kernel()  # before NumPy is imported

from .arithmetic import (  # noqa: E402
    accurate_sum,
    add_at,
    all_finite,
    apply_mask,
    apply_weights,
    as_strided,
    matmul,
    parallel_matmul,
    sum_rows,
    without_overflow,
)
from .devices import (  # noqa: E402
    Array,
    current_device,
    device_of,
    is_array,
    register_device,
    rng,
    seed,
    seeded,
    select_same_gpu,
    to_device,
    to_numpy,
    use,
    xp,
    xp_of,
)
from .workers import cores, num_threads, parallel_chunks, parallel_map  # noqa: E402

__all__ = [
    "accurate_sum", "add_at", "all_finite", "apply_mask", "apply_weights", "Array", "as_strided", "cores",
    "current_device", "device_of", "is_array", "matmul", "num_threads", "parallel_chunks", "parallel_map",
    "parallel_matmul", "register_device", "rng", "seed", "seeded", "select_same_gpu", "sum_rows", "to_device",
    "to_numpy", "use", "without_overflow", "xp", "xp_of",
]
