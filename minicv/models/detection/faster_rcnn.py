"""Faster R-CNN: Ren, He, Girshick and Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
Networks", NIPS 2015.

Figure 2:

    pictures  ->  trunk  ->  map  -+->  RPN  ->  proposals  -+
                                   |                         v
                                   +-------------------->  RoI pooling  ->  Fast R-CNN's head  ->  classes and boxes

One network: the RPN proposes boxes on the map that the head then looks at. In *approximate joint training* (``losses``
as it stands) all four terms are added up, and the proposals are taken as they are, as constants: no gradient flows
through their coordinates (sec. 3.2). *4-step alternating training* (``training.train_alternating``, or ``minicv train
faster_rcnn --alternating``) uses ``learn``: RPN and detector are first trained apart, then the RPN and at last the head
on a trunk that no longer changes.

Proposals from elsewhere, such as selective search, take the place of the RPN's wherever they are given: in training
as ``Target.proposals``, in ``predict(images, proposals)``. And ``propose`` makes proposals for a Fast R-CNN.

Differs from the paper: see ``rpn`` and ``fast_rcnn``; background is every proposal with an IoU below 0.5, as in the
authors' code for joint training, where Fast R-CNN leaves out those below 0.1. Trained as the paper says: one image, 256
anchors and, as in the authors' code, 128 RoIs a step; a ResNet in place of VGG16 wants ``freeze_bn``, as its authors
have it. ``compact`` trains on two images of 64 RoIs each, as Fast R-CNN's. ``compact``: anchors of 16, 32 and 64
pixels, also those that cross the border; 256 proposals in training, 128 afterwards.
Asserted by the tests: 9 anchors, 18 + 36 = 54 channels; 137,061,851 parameters with VGG16 and 20 classes; 37 x 62 x 9 =
20,646 anchors for a picture of 600x1000.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import nn
from ...autograd import Tensor, no_grad
from ...detection import Detections, inside_image
from ...detection.anchors import ANCHOR_RATIOS, ANCHOR_SCALES
from .base import Target, factors
from .base import resize_image as resized
from .fast_rcnn import FastRCNN
from .rpn import RPN
from .trunk import COMPACT

PARTS = ("rpn", "head")


class FasterRCNN(FastRCNN):
    """Pictures -> detections. ``scales`` to ``min_size`` are the RPN's, ``rpn_samples`` its anchors per picture and
    step; see ``RPN``. The other options are FastRCNN's."""

    PRESETS = {"paper": {}, "compact": {**COMPACT, "hidden": 128, "dropout": 0.0, "short": 192, "long": 256,
                                        "rois_per_image": 64, "scales": (16.0, 32.0, 64.0), "border": float("inf"),
                                        "before": (1000, 500), "after": (256, 128), "min_size": 4.0}}
    TRAIN_DEFAULTS = {**FastRCNN.TRAIN_DEFAULTS, "paper": {  # sec. 3.1.3: 60k steps at 0.001, 20k at 0.0001, one image
        **FastRCNN.TRAIN_DEFAULTS["paper"], "steps": 80000, "batch": 1}}
    needs_proposals = False

    def __init__(self, in_channels: int = 3, num_classes: int = 20, trunk: str = "vgg16", stage: str = "relu5_3",
                 trunk_options: dict[str, Any] | None = None, hidden: int = 4096, pooled: int = 7, pool: str = "pool",
                 dropout: float = 0.5, rois_per_image: int = 128, foreground: float = 0.25,
                 background: tuple[float, float] = (0.0, 0.5), short: int = 600, long: int = 1000,
                 score: float = 0.05, nms_iou: float = 0.3, most: int = 100, scales: Sequence[float] = ANCHOR_SCALES,
                 ratios: Sequence[float] = ANCHOR_RATIOS, border: float = 0.0, before: tuple[int, int] = (12000, 6000),
                 after: tuple[int, int] = (2000, 300), rpn_nms_iou: float = 0.7, min_size: float = 16.0,
                 rpn_samples: int = 256):
        super().__init__(in_channels, num_classes, trunk, stage, trunk_options, hidden, pooled, pool, dropout,
                         rois_per_image, foreground, background, short, long, score, nms_iou, most)
        self.rpn = RPN(self.trunk.channels, self.trunk.stride, scales, ratios, border, before, after, rpn_nms_iou,
                       min_size, rpn_samples)
        self.parts = PARTS

    def everything(self, x: Tensor, boxes: list[np.ndarray]) -> tuple[Tensor, ...]:
        """Fast R-CNN's, and the RPN's scores (N, A, 2) and offsets (N, A, 4)."""
        return *super().everything(x, boxes), *self.rpn(x)

    def learn(self, *parts: str, trunk: bool = True) -> None:
        """What the next training changes: "rpn", "head", or both, and the trunk or not (4-step training)."""
        if not parts or not set(parts) <= set(PARTS):
            raise ValueError(f"FasterRCNN.learn{parts}: one or both of {PARTS}")
        self.parts, self.trunk.frozen = parts, not trunk

    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Of a batch: "rpn_class", "rpn_box", "class" and "box"; of the parts that ``learn`` names."""
        x, sizes, losses = self.trunk(x), [t.size for t in targets], {}
        elsewhere = targets[0].proposals is not None
        if "rpn" in self.parts or not elsewhere:
            score, offset = self.rpn(x)
            anchors = self.rpn.anchors(x.shape[2:])
        if "rpn" in self.parts:
            losses = self.rpn.losses(score, offset, anchors, targets)
        if "head" in self.parts:
            proposals = ([t.proposals for t in targets] if elsewhere else
                         self.rpn.proposals(score, offset, anchors, sizes, training=True))
            losses |= self.head_losses(x, targets, proposals)
        return losses

    def detect(self, x: Tensor, sizes: list[tuple[int, int]],
               proposals: list[np.ndarray] | None = None) -> list[Detections]:
        x = self.trunk(x)
        return self.detect_on(x, sizes, self.proposals(x, sizes) if proposals is None else proposals)

    def proposals(self, x: Tensor, sizes: list[tuple[int, int]], training: bool = False) -> list[np.ndarray]:
        """The RPN's boxes (P, 4) for each picture, given the map."""
        return self.rpn.proposals(*self.rpn(x), self.rpn.anchors(x.shape[2:]), sizes, training)

    def usable_anchors(self, size: tuple[int, int]) -> int:
        """How many anchors the RPN can be trained on in an image of ``size`` (H, W), whatever is in it."""
        scaled = self.scaled_size(size)
        anchors = self.rpn.anchors(tuple(-(-n // self.stride) for n in scaled))
        return int(inside_image(anchors, scaled, self.rpn.border).sum())

    @no_grad()
    def propose(self, image: np.ndarray, training: bool = False) -> np.ndarray:
        """The RPN's boxes (P, 4) for a picture (C, H, W) in 0..1, in its pixels, the best first.

        ``training``: as many as the head is trained on, 2000 in the paper instead of 300.
        """
        self._check(image, "propose")
        size = self.scaled_size(image.shape[1:])
        with nn.evaluating(self):
            x = self.trunk(self.batch([self.pixels(resized(image, size))]))
            return self.proposals(x, [size], training)[0] * factors(size, image.shape[1:])

    def parameter_groups(self) -> list[dict]:
        """Those that learn; biases at twice the rate."""
        asleep = {id(p) for name in PARTS if name not in self.parts for p in getattr(self, name).parameters()}
        asleep |= {id(p) for p in self.trunk.parameters()} if self.trunk.frozen else set()
        return [{**group, "params": [p for p in group["params"] if id(p) not in asleep]}
                for group in super().parameter_groups()]
