"""Training a network that labels every pixel: what its examples are."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from ..autograd import Tensor
from ..data import DataError, UNetAugment, WithWeightMap, centre, random_window, standardise
from ..nn import Module
from .loop import Training
from .recipe import Recipe


@dataclasses.dataclass
class SegmentationRecipe(Recipe):
    """How to train a network that labels every pixel; the defaults are U-Net's (sec. 3).

    ``tile``: side of the output tile that one step looks at, in pixels. ``augment``: elastic deformation, shift,
    rotation, grey value and flips, or none, or one of your own. ``weight_map``: U-Net's eq. (2), or 1 everywhere.
    """

    tile: int = 196
    augment: bool | UNetAugment = True
    elastic: float = 10.0  # U-Net, sec. 3.1: standard deviation of the displacements, pixels
    weight_map: bool = False

    AT_LEAST: ClassVar[dict[str, int]] = {**Recipe.AT_LEAST, "tile": 1, "elastic": 0}


class SegmentationTask:
    """A data set seen through random tiles: every epoch goes through it in a new order.

    An example is an image (C, h, w), its label (h', w') and the weight of its pixels (h', w') or None, where h' is the
    model's output side for h.
    """

    def __init__(self, dataset: Any, recipe: SegmentationRecipe, model: Module):
        if len(dataset) == 0:
            raise ValueError("train: the data set has no pictures")
        self.dataset = WithWeightMap(dataset) if recipe.weight_map else dataset
        self.recipe = recipe
        self.augment = UNetAugment(elastic=recipe.elastic) if recipe.augment is True else recipe.augment
        self.tile_in = model.input_size(recipe.tile)
        self.tile_out = model.output_size(self.tile_in)

    def example(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The i-th example; the same for the same seed."""
        epoch, place = divmod(i, len(self.dataset))
        order = np.random.default_rng([self.recipe.seed, 0, epoch]).permutation(len(self.dataset))
        rng = np.random.default_rng([self.recipe.seed, 1, i])
        whole = self.dataset[int(order[place])]
        try:
            window = random_window(whole.label.shape, self.tile_in, self.tile_out, rng)
            sample = dataclasses.replace(whole, instances=None)  # the loss has no use for them
            part = self.augment(sample, rng, window) if self.augment else window.cut(sample)
        except ValueError as error:
            raise DataError(f"{whole.name}: {error}") from error
        size = (self.tile_out, self.tile_out)
        weight = None if part.weight is None else centre(part.weight, size)
        return standardise(part.image, like=whole.image), centre(part.label, size), weight

    def batch(self, examples: list, device: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images (N, C, h, w), labels (N, h', w') and weights (N, h', w') or None: what ``losses`` takes."""
        image, label, weight = zip(*examples, strict=True)
        together = (image, label, None if weight[0] is None else weight)
        return tuple(None if a is None else Tensor(np.stack(a)).to(device) for a in together)


def train_steps(model: Module, dataset: Any, recipe: SegmentationRecipe) -> Iterator[float]:
    """Train; yields the loss of every step, after the weights have changed."""
    for losses in Training(model, SegmentationTask(dataset, recipe, model)):
        yield losses["total"]
