"""SPPNet: He, Zhang, Ren and Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition",
ECCV 2014.

Figures 2, 3 and 5; the convolutions run once per picture, whatever the number of boxes:

    picture (3, H, W)         ->  ZF-5's convolutions, once     ->  map (256, H/16, W/16)
    R proposals               ->  windows of the map                                        app. A
    map, windows              ->  pyramid pooling: the largest values of 1x1, 2x2, 3x3 and 6x6 bins of each window
                                  R x 256 x 50: the same length for a window of any size    sec. 2.2
     v  fc6, fc7                  R x 4096
     v  SVMs and ridge regressions, as R-CNN's                                              sec. 4.1

SPPNet, app. A: a box from x1 to x2 takes the columns floor(x1 / S) + 1 to ceil(x2 / S) - 1, those whose receptive
fields have their centres inside it, if column j has its centre at S j. With padding by half of every kernel it is the
middle of pixel S j, which is at S j + 1/2 since pixel i reaches from i to i + 1; in a network with 2x2 poolings it is
at S j + S/2. That is ``offset``.

Each box is looked at in the size in which its area is closest to 224x224 (sec. 4.1), in training, too. To ``alternate``
is multi-size training (sec. 2.3), which the paper does to classify images: the same network at several sizes in turn,
here one drawn at random for each step.

Differs from the paper: no local response normalization in ZF-5; the other sizes are interpolated from the one that the
picture is scaled to; a step's windows come from two images, 64 of each. Box regression learns from an IoU of 0.5 on
(``near``), and of two negatives that overlap by more than 0.7 one is dropped (``distinct``), both as in the paper's
sec. 4.1 and its code; ``compact`` has R-CNN's 0.6 and drops none. As there, only the layers behind the pooling are
fine-tuned (``frozen``), which needs convolutions that were trained before. ``compact``: the trunk of our Fast R-CNN,
fine-tuned with the rest since it starts at random.
Asserted by the tests: 50 bins; 73,026,709 parameters with ZF-5 and 20 classes."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import backend, nn
from ... import ops as F
from ...autograd import Tensor, no_grad
from .svm_detector import Head, SVMDetector
from .trunk import COMPACT, Trunk


class SPPNet(SVMDetector):
    """Pictures and proposals -> detections.

    ``trunk`` "zf5", or a Trunk's, with ``stage`` and ``trunk_options``; ``frozen``: it is not fine-tuned. ``levels`` n
    of n x n bins. ``hidden``: neurons of fc6 and fc7. ``short``, ``long``: see ``Detector``; ``sizes``: multiples of
    that scale; ``area``: square pixels that a box is to have, which chooses among them. ``near``,
    ``distinct``: IoUs, see ``SVMDetector``. ``rois_per_image``,
    ``background``, ``svm``: see ``SVMDetector``; ``search``: see ``Detector``.
    """

    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {"near": 0.5, "distinct": 0.7, "alternate": False}, "compact": {
            **COMPACT, "hidden": 128, "dropout": 0.0, "frozen": False, "short": 192, "long": 256, "sizes": (1.0,),
            "area": 48.0 ** 2, "search": 320}}
    INPUT = {"paper": (3, 688, 688), "compact": (3, 192, 256)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {
        "compact": {"lr": 0.0001, "momentum": 0.9, "weight_decay": 0.0005, "warmup": 100, "batch": 2},
        "paper": {  # sec. 4.3 of the TPAMI version: 250k steps at 0.0001, 50k at 0.00001
            "steps": 300000, "batch": 2, "lr": 0.0001, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "step",
            "milestones": (5 / 6,), "gamma": 0.1}}

    def __init__(self, in_channels: int = 3, num_classes: int = 20, trunk: str = "zf5", stage: str = "relu5_3",
                 trunk_options: dict[str, Any] | None = None, levels: Sequence[int] = (1, 2, 3, 6), hidden: int = 4096,
                 dropout: float = 0.5, frozen: bool = True, short: int = 688, long: int = 4000,
                 sizes: Sequence[float] = (480 / 688, 576 / 688, 1.0, 864 / 688, 1200 / 688),
                 area: float = 224.0 ** 2, rois_per_image: int = 64, background: tuple[float, float] = (0.1, 0.5),
                 svm: bool = True, search: int = 500, near: float = 0.6, distinct: float = 1.0,
                 alternate: bool = True):
        if not 0 <= near < 1 or not 0 < distinct <= 1:
            raise ValueError(f"SPPNet(near={near}, distinct={distinct}): near is an IoU of at least 0 and below 1, "
                             "distinct one above 0 and at most 1")
        if not sizes or min(sizes) <= 0 or not levels or min(levels) < 1 or search < 1:
            raise ValueError(f"SPPNet(sizes={tuple(sizes)}, levels={tuple(levels)}, search={search}): needs positive "
                             "numbers")
        self.in_channels, self.num_classes, self.short, self.long = in_channels, num_classes, short, long
        self.levels, self.sizes, self.area = tuple(levels), tuple(sizes), area
        self.rois_per_image, self.background, self.svm, self.search = rois_per_image, tuple(background), svm, search
        self.regression_iou, self.negative_nms_iou, self.alternate = near, distinct, alternate
        self.trunk = ZF5(in_channels) if trunk == "zf5" else Trunk(in_channels, trunk, stage, trunk_options)
        self.trunk.frozen, self.stride = frozen, self.trunk.stride
        self.offset = 0.5 if trunk == "zf5" else self.stride / 2
        P = self.trunk.channels * sum(n * n for n in self.levels)
        self.head = Head(P, num_classes, hidden, dropout)
        self.machines(hidden, P)

    def forward(self, x: Tensor, boxes: list[np.ndarray] | None = None) -> Tensor:
        """Pictures (N, C, H, W), boxes (R_n, 4) for each -> scores (R, K + 1); of the whole pictures without boxes."""
        if boxes is None:
            return self.classify(self.fc7(F.spatial_pyramid_pool(self.trunk(x), self.levels)))
        return self.classify(self.fc7(self.pool5(x, boxes)))

    def pool5(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        """The pyramids, each box at its best size, or, to ``alternate`` in training, all at one, drawn at random."""
        if len(self.sizes) == 1:
            return self.pyramids(x, boxes, self.sizes[0])
        if self.training and self.alternate:
            return self.pyramids(x, boxes, self.sizes[backend.rng().integers(len(self.sizes))])
        best = [self.best_size(b) for b in boxes]
        parts = [self.pyramids(x, [b[k == size] for b, k in zip(boxes, best, strict=True)], factor)
                 for size, factor in enumerate(self.sizes)]
        order = np.argsort(np.concatenate(best), kind="stable")  # where the boxes are now, size by size
        return F.concatenate(parts)[backend.to_device(np.argsort(order), x.device)]

    def best_size(self, boxes: np.ndarray) -> np.ndarray:
        """Which of ``sizes`` brings the area of each box (R, 4) closest to ``area``, (R,)."""
        area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, dtype=np.float64), 1e-6)
        return abs(area[:, None] * np.array(self.sizes) ** 2 - self.area).argmin(axis=1)  # SPPNet, sec. 4.1

    def pyramids(self, x: Tensor, boxes: list[np.ndarray], factor: float) -> Tensor:
        """(R, channels * bins) of boxes on pictures, all scaled by ``factor``."""
        H, W = x.shape[2:]
        if factor != 1:
            size = [max(self.stride, round(n * factor)) for n in (H, W)]  # a pixel of the map, at least
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = self.trunk(x)
        windows = [map_windows(b * np.float32(factor), self.stride, x.shape[2:], self.offset) for b in boxes]
        return pool_windows(x, windows, self.levels)

    def fc7(self, pool5: Tensor) -> Tensor:
        return self.head(pool5)

    def classify(self, fc7: Tensor) -> Tensor:
        return self.head.score(fc7)

    def parameter_groups(self) -> list[dict]:
        """Those that are fine-tuned."""
        return [{"params": (self.head if self.trunk.frozen else self).parameters()}]


def map_windows(boxes: np.ndarray, stride: int, size: tuple[int, int], offset: float = 0.0) -> np.ndarray:
    """Boxes (R, 4) in pixels -> first and last column and row of a map (H, W), (x1, y1, x2, y2) (R, 4), whole numbers.

    SPPNet, app. A. A box that holds no centre takes the one next to its own centre.
    """
    last = np.array([size[1], size[0]], np.float32) - 1
    first = np.floor((boxes[:, :2] - offset) / stride) + 1
    end = np.ceil((boxes[:, 2:] - offset) / stride) - 1
    nearest = np.rint(((boxes[:, :2] + boxes[:, 2:]) / 2 - offset) / stride)
    first, end = np.where(end < first, nearest, first), np.where(end < first, nearest, end)
    return np.concatenate([np.clip(first, 0, last), np.clip(end, 0, last)], axis=1).astype(np.float32)


def pool_windows(x: Tensor, windows: list[np.ndarray], levels: Sequence[int]) -> Tensor:
    """``spatial_pyramid_pool`` of windows (R_n, 4) of maps (N, C, H, W), both ends included: (R, C * bins).

    RoI pooling to n x n is one level of it: that is all that Fast R-CNN kept.
    """
    return F.concatenate([F.flatten(F.roi_pool(x, windows, n), 1) for n in levels], 1)


class ZF5(nn.Module):
    """(N, C, H, W) -> (N, 256, H/16, W/16): the convolutions of Zeiler and Fergus (2014), padded by half a kernel"""

    stride, channels = 16, 256

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
