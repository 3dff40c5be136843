"""What R-CNN and SPPNet have in common: features of boxes by a network, then machines that never see the picture.

    picture, boxes  ->  pool5 (R, P)  ->  fc6, fc7 (R, D)  ->  K linear SVMs: a score per class
                          |
                          +->  K ridge regressions: a better box per class

Three trainings, one after the other (R-CNN, sec. 2.3 and app. B, C; in ``training.svm``): the network learns to
classify boxes by softmax (``losses``), then it is only used to write the features of all boxes to disk; from these
the SVMs are trained, and then the regressions.
"""
from __future__ import annotations

import dataclasses

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor, no_grad
from ...backend import to_device, to_numpy
from ...data.augment.detection import resize_image
from ...detection import Detections
from ...detection.linear_svm import LinearSVM
from ...detection.ridge import BoxRegressors
from ...nn import init
from ..shares import per_process
from .base import Detector, Target, factors, select
from .roi_heads import draw_rois

NO_DETECTION = -2.0  # a score that is no detection


@dataclasses.dataclass
class BoxFeatures:
    """Of R boxes. fc7: float32 (R, D), what the SVMs look at. pool5: float32 (R, P), what the regressions look at."""

    fc7: np.ndarray
    pool5: np.ndarray


class SVMDetector(Detector):
    """Subclasses write ``pool5``, ``fc7`` and ``classify``, and call ``machines`` at the end of ``__init__``.

    ``svm``: score by the SVMs; otherwise by the softmax of the fine-tuned network, as in R-CNN's app. B.
    ``rois_per_image``, ``background``: fine-tuning's boxes of an image in a step, and the IoU of those without an
    object; a quarter has one of at least 0.5. Without the second and third training the network finds nothing by SVM,
    and moves no box.
    """

    needs_proposals = True
    rois_per_image: int
    background: tuple[float, float]
    svm: bool
    regression_iou = 0.6  # R-CNN, app. C: IoU with an object, above which a box regression learns from a proposal
    negative_nms_iou = 1.0  # IoU of two negatives, above which one of them is dropped before the SVMs are trained
    chunk = 1 << 30  # boxes whose features are computed at a time

    @property
    def sure(self) -> float:
        return 0.0 if self.svm else 0.5  # a score is the side of the SVM's plane, or a probability

    def pool5(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        """Pictures (N, C, H, W), boxes (R_n, 4) for each, in their pixels -> (R, P), all pictures' in their order."""
        raise TypeError(f"{type(self).__name__} has no pool5")

    def fc7(self, pool5: Tensor) -> Tensor:
        """(R, P) -> (R, D)"""
        raise TypeError(f"{type(self).__name__} has no fc7")

    def classify(self, fc7: Tensor) -> Tensor:
        """(R, D) -> scores (R, K + 1), 0 for background; only used in fine-tuning"""
        raise TypeError(f"{type(self).__name__} has no classify")

    def machines(self, D: int, P: int) -> None:
        """Room for K SVMs on D features and K regressions on P; not trained by gradients, but kept in checkpoints."""
        K = self.num_classes
        self.buffer("svm_weight", init.zeros((K, D)))
        self.buffer("svm_bias", init.zeros((K,)) + NO_DETECTION)
        self.buffer("svm_scale", init.ones((1,)))
        self.buffer("box_weight", init.zeros((K, P, 4)))
        self.buffer("box_bias", init.zeros((K, 4)))

    def set_svms(self, svms: list[LinearSVM], scale: float) -> None:
        """Take over trained SVMs, one per class, of fc7 features times ``scale``."""
        self._keep(svm_weight=np.stack([s.weight for s in svms]), svm_bias=np.array([s.bias for s in svms]),
                   svm_scale=np.array([scale]))

    def set_box_regressors(self, fitted: BoxRegressors) -> None:
        """Take over regressions of pool5 features."""
        self._keep(box_weight=fitted.weight, box_bias=fitted.bias)

    def _keep(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            old = getattr(self, name)
            if array.shape != old.shape:
                raise ValueError(f"{type(self).__name__}: {name} must be {old.shape}, got {array.shape}")
            setattr(self, name, to_device(array.astype(np.float32), self.parameters()[0].device))

    # ------------------------------------------------------------------------------------------------------
    # Fine-tuning
    # ------------------------------------------------------------------------------------------------------
    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """"class": cross entropy over the step's boxes, a quarter of them of objects (R-CNN, sec. 2.3)."""
        if any(t.proposals is None for t in targets):
            raise ValueError(f"{type(self).__name__}.losses: the targets have no proposals; give DetectionTask a "
                             "proposer")
        given = [t.proposals if len(t.proposals) else whole(t.size) for t in targets]
        sample = draw_rois(given, targets, self.rois_per_image, 0.25, self.background)
        u = np.concatenate([rois.labels for rois in sample])
        score = self.classify(self.fc7(self.pool5(x, [rois.boxes for rois in sample])))
        R = max(per_process(len(u), self.group), 1)
        return {"class": F.cross_entropy(score, to_device(u, score.device), reduction="sum") / R}

    # ------------------------------------------------------------------------------------------------------
    # Afterwards
    # ------------------------------------------------------------------------------------------------------
    @no_grad()
    def features(self, image: np.ndarray, boxes: np.ndarray) -> BoxFeatures:
        """Of boxes (R, 4) on a picture (C, H, W) in 0..1, in evaluation mode."""
        self._check(image, "features")
        size = self.scaled_size(image.shape[1:])
        with nn.evaluating(self):
            x = self.batch([self.pixels(resize_image(image, size))])
            return self._features(x, boxes.astype(np.float32) * factors(image.shape[1:], size))[0]

    def _features(self, x: Tensor, boxes: np.ndarray) -> tuple[BoxFeatures, np.ndarray]:
        """Of boxes (R, 4) on one prepared picture, and the softmax (R, K)."""
        fc7, pool5, softmax = [], [], []
        for i in range(0, max(len(boxes), 1), self.chunk):
            p = self.pool5(x, [boxes[i:i + self.chunk]])
            f = self.fc7(p)
            pool5.append(p.numpy())
            fc7.append(f.numpy())
            softmax.append(F.softmax(self.classify(f), 1).numpy()[:, 1:])
        return BoxFeatures(np.concatenate(fc7), np.concatenate(pool5)), np.concatenate(softmax)

    def detect(self, x: Tensor, sizes: list[tuple[int, int]],
               proposals: list[np.ndarray] | None = None) -> list[Detections]:
        weight, bias, scale = (to_numpy(a) for a in (self.svm_weight, self.svm_bias, self.svm_scale))
        fitted, found = BoxRegressors(to_numpy(self.box_weight), to_numpy(self.box_bias)), []
        for n, (size, boxes) in enumerate(zip(sizes, proposals, strict=True)):
            seen, softmax = self._features(x[n:n + 1], boxes)
            scores = scale * seen.fc7 @ weight.T + bias if self.svm else softmax  # (R, K)
            better = np.stack([fitted.boxes(seen.pool5, boxes, k) for k in range(self.num_classes)], axis=1)
            found.append(select(better, scores, size, -1.0 if self.svm else 0.05, 0.3, 100))
        return found


def whole(size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W) as a box (1, 4)."""
    return np.array([[0, 0, size[1], size[0]]], np.float32)


class Head(nn.Module):
    """(R, P) -> fc7 (R, D) by two layers, dropout behind each; ``score``: (R, D) -> (R, K + 1)"""

    def __init__(self, P: int, num_classes: int, hidden: int, dropout: float):
        self.fc6, self.fc7 = nn.Linear(P, hidden), nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, num_classes + 1)
        self.score.weight.data = init.normal(self.score.weight.shape, 0.01)  # R-CNN, sec. 2.3: a new last layer
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.fc6(x)), self.dropout, self.training)
        return F.dropout(F.relu(self.fc7(x)), self.dropout, self.training)
