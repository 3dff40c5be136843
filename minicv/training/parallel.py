"""Data-parallel training: several processes, each with its share of every batch; gradients are averaged.

    mpirun -n 2 minicv train unet --data cells --batch 2 --out runs/two
    mpirun -n 2 minicv --backend cupy train unet --data cells --batch 2 --out runs/two    # one GPU each, by NCCL

Every process has the whole model and takes the same steps. The mean of the processes' gradients is the gradient of the
whole batch for two reasons: all shares have the same size, and the networks divide sums over a varying number of pixels
or RoIs by the mean number per process (``models/distributed.py``). Needs ``pip install -e '.[mpi]'`` and an MPI.
"""
from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import backend
from ..autograd import Tensor, graph
from ..backend import Array
from ..errors import UserError
from ..nn import Module
from . import nccl

BUCKET_SIZE = 1 << 22  # bytes: gradients are sent in messages of about this size


class ProcessGroup:
    """The processes that train together. This class is the group of a single process."""

    rank, size = 0, 1

    def broadcast(self, model: Module) -> None:
        """Give every process the weights of process 0."""

    def backward(self, loss: Tensor, parameters: list[Tensor]) -> None:
        """Call ``loss.backward()`` and replace the parameters' gradients by their mean over the processes."""
        loss.backward()

    def sum(self, array: Array) -> Array:
        """Return the sum of the processes' arrays, on the same device."""
        return array

    def union(self, names: list[str]) -> list[str]:
        """Return the names that any process has, in the same order in all."""
        return names

    def barrier(self) -> None:
        """Wait until all processes have reached this point."""


SINGLE_PROCESS = ProcessGroup()


@dataclasses.dataclass
class PendingSum:
    """A sum in progress. ``poll()`` lets it progress, ``result()`` waits for it."""

    poll: Callable[[], Any]
    result: Callable[[], Array]


class MPIGroup(ProcessGroup):
    """The processes that ``mpirun`` started, through mpi4py; arrays on GPUs are summed by NCCL where possible."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise UserError("started by mpirun, but mpi4py cannot be imported: pip install -e '.[mpi]'") from error
        self.MPI, self.comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        local = self.comm.Split_type(MPI.COMM_TYPE_SHARED)  # the processes on this machine, which share its cores
        os.environ.setdefault("MINICV_THREADS", str(max(1, backend.cores() // local.size)))
        self.nccl = None
        if backend.current_device() == "cupy":
            own_gpu = nccl.select_gpu(local.rank)
            if self.comm.allreduce(own_gpu, MPI.LAND):  # NCCL needs a GPU for each process
                self.nccl = nccl.NCCLCommunicator(self.size, self.rank)

    def start_sum(self, array: Array) -> PendingSum:
        """Start to sum the processes' arrays, which must be contiguous. Overwrites ``array``."""
        if self.nccl is not None and backend.device_of(array) == "cupy":
            return PendingSum(lambda: None, self.nccl.sum(array))
        total = backend.to_numpy(array)
        request = self.comm.Iallreduce(self.MPI.IN_PLACE, total)

        def result() -> Array:
            request.Wait()
            return backend.to_device(total, backend.device_of(array))
        return PendingSum(request.Test, result)

    def sum(self, array: Array) -> Array:
        return self.start_sum(array.copy(order="C")).result()

    def broadcast(self, model: Module) -> None:
        state = {name: np.array(value) for name, value in model.state_dict().items()}
        for value in state.values():
            self.comm.Bcast(value)
        model.load_state_dict(state)

    def backward(self, loss: Tensor, parameters: list[Tensor]) -> None:
        """Send each bucket of gradients as soon as it is complete, while the backward pass continues.

        The order is the same in every process, as MPI requires. A parameter that the loss does not use counts as 0.
        """
        buckets = list(gradient_buckets([p for p in parameters if p.requires_grad]))
        complete: set[Tensor] = set()
        sent: list[PendingSum] = []  # one per bucket

        def send() -> None:
            sent.append(self.start_sum(pack_gradients(buckets[len(sent)])))

        def ready(p: Tensor) -> None:
            complete.add(p)
            while len(sent) < len(buckets) and complete.issuperset(buckets[len(sent)]):
                send()
            for each in sent:
                each.poll()  # MPI makes progress only when it is called

        graph.backward(loss, ready=ready)
        while len(sent) < len(buckets):
            send()
        for bucket, each in zip(buckets, sent, strict=True):
            mean = each.result() / self.size
            for p, part in split_bucket(bucket, mean):
                p.grad = part

    def union(self, names: list[str]) -> list[str]:
        return list(dict.fromkeys(name for each in self.comm.allgather(names) for name in each))

    def barrier(self) -> None:
        self.comm.Barrier()


def pack_gradients(bucket: list[Tensor]) -> Array:
    """Return the bucket's gradients in one flat array; a missing gradient is 0."""
    xp = backend.xp_of(bucket[0].data)
    flat = xp.zeros(sum(p.size for p in bucket), bucket[0].dtype)
    for p, part in split_bucket(bucket, flat):
        if p.grad is not None:
            part[...] = p.grad
    return flat


def split_bucket(bucket: list[Tensor], flat: Array) -> Iterator[tuple[Tensor, Array]]:
    """Yield each parameter with its part of the flat array, a view with the parameter's memory layout."""
    offset = 0
    for p in bucket:
        strides = tuple(s // p.data.itemsize for s in p.data.strides)
        yield p, backend.as_strided(flat, p.shape, strides, offset)
        offset += p.size


def gradient_buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield parameters in groups of one dtype and about ``BUCKET_SIZE`` bytes; the last first, as backward goes."""
    bucket: list[Tensor] = []
    for p in reversed(parameters):
        if bucket and (p.dtype != bucket[0].dtype or sum(q.data.nbytes for q in bucket) >= BUCKET_SIZE):
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket


def process_group() -> ProcessGroup:
    """Return the group of this process: MPI's if ``mpirun`` started several processes, else this process alone."""
    sizes = (os.environ.get(name, "1") for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS_PER_STEP"))
    return MPIGroup() if any(size.isdecimal() and int(size) > 1 for size in sizes) else SINGLE_PROCESS


@contextlib.contextmanager
def abort_on_error(group: Any) -> Iterator[None]:
    """Inside, an error in one process is printed and ends all processes, which would otherwise wait forever."""
    try:
        yield
    except BaseException as error:
        if group.size == 1 or isinstance(error, KeyboardInterrupt):
            raise
        known = isinstance(error, UserError | OSError)
        text = str(error) if known else traceback.format_exc()
        print(f"minicv: process {group.rank} of {group.size}: {text}", file=sys.stderr, flush=True)
        group.comm.Abort(2)
        raise


