"""Train a segmentation network: its configuration, its task, and ``train_segmentation``."""
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
    center_crop,
    class_weights,
    random_window,
)
from ..nn import Module
from .config import TrainConfig
from .loop import Training, shuffled
from .two_stage import Tile, TwoStageCrops

MAX_TRIES = 50  # random parts of an image, until one has a labeled pixel


class UnusableImage(Exception):
    """An image gives no example; the message says why."""


@dataclasses.dataclass
class SegmentationConfig(TrainConfig):
    """How to train a segmentation network; the defaults are U-Net's (sec. 3).

    ``tile``: side of the output tile of one example, in pixels; None for the whole image. ``augment``: False, an
    augmentation, or True for the one that suits the images. Images without an upright direction (cells) are rotated,
    flipped, deformed by ``elastic`` pixels and changed in gray value (``UNetAugment``). Upright images (streets) are
    scaled by a factor between 1/``scale`` and ``scale``, flipped left to right, changed in color by up to ``jitter``,
    rotated by up to ``rotation`` degrees and blurred (``SegmentationAugment``). ``weight_map``: weigh pixels by U-Net's
    eq. (2). ``class_weights``: weigh pixels of rare classes more, see ``data.class_weights``; with both, the weights
    are multiplied. ``two_stage``: DeconvNet's crops of objects, then of proposals, instead of tiles; see
    ``two_stage.py``.
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

    MINIMUMS: ClassVar[dict[str, float]] = {**TrainConfig.MINIMUMS, "tile": 1, "elastic": 0, "scale": 1, "jitter": 0,
                                            "rotation": 0}


class SegmentationTask:
    """Random tiles of the images of a data set, for a network that labels every pixel.

    An example is an image (C, h, w), its label (h', w') and the weights of its pixels (h', w') or None, where h' is the
    model's output side for h.
    """

    def __init__(self, model: Any, dataset: Any, config: SegmentationConfig):
        if len(dataset) == 0:
            raise DataError("train: the data set has no images")
        self.model, self.config = model, config
        self.dataset: Any = WithWeightMap(dataset) if config.weight_map else dataset
        self.augment: Any = config.augment
        if self.augment is True:
            upright = getattr(dataset, "upright", False)
            self.augment = UNetAugment(elastic=config.elastic) if not upright else SegmentationAugment(
                (1 / config.scale, config.scale), jitter=config.jitter, rotation=config.rotation, blur=config.blur)
        self.label_weights = None  # the weight of each label, 0 to 255
        if config.class_weights:
            self.label_weights = np.zeros(IGNORE + 1, np.float32)
            self.label_weights[:dataset.num_classes] = class_weights(dataset)
        self.two_stage = TwoStageCrops(dataset.class_names) if config.two_stage else None
        self.skipped: set[str] = set()  # names of unusable images; each is warned about once

    def example(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the i-th example, which depends on the seed and i alone.

        An unusable image (all of its label is void, or it is smaller than a tile) is skipped with one ``DataWarning``,
        and the next image takes its place. Raises ``DataError`` if no image of the data set is usable.
        """
        order, rng = shuffled(self.config.seed, i, len(self.dataset))
        reasons: dict[str, UnusableImage] = {}
        for number in order:
            sample = self.dataset[number]
            try:
                example = self.example_from(sample, i, rng)
            except UnusableImage as error:
                reasons[sample.name] = error
                continue
            for name in reasons.keys() - self.skipped:
                self.skipped.add(name)
                warnings.warn(f"train: {name} is skipped: {reasons[name]}", DataWarning, stacklevel=2)
            return example
        raise DataError(f"train: none of the {len(order)} images gives an example; {sample.name}: "
                        f"{reasons[sample.name]}")

    def example_from(self, sample: Sample, i: int,
                     rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return a random part of an image as the i-th example. Raises ``UnusableImage``."""
        if (sample.label == IGNORE).all():
            raise UnusableImage("no pixel of it has a label")
        try:
            tile = self.tile_of(sample)
            for _ in range(MAX_TRIES):
                part = self.random_part(sample, tile, i, rng)
                label = center_crop(part.label, tile.output)
                if (label != IGNORE).any():  # a loss over no pixel is 0/0
                    break
            else:
                raise UnusableImage(f"no pixel with a label in {MAX_TRIES} random parts of it")
        except ValueError as error:
            raise DataError(f"{sample.name}: {error}") from error
        weight = None if part.weight is None else center_crop(part.weight, tile.output)
        if self.label_weights is not None:
            weight = self.label_weights[label] if weight is None else self.label_weights[label] * weight
        return self.model.normalize(part.image, like=sample.image), label, weight

    def tile_of(self, sample: Sample) -> Tile:
        """Return the model's input and output size for a part of an image, or for the whole image."""
        H, W = sample.label.shape if self.config.tile is None else (self.config.tile,) * 2
        h, w = self.model.input_size(H), self.model.input_size(W)
        return Tile((h, w), (self.model.output_size(h), self.model.output_size(w)))

    def random_part(self, sample: Sample, tile: Tile, i: int, rng: np.random.Generator) -> Sample:
        """Return a random part of an image, as large as the tile's input, augmented."""
        if self.two_stage is not None:
            return self.two_stage(sample, self.stage(i), tile, rng, augment=bool(self.augment))
        sample = dataclasses.replace(sample, instances=None)  # the loss does not need them
        if isinstance(self.augment, SegmentationAugment):  # fills up small images with void
            return dataclasses.replace(self.augment, crop=tile.output, margin=tile.margin)(sample, rng)
        if (np.array(sample.label.shape) < tile.output).any():
            raise UnusableImage(f"its {' x '.join(map(str, sample.label.shape))} pixels are fewer than the "
                                f"{' x '.join(map(str, tile.output))} of a tile; use a smaller tile")
        window = random_window(sample.label.shape, tile.input, tile.output, rng)
        return self.augment(sample, rng, window) if self.augment else window.cut(sample)

    def stage(self, i: int) -> int:
        """Return the stage of the i-th example in a two-stage training, 1 or 2."""
        return 1 if 3 * (i // self.config.batch) < self.config.steps else 2  # DeconvNet, sec. 5.1: 20K and 40K steps

    def collate(self, examples: list) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return images (N, C, h, w), labels (N, h', w') and weights (N, h', w') or None."""
        images, labels, weights = zip(*examples, strict=True)
        if len({image.shape for image in images}) > 1:
            raise DataError(f"train: images of a batch differ in size, {images[0].shape} and others; name a tile, or "
                            "use a batch of 1")
        return (Tensor(np.stack(images)), Tensor(np.stack(labels)),
                None if weights[0] is None else Tensor(np.stack(weights)))


def train_segmentation(model: Module, dataset: Any, config: SegmentationConfig) -> Iterator[float]:
    """Train; yield the loss of every step, after the weights have changed."""
    for losses in Training(SegmentationTask(model, dataset, config)):
        yield losses["total"]
