"""What all detectors share: how images come in, what their targets are, and how boxes come out.

Images of any size are scaled by ``scale`` (by default as in Fast R-CNN, sec. 4: the shorter side to ``min_size``
pixels, unless the longer would then exceed ``max_size``), normalized, and batched as x (N, C, H, W). Each image lies in
the upper left corner; the rest, up to the largest image of the batch, is zero, the mean color.

Box arithmetic (anchors, matching, sampling, NMS) runs on the host, in NumPy; x and the weights lie on the device.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import nn
from ...autograd import Tensor, no_grad
from ...data.augment.detection import resize, resize_image
from ...data.sample import DetectionSample
from ...detection import Detections, batched_nms, clip_boxes_to_image, remove_small_boxes
from ..normalization import normalize_image
from .config import DetectorConfig, PostprocessConfig

Proposer = Callable[[np.ndarray], np.ndarray]
"""From an image (C, H, W) in 0..1 to boxes (P, 4) float32 in its pixels, the best first."""


@dataclasses.dataclass
class Target:
    """The objects of one image of a batch, in pixels of the scaled image, as NumPy arrays.

    boxes: float32 (R, 4). labels: int64 (R,), 0 to num_classes - 1, background not counted. size: (h, w) of the image
    without the padding of the batch. masks: bool (R, h, w) or None. proposals: float32 (P, 4) for a network that does
    not make its own, or None. R and P may be 0.
    """

    boxes: np.ndarray
    labels: np.ndarray
    size: tuple[int, int]
    masks: np.ndarray | None = None
    proposals: np.ndarray | None = None


class Detector(nn.Module):
    """The base of all detectors, which reads the ``Config``. Subclasses define ``losses`` and ``detect``.

    ``needs_proposals``: boxes must come from elsewhere. ``needs_masks``: the losses use the objects' masks.
    ``min_size``, ``max_size``: see ``scale``. ``stride``: the sides of a batch are multiples of it.
    ``proposal_max_size``: selective search sees larger images scaled down to this longer side. ``display_score``: the
    score from which on a detection is worth showing. ``normalization``: see ``normalization.py``. ``BACKBONE``:
    beginning of the names of the parameters that ``--start`` must find and ``--freeze backbone`` keeps.
    """

    Config: type[DetectorConfig] = DetectorConfig
    in_channels: int
    num_classes: int
    normalization = "imagenet"
    BACKBONE = "backbone."
    min_size: int
    max_size: int
    proposal_max_size = 500  # R-CNN, sec. 4.2
    stride = 1
    display_score = 0.5
    needs_proposals = False
    needs_masks = False
    group: Any = None  # the processes that share a training step (``Training`` sets it); None: a single process
    proposer: Proposer | None = None  # None: the first 2000 boxes of selective search in its fast mode

    def __init__(self, **options: Any):
        self.config: Any = self.Config(**options)
        for name in ("in_channels", "num_classes", "normalization", "min_size", "max_size", "proposal_max_size"):
            if hasattr(self.config, name):
                setattr(self, name, getattr(self.config, name))

    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the terms of the training loss, by name, for a batch (N, C, H, W) made by ``batch``.

        Every batch has the same names; a term without objects is 0.
        """
        raise TypeError(f"{type(self).__name__} has no losses")

    def detect(self, x: Tensor, sizes: list[tuple[int, int]],
               proposals: list[np.ndarray] | None = None) -> list[Detections]:
        """Return the objects in each image of a batch, in pixels of the scaled images, whose (h, w) are ``sizes``."""
        raise TypeError(f"{type(self).__name__} has no detect")

    def propose(self, image: np.ndarray) -> np.ndarray:
        """Return boxes (P, 4) that may hold objects, for an image (C, H, W) in 0..1, by ``proposer``."""
        if self.proposer is not None:
            return self.proposer(image)
        if len(image) not in (1, 3):
            raise ValueError(f"{type(self).__name__}.propose: selective search takes images of 1 or 3 channels, got "
                             f"{image.shape}; set ``proposer``, or give the proposals")
        from ...detection.selective_search import selective_search
        H, W = image.shape[1:]
        shrink = min(1, self.proposal_max_size / max(H, W))
        size = max(1, round(H * shrink)), max(1, round(W * shrink))
        small = np.repeat(resize_image(image, size), 3 // len(image), axis=0)
        return selective_search(small, max_boxes=2000) * box_scale(size, (H, W))  # R-CNN, sec. 2.1: "around 2000"

    # ------------------------------------------------------------------------------------------------------
    # Images in
    # ------------------------------------------------------------------------------------------------------
    def scale(self, size: tuple[int, int]) -> tuple[float, float]:
        """Return the factors that scale the height and the width of an image of ``size`` (H, W)."""
        factor = min(self.min_size / min(size), self.max_size / max(size))
        return factor, factor

    def scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (H, W) after scaling, at least 1 pixel each."""
        H, W = (max(1, round(n * f)) for n, f in zip(size, self.scale(size), strict=True))
        return H, W

    def example(self, sample: DetectionSample, proposals: np.ndarray | None = None) -> tuple[np.ndarray, Target]:
        """Return a training example: the sample's image (C, h, w), scaled and normalized, and its target.

        Difficult objects and crowds are left out. ``proposals`` are in pixels of the sample's image.
        """
        self._check(sample.image, "example")
        original, size = sample.image.shape[1:], self.scaled_size(sample.image.shape[1:])
        sample = resize(sample.for_training(), size)
        if proposals is not None:
            proposals = proposals.astype(np.float32) * box_scale(original, size)
        return self.normalize(sample.image), Target(sample.boxes, sample.labels, size, sample.masks, proposals)

    def normalize(self, image: np.ndarray) -> np.ndarray:
        """Return an image (C, h, w) in 0..1 as the network's input."""
        return normalize_image(image, self.normalization)

    def batch(self, images: Sequence[np.ndarray], device: str | None = None) -> Tensor:
        """Return images (C, h, w), scaled and normalized, as one tensor (N, C, H, W)."""
        H, W = (-(-max(image.shape[axis] for image in images) // self.stride) * self.stride for axis in (1, 2))
        x = np.zeros((len(images), self.in_channels, H, W), np.float32)
        for n, image in enumerate(images):
            x[n, :, :image.shape[1], :image.shape[2]] = image
        return Tensor(x).to(device or next(self.parameters()).device)

    def _check(self, image: np.ndarray, where: str) -> None:
        if image.ndim != 3 or image.shape[0] != self.in_channels or image.size == 0:
            raise ValueError(f"{type(self).__name__}.{where}: an image must be ({self.in_channels}, H, W) and not "
                             f"empty, got {image.shape}")

    # ------------------------------------------------------------------------------------------------------
    # Boxes out
    # ------------------------------------------------------------------------------------------------------
    @no_grad()
    def predict(self, images: Sequence[np.ndarray], proposals: Sequence[np.ndarray] | None = None,
                batch: int = 1, score: float | None = None) -> list[Detections]:
        """Return the objects in images (C, H, W) in 0..1 of any sizes, in pixels of each image, by falling score.

        ``proposals``: boxes (P, 4) per image, in its pixels, for a network that needs them; by default those of
        ``propose``. ``batch``: how many images are computed together. ``score``: detections with a lower score are
        dropped, before masks are drawn at the size of the image. ``ValueError`` for arrays that are not images.
        """
        for image in images:
            self._check(image, "predict")
        if self.needs_proposals and proposals is None:
            proposals = [self.propose(image) for image in images]
        if proposals is not None and len(proposals) != len(images):
            raise ValueError(f"{type(self).__name__}.predict: {len(images)} images need as many arrays of proposals, "
                             f"got {len(proposals)}")
        found: list[Detections] = []
        with nn.evaluating(self):
            for i in range(0, len(images), batch):
                some = images[i:i + batch]
                sizes = [self.scaled_size(image.shape[1:]) for image in some]
                x = self.batch([self.normalize(resize_image(p, s)) for p, s in zip(some, sizes, strict=True)])
                boxes = None if proposals is None else [
                    np.asarray(b, np.float32).reshape(-1, 4) * box_scale(image.shape[1:], size)
                    for b, image, size in zip(proposals[i:i + batch], some, sizes, strict=True)]
                found += [self.restore(d if score is None else d[d.scores >= score], size, image.shape[1:])
                          for d, size, image in zip(self.detect(x, sizes, boxes), sizes, some, strict=True)]
        return found

    def restore(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Detections:
        """Bring detections from the scaled image back to the original one; both sizes are (H, W)."""
        boxes = clip_boxes_to_image(found.boxes * box_scale(size, original), original)
        return dataclasses.replace(found, boxes=boxes)


def require_proposals(model: Detector, targets: list[Target]) -> list[np.ndarray]:
    """Return the proposals of each image; ``ValueError`` if one has none."""
    proposals = [t.proposals for t in targets if t.proposals is not None]
    if len(proposals) < len(targets):
        raise ValueError(f"{type(model).__name__}.losses: the targets have no proposals; give DetectionTask a proposer")
    return proposals


def box_scale(old_size: tuple[int, int], new_size: tuple[int, int]) -> np.ndarray:
    """Return the factors for boxes (R, 4) when an image is scaled from one size (H, W) to another, float32 (4,)."""
    y, x = new_size[0] / old_size[0], new_size[1] / old_size[1]
    return np.array([x, y, x, y], np.float32)


def postprocess(boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int], config: PostprocessConfig) -> Detections:
    """Turn scores (R, K) and boxes, (R, K, 4) or the same for all classes (R, 4), into detections.

    Boxes are clipped to the image (h, w) ``size``; those without area are dropped. For the rest see the config.
    """
    R, K = scores.shape
    boxes = np.broadcast_to(boxes if boxes.ndim == 3 else boxes[:, None], (R, K, 4))
    r, k = np.nonzero(scores >= config.score_threshold)
    boxes, scores = clip_boxes_to_image(boxes[r, k].astype(np.float32), size), scores[r, k].astype(np.float32)
    large = remove_small_boxes(boxes, 1e-3)
    boxes, scores, labels = boxes[large], scores[large], k[large].astype(np.int64)
    kept = batched_nms(boxes, scores, labels, config.nms_iou, config.max_detections)
    return Detections(boxes[kept], scores[kept], labels[kept])
