"""Training and measuring a network that finds objects."""
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
from ..files import atomic_write
from ..metrics import CocoEvaluator, VOCEvaluator
from ..models.detection.base import Detector, Proposer, Target
from .config import TrainConfig
from .loop import Training, shuffled


@dataclasses.dataclass
class DetectionConfig(TrainConfig):
    """How to train a detector; the defaults are Fast R-CNN's (sec. 2.3) as far as the paper states them.

    ``flip`` to ``exposure`` change the images at random, see ``DetectionAugment``.
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
    """A data set with boxes: every epoch goes through it in a new order, each picture changed at random.

    ``proposer``: for a network that needs proposals, where they come from; by default ``model.propose``. They are made
    on the picture as it is and changed with it, so that ``CachedProposals`` can keep them.
    """

    def __init__(self, model: Detector, dataset: Any, config: DetectionConfig, proposer: Proposer | None = None):
        if len(dataset) == 0:
            raise DataError("train: the data set has no images")
        if model.needs_masks and not has_masks(dataset):
            raise DataError(f"train: {type(model).__name__} learns masks, and no object of the {len(dataset)} training "
                            "images has one; train faster_rcnn, which needs boxes only, or use a data set with masks")
        self.dataset, self.config, self.model = dataset, config, model
        self.proposer = proposer or (model.propose if model.needs_proposals else None)
        self.augment = DetectionAugment(config.flip, config.turn, config.scale, config.jitter, config.shift,
                                        config.exposure)

    def example(self, i: int) -> tuple[np.ndarray, Target]:
        """The i-th example, see ``Detector.example``; the same for the same seed."""
        order, rng = shuffled(self.config.seed, i, len(self.dataset))
        whole = self.dataset[order[0]]
        try:
            if self.proposer is None:
                return self.model.example(self.augment(whole.for_training(), rng))
            sample, proposals = self._with_proposals(whole.for_training(), rng)
            return self.model.example(sample, proposals)
        except ValueError as error:
            raise DataError(f"{whole.name}: {error}") from error

    def _with_proposals(self, sample: DetectionSample, rng: np.random.Generator) -> tuple[DetectionSample, np.ndarray]:
        """The changed sample and its proposals, which are changed by the same random numbers, as if they were objects.

        Without its masks, unless the network learns them: they would be changed for nothing. Beside the proposals lies
        one channel of the picture, which says how large it is.
        """
        proposals = self.proposer(sample.image).astype(np.float32)
        beside = DetectionSample(sample.image[:1], proposals, np.zeros(len(proposals), np.int64), sample.name)
        moved = dataclasses.replace(self.augment, jitter=0.0, exposure=1.0)(beside, copy.deepcopy(rng)).boxes
        if not self.model.needs_masks:
            sample = dataclasses.replace(sample, masks=None)
        return self.augment(sample, rng), moved

    def collate(self, examples: list) -> tuple[Tensor, list[Target]]:
        """Return images (N, C, H, W) and their targets: what ``losses`` takes."""
        images, targets = zip(*examples, strict=True)
        return self.model.batch(images, "numpy"), list(targets)


def has_masks(dataset: Any) -> bool:
    """Has any object a mask? Also True where there is no object at all, whose masks could be missing."""
    objects = False
    for i in range(len(dataset)):
        each = dataset.records[i] if hasattr(dataset, "records") else dataset[i]  # without reading the image
        if len(each.labels) and each.masks is not None:
            return True
        objects = objects or len(each.labels) > 0
    return not objects


def train_detector(model: Detector, dataset: Any, config: DetectionConfig,
                   proposer: Proposer | None = None) -> Iterator[dict[str, float]]:
    """Train; yields the losses of every step by name, "total" their sum, after the weights have changed."""
    yield from Training(DetectionTask(model, dataset, config, proposer))


class CachedProposals:
    """A proposer that keeps what another one found, in memory and, with a ``folder``, on disk: NAME.npz per picture.

    A picture is known by its pixels, so the same folder serves all networks on the same pictures; give each kind of
    proposals its own. Pictures that are changed at random are new each time: ``DetectionTask`` asks for the originals.
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
                    self.folder.mkdir(parents=True, exist_ok=True)
                    with atomic_write(path) as temporary, open(temporary, "wb") as file:
                        np.savez(file, boxes=self._kept[key])  # with a checksum
        return self._kept[key]


def read_proposals(path: Path) -> np.ndarray:
    """The boxes (P, 4) float32 that were kept in a file; DataError if it is damaged."""
    try:
        with open(path, "rb") as file:
            boxes = np.load(file)["boxes"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype != np.float32:
            raise ValueError(f"it holds {boxes.dtype} {boxes.shape}")
        if not np.isfinite(boxes).all():
            raise ValueError("it holds numbers that are not finite")
    except Exception as error:  # of damage NumPy and its zip files raise many kinds
        raise DataError(f"{path}: damaged proposals ({error}); remove the file, and they are made anew") from error
    return boxes


def evaluate_detector(model: Detector, dataset: Any, quiet: bool = True, proposer: Proposer | None = None,
                      batch: int = 1) -> dict[str, float]:
    """Average precision over a whole data set.

    "mAP@0.5" and "AP@0.5 CLASS" by PASCAL VOC's rules, "COCO AP", "COCO AP50" and "COCO AP75" by COCO's, and, where
    both the network and the data set have masks, "mask AP", "mask AP50" and "mask AP75". NaN where no object counts.
    """
    voc, coco = VOCEvaluator(dataset.num_classes), CocoEvaluator(dataset.num_classes)
    masks = CocoEvaluator(dataset.num_classes, masks=True)
    with_masks = False
    bar = tqdm(total=len(dataset), disable=True if quiet else None, unit="image", leave=False)
    with bar:
        for i in range(0, len(dataset), batch):
            samples = [dataset[j] for j in range(i, min(i + batch, len(dataset)))]
            given = None if proposer is None else [proposer(sample.image) for sample in samples]
            for found, sample in zip(model.predict([s.image for s in samples], given, batch), samples, strict=True):
                voc.update(found, sample)
                coco.update(found, sample)
                if found.masks is not None and sample.masks is not None:
                    masks.update(found, sample)
                    with_masks = True
                bar.update()
    aps = voc.ap  # NaN for a class without objects
    result = {"mAP@0.5": np.nan if np.isnan(aps).all() else voc.mean_ap}
    result |= {f"AP@0.5 {name}": float(ap) for name, ap in zip(dataset.class_names, aps, strict=True)}
    for prefix, evaluator in (("COCO", coco), ("mask", masks))[:1 + with_masks]:
        summary = evaluator.summary()
        result |= {f"{prefix} {name}": summary[name] for name in ("AP", "AP50", "AP75")}
    return result
