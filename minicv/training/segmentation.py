"""Training a network that labels every pixel: the loop, from a data set to trained weights."""
from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import ops as F
from ..autograd import Tensor
from ..data import UNetAugment, WithWeightMap, random_tile, standardise
from ..nn import Module
from ..optim import SGD, Adam, Schedule, constant, poly, warmup


@dataclasses.dataclass
class Recipe:
    """How to train; the defaults are U-Net's (sec. 3) as far as the paper states them.

    ``tile``: side of the output tile that one step looks at, in pixels. ``augment``: elastic deformation, shift,
    rotation, grey value and flips, or none. ``weight_map``: U-Net's eq. (2), or 1 everywhere. ``schedule``: "constant"
    or "poly". Raises ``ValueError`` for values that cannot work.
    """

    steps: int = 2000
    optimizer: str = "sgd"  # or "adam", which needs fewer steps
    lr: float | None = None  # None: 0.0015 for sgd, 0.001 for adam
    momentum: float = 0.99  # U-Net, sec. 3: "we use a high momentum (0.99)"
    weight_decay: float = 0.0
    schedule: str = "poly"
    warmup: int = 100  # steps over which the rate rises from 0: until then the momentum has no history
    tile: int = 196
    augment: bool | UNetAugment = True  # or one of your own, which then says how elastic
    elastic: float = 10.0  # U-Net, sec. 3.1: standard deviation of the displacements, pixels
    weight_map: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in ("constant", "poly"):
            raise ValueError(f"Recipe(schedule={self.schedule!r}): 'constant' or 'poly'")
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f"Recipe(optimizer={self.optimizer!r}): 'sgd' or 'adam'")
        for name, least in (("steps", 1), ("warmup", 0), ("tile", 1), ("elastic", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"Recipe({name}={getattr(self, name)}): must be at least {least}")

    @property
    def rate(self) -> float:
        """The learning rate at the start."""
        return self.lr if self.lr is not None else {"sgd": 0.0015, "adam": 0.001}[self.optimizer]

    def replaced(self, **changes: Any) -> Recipe:
        """A copy with other values; None changes nothing."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})


def samples(dataset: Any, recipe: Recipe, model: Module) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Endless (image, label, weight) tiles, batches of one: (1, C, h, w), (1, h', w'), (1, h', w') or None.

    Every epoch goes through the set in a new order. Step i's random numbers come from (seed, i) alone.
    """
    if len(dataset) == 0:
        raise ValueError("train: the data set has no pictures")
    dataset = WithWeightMap(dataset) if recipe.weight_map else dataset
    augment = UNetAugment(elastic=recipe.elastic) if recipe.augment is True else recipe.augment
    tile_in = model.input_size(recipe.tile)
    tile_out = model.output_size(tile_in)
    step = 0
    while True:
        for index in np.random.default_rng([recipe.seed, step]).permutation(len(dataset)):
            rng = np.random.default_rng([recipe.seed, step, 1])
            sample = dataset[int(index)]
            if augment:
                sample = augment(sample, rng)
            image, label, weight = random_tile(standardise(sample.image), sample.label, sample.weight, tile_in,
                                               tile_out, rng)
            yield image[None], label[None], None if weight is None else weight[None]
            step += 1


def ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, each made by another thread while the one before it is in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="minicv-data") as pool:
        coming = pool.submit(next, items)
        while True:
            item = coming.result()
            coming = pool.submit(next, items)
            yield item


def train_steps(model: Module, dataset: Any, recipe: Recipe) -> Iterator[float]:
    """Train; yields the loss of every step, after the weights have changed."""
    if recipe.optimizer == "sgd":
        optimizer = SGD(model.parameters(), recipe.rate, recipe.momentum, recipe.weight_decay)
    else:
        optimizer = Adam(model.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
    shape = poly(recipe.steps) if recipe.schedule == "poly" else constant()
    schedule = Schedule(optimizer, warmup(recipe.warmup, shape))
    model.train()
    device, tiles = model.parameters()[0].device, ahead(samples(dataset, recipe, model))
    for _ in range(recipe.steps):
        image, label, weight = (None if array is None else Tensor(array).to(device) for array in next(tiles))
        loss = F.cross_entropy(model(image), label, pixel_weight=weight)  # U-Net, eq. (1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss.item()


def train(model: Module, dataset: Any, recipe: Recipe, quiet: bool = False) -> dict[str, Any]:
    """Train with a progress bar; the losses and the seconds. ``RuntimeError`` as soon as a loss is not finite."""
    losses, start = [], time.perf_counter()
    with (warnings.catch_warnings(),
          tqdm(train_steps(model, dataset, recipe), total=recipe.steps, disable=quiet, unit="image") as bar):
        # A run that diverges is reported once, below, not by every operation that it overflows in.
        warnings.filterwarnings("ignore", "(overflow|invalid value) encountered", RuntimeWarning)
        for step, loss in enumerate(bar):
            if not np.isfinite(loss):
                raise RuntimeError(f"train: the loss became {loss} at step {step}; a smaller learning rate than "
                                   f"{recipe.rate} may help")
            losses.append(loss)
            if step % 10 == 0:
                bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}")
    return {"losses": losses, "seconds": time.perf_counter() - start}
