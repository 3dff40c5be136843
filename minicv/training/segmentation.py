"""Training a network that labels every pixel: what its examples are."""
from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from ..autograd import Tensor
from ..data import (
    IGNORE,
    DataError,
    DataWarning,
    Sample,
    SegmentationAugment,
    UNetAugment,
    WithWeightMap,
    centre,
    class_weights,
    random_window,
    standardise,
)
from ..nn import Module
from .config import TrainConfig
from .loop import Training
from .two_stage import TwoStages

TRIES = 50  # to find a part of an image in which any pixel has a label


class Unusable(Exception):
    """An image that gives no example; the message says why."""


@dataclasses.dataclass
class SegmentationConfig(TrainConfig):
    """How to train a network that labels every pixel; the defaults are U-Net's (sec. 3).

    ``tile``: side of the output tile that one step looks at, in pixels; None for the whole picture. ``augment``: none,
    one of your own, or what fits the pictures: those that may be turned (cells) are turned, flipped, bent by
    ``elastic`` pixels and changed in grey value (``UNetAugment``); those that are upright (streets) are scaled by a
    factor between 1/``scale`` and ``scale``, flipped left to right and changed in color by up to ``jitter``,
    turned by up to ``rotation`` degrees and blurred (``SegmentationAugment``).
    ``weight_map``: U-Net's eq. (2), or 1 everywhere. ``class_weights``: pixels of rare classes weigh more, see
    ``data.class_weights``; times the weight map, if both are asked for. ``two_stage``: DeconvNet's crops of objects,
    then of proposals, in place of tiles, see ``two_stage.py``.
    """

    momentum: float = 0.99  # U-Net, sec. 3: "we use a high momentum (0.99)"
    tile: int | None = None
    augment: bool | UNetAugment | SegmentationAugment = True
    elastic: float = 10.0  # U-Net, sec. 3.1: standard deviation of the displacements, pixels
    scale: float = 2.0  # PSPNet, sec. 5.1: "random resize between 0.5 and 2"
    jitter: float = 0.1
    rotation: float = 0.0
    blur: bool = False
    weight_map: bool = False
    class_weights: bool = False
    two_stage: bool = False

    MINIMUMS: ClassVar[dict[str, int]] = {**TrainConfig.MINIMUMS, "tile": 1, "elastic": 0, "scale": 1, "jitter": 0,
                                          "rotation": 0}


class SegmentationTask:
    """A data set seen through random tiles: every epoch goes through it in a new order.

    An example is an image (C, h, w), its label (h', w') and the weight of its pixels (h', w') or None, where h' is the
    model's output side for h.
    """

    def __init__(self, dataset: Any, config: SegmentationConfig, model: Module):
        if len(dataset) == 0:
            raise DataError("train: the data set has no images")
        self.dataset = WithWeightMap(dataset) if config.weight_map else dataset
        self.config, self.model, self.augment = config, model, config.augment
        if self.augment is True:
            upright = getattr(dataset, "upright", False)
            self.augment = UNetAugment(elastic=config.elastic) if not upright else SegmentationAugment(
                (1 / config.scale, config.scale), jitter=config.jitter, rotation=config.rotation, blur=config.blur)
        self.weight_of = None  # of a label, 0 to 255
        if config.class_weights:
            self.weight_of = np.zeros(IGNORE + 1, np.float32)
            self.weight_of[:dataset.num_classes] = class_weights(dataset)
        self.stages = TwoStages(dataset.class_names) if config.two_stage else None
        self.passed_over: set[str] = set()  # names of images that gave no example, which were warned of

    def stage(self, i: int) -> int:
        """1 or 2: that of the i-th example in a two-stage training."""
        return 1 if 3 * (i // self.config.batch) < self.config.steps else 2  # DeconvNet, sec. 5.1: 20K and 40K steps

    def example(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The i-th example; the same for the same seed.

        An image that gives none, as its label is void everywhere or it is too small for a tile, is passed over with
        one ``DataWarning``: the next one takes its place. ``DataError`` if no image of the data set gives one.
        """
        epoch, place = divmod(i, len(self.dataset))
        order = np.random.default_rng([self.config.seed, 0, epoch]).permutation(len(self.dataset))
        rng = np.random.default_rng([self.config.seed, 1, i])
        reasons = {}
        for number in np.roll(order, -place).tolist():
            whole = self.dataset[number]
            try:
                part = self.part_of(whole, i, rng)
            except Unusable as error:
                reasons[whole.name] = error
                continue
            for name in reasons.keys() - self.passed_over:
                self.passed_over.add(name)
                warnings.warn(f"train: {name} is passed over: {reasons[name]}", DataWarning, stacklevel=2)
            return part
        raise DataError(f"train: none of the {len(order)} images gives an example; {whole.name}: {reasons[whole.name]}")

    def part_of(self, whole: Sample, i: int,
                rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """A random part of an image as the i-th example. Raises ``Unusable``."""
        if (whole.label == IGNORE).all():
            raise Unusable("no pixel of it has a label")
        sample = dataclasses.replace(whole, instances=None)  # the loss has no use for them
        try:
            wanted = whole.label.shape if self.config.tile is None else (self.config.tile,) * 2
            tile_in = tuple(self.model.input_size(side) for side in wanted)
            tile_out = tuple(self.model.output_size(side) for side in tile_in)
            margin = tuple((a - b) // 2 for a, b in zip(tile_in, tile_out, strict=True))
            cut = self.stages is None and not isinstance(self.augment, SegmentationAugment)  # as it is, not filled up
            if cut and (np.array(whole.label.shape) < tile_out).any():
                raise Unusable(f"its {' x '.join(map(str, whole.label.shape))} pixels are fewer than the "
                               f"{' x '.join(map(str, tile_out))} of a tile; use a smaller tile")
            for _ in range(TRIES):
                if self.stages is not None:
                    part = self.stages(whole, self.stage(i), tile_in, tile_out, rng, bool(self.augment))
                elif isinstance(self.augment, SegmentationAugment):
                    part = dataclasses.replace(self.augment, crop=tile_out, margin=margin)(sample, rng)
                else:
                    window = random_window(whole.label.shape, tile_in, tile_out, rng)
                    part = self.augment(sample, rng, window) if self.augment else window.cut(sample)
                label = centre(part.label, tile_out)
                if (label != IGNORE).any():  # a loss over no pixel is 0/0
                    break
            else:
                raise Unusable(f"no pixel with a label in {TRIES} random parts of it")
        except ValueError as error:
            raise DataError(f"{whole.name}: {error}") from error
        weight = None if part.weight is None else centre(part.weight, tile_out)
        if self.weight_of is not None:
            weight = self.weight_of[label] if weight is None else self.weight_of[label] * weight
        return standardise(part.image, like=whole.image), label, weight

    def batch(self, examples: list, device: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images (N, C, h, w), labels (N, h', w') and weights (N, h', w') or None: what ``losses`` takes."""
        image, label, weight = zip(*examples, strict=True)
        if len({each.shape for each in image}) > 1:
            raise DataError(f"train: images of a batch differ in size, {image[0].shape} and others; name a tile, or "
                            "use a batch of 1")
        together = (image, label, None if weight[0] is None else weight)
        return tuple(None if a is None else Tensor(np.stack(a)).to(device) for a in together)


def train_steps(model: Module, dataset: Any, config: SegmentationConfig) -> Iterator[float]:
    """Train; yields the loss of every step, after the weights have changed."""
    for losses in Training(model, SegmentationTask(dataset, config, model)):
        yield losses["total"]
