"""From boxes on a map to classes and better boxes: the second half of Fast R-CNN (Girshick, ICCV 2015), which Faster
and Mask R-CNN share.

    map, RoIs  ->  RoI pooling 7x7  ->  fc6, ReLU  ->  fc7, ReLU  -+->  K + 1 scores, 0 for background
               (or RoIAlign)                                       +->  K x 4 offsets, a box regressor for each class

The targets of the offsets are divided by their usual deviations (0.1, 0.1, 0.2, 0.2) (sec. 2.3: "we normalize the
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
from ..shares import per_process
from .base import Target, select

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # one over the deviations of the offsets


@dataclasses.dataclass
class RoISample:
    """The RoIs of one picture for a step. boxes: float32 (R, 4). labels: int64 (R,), u: 0 background, k + 1 class k.
    matched: int64 (R,), the object that each is of; of background meaningless. Those of objects come first."""

    boxes: np.ndarray
    labels: np.ndarray
    matched: np.ndarray

    @property
    def objects(self) -> int:
        return int((self.labels > 0).sum())


def sample_rois(proposals: np.ndarray, target: Target, count: int, fraction: float, background: tuple[float, float],
                random: np.random.Generator) -> RoISample:
    """Fast R-CNN, sec. 2.3: ``count`` RoIs of an image, a quarter with an IoU of at least 0.5, the others background.

    The objects themselves are proposals, too. On a picture without objects every proposal is background, whatever
    ``background`` says: its lower end is there to find hard examples near objects.
    """
    boxes = np.concatenate([target.boxes, proposals]).astype(np.float32)
    labels, matched = match_proposals(boxes, target.boxes, 0.5, background if len(target.boxes) else (0.0, 0.5))
    positive, negative = sample_boxes(labels, count, fraction, random)
    chosen = np.concatenate([positive, negative])
    u = np.zeros(len(chosen), np.int64)
    if len(positive):
        u[:len(positive)] = target.labels[matched[positive]] + 1
    return RoISample(boxes[chosen], u, matched[chosen])


def roi_features(x: Tensor, boxes: list[np.ndarray], size: int, stride: int, pool: str) -> Tensor:
    """A map (N, C, H, W) and boxes (R_n, 4) per picture -> (R, C, size, size), all pictures' one after the other."""
    if pool == "pool":
        return F.roi_pool(x, boxes, size, 1 / stride)
    return F.roi_align(x, boxes, size, 1 / stride, sampling_ratio=2, aligned=True)


class BoxHead(nn.Module):
    """Pooled RoIs (R, C, size, size) -> scores (R, K + 1) and offsets (R, K, 4)."""

    def __init__(self, channels: int, num_classes: int, size: int = 7, hidden: int = 4096, dropout: float = 0.5):
        self.num_classes, self.size, self.dropout = num_classes, size, dropout
        self.fc6 = nn.Linear(channels * size * size, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, num_classes + 1)
        self.offset = nn.Linear(hidden, 4 * num_classes)
        self.score.weight.data = init.normal(self.score.weight.shape, 0.01)  # sec. 2.3
        self.offset.weight.data = init.normal(self.offset.weight.shape, 0.001)

    def features(self, x: Tensor) -> Tensor:
        """(R, C, size, size) -> (R, hidden)"""
        x = F.dropout(F.relu(self.fc6(F.flatten(x, 1))), self.dropout, self.training)
        return F.dropout(F.relu(self.fc7(x)), self.dropout, self.training)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.score(x), self.offset(x).reshape(-1, self.num_classes, 4)

    def losses(self, score: Tensor, offset: Tensor, rois: list[RoISample], targets: list[Target],
               group: Any = None) -> dict[str, Tensor]:
        """The multi-task loss, eq. (1), of one step's RoIs: "class" L_cls and "box" L_loc, means over all of them.

        ``group``: the processes that share the step, see ``models.shares``.
        """
        u = np.concatenate([r.labels for r in rois])  # (R,)
        true = [t.boxes[r.matched[:r.objects]] for r, t in zip(rois, targets, strict=True)]
        of = np.concatenate([r.boxes[:r.objects] for r in rois])
        v = encode_boxes(np.concatenate(true).astype(np.float32), of, WEIGHTS)  # (P, 4)
        objects, R = np.flatnonzero(u), max(per_process(len(u), group), 1)
        u_there, v_there, at, k = (to_device(a, score.device) for a in (u, v.astype(score.dtype), objects,
                                                                       u[objects] - 1))
        t_u = offset[at, k]  # (P, 4), the offsets of each RoI's true class
        return {"class": F.cross_entropy(score, u_there, reduction="sum") / R,
                "box": F.smooth_l1_loss(t_u, v_there, reduction="sum") / R}  # eq. (2), (3)

    def detections(self, score: Tensor, offset: Tensor, boxes: list[np.ndarray], sizes: list[tuple[int, int]],
                   threshold: float, iou: float, most: int) -> list[Detections]:
        """What the scores and offsets of RoIs ``boxes`` (R_n, 4) per picture say is there, see ``base.select``."""
        p, t = F.softmax(score, 1).numpy(), offset.numpy()
        found, start = [], 0
        for some, size in zip(boxes, sizes, strict=True):
            stop = start + len(some)
            better = decode_boxes(t[start:stop], some[:, None], WEIGHTS)  # (R, K, 4)
            found.append(select(better, p[start:stop, 1:], size, threshold, iou, most))
            start = stop
        return found


def draw_rois(proposals: list[np.ndarray], targets: list[Target], count: int, fraction: float,
              background: tuple[float, float]) -> list[RoISample]:
    """``count`` RoIs of each image of a batch: hierarchical sampling (Fast R-CNN, sec. 2.3)."""
    random = rng()
    return [sample_rois(p, t, count, fraction, background, random) for p, t in zip(proposals, targets, strict=True)]
