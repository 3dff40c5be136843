"""The training loop, the same for every network. What happens to an image on its way from the disk to a step:

    sample = dataset[n]             read: an image in 0..1 and its annotation     data/
    sample = augment(sample, rng)   change it at random                           data/
    example = ...(sample)           scale and normalize it for the network        ``Task.example`` ends here
    batch = collate(examples)       put examples together: tensors                ``Task.collate``
    batch = to_device(batch, ...)   move them to where the weights are            ``Training``
    losses = model.losses(*batch)   forward; then backward and optimizer          ``Training.train_step``

and back, in ``model.predict(images)``: normalize, collate, forward, then ``restore`` to the pixels of each image; the
``minicv`` command writes the result to a file.

All random numbers of step i come from (seed, i): the order of the images, their augmentation, dropout. The weights, the
optimizer and the number of steps done are therefore the whole state of a training, and the number of threads that
prepare examples changes nothing.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from .. import backend
from ..autograd import Tensor
from ..backend import Array
from ..backend.memory import free_memory
from ..errors import UserError
from ..models import is_backbone
from ..nn import BatchNorm2d, Module
from .parallel import SINGLE_PROCESS, ProcessGroup


class Task(Protocol):
    """What a model learns: the examples of a data set. ``SegmentationTask`` and ``DetectionTask`` are tasks."""

    model: Any
    config: Any  # a TrainConfig

    def example(self, i: int) -> Any:
        """Return the i-th example as NumPy arrays; its random numbers come from (seed, i) alone."""

    def collate(self, examples: list[Any]) -> tuple:
        """Return a batch: the arguments of ``model.losses``, tensors on the host."""


class Training:
    """Train ``task.model``: ``for losses in Training(task): ...`` takes one step at a time.

    Each step yields its losses by name, after the weights have changed; "total" is their sum. A loss that the model
    does not return in a step, or in one process, counts as 0 there. ``step`` counts the steps done. In a ``group`` of
    processes each computes its share of every batch; with ``sync_batch_norm``, batch norm normalizes over the whole
    batch instead of the share. ``workers`` threads prepare the examples.
    """

    def __init__(self, task: Task, group: ProcessGroup = SINGLE_PROCESS, workers: int = 1,
                 sync_batch_norm: bool = False):
        self.task, self.model, self.config = task, task.model, task.config
        self.group, self.workers, self.step = group, workers, 0
        if self.config.batch % group.size:
            raise UserError(f"a batch of {self.config.batch} cannot be shared evenly by {group.size} processes; "
                            f"use a batch of {group.size * -(-self.config.batch // group.size)}")
        self.loss_names: list[str] = []  # of all steps and processes so far
        freeze_backbone(self.model, self.config.freeze == "backbone")
        self.optimizer, self.schedule = self.config.make_optimizer(self.model)
        self.model.group = group if group.size > 1 else None  # for means over what the processes share
        prepare_batch_norm(self.model, self.config, self.model.group if sync_batch_norm else None)

    def __iter__(self) -> Iterator[Losses]:
        self.model.train()
        self.group.broadcast(self.model)
        device = next(self.model.parameters()).device
        for examples in self._batches():
            batch = to_device(self.task.collate(examples), device)
            with backend.seeded(self.config.seed, self.step, self.group.rank):  # for dropout
                losses = self.train_step(*batch)
            yield losses

    def train_step(self, *batch: Any) -> Losses:
        """Take one step on one batch."""
        losses = self.model.losses(*batch)
        total = sum(losses.values())
        self.optimizer.zero_grad()
        self.group.backward(total, list(self.model.parameters()))  # gradients: the mean over the processes
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return self._mean_losses(losses, total)

    def _mean_losses(self, losses: dict[str, Tensor], total: Tensor) -> Losses:
        """Return the means over the processes."""
        self.loss_names = self.group.union(list(dict.fromkeys([*self.loss_names, *losses])))
        xp = backend.xp_of(total.data)
        own = [losses[name].data if name in losses else xp.zeros_like(total.data) for name in self.loss_names]
        return Losses((*self.loss_names, "total"), self.group.sum(xp.stack([*own, total.data])) / self.group.size)

    def _batches(self) -> Iterator[list[Any]]:
        """Yield this process's share of the examples of each step that is left."""
        batch, group = self.config.batch, self.group
        share = batch // group.size
        numbers = (step * batch + group.rank * share + j
                   for step in range(self.step, self.config.steps) for j in range(share))
        examples = prefetch(self.task.example, numbers, self.workers)
        for n, example in enumerate(examples):
            if n == 0 and isinstance(example, tuple):
                self._check_memory(example[0].nbytes * share)
            yield [example] + [next(examples) for _ in range(share - 1)]

    def _check_memory(self, nbytes: int) -> None:
        """Raise ``UserError`` if a batch's images do not fit into the free memory twice: as examples and as a batch."""
        free = free_memory(np.empty(0))
        if free is not None and 2 * nbytes > free:
            raise UserError(f"a batch of {self.config.batch}: its images alone take {2 * nbytes / 2**30:.1f} GiB, "
                            f"and {free / 2**30:.1f} GiB are free; use a smaller batch")


def freeze_backbone(model: Any, freeze: bool) -> None:
    """Freeze the parameters of the backbone, or unfreeze them if an earlier training has frozen them."""
    if freeze or getattr(model, "backbone_frozen", False):
        model.backbone_frozen = freeze
        for name, p in model.named_parameters():
            if is_backbone(model, name):
                p.requires_grad = not freeze


def prepare_batch_norm(model: Module, config: Any, group: ProcessGroup | None) -> None:
    """Freeze or unfreeze batch norm as the config says, and let it normalize over the whole batch of the processes of
    ``group``."""
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm2d):
            module.group = group
            freeze = config.freeze_bn or config.freeze == "backbone" and is_backbone(model, f"{name}.")
            if module.frozen or freeze:
                module.frozen = freeze
                module.weight.requires_grad = module.bias.requires_grad = not freeze


def shuffled(seed: int, i: int, size: int) -> tuple[list[int], np.random.Generator]:
    """Return which of ``size`` images gives the i-th example, and the random numbers of that example.

    Every epoch takes the images in a new order. The first number is the image; the others, in their order, may replace
    it if it is unusable.
    """
    epoch, place = divmod(i, size)
    order = np.random.default_rng([seed, 0, epoch]).permutation(size)
    return np.roll(order, -place).tolist(), np.random.default_rng([seed, 1, i])


def to_device(batch: tuple, device: str) -> tuple:
    """Move the tensors of a batch to a device."""
    return tuple(each.to(device) if isinstance(each, Tensor) else each for each in batch)


class Losses(Mapping):
    """The losses of a step by name, floats. They stay on their device until they are read, so that no step waits."""

    def __init__(self, names: tuple[str, ...], array: Array):
        self.names, self.array = names, array  # (L,)
        self.floats: dict[str, float] | None = None
        if backend.device_of(array) == "numpy":
            fetch_losses([self])

    def __getitem__(self, name: str) -> float:
        fetch_losses([self])
        assert self.floats is not None
        return self.floats[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def fetch_losses(steps: list[Losses]) -> None:
    """Read the losses of several steps with one copy from the device."""
    unread = [each for each in steps if each.floats is None]
    if unread:
        xp = backend.xp_of(unread[0].array)
        values = iter(backend.to_numpy(xp.concatenate([each.array for each in unread])).tolist())
        for each in unread:
            each.floats = {name: next(values) for name in each.names}


def prefetch(make: Callable[[int], Any], numbers: Iterator[int], workers: int = 1) -> Iterator[Any]:
    """Yield ``make(i)`` for every number, in order, computed ahead by other threads: at most two per worker.

    What ``make`` raises is raised when its turn comes.
    """
    with ThreadPoolExecutor(workers, "minicv data", backend.select_same_gpu()) as pool:
        pending: list[Future] = []
        try:
            for i in numbers:
                pending.append(pool.submit(make, i))
                if len(pending) > 2 * workers:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:  # the caller may have stopped early
            for future in pending:
                future.cancel()
