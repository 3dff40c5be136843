"""Data-parallel training: several processes, each with its share of every batch, gradients averaged.

    mpirun -n 2 minicv train unet --data cells --batch 2 --out runs/two
    mpirun -n 2 minicv --backend cupy train unet --data cells --batch 2 --out runs/two    # a GPU for each, by NCCL

Every process has the whole model and takes the same steps. The mean of the processes' gradients is the gradient of the
whole batch, because each share is equally large, and because the networks divide sums over pixels and RoIs that differ
in number by the processes' mean number (``models/shares.py``). Needs ``pip install -e '.[mpi]'`` and an MPI.
"""
from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import backend
from ..autograd import Tensor, graph
from ..backend import Array
from ..errors import UserError
from ..nn import Module
from . import nccl

BUCKET = 1 << 22  # bytes: gradients travel in messages of about this size


class Group:
    """The processes that train together. This one is the group of a process on its own."""

    rank, size = 0, 1

    def share(self, model: Module) -> None:
        """Give every process the weights of process 0."""

    def backward(self, loss: Tensor, parameters: list[Tensor]) -> None:
        """``loss.backward()``; afterwards the parameters' gradients are their mean over the processes."""
        loss.backward()

    def sum(self, array: Array) -> Array:
        """The sum of the processes' arrays, on the same device."""
        return array

    def union(self, names: list[str]) -> list[str]:
        """The names that any process has, in the same order in all."""
        return names

    def barrier(self) -> None:
        """Wait until all have come this far."""


ALONE = Group()


@dataclasses.dataclass
class Sum:
    """An array that is being summed up. ``poll()`` lets the sum go on, ``result()`` waits for it."""

    poll: Callable[[], Any]
    result: Callable[[], Array]


class MPIGroup(Group):
    """The processes that ``mpirun`` started, through mpi4py; arrays on GPUs travel by NCCL where that is possible."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise UserError("started by mpirun, but mpi4py cannot be imported: pip install -e '.[mpi]'") from error
        self.MPI, self.comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        here = self.comm.Split_type(MPI.COMM_TYPE_SHARED)  # processes on this machine, which share its cores
        os.environ.setdefault("MINICV_THREADS", str(max(1, backend.cores() // here.size)))
        self.nccl = None
        if backend.current_device() == "cupy":
            own_gpu = nccl.choose(here.rank)
            if self.comm.allreduce(own_gpu, MPI.LAND):  # NCCL wants a GPU for each process
                self.nccl = nccl.NCCL(self.size, self.rank)

    def begin(self, array: Array) -> Sum:
        """Begin to sum the processes' arrays, contiguous ones. What is in ``array`` is lost."""
        if self.nccl is not None and backend.device_of(array) == "cupy":
            return Sum(lambda: None, self.nccl.sum(array))
        total = backend.to_numpy(array)
        request = self.comm.Iallreduce(self.MPI.IN_PLACE, total)

        def result() -> Array:
            request.Wait()
            return backend.to_device(total, backend.device_of(array))
        return Sum(request.Test, result)

    def sum(self, array: Array) -> Array:
        return self.begin(array.copy(order="C")).result()

    def share(self, model: Module) -> None:
        state = {name: np.array(value) for name, value in model.state_dict().items()}
        for value in state.values():
            self.comm.Bcast(value)
        model.load_state_dict(state)

    def backward(self, loss: Tensor, parameters: list[Tensor]) -> None:
        """Each bucket's gradients travel as soon as all of them are there, while the walk goes on.

        In the same order in every process, which MPI asks for. A parameter that the loss did not use counts as 0.
        """
        todo = list(buckets([p for p in parameters if p.requires_grad]))
        done: set[Tensor] = set()
        sent: list[Sum] = []  # of each bucket so far

        def send() -> None:
            sent.append(self.begin(packed(todo[len(sent)])))

        def ready(p: Tensor) -> None:
            done.add(p)
            while len(sent) < len(todo) and done.issuperset(todo[len(sent)]):
                send()
            for each in sent:
                each.poll()  # lets MPI go on with it

        graph.backward(loss, ready=ready)
        while len(sent) < len(todo):
            send()
        for bucket, each in zip(todo, sent, strict=True):
            mean = each.result() / self.size
            for p, part in parts(bucket, mean):
                p.grad = part

    def union(self, names: list[str]) -> list[str]:
        number = zlib.crc32("\n".join(names).encode())
        ends = np.array([number, -number], np.int64)
        self.comm.Allreduce(self.MPI.IN_PLACE, ends, self.MPI.MIN)
        if ends[0] == -ends[1]:  # the smallest is the largest: all have the same
            return names
        return list(dict.fromkeys(name for each in self.comm.allgather(names) for name in each))

    def barrier(self) -> None:
        self.comm.Barrier()


def packed(bucket: list[Tensor]) -> Array:
    """The bucket's gradients one after the other, 0 where there is none: one message."""
    xp = backend.xp_of(bucket[0].data)
    flat = xp.zeros(sum(p.size for p in bucket), bucket[0].dtype)
    for p, part in parts(bucket, flat):
        if p.grad is not None:
            part[...] = p.grad
    return flat


def parts(bucket: list[Tensor], flat: Array) -> Iterator[tuple[Tensor, Array]]:
    """Each parameter with its part of the message, a view that lies in memory as the parameter does."""
    offset = 0
    for p in bucket:
        strides = tuple(s // p.data.itemsize for s in p.data.strides)
        yield p, backend.as_strided(flat, p.shape, strides, offset)
        offset += p.size


def buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """The parameters, last first (backward reaches those first), in groups of one dtype and about ``BUCKET`` bytes."""
    bucket: list[Tensor] = []
    for p in reversed(parameters):
        if bucket and (p.dtype != bucket[0].dtype or sum(q.data.nbytes for q in bucket) >= BUCKET):
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket


def group() -> Group:
    """The group of this process: MPI's if ``mpirun`` started more than one, or this process alone."""
    sizes = (os.environ.get(name, "1") for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS_PER_STEP"))
    return MPIGroup() if any(size.isdecimal() and int(size) > 1 for size in sizes) else ALONE


@contextlib.contextmanager
def all_or_none(group: Group) -> Iterator[None]:
    """An error in one process ends all: the others would wait for it for ever. It is shown before that."""
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


