"""SPPNet: He, Zhang, Ren and Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition",
ECCV 2014.

Figures 2, 3 and 5; the convolutions run once per image, whatever the number of boxes:

    image (3, H, W)           ->  ZF-5's convolutions, once     ->  map (256, H/16, W/16)
    R proposals               ->  windows of the map                                        app. A
    map, windows              ->  pyramid pooling: the largest values of 1x1, 2x2, 3x3 and 6x6 bins of each window
                                  R x 256 x 50: the same length for a window of any size    sec. 2.2
     v  fc6, fc7                  R x 4096
     v  SVMs and ridge regressions, as R-CNN's                                              sec. 4.1

SPPNet, app. A: a box from x1 to x2 takes the columns floor(x1 / S) + 1 to ceil(x2 / S) - 1, those whose receptive
fields have their centers inside it, if column j has its center at S j. With padding by half of every kernel, that
center is the middle of pixel S j, which is at S j + 1/2 since pixel i reaches from i to i + 1; in a network with 2x2
poolings it is at S j + S/2. ``center_offset`` is this 1/2 or S/2.

Each box is looked at in the scale that brings its area closest to 224x224 (sec. 4.1), in training, too.
``multi_size_training`` (sec. 2.3), which the paper uses for classification, trains the same network at several sizes in
turn, here one drawn at random for each step.

Differs from the paper: no local response normalization in ZF-5; the other scales are interpolated from the scaled
image; a step's windows come from two images, 64 of each. Box regression learns from an IoU of 0.5 on
(``regression_iou``), and of two negatives that overlap by more than 0.7 one is dropped (``negative_nms_iou``), both as
in the paper's sec. 4.1 and its code; ``compact`` has R-CNN's 0.6 and drops none. As in the paper, only the layers
behind the pooling are fine-tuned (``freeze_backbone``), which needs convolutions that were trained before. ``compact``:
the backbone of our Fast R-CNN, fine-tuned with the rest since it starts at random.
Asserted by the tests: 50 bins; 73,026,709 parameters with ZF-5 and 20 classes."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import backend, nn
from ... import ops as F
from ...autograd import Tensor, no_grad
from .config import COMPACT_BACKBONE, BackboneConfig, ImageSizeConfig
from .svm_detector import SVMDetector, SVMDetectorConfig, SVMHead


@dataclasses.dataclass(frozen=True, kw_only=True)
class SPPNetConfig(SVMDetectorConfig, ImageSizeConfig, BackboneConfig):
    """``backbone``: "zf5", or a classifier's name; with ``freeze_backbone`` it is not fine-tuned. ``levels``: n of the
    pyramid's n x n bins. ``hidden``: neurons of fc6 and of fc7; ``dropout`` behind each.

    A box is pooled from the image at the one of the ``image_scales`` that brings its area closest to ``target_area``
    square pixels; with ``multi_size_training``, a step pools all boxes at one scale drawn at random.
    ``regression_iou``, ``negative_nms_iou``: see ``SVMDetector``.
    """

    backbone: str = "zf5"
    freeze_backbone: bool = True
    levels: Sequence[int] = (1, 2, 3, 6)
    hidden: int = 4096
    dropout: float = 0.5
    min_size: int = 688
    max_size: int = 4000
    image_scales: Sequence[float] = (480 / 688, 576 / 688, 1.0, 864 / 688, 1200 / 688)
    target_area: float = 224.0 ** 2
    multi_size_training: bool = True
    regression_iou: float = 0.6
    negative_nms_iou: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.regression_iou < 1 or not 0 < self.negative_nms_iou <= 1:
            self.refuse(f"regression_iou={self.regression_iou}, negative_nms_iou={self.negative_nms_iou}",
                        "the first must be in [0, 1), the second in (0, 1]")
        if not self.image_scales or min(self.image_scales) <= 0 or not self.levels or min(self.levels) < 1:
            self.refuse(f"image_scales={tuple(self.image_scales)}, levels={tuple(self.levels)}",
                        "needs positive numbers")


class SPPNet(SVMDetector):
    """Images and proposals -> detections. Options: ``SPPNetConfig``."""

    Config = SPPNetConfig
    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {"regression_iou": 0.5, "negative_nms_iou": 0.7, "multi_size_training": False},
        "compact": {**COMPACT_BACKBONE, "hidden": 128, "dropout": 0.0, "freeze_backbone": False, "min_size": 192,
                    "max_size": 256, "image_scales": (1.0,), "target_area": 48.0 ** 2, "proposal_max_size": 320}}
    INPUT = {"paper": (3, 688, 688), "compact": (3, 192, 256)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {
        "compact": {"steps": 1000, "optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "warmup": 100,
                    "batch": 2, "jitter": 0.1},
        "paper": {  # sec. 4.3 of the TPAMI version: 250k steps at 0.0001, 50k at 0.00001
            "steps": 300000, "batch": 2, "lr": 0.0001, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "step",
            "milestones": (5 / 6,), "gamma": 0.1}}

    def __init__(self, **options: Any):
        super().__init__(**options)
        config, self.image_scales = self.config, tuple(self.config.image_scales)
        self.regression_iou, self.negative_nms_iou = config.regression_iou, config.negative_nms_iou
        self.backbone = ZF5(config.in_channels) if config.backbone == "zf5" else config.build_backbone(
            config.in_channels)
        self.backbone.frozen, self.stride = config.freeze_backbone, self.backbone.stride
        self.center_offset = 0.5 if config.backbone == "zf5" else self.stride / 2
        P = self.backbone.out_channels * sum(n * n for n in config.levels)
        self.head = SVMHead(P, config.num_classes, config.hidden, config.dropout)
        self.register_svms(config.hidden, P)

    def forward(self, x: Tensor, boxes: list[np.ndarray] | None = None) -> Tensor:
        """Images (N, C, H, W), boxes (R_n, 4) of each -> scores (R, K + 1); without boxes, of the whole images."""
        if boxes is None:
            return self.classify(self.fc7(F.spatial_pyramid_pool(self.backbone(x), self.config.levels)))
        return self.classify(self.fc7(self.pool5(x, boxes)))

    def pool5(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        """Return the pyramids (R, P), each box at its best scale; in multi-size training, all at a random one."""
        scales = self.image_scales
        if len(scales) == 1:
            return self.pyramids(x, boxes, scales[0])
        if self.training and self.config.multi_size_training:
            return self.pyramids(x, boxes, scales[backend.rng().integers(len(scales))])
        best = [self.best_scale(b) for b in boxes]
        parts = [self.pyramids(x, [b[k == i] for b, k in zip(boxes, best, strict=True)], scale)
                 for i, scale in enumerate(scales)]
        order = np.argsort(np.concatenate(best), kind="stable")  # of the boxes in parts, scale by scale
        return F.concatenate(parts)[backend.to_device(np.argsort(order), x.device)]

    def best_scale(self, boxes: np.ndarray) -> np.ndarray:
        """Return which of the scales brings the area of each box (R, 4) closest to ``target_area``, (R,)."""
        area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, dtype=np.float64), 1e-6)
        scaled = area[:, None] * np.array(self.image_scales) ** 2  # (R, scales)
        return abs(scaled - self.config.target_area).argmin(axis=1)  # SPPNet, sec. 4.1

    def pyramids(self, x: Tensor, boxes: list[np.ndarray], scale: float) -> Tensor:
        """Return the pyramids (R, channels * bins) of boxes in images, both scaled by ``scale``."""
        H, W = x.shape[2:]
        if scale != 1:
            size = max(self.stride, round(H * scale)), max(self.stride, round(W * scale))  # at least a cell of the map
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = self.backbone(x)
        windows = [map_windows(b * np.float32(scale), self.stride, x.shape[2:], self.center_offset) for b in boxes]
        return pool_windows(x, windows, self.config.levels)

    def fc7(self, pool5: Tensor) -> Tensor:
        return self.head(pool5)

    def classify(self, fc7: Tensor) -> Tensor:
        return self.head.score(fc7)

    def parameter_groups(self, lr: float = 1.0) -> list[dict]:
        """Return an optimizer's group of the parameters that fine-tuning changes."""
        return [{"params": list((self.head if self.backbone.frozen else self).parameters()), "lr": lr}]


def map_windows(boxes: np.ndarray, stride: int, size: tuple[int, int],
                center_offset: float = 0.0) -> np.ndarray:
    """Boxes (R, 4) in pixels -> first and last column and row of a map (H, W), (x1, y1, x2, y2) (R, 4), whole numbers.

    SPPNet, app. A. A box that holds no cell's center takes the cell nearest to its own center.
    """
    last = np.array([size[1], size[0]], np.float32) - 1
    first = np.floor((boxes[:, :2] - center_offset) / stride) + 1
    end = np.ceil((boxes[:, 2:] - center_offset) / stride) - 1
    nearest = np.rint(((boxes[:, :2] + boxes[:, 2:]) / 2 - center_offset) / stride)
    first, end = np.where(end < first, nearest, first), np.where(end < first, nearest, end)
    return np.concatenate([np.clip(first, 0, last), np.clip(end, 0, last)], axis=1).astype(np.float32)


def pool_windows(x: Tensor, windows: list[np.ndarray], levels: Sequence[int]) -> Tensor:
    """Return ``spatial_pyramid_pool`` of windows (R_n, 4) of maps (N, C, H, W), both ends included: (R, C * bins).

    One level is RoI pooling to n x n, all that Fast R-CNN kept.
    """
    return F.concatenate([F.flatten(F.roi_pool(x, windows, n), 1) for n in levels], 1)


class ZF5(nn.Module):
    """(N, C, H, W) -> (N, 256, H/16, W/16): the convolutions of Zeiler and Fergus (2014), padded by half a kernel"""

    stride, out_channels = 16, 256

    def __init__(self, in_channels: int):
        self.frozen = False
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 96, 7, stride=2, padding=3), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(96, 256, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen:
            with no_grad():
                return self.layers(x)
        return self.layers(x)
