"""R-CNN: Girshick, Donahue, Darrell and Malik, "Rich feature hierarchies for accurate object detection and semantic
segmentation", CVPR 2014.

Figure 1; the network looks at every box separately:

    image (3, H, W), R proposals
     v  warp: each box, whatever its ratio, and 16 pixels around it    R x 3 x 227 x 227      app. A
     v  AlexNet's convolutions                                         R x 256 x 6 x 6        pool5, 9216 numbers
     v  fc6, fc7                                                       R x 4096
     v  an SVM for each class                                          R x K scores           sec. 2.3, app. B
     +  a ridge regression for each class, on pool5                    R x K boxes            app. C
     v  NMS for each class

There are three trainings, see ``svm_detector`` and ``training.svm``. Where a warp reaches out of the image, it has the
mean color (app. A).

Differs from the paper: a step's 32 windows of objects and 96 of background come from two images, 64 of each, where the
paper draws them from the whole set; boxes are moved before NMS, not after it; AlexNet has torchvision's one column,
with dropout before fc6 and fc7 instead of behind them. Warping is RoIAlign on the image: bilinear, and the mean of
many pixels where a box shrinks. All layers learn at one rate and all parameters decay; in the authors' code biases
learn at twice the rate, the new last layer at ten times, and biases do not decay. ``backbone`` "vgg16" is the paper's
O-Net. ``compact``: VGG11 with a quarter of the channels and batch norm on warps of 64x64, the context 16/227 of that.
Asserted by the tests: pool5 has 9216 numbers, fc7 4096; 57,089,877 parameters with AlexNet and 20 classes."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..backbones import build_backbone
from .svm_detector import SVMDetector, SVMDetectorConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RCNNConfig(SVMDetectorConfig):
    """``backbone``: a classifier, its paper preset changed by ``backbone_options``. ``warp_size``: side of a warped
    box, pixels, of which each edge has ``context``."""

    backbone: str = "alexnet"
    backbone_options: dict[str, Any] | None = None
    warp_size: int = 227
    context: float = 16.0
    background_iou: tuple[float, float] = (0.0, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= 2 * self.context < self.warp_size:
            self.refuse(f"warp_size={self.warp_size}, context={self.context}",
                        "the context must be at least 0 and less than half of the warp")


class RCNN(SVMDetector):
    """Images and proposals -> detections. Options: ``RCNNConfig``."""

    Config = RCNNConfig
    BACKBONE = "net.features."
    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {}, "compact": {
            "backbone": "vgg16", "warp_size": 64, "context": 4.5, "proposal_max_size": 320, "backbone_options": {
                "depth": 11, "width": 16, "hidden": 128, "pooled": 2, "batch_norm": True, "dropout": 0.0}}}
    INPUT = {"paper": (3, 227, 227), "compact": (3, 64, 64)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {
        "compact": {"steps": 600, "optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "warmup": 100,
                    "batch": 2, "jitter": 0.1},
        "paper": {  # sec. 2.3: 0.001, 128 windows; steps and schedule of the authors' code
            "steps": 100000, "batch": 2, "lr": 0.001, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "step",
            "milestones": (0.2, 0.4, 0.6, 0.8), "gamma": 0.1}}
    chunk = 64

    def __init__(self, **options: Any):
        super().__init__(**options)
        config = self.config
        self.net: Any = build_backbone(config.backbone, None, choices=("alexnet", "vgg16"), **{
            **(config.backbone_options or {}), "num_classes": config.num_classes + 1,
            "in_channels": config.in_channels})
        layers = [layer for layer in self.net.modules() if isinstance(layer, nn.Linear)]
        layers[-1].weight.data *= 0.1  # a new last layer: about 0.01 in the paper's size, sec. 2.3
        self.register_svms(D=layers[-1].weight.shape[1], P=layers[0].weight.shape[1])

    def scale(self, size: tuple[int, int]) -> tuple[float, float]:
        return 1.0, 1.0  # the boxes are scaled, not the image

    def forward(self, warps: Tensor) -> Tensor:
        """Warped boxes (R, C, warp_size, warp_size) -> scores (R, K + 1)."""
        return self.net(warps)

    def pool5(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        *_, last = self.net.stages(warp(x, boxes, self.config.warp_size, self.config.context)).values()
        return self.net.pooled(last, self.net.side)

    def fc7(self, pool5: Tensor) -> Tensor:
        for layer in list(self.net.classifier)[:-1]:
            pool5 = layer(pool5)
        return pool5

    def classify(self, fc7: Tensor) -> Tensor:
        return list(self.net.classifier)[-1](fc7)


def warp(x: Tensor, boxes: list[np.ndarray], size: int, context: float) -> Tensor:
    """Images (N, C, H, W) and boxes (R_n, 4) of each -> (R, C, size, size): R-CNN, app. A, "warp".

    Each box fills the warp except for ``context`` pixels at every edge, which show its surroundings at the same scale.
    Outside the image is 0.
    """
    return F.roi_align(x, [with_context(b, size, context) for b in boxes], size, aligned=True)


def with_context(boxes: np.ndarray, size: int, context: float) -> np.ndarray:
    """Enlarge boxes (R, 4) around their centers by size / (size - 2 context); sides below one pixel count as one."""
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], 1) / 2
    half = half * np.float32(size / (size - 2 * context))
    return np.concatenate([center - half, center + half], axis=1).astype(np.float32)
