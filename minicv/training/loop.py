"""The training loop, the same for every network: examples, losses, gradients, a step of the optimiser.

Whatever is random in step i comes from (seed, i) alone: the order of the pictures, how they are changed, dropout. So a
training is its weights, its optimiser and the number of steps done; nothing else is needed to go on with it, and the
number of threads that prepare examples changes nothing.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from .. import backend
from ..backend import Array
from ..backend.memory import free_memory
from ..errors import UserError
from ..nn import BatchNorm2d, Module
from .config import TrainConfig
from .parallel import ALONE, Group


class Task(Protocol):
    """What is to be learned: ``training.SegmentationTask`` is one."""

    config: TrainConfig

    def example(self, i: int) -> Any:
        """The i-th example of the training, as NumPy arrays; its random numbers come from (seed, i) alone."""

    def batch(self, examples: list[Any], device: str) -> tuple:
        """Examples put together: the arguments of ``model.losses``."""


class Training:
    """A model on its way: ``for losses in Training(model, task): ...`` trains it, one step at a time.

    Each step yields its losses by name, after the weights have changed; "total" is their sum. A loss that the model
    does not return at some step, or in some process, counts as 0 there. ``step`` counts the steps
    done. In a ``group`` of processes each computes its share of every batch; with ``synchronise``, batch norm
    normalises over the shares of all, not over its own. ``workers`` threads prepare the examples.
    """

    def __init__(self, model: Module, task: Task, group: Group = ALONE, workers: int = 1, synchronise: bool = False):
        config = task.config
        if config.batch % group.size:
            raise UserError(f"a batch of {config.batch} cannot be shared evenly by {group.size} processes; "
                            f"use a batch of {group.size * -(-config.batch // group.size)}")
        self.model, self.task, self.group, self.workers, self.step = model, task, group, workers, 0
        self.names: list[str] = []  # of all losses so far, of all processes
        self.optimizer, self.schedule = config.make_optimizer(model)
        for _, module in model.modules():
            if isinstance(module, BatchNorm2d):
                module.group = group if synchronise and group.size > 1 else None
                if module.frozen or config.freeze_bn:
                    module.frozen = config.freeze_bn
                    module.weight.requires_grad = module.bias.requires_grad = not config.freeze_bn
        model.group = group if group.size > 1 else None  # for means over what the processes share

    def __iter__(self) -> Iterator[Losses]:
        self.model.train()
        self.group.share(self.model)
        device = self.model.parameters()[0].device
        for examples in self._batches():
            with backend.seeded(self.task.config.seed, self.step, self.group.rank):  # for dropout
                losses = self.advance(*self.task.batch(examples, device))
            yield losses

    def advance(self, *batch: Any) -> Losses:
        """One step on one batch."""
        losses = self.model.losses(*batch)
        total = sum(losses.values())
        self.optimizer.zero_grad()
        self.group.backward(total, self.model.parameters())
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self.names = self.group.union([*self.names, *(name for name in losses if name not in self.names)])
        xp = backend.xp_of(total.data)
        own = [losses[name].data if name in losses else xp.zeros_like(total.data) for name in self.names]
        mean = self.group.sum(xp.stack([*own, total.data])) / self.group.size
        return Losses((*self.names, "total"), mean)

    def _batches(self) -> Iterator[list[Any]]:
        """The examples of each step that is still to do, this process's share."""
        config, group = self.task.config, self.group
        share = config.batch // group.size
        numbers = (step * config.batch + group.rank * share + j
                   for step in range(self.step, config.steps) for j in range(share))
        examples = ahead(self.task.example, numbers, self.workers)
        for n, first in enumerate(examples):
            if n == 0 and isinstance(first, tuple):
                self._check_memory(first[0].nbytes * share)
            yield [first] + [next(examples) for _ in range(share - 1)]

    def _check_memory(self, images: int) -> None:
        """``UserError`` if the images of a batch, in bytes, do not fit into the free memory: as examples and as batch.
        """
        free = free_memory(np.empty(0))
        if free is not None and 2 * images > free:
            raise UserError(f"a batch of {self.task.config.batch}: its images alone take {2 * images / 2**30:.1f} GiB, "
                            f"and {free / 2**30:.1f} GiB are free; use a smaller batch")


class Losses(Mapping):
    """A step's losses by name, floats. They stay on their device until somebody looks: until then nothing waits."""

    def __init__(self, names: tuple[str, ...], array: Array):
        self.names, self.array = names, array  # (L,)
        self.floats: dict[str, float] | None = None
        if backend.device_of(array) == "numpy":
            fetch([self])

    def __getitem__(self, name: str) -> float:
        fetch([self])
        return self.floats[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def fetch(steps: list[Losses]) -> None:
    """Bring the losses of several steps over, with one read from the device."""
    away = [each for each in steps if each.floats is None]
    if away:
        xp = backend.xp_of(away[0].array)
        row = iter(backend.to_numpy(xp.concatenate([each.array for each in away])).tolist())  # names may have come
        for each in away:
            each.floats = {name: next(row) for name in each.names}


def ahead(make: Any, numbers: Iterator[int], workers: int = 1) -> Iterator[Any]:
    """``make(i)`` for every number, in their order, made by other threads before they are asked for.

    Each worker is at most two ahead. What ``make`` raises is raised here, in its turn.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="minicv data") as pool:
        coming = []
        try:
            for i in numbers:
                coming.append(pool.submit(make, i))
                if len(coming) > 2 * workers:
                    yield coming.pop(0).result()
            while coming:
                yield coming.pop(0).result()
        finally:  # nobody asks for the rest
            for future in coming:
                future.cancel()
