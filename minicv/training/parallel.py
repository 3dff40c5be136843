"""Data-parallel training: several processes, each with its share of every batch, gradients averaged.

    mpirun -n 2 minicv train unet --data cells --batch 2 --out runs/two

Every process has the whole model and takes the same steps. The mean of the processes' gradients is the gradient of the
whole batch, because each share is equally large. (A loss that leaves pixels out is averaged over what each process has
left, as elsewhere in the field.) Needs ``pip install minicv[mpi]`` and an MPI.
"""
from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import numpy as np

from .. import backend
from ..autograd import Tensor, graph
from ..backend import Array
from ..nn import Module

BUCKET = 1 << 22  # bytes: gradients travel in messages of about this size


class Group:
    """The processes that train together. This one is the group of a process on its own."""

    rank, size = 0, 1

    def share(self, model: Module) -> None:
        """Give every process the weights of process 0."""

    def backward(self, loss: Tensor, parameters: list[Tensor]) -> None:
        """``loss.backward()``; afterwards the parameters' gradients are their mean over the processes."""
        loss.backward()

    def mean(self, values: list[float]) -> list[float]:
        """Each value's mean over the processes."""
        return values

    def sum(self, array: Array) -> Array:
        """The sum of the processes' arrays, on the same device."""
        return array

    def barrier(self) -> None:
        """Wait until all have come this far."""


ALONE = Group()


class MPIGroup(Group):
    """The processes that ``mpirun`` started, through mpi4py."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise RuntimeError("started by mpirun, but mpi4py cannot be imported: pip install minicv[mpi]") from error
        self.MPI, self.comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        here = self.comm.Split_type(MPI.COMM_TYPE_SHARED).size  # processes on this machine, which share its cores
        os.environ.setdefault("MINICV_THREADS", str(max(1, backend.cores() // here)))

    def share(self, model: Module) -> None:
        model.load_state_dict(self.comm.bcast(model.state_dict() if self.rank == 0 else None))

    def backward(self, loss: Tensor, parameters: list[Tensor]) -> None:
        """Each bucket's gradients travel as soon as all of them are there, while the walk goes on.

        In the same order in every process, which MPI asks for. A parameter that the loss did not use counts as 0.
        """
        todo = list(buckets([p for p in parameters if p.requires_grad]))
        done: set[Tensor] = set()
        sent: list[tuple] = []  # (request, array) of each bucket so far

        def send() -> None:
            flat = np.concatenate([gradient(p).ravel(order="K") for p in todo[len(sent)]])
            sent.append((self.comm.Iallreduce(self.MPI.IN_PLACE, flat), flat))

        def ready(p: Tensor) -> None:
            done.add(p)
            while len(sent) < len(todo) and done.issuperset(todo[len(sent)]):
                send()
            for request, _ in sent:
                request.Test()  # lets MPI go on with it

        graph.backward(loss, ready=ready)
        while len(sent) < len(todo):
            send()
        for bucket, (request, flat) in zip(todo, sent, strict=True):
            request.Wait()
            flat /= self.size
            parts = np.split(flat, np.cumsum([p.size for p in bucket])[:-1])
            for p, part in zip(bucket, parts, strict=True):
                mean = np.empty_like(backend.to_numpy(p.data))
                mean.ravel(order="K")[:] = part  # in the order of memory, as it was sent
                p.grad = backend.to_device(mean, p.device)

    def mean(self, values: list[float]) -> list[float]:
        total = np.array(values)
        self.comm.Allreduce(self.MPI.IN_PLACE, total)
        return (total / self.size).tolist()

    def sum(self, array: Array) -> Array:
        total = backend.to_numpy(array).copy()
        self.comm.Allreduce(self.MPI.IN_PLACE, total)
        return backend.to_device(total, backend.device_of(array))

    def barrier(self) -> None:
        self.comm.Barrier()


def gradient(p: Tensor) -> np.ndarray:
    """p's gradient, or 0, lying in memory as p does: alike in every process."""
    g = np.zeros_like(backend.to_numpy(p.data))
    if p.grad is not None:
        g[...] = backend.to_numpy(p.grad)
    return g


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
        known = isinstance(error, ValueError | TypeError | RuntimeError | OSError)
        text = str(error) if known else traceback.format_exc()
        print(f"minicv: process {group.rank} of {group.size}: {text}", file=sys.stderr, flush=True)
        group.comm.Abort(2)
        raise


