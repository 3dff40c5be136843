"""Sums over GPUs, one per process: NVIDIA's NCCL through ``cupyx.distributed``.

The sums run in a stream of their own, in parallel with the kernels of the backward pass; the CPU waits for neither.
Not tested on GPUs yet, see docs/gpu.md.
"""
from __future__ import annotations

from collections.abc import Callable

from ..backend import Array


def select_gpu(number: int) -> bool:
    """Use GPU ``number`` of this machine; return False if it has fewer GPUs, which the processes then share."""
    import cupy
    from cupy.cuda import nccl
    count = cupy.cuda.runtime.getDeviceCount()
    cupy.cuda.Device(number % count).use()
    return number < count and nccl.available


class NCCLCommunicator:
    """The communicator of ``size`` processes, which find each other through MPI."""

    def __init__(self, size: int, rank: int):
        import cupy
        from cupyx.distributed import NCCLBackend
        self.comm = NCCLBackend(size, rank, use_mpi=True)
        self.stream, self.current = cupy.cuda.Stream(non_blocking=True), cupy.cuda.get_current_stream

    def sum(self, array: Array) -> Callable[[], Array]:
        """Start to sum the processes' arrays in place; the returned function makes the next kernel wait for the sum."""
        self.stream.wait_event(self.current().record())  # wait until the array is computed
        self.comm.all_reduce(array, array, stream=self.stream)
        summed = self.stream.record()

        def result() -> Array:
            self.current().wait_event(summed)
            return array
        return result
