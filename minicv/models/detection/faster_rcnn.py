"""Faster R-CNN: Ren, He, Girshick and Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
Networks", NIPS 2015. Sections, figures and equations are numbered as in the journal version, TPAMI 2017. Read
``rpn.py`` and ``fast_rcnn.py`` first.

Figure 2; RPN is the region proposal network:

    images  ->  backbone  ->  map  -+->  RPN  ->  proposals  -+
                                    |                         v
                                    +-------------------->  RoI pooling  ->  Fast R-CNN's head  ->  classes and boxes

One network: the RPN proposes boxes, and the head looks at them on the same map. *Approximate joint training*
(``losses`` as it stands) adds up all four loss terms and takes the proposals as constants: no gradient flows through
their coordinates (sec. 3.2). *4-step alternating training* (``training.train_alternating``, or ``minicv train
faster_rcnn --alternating``) trains an RPN, then a detector with a backbone of its own on its proposals, then the RPN
and last the head, both on the detector's backbone, which no longer changes; ``set_trainable`` chooses the parts.

Other proposals, such as selective search's, replace the RPN's wherever they are given: in training as
``Target.proposals``, in ``predict(images, proposals)``. Conversely, ``propose`` makes proposals for a Fast R-CNN.

Differs from the paper: see ``rpn`` and ``fast_rcnn``; background is every proposal with an IoU below 0.5, as in the
authors' code for joint training (Fast R-CNN ignores those below 0.1). A step has one image, 256 anchors and, as in the
authors' code, 128 RoIs; the schedule is that of the RPN (sec. 3.1.3), used here for joint training. With a ResNet in
place of VGG16, train with ``freeze_bn``, as ResNet's authors do. ``compact`` trains on two images of 64 RoIs each, like
Fast R-CNN's compact preset, with anchors of 16, 32 and 64 pixels, including those that cross the border; it takes 256
proposals in training, 128 in testing.
Asserted by the tests: 9 anchors, 18 + 36 = 54 channels; 137,061,851 parameters with VGG16 and 20 classes; 37 x 62 x 9 =
20,646 anchors for an image of 600x1000 that is not padded.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import nn
from ...autograd import Tensor, no_grad
from ...data.augment.detection import resize_image
from ...detection import Detections, inside_image
from .base import Target, box_scale
from .config import COMPACT_BACKBONE
from .fast_rcnn import FastRCNN, RoIDetectorConfig
from .rpn import RPN, RPNConfig

PARTS = ("backbone", "rpn", "head")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FasterRCNNConfig(RPNConfig, RoIDetectorConfig):
    """All options of Faster R-CNN."""

    rois_per_image: int = 128
    background_iou: tuple[float, float] = (0.0, 0.5)


class FasterRCNN(FastRCNN):
    """Images -> detections. Options: ``FasterRCNNConfig``.

    Train with ``losses``, detect with ``predict``; ``forward`` shows the scores and box deltas of given boxes.
    """

    Config = FasterRCNNConfig
    PRESETS = {
        "paper": {},
        "compact": {**COMPACT_BACKBONE, "hidden": 128, "dropout": 0.0, "min_size": 192, "max_size": 256,
                    "rois_per_image": 64,
                    "anchor_scales": (16.0, 32.0, 64.0), "allowed_border": float("inf"), "rpn_min_size": 4.0,
                    "pre_nms_top_n": (1000, 500), "post_nms_top_n": (256, 128)}}
    TRAIN_DEFAULTS = {
        "compact": {**FastRCNN.TRAIN_DEFAULTS["compact"], "steps": 2000},
        "paper": {  # sec. 3.1.3: 60k steps at 0.001, 20k at 0.0001, one image
            **FastRCNN.TRAIN_DEFAULTS["paper"], "steps": 80000, "batch": 1}}
    needs_proposals = False

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.rpn = RPN(self.backbone.out_channels, self.stride, self.config)
        self.trainable: tuple[str, ...] = PARTS

    def all_outputs(self, x: Tensor, boxes: list[np.ndarray]) -> tuple[Tensor, ...]:
        """Return Fast R-CNN's outputs, then the RPN's scores (N, A, 2) and box deltas (N, A, 4) of A anchors."""
        return *super().all_outputs(x, boxes), *self.rpn(x)

    # ------------------------------------------------------------------------------------------------------
    # Training
    # ------------------------------------------------------------------------------------------------------
    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return "rpn_class", "rpn_box", "class" and "box"; those of frozen parts are left out.

        torchvision calls them "loss_objectness", "loss_rpn_box_reg", "loss_classifier" and "loss_box_reg".
        """
        x = self.backbone(x)
        losses: dict[str, Tensor] = {}
        proposals = [t.proposals for t in targets if t.proposals is not None]
        if len(proposals) not in (0, len(targets)):
            raise ValueError(f"FasterRCNN.losses: {len(proposals)} of {len(targets)} targets have proposals, not all")
        if "rpn" in self.trainable or not proposals:  # a frozen RPN is not asked when proposals are given
            score, box_deltas = self.rpn(x)
            anchors = self.rpn.anchors(x.shape[2:])
        if "rpn" in self.trainable:
            losses |= self.rpn.losses(score, box_deltas, anchors, targets)  # Faster R-CNN, eq. (1)
        if "head" in self.trainable:
            if not proposals:
                sizes = [t.size for t in targets]
                proposals = self.rpn.select_proposals(score, box_deltas, anchors, sizes, training=True)
            losses |= self.head_losses(x, targets, proposals)  # Fast R-CNN, eq. (1)
        return losses

    def set_trainable(self, *parts: str) -> None:
        """Choose which of "backbone", "rpn" and "head" the next training changes, at least one of the last two."""
        if not set(parts) <= set(PARTS) or not set(parts) & {"rpn", "head"}:
            raise ValueError(f"FasterRCNN.set_trainable{parts}: choose of {PARTS}, at least 'rpn' or 'head'")
        self.trainable, self.backbone.frozen = parts, "backbone" not in parts

    def parameter_groups(self, lr: float = 1.0) -> list[dict]:
        """Return an optimizer's groups: the trainable parts; biases learn at twice the rate."""
        frozen = {id(p) for part in PARTS if part not in self.trainable for p in getattr(self, part).parameters()}
        return [{**group, "params": [p for p in group["params"] if id(p) not in frozen]}
                for group in super().parameter_groups(lr)]

    def usable_anchors(self, size: tuple[int, int]) -> int:
        """Return how many anchors the RPN can be trained on in an image of ``size`` (H, W), whatever is in it."""
        H, W = self.scaled_size(size)
        anchors = self.rpn.anchors((-(-H // self.stride), -(-W // self.stride)))
        return int(inside_image(anchors, (H, W), self.config.allowed_border).sum())

    # ------------------------------------------------------------------------------------------------------
    # Detection
    # ------------------------------------------------------------------------------------------------------
    def detect(self, x: Tensor, sizes: list[tuple[int, int]],
               proposals: list[np.ndarray] | None = None) -> list[Detections]:
        x = self.backbone(x)
        return self.detect_in(x, sizes, self.proposals_from_map(x, sizes) if proposals is None else proposals)

    def proposals_from_map(self, x: Tensor, sizes: list[tuple[int, int]], training: bool = False) -> list[np.ndarray]:
        """Return the RPN's P proposals (P, 4) for each image, given the map."""
        score, box_deltas = self.rpn(x)
        return self.rpn.select_proposals(score, box_deltas, self.rpn.anchors(x.shape[2:]), sizes, training)

    @no_grad()
    def propose(self, image: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the RPN's boxes (P, 4) for an image (C, H, W) in 0..1, in its pixels, the best first.

        ``training``: as many as the head is trained on, 2000 in the paper instead of 300.
        """
        self._check(image, "propose")
        size = self.scaled_size(image.shape[1:])
        with nn.evaluating(self):
            x = self.backbone(self.batch([self.normalize(resize_image(image, size))]))
            return self.proposals_from_map(x, [size], training)[0] * box_scale(size, image.shape[1:])
