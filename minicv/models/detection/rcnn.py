"""R-CNN: Girshick, Donahue, Darrell and Malik, "Rich feature hierarchies for accurate object detection and semantic
segmentation", CVPR 2014.

Figure 1; the network looks at every box by itself:

    picture (3, H, W), R proposals
     v  warp: each box, whatever its ratio, and 16 pixels around it    R x 3 x 227 x 227      app. A
     v  AlexNet's convolutions                                         R x 256 x 6 x 6        pool5, 9216 numbers
     v  fc6, fc7                                                       R x 4096
     v  an SVM for each class                                          R x K scores           sec. 2.3, app. B
     +  a ridge regression for each class, on pool5                    R x K boxes            app. C
     v  NMS for each class

The trainings are three, see ``svm_detector`` and ``training.svm``. Where a warp reaches out of the picture, it has the
mean colour (app. A).

Differs from the paper: a step's 32 windows of objects and 96 of background come from two images, 64 of each, where the
paper draws them from the whole set; boxes are moved before NMS, not after it; AlexNet has torchvision's one column,
with dropout before fc6 and fc7 instead of behind them. Warping is RoIAlign on the picture: bilinear, and the mean of
many pixels where a box shrinks. All layers learn at one rate and all parameters decay; in the authors' code biases
learn at twice the rate, the new last layer at ten times, and biases do not decay. ``backbone`` "vgg16" is the paper's
O-Net. ``compact``: VGG11 with a quarter of the channels and batch norm on warps of 64x64, the context 16/227 of that.
Asserted by the tests: pool5 has 9216 numbers, fc7 4096; 57,089,877 parameters with AlexNet and 20 classes."""
from __future__ import annotations

from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..backbones.alexnet import AlexNet
from ..backbones.vgg import VGG
from .svm_detector import SVMDetector

BACKBONES = {"alexnet": AlexNet, "vgg16": VGG}


class RCNN(SVMDetector):
    """Pictures and proposals -> detections.

    ``backbone``: a classifier, its paper preset changed by ``backbone_options``. ``side``: of a warp, pixels, with
    ``context`` on each edge. ``rois_per_image``, ``background``, ``svm``: see ``SVMDetector``; ``search``: see
    ``Detector``.
    """

    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {}, "compact": {"backbone": "vgg16", "side": 64, "context": 4.5, "search": 320, "backbone_options": {
            "depth": 11, "width": 16, "hidden": 128, "pooled": 2, "batch_norm": True, "dropout": 0.0}}}
    INPUT = {"paper": (3, 227, 227), "compact": (3, 64, 64)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {
        "compact": {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.0005, "warmup": 100, "batch": 2},
        "paper": {  # sec. 2.3: 0.001, 128 windows; steps and schedule of the authors' code
            "steps": 100000, "batch": 2, "lr": 0.001, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "step",
            "milestones": (0.2, 0.4, 0.6, 0.8), "gamma": 0.1}}
    chunk = 64

    def __init__(self, in_channels: int = 3, num_classes: int = 20, backbone: str = "alexnet",
                 backbone_options: dict[str, Any] | None = None, side: int = 227, context: float = 16.0,
                 rois_per_image: int = 64, background: tuple[float, float] = (0.0, 0.5), svm: bool = True,
                 search: int = 500):
        if backbone not in BACKBONES:
            raise ValueError(f"RCNN(backbone={backbone!r}): there are {', '.join(BACKBONES)}")
        if not 0 <= 2 * context < side or min(num_classes, rois_per_image, search) < 1:
            raise ValueError(f"RCNN(side={side}, context={context}, num_classes={num_classes}, "
                             f"rois_per_image={rois_per_image}, search={search}): the context must leave something of "
                             "the side, the others must be at least 1")
        self.in_channels, self.num_classes, self.side, self.context = in_channels, num_classes, side, context
        self.rois_per_image, self.background, self.svm, self.search = rois_per_image, tuple(background), svm, search
        cls = BACKBONES[backbone]
        self.net = cls(**{**cls.PRESETS["paper"], **(backbone_options or {}), "num_classes": num_classes + 1,
                          "in_channels": in_channels})
        layers = [layer for layer in self.net.classifier if isinstance(layer, nn.Linear)]
        layers[-1].weight.data *= 0.1  # a new last layer: about 0.01 in the paper's size, sec. 2.3
        self.machines(D=layers[-1].weight.shape[1], P=layers[0].weight.shape[1])

    def scale(self, size: tuple[int, int]) -> tuple[float, float]:
        return 1.0, 1.0  # the boxes are scaled, not the picture

    def forward(self, warps: Tensor) -> Tensor:
        """Warped boxes (R, C, side, side) -> scores (R, K + 1)."""
        return self.net(warps)

    def pool5(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        *_, last = self.net.stages(warp(x, boxes, self.side, self.context)).values()
        return self.net.pooled(last, self.net.side)

    def fc7(self, pool5: Tensor) -> Tensor:
        for layer in list(self.net.classifier)[:-1]:
            pool5 = layer(pool5)
        return pool5

    def classify(self, fc7: Tensor) -> Tensor:
        return list(self.net.classifier)[-1](fc7)


def warp(x: Tensor, boxes: list[np.ndarray], side: int, context: float) -> Tensor:
    """Pictures (N, C, H, W) and boxes (R_n, 4) for each -> (R, C, side, side): R-CNN, app. A, "warp".

    Each box fills all but ``context`` pixels at every edge, where its surroundings are to be seen, at the same scale.
    Outside the picture is 0.
    """
    return F.roi_align(x, [with_context(b, side, context) for b in boxes], side, aligned=True)


def with_context(boxes: np.ndarray, side: int, context: float) -> np.ndarray:
    """Boxes (R, 4) grown around their centres by side / (side - 2 context); at least one pixel before that."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], 1) / 2
    half = half * np.float32(side / (side - 2 * context))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
