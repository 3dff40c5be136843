"""Sums over GPUs, one for each process: NVIDIA's NCCL through ``cupyx.distributed``.

The sums run in a stream of their own, beside the kernels of the backward pass; the processor waits for neither.
Not run on GPUs yet, see docs/gpu.md.
"""
from __future__ import annotations

from collections.abc import Callable

from ..backend import Array


def choose(number: int) -> bool:
    """Compute on GPU ``number`` of this machine; False if it has fewer, which are then shared."""
    import cupy
    count = cupy.cuda.runtime.getDeviceCount()
    cupy.cuda.Device(number % count).use()
    return number < count and cupy.cuda.nccl.available


class NCCL:
    """The communicator of ``size`` processes; they find each other through MPI."""

    def __init__(self, size: int, rank: int):
        import cupy
        from cupyx.distributed import NCCLBackend
        self.comm = NCCLBackend(size, rank, use_mpi=True)
        self.stream, self.current = cupy.cuda.Stream(non_blocking=True), cupy.cuda.get_current_stream

    def sum(self, array: Array) -> Callable[[], Array]:
        """Begin to sum the processes' arrays in place; what it returns gives the sum, in time for the next kernel."""
        self.stream.wait_event(self.current().record())  # until the array is computed
        self.comm.all_reduce(array, array, stream=self.stream)
        summed = self.stream.record()

        def result() -> Array:
            self.current().wait_event(summed)
            return array
        return result
