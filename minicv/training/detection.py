"""Training and evaluating detectors."""
from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from ..autograd import Tensor
from ..data import DataError
from ..data.augment.detection import DetectionAugment
from ..data.sample import DetectionSample
from ..data.shrunken import Shrunken
from ..detection import Detections
from ..files import atomic_write
from ..metrics.detection_analysis import DetectionAnalysis
from ..models.detection.base import Detector, Proposer, Target
from .config import TrainConfig
from .loop import Losses, Training, shuffled


@dataclasses.dataclass
class DetectionConfig(TrainConfig):
    """How to train a detector; the defaults are Fast R-CNN's (sec. 2.3), where the paper states them.

    ``flip`` to ``exposure`` configure the random changes of images, see ``DetectionAugment``.
    """

    batch: int = 2  # Fast R-CNN, sec. 2.3: N = 2
    weight_decay: float = 0.0005
    flip: bool = True  # with probability 0.5, the paper's only augmentation
    turn: bool = False
    scale: float = 1.0
    jitter: float = 0.0
    shift: float = 0.0
    exposure: float = 1.0

    MINIMUMS: ClassVar[dict[str, float]] = {**TrainConfig.MINIMUMS, "scale": 1, "jitter": 0, "shift": 0, "exposure": 1}


class DetectionTask:
    """Train a detector on a data set with boxes; every epoch takes the images in a new order and augments them.

    ``proposer``: makes the proposals of a network that needs them; by default ``model.propose``. It sees the original
    images, and its boxes are augmented with them, so that ``CachedProposals`` can keep them.
    """

    def __init__(self, model: Detector, dataset: Any, config: DetectionConfig, proposer: Proposer | None = None):
        if len(dataset) == 0:
            raise DataError("train: the data set has no images")
        if model.needs_masks and not has_masks(dataset):
            raise DataError(f"train: {type(model).__name__} learns masks, and no object of the {len(dataset)} training "
                            "images has one; train faster_rcnn, which needs boxes only, or use a data set with masks")
        self.dataset, self.config, self.model = dataset, config, model
        self.proposer = proposer or (model.propose if model.needs_proposals else None)
        self.augment = DetectionAugment(flip=config.flip, turn=config.turn, scale=config.scale, jitter=config.jitter,
                                        shift=config.shift, exposure=config.exposure)

    def example(self, i: int) -> tuple[np.ndarray, Target]:
        """Return the i-th example, see ``Detector.example``; the same for the same seed."""
        order, rng = shuffled(self.config.seed, i, len(self.dataset))
        original = self.dataset[order[0]]
        try:
            sample, proposals = self._augmented(original.for_training(), rng)
            return self.model.example(sample, proposals)
        except ValueError as error:
            raise DataError(f"{original.name}: {error}") from error

    def _augmented(self, sample: DetectionSample,
                   rng: np.random.Generator) -> tuple[DetectionSample, np.ndarray | None]:
        """Return the augmented sample and its proposals, augmented by the same random numbers as if they were objects.

        Masks that the network does not use are dropped: augmenting them would cost time.
        """
        if self.proposer is None:
            return self.augment(sample, rng), None
        proposals = self.proposer(sample.image).astype(np.float32)
        as_objects = DetectionSample(sample.image[:1], proposals, np.zeros(len(proposals), np.int64), sample.name)
        moved = dataclasses.replace(self.augment, jitter=0.0, exposure=1.0)(as_objects, copy.deepcopy(rng)).boxes
        if not self.model.needs_masks:
            sample = dataclasses.replace(sample, masks=None)
        return self.augment(sample, rng), moved

    def collate(self, examples: list) -> tuple[Tensor, list[Target]]:
        """Return images (N, C, H, W) and their targets: what ``losses`` takes."""
        images, targets = zip(*examples, strict=True)
        return self.model.batch(images, "numpy"), list(targets)


def shrink_large(dataset: Any, model: Detector, scale: float = 1.0) -> Any:
    """Return the data set with images of more than four times the network's size shrunk to twice that, and kept.

    Augmentation may enlarge them by up to ``scale`` without a loss: they are larger by that factor.
    """
    def size_of(size: tuple[int, int]) -> tuple[int, int] | None:
        h, w = (round(2 * scale * side) for side in model.scaled_size(size))
        return (h, w) if size[0] >= 2 * h and size[1] >= 2 * w else None
    return Shrunken(dataset, size_of)


def has_masks(dataset: Any) -> bool:
    """Return whether any object has a mask; True without any object."""
    objects = False
    for i in range(len(dataset)):
        each = dataset.records[i] if hasattr(dataset, "records") else dataset[i]  # without reading the image
        if len(each.labels) and each.masks is not None:
            return True
        objects = objects or len(each.labels) > 0
    return not objects


def train_detector(model: Detector, dataset: Any, config: DetectionConfig,
                   proposer: Proposer | None = None) -> Iterator[Losses]:
    """Train; yield the losses of every step by name, "total" their sum, after the weights have changed."""
    yield from Training(DetectionTask(model, dataset, config, proposer))


class CachedProposals:
    """A proposer that keeps another one's proposals, in memory and, with a ``folder``, on disk: NAME.npz per image.

    An image is identified by its pixels, so one folder serves all networks on the same images; give each kind of
    proposals a folder of its own. ``DetectionTask`` asks for the original images, since augmented ones are always new.
    """

    def __init__(self, proposer: Proposer, folder: str | os.PathLike | None = None):
        self.proposer, self.folder = proposer, None if folder is None else Path(folder)
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        key = hashlib.sha256(f"{image.shape} {image.dtype}".encode() + image.tobytes()).hexdigest()[:32]
        if key not in self._kept:
            path = None if self.folder is None else self.folder / f"{key}.npz"
            if path is not None and path.is_file():
                self._kept[key] = read_proposals(path)
            else:
                self._kept[key] = np.asarray(self.proposer(image), np.float32)
                if path is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic_write(path) as temporary, open(temporary, "wb") as file:
                        np.savez(file, boxes=self._kept[key])  # with a checksum
        return self._kept[key]


def read_proposals(path: Path) -> np.ndarray:
    """Read the boxes (P, 4) float32 kept in a file; ``DataError`` if it is damaged."""
    try:
        with open(path, "rb") as file:
            boxes = np.load(file)["boxes"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype != np.float32:
            raise ValueError(f"it holds {boxes.dtype} {boxes.shape}")
        if not np.isfinite(boxes).all():
            raise ValueError("it holds numbers that are not finite")
    except Exception as error:  # NumPy and zipfile raise many kinds for damage
        raise DataError(f"{path}: damaged proposals ({error}); remove the file to have them computed again") from error
    return boxes


def detections(model: Detector, dataset: Any, *, quiet: bool = True, proposer: Proposer | None = None,
               batch: int = 1) -> Iterator[tuple[DetectionSample, Detections]]:
    """Yield (sample, detections) for every image of a data set, with a progress bar unless ``quiet``."""
    with tqdm(total=len(dataset), disable=True if quiet else None, unit="image", leave=False) as bar:
        for i in range(0, len(dataset), batch):
            samples = [dataset[j] for j in range(i, min(i + batch, len(dataset)))]
            proposals = None if proposer is None else [proposer(sample.image) for sample in samples]
            for sample, found in zip(samples, model.predict([s.image for s in samples], proposals, batch), strict=True):
                yield sample, found
                bar.update()


def evaluate_detector(model: Detector, dataset: Any, **options: Any) -> dict[str, float]:
    """Return the measures of ``DetectionAnalysis`` over a whole data set; ``options`` are those of ``detections``."""
    analysis = DetectionAnalysis(dataset.class_names)
    for sample, found in detections(model, dataset, **options):
        analysis.update(found, sample)
    return analysis.measures()
