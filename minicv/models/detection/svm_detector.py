"""What R-CNN and SPPNet share: a network computes features of boxes; SVMs and regressions work on the features alone.

    image, boxes  ->  pool5 (R, P)  ->  fc6, fc7 (R, D)  ->  K linear SVMs: a score per class
                          |
                          +->  K ridge regressions: a better box per class

Three trainings, one after the other (R-CNN, sec. 2.3 and app. B, C; in ``training.svm``). First the network learns to
classify boxes by softmax (``losses``). Then it only writes the features of all boxes to disk, and on these the SVMs
are trained, and finally the regressions.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor, no_grad
from ...backend import Array, to_device, to_numpy
from ...data.augment.detection import resize_image
from ...detection import BoxRegressors, Detections, LinearSVM
from ...nn import init
from ..distributed import mean_over_processes
from .base import Detector, Target, box_scale, postprocess, require_proposals
from .config import DetectorConfig, PostprocessConfig, SelectiveSearchConfig
from .roi_heads import RoISamplingConfig, sample_batch_rois

NO_DETECTION = -2.0  # an SVM's score below any detection's
BY_SVM, BY_SOFTMAX = PostprocessConfig(score_threshold=-1.0), PostprocessConfig(score_threshold=0.05)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SVMDetectorConfig(RoISamplingConfig, SelectiveSearchConfig, DetectorConfig):
    """``svm``: score by the SVMs; otherwise by the softmax of the fine-tuned network, as in R-CNN's app. B."""

    svm: bool = True


@dataclasses.dataclass
class BoxFeatures:
    """Of R boxes. fc7: float32 (R, D), the SVMs' input. pool5: float32 (R, P), the regressions' input."""

    fc7: np.ndarray
    pool5: np.ndarray


class SVMDetector(Detector):
    """Subclasses define ``pool5``, ``fc7`` and ``classify``, and call ``register_svms`` at the end of ``__init__``.

    Before the second and third training the SVMs find nothing, and no box is moved.
    """

    Config: type[SVMDetectorConfig] = SVMDetectorConfig
    needs_proposals = True
    regression_iou = 0.6  # R-CNN, app. C: box regressions learn from proposals with a higher IoU with an object
    negative_nms_iou = 1.0  # before the SVMs are trained, one of two negatives with a higher IoU is dropped
    chunk = 1 << 30  # boxes whose features are computed at a time
    svm_weight: Array
    svm_bias: Array
    svm_scale: Array
    box_weight: Array
    box_bias: Array

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.svm = self.config.svm

    @property
    def display_score(self) -> float:  # type: ignore[override]  # a constant elsewhere
        return 0.0 if self.svm else 0.5  # a score is the distance from the SVM's plane, or a probability

    def pool5(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        """Images (N, C, H, W), boxes (R_n, 4) of each, in their pixels -> (R, P), the images in their order."""
        raise TypeError(f"{type(self).__name__} has no pool5")

    def fc7(self, pool5: Tensor) -> Tensor:
        """(R, P) -> (R, D)"""
        raise TypeError(f"{type(self).__name__} has no fc7")

    def classify(self, fc7: Tensor) -> Tensor:
        """(R, D) -> scores (R, K + 1), 0 for background; used in fine-tuning only"""
        raise TypeError(f"{type(self).__name__} has no classify")

    def register_svms(self, D: int, P: int) -> None:
        """Register buffers for K SVMs of D features and K regressions of P features; checkpoints keep them."""
        K = self.num_classes
        self.register_buffer("svm_weight", init.zeros((K, D)))
        self.register_buffer("svm_bias", init.zeros((K,)) + NO_DETECTION)
        self.register_buffer("svm_scale", init.ones((1,)))
        self.register_buffer("box_weight", init.zeros((K, P, 4)))
        self.register_buffer("box_bias", init.zeros((K, 4)))

    def set_svms(self, svms: list[LinearSVM], scale: float) -> None:
        """Copy trained SVMs, one per class, of fc7 features times ``scale``."""
        self._copy(svm_weight=np.stack([s.weight for s in svms]), svm_bias=np.array([s.bias for s in svms]),
                   svm_scale=np.array([scale]))

    def set_box_regressors(self, fitted: BoxRegressors) -> None:
        """Copy regressions of pool5 features."""
        self._copy(box_weight=fitted.weight, box_bias=fitted.bias)

    def _copy(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            old = getattr(self, name)
            if array.shape != old.shape:
                raise ValueError(f"{type(self).__name__}: {name} must be {old.shape}, got {array.shape}")
            setattr(self, name, to_device(array.astype(np.float32), next(self.parameters()).device))

    # ------------------------------------------------------------------------------------------------------
    # Fine-tuning
    # ------------------------------------------------------------------------------------------------------
    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return "class": the cross entropy of the step's boxes, a quarter of them objects (R-CNN, sec. 2.3)."""
        proposals = [p if len(p) else whole_image(t.size) for p, t in zip(require_proposals(self, targets), targets,
                                                                         strict=True)]
        rois = sample_batch_rois(proposals, targets, self.config)
        u = np.concatenate([r.labels for r in rois])
        score = self.classify(self.fc7(self.pool5(x, [r.boxes for r in rois])))
        R = max(mean_over_processes(len(u), self.group), 1)
        return {"class": F.cross_entropy(score, to_device(u, score.device), reduction="sum") / R}

    # ------------------------------------------------------------------------------------------------------
    # Features, and detection with them
    # ------------------------------------------------------------------------------------------------------
    @no_grad()
    def features(self, image: np.ndarray, boxes: np.ndarray) -> BoxFeatures:
        """Return the features of boxes (R, 4) in an image (C, H, W) in 0..1, in evaluation mode."""
        self._check(image, "features")
        size = self.scaled_size(image.shape[1:])
        with nn.evaluating(self):
            x = self.batch([self.normalize(resize_image(image, size))])
            return self._features(x, boxes.astype(np.float32) * box_scale(image.shape[1:], size))[0]

    def _features(self, x: Tensor, boxes: np.ndarray) -> tuple[BoxFeatures, np.ndarray]:
        """Return the features of boxes (R, 4) in one prepared image, and the softmax (R, K)."""
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
        if proposals is None:
            raise ValueError(f"{type(self).__name__}.detect: give the proposals")
        weight, bias, scale = (to_numpy(a) for a in (self.svm_weight, self.svm_bias, self.svm_scale))
        regressors, found = BoxRegressors(to_numpy(self.box_weight), to_numpy(self.box_bias)), []
        for n, (size, boxes) in enumerate(zip(sizes, proposals, strict=True)):
            features, softmax = self._features(x[n:n + 1], boxes)
            scores = scale * features.fc7 @ weight.T + bias if self.svm else softmax  # (R, K)
            moved = np.stack([regressors.boxes(features.pool5, boxes, k) for k in range(self.num_classes)], axis=1)
            found.append(postprocess(moved, scores, size, BY_SVM if self.svm else BY_SOFTMAX))
        return found


def whole_image(size: tuple[int, int]) -> np.ndarray:
    """Return an image (H, W) as a box (1, 4)."""
    return np.array([[0, 0, size[1], size[0]]], np.float32)


class SVMHead(nn.Module):
    """(R, P) -> fc7 (R, D) by two layers, dropout behind each; ``score``: (R, D) -> (R, K + 1)"""

    def __init__(self, P: int, num_classes: int, hidden: int, dropout: float):
        self.fc6, self.fc7 = nn.Linear(P, hidden), nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, num_classes + 1)
        self.score.weight.data = init.normal(self.score.weight.shape, 0.01)  # R-CNN, sec. 2.3: a new last layer
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.fc6(x)), self.dropout, self.training)
        return F.dropout(F.relu(self.fc7(x)), self.dropout, self.training)
