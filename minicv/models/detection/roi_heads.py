"""From boxes on a map to classes and better boxes: the second half of Fast R-CNN (Girshick, ICCV 2015), which Faster
and Mask R-CNN share.

    map, RoIs  ->  RoI pooling 7x7  ->  fc6, ReLU  ->  fc7, ReLU  -+->  K + 1 scores, 0 for background
               (or RoIAlign)                                       +->  K x 4 box deltas, a box regressor for each class

The targets of the deltas are divided by their usual deviations (0.1, 0.1, 0.2, 0.2) (sec. 2.3: "we normalize the
ground-truth regression targets to have zero mean and unit variance"), here by constants, as in the authors' later code.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ...backend import rng, to_device
from ...detection import Detections, decode_boxes, encode_boxes, match_proposals, sample_boxes
from ...nn import init
from ..distributed import mean_over_processes
from .base import Target, postprocess
from .config import Config, PostprocessConfig

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # one over the deviations of the deltas


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoISamplingConfig(Config):
    """A training step uses ``rois_per_image`` RoIs of each image: up to ``foreground_fraction`` of them with
    an object at an IoU of at least 0.5, the others background, with an IoU in the half-open interval
    ``background_iou``."""

    rois_per_image: int = 64
    foreground_fraction: float = 0.25
    background_iou: tuple[float, float] = (0.1, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.background_iou
        if not 0 <= low <= high <= 0.5 or not 0 <= self.foreground_fraction <= 1:
            self.refuse(f"background_iou={tuple(self.background_iou)}, foreground_fraction={self.foreground_fraction}",
                        "the IoUs must rise within 0 to 0.5, the fraction be in 0..1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoIHeadConfig(RoISamplingConfig):
    """RoIs are pooled to ``roi_size`` squared by ``roi_pooling``: "pool" (RoI pooling) or "align" (RoIAlign).
    ``hidden``: neurons of fc6 and of fc7; ``dropout`` behind each."""

    hidden: int = 4096
    roi_size: int = 7
    roi_pooling: str = "pool"
    dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.roi_pooling not in ("pool", "align"):
            self.refuse(f"roi_pooling={self.roi_pooling!r}", "'pool' or 'align'")


@dataclasses.dataclass
class RoISample:
    """The RoIs of one image for a step, the foreground first.

    boxes: float32 (R, 4). labels: int64 (R,), u: 0 background, k + 1 class k. matched: int64 (R,), the object of each
    foreground RoI; meaningless for background.
    """

    boxes: np.ndarray
    labels: np.ndarray
    matched: np.ndarray

    @property
    def num_foreground(self) -> int:
        return int((self.labels > 0).sum())


def sample_rois(proposals: np.ndarray, target: Target, config: RoISamplingConfig,
                rng: np.random.Generator) -> RoISample:
    """Draw the RoIs of one image: Fast R-CNN, sec. 2.3.

    The objects themselves are proposals, too. In an image without objects every proposal is background, whatever its
    IoU: the lower end of ``background_iou`` is there to find hard examples near objects.
    """
    boxes = np.concatenate([target.boxes, proposals]).astype(np.float32)
    background_iou = config.background_iou if len(target.boxes) else (0.0, 0.5)
    labels, matched = match_proposals(boxes, target.boxes, 0.5, background_iou)
    foreground, background = sample_boxes(labels, config.rois_per_image, config.foreground_fraction, rng)
    sampled = np.concatenate([foreground, background])
    u = np.zeros(len(sampled), np.int64)
    if len(foreground):
        u[:len(foreground)] = target.labels[matched[foreground]] + 1
    return RoISample(boxes[sampled], u, matched[sampled])


def sample_batch_rois(proposals: list[np.ndarray], targets: list[Target], config: RoISamplingConfig) -> list[RoISample]:
    """Draw RoIs of each image of a batch: hierarchical sampling (Fast R-CNN, sec. 2.3)."""
    generator = rng()
    return [sample_rois(p, t, config, generator) for p, t in zip(proposals, targets, strict=True)]


def roi_features(x: Tensor, boxes: list[np.ndarray], size: int, stride: int, pooling: str) -> Tensor:
    """Pool a map (N, C, H, W) in boxes (R_n, 4) per image -> (R, C, size, size), the images in their order."""
    if pooling == "pool":
        return F.roi_pool(x, boxes, size, 1 / stride)
    return F.roi_align(x, boxes, size, 1 / stride, sampling_ratio=2, aligned=True)


class BoxHead(nn.Module):
    """Pooled RoIs (R, C, size, size) -> scores (R, K + 1) and box deltas (R, K, 4)."""

    def __init__(self, channels: int, num_classes: int, config: RoIHeadConfig):
        self.num_classes, self.dropout, hidden = num_classes, config.dropout, config.hidden
        self.fc6 = nn.Linear(channels * config.roi_size ** 2, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, num_classes + 1)
        self.box_deltas = nn.Linear(hidden, 4 * num_classes)
        self.score.weight.data = init.normal(self.score.weight.shape, 0.01)  # sec. 2.3
        self.box_deltas.weight.data = init.normal(self.box_deltas.weight.shape, 0.001)

    def features(self, x: Tensor) -> Tensor:
        """(R, C, size, size) -> (R, hidden)"""
        x = F.dropout(F.relu(self.fc6(F.flatten(x, 1))), self.dropout, self.training)
        return F.dropout(F.relu(self.fc7(x)), self.dropout, self.training)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.score(x), self.box_deltas(x).reshape(-1, self.num_classes, 4)

    def losses(self, score: Tensor, box_deltas: Tensor, rois: list[RoISample], targets: list[Target],
               group: Any = None) -> dict[str, Tensor]:
        """Return the multi-task loss, eq. (1), of one step's RoIs: "class" L_cls and "box" L_loc, means over all RoIs.

        ``group``: the processes that share the step, see ``models.distributed``.
        """
        u = np.concatenate([r.labels for r in rois])  # (R,)
        gt_boxes = [t.boxes[r.matched[:r.num_foreground]] for r, t in zip(rois, targets, strict=True)]
        boxes = np.concatenate([r.boxes[:r.num_foreground] for r in rois])
        v = encode_boxes(np.concatenate(gt_boxes).astype(np.float32), boxes, WEIGHTS)  # (P, 4)
        foreground, R = np.flatnonzero(u), max(mean_over_processes(len(u), group), 1)
        labels, v, rows, k = (to_device(a, score.device) for a in (
            u, v.astype(score.dtype), foreground, u[foreground] - 1))
        t_u = box_deltas[rows, k]  # (P, 4), the deltas for each RoI's true class
        return {"class": F.cross_entropy(score, labels, reduction="sum") / R,
                "box": F.smooth_l1_loss(t_u, v, reduction="sum") / R}  # eq. (2), (3)

    def detections(self, score: Tensor, box_deltas: Tensor, boxes: list[np.ndarray], sizes: list[tuple[int, int]],
                   config: PostprocessConfig) -> list[Detections]:
        """Turn the scores and deltas of the RoIs ``boxes`` (R_n, 4) per image into detections."""
        p, t = F.softmax(score, 1).numpy(), box_deltas.numpy()
        found, start = [], 0
        for rois, size in zip(boxes, sizes, strict=True):
            stop = start + len(rois)
            moved = decode_boxes(t[start:stop], rois[:, None], WEIGHTS)  # (R, K, 4)
            found.append(postprocess(moved, p[start:stop, 1:], size, config))
            start = stop
        return found
