"""Fast R-CNN: Girshick, "Fast R-CNN", ICCV 2015.

Figure 1, with VGG16, the paper preset; N images, R boxes in all:

    images (N, 3, H, W)    ->  conv1_1 ... conv5_3, once per image  ->  map (N, 512, H/16, W/16)
    map, R proposals       ->  RoI pooling 7x7   (R, 512, 7, 7)  ->  fc6  4096  ->  fc7  4096
                                                                 -+->  K + 1 scores (softmax)
                                                                  +->  K x 4 box deltas

One training for features, classifier and box regressors. The loss of an RoI of class u (0: background) is

    L(p, u, t^u, v) = L_cls(p, u) + lambda [u >= 1] L_loc(t^u, v),   L_cls = -log p_u,   lambda = 1        eq. (1)
    L_loc(t^u, v) = sum of smooth_L1(t_i^u - v_i) over i in x, y, w, h                              eqs. (2), (3)

RoI pooling passes gradients on to the map (eq. (4)), and the RoIs of a step come from few images, so the convolutions
learn too; SPPNet samples RoIs from many images, which makes that too slow (sec. 2.3). Proposals come
from outside: from selective search, or from any other function (``model.proposer``), such as Faster R-CNN's RPN.

Differs from the paper: box deltas for the K classes as its text says, where the released code has K + 1; layers below
conv3_1 are trained as well (sec. 4.5 fixes them), and nothing is pretrained without ``--start``; the targets are
normalized by constants, see ``roi_heads``; objects themselves are proposals, as in the released code. Biases decay
like weights, as sec. 2.3 says; the released code decays none (``decay_biases=False`` does the same). The training is
the paper's (``TRAIN_DEFAULTS``). ``compact``: VGG11 with batch norm, a quarter of the channels, cut off at stride 8,
128 neurons, images of about 192x256; trained by Adam.
Asserted by the tests: 134,674,341 parameters with VGG16 and 20 classes; a map of 37x62 for an image of 600x1000 without
padding.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import nn
from ...autograd import Tensor
from ...detection import Detections
from .base import Detector, Target, require_proposals
from .config import (
    COMPACT_BACKBONE,
    BackboneConfig,
    DetectorConfig,
    ImageSizeConfig,
    PostprocessConfig,
    SelectiveSearchConfig,
)
from .roi_heads import BoxHead, RoIHeadConfig, RoISample, roi_features, sample_batch_rois


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoIDetectorConfig(PostprocessConfig, RoIHeadConfig, ImageSizeConfig, BackboneConfig, DetectorConfig):
    """What Fast, Faster and Mask R-CNN have in common."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastRCNNConfig(SelectiveSearchConfig, RoIDetectorConfig):
    """All options of Fast R-CNN."""


class FastRCNN(Detector):
    """Images and proposals -> detections. Options: ``FastRCNNConfig``."""

    Config: type[RoIDetectorConfig] = FastRCNNConfig
    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {},
        "compact": {**COMPACT_BACKBONE, "hidden": 128, "dropout": 0.0, "min_size": 192, "max_size": 256,
                    "proposal_max_size": 320}}
    INPUT = {"paper": (3, 600, 1000), "compact": (3, 192, 256)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {
        "compact": {"steps": 1500, "optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "warmup": 100,
                    "batch": 2, "jitter": 0.1},
        "paper": {  # sec. 2.3: 30k steps at 0.001, 10k at 0.0001
            "steps": 40000, "batch": 2, "lr": 0.001, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "step",
            "milestones": (0.75,), "gamma": 0.1}}
    needs_proposals = True

    def __init__(self, **options: Any):
        super().__init__(**options)
        config = self.config
        self.backbone = config.build_backbone(config.in_channels)
        self.stride = self.backbone.stride
        self.head = BoxHead(self.backbone.out_channels, config.num_classes, config)

    def forward(self, x: Tensor, boxes: list[np.ndarray] | None = None) -> tuple[Tensor, ...]:
        """Return every output for images (N, C, H, W) and boxes (R_n, 4) of each, by default the whole image.

        Scores (R, K + 1) and box deltas (R, K, 4). For inspection: training and detection do not use it.
        """
        N, _, H, W = x.shape
        whole = np.array([[0, 0, W, H]], np.float32)
        return self.all_outputs(self.backbone(x), [whole] * N if boxes is None else boxes)

    def all_outputs(self, x: Tensor, boxes: list[np.ndarray]) -> tuple[Tensor, ...]:
        """``forward``, given the map."""
        return self.head(self.pool(x, boxes))

    def pool(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        """Pool a map in boxes (R_n, 4) per image -> (R, C, 7, 7)."""
        return roi_features(x, boxes, self.config.roi_size, self.stride, self.config.roi_pooling)

    # ------------------------------------------------------------------------------------------------------
    # Training
    # ------------------------------------------------------------------------------------------------------
    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        return self.head_losses(self.backbone(x), targets, require_proposals(self, targets))

    def head_losses(self, x: Tensor, targets: list[Target], proposals: list[np.ndarray]) -> dict[str, Tensor]:
        """Return "class" and "box", given the map."""
        return self.roi_losses(x, targets, sample_batch_rois(proposals, targets, self.config))

    def roi_losses(self, x: Tensor, targets: list[Target], rois: list[RoISample]) -> dict[str, Tensor]:
        """Return the losses of the sampled RoIs, given the map."""
        score, box_deltas = self.head(self.pool(x, [r.boxes for r in rois]))
        return self.head.losses(score, box_deltas, rois, targets, self.group)

    def parameter_groups(self, lr: float = 1.0) -> list[dict]:
        """Return an optimizer's groups: biases learn at twice the rate.

        Sec. 2.3: "a per-layer learning rate of 1 for weights and 2 for biases".
        """
        names = dict(self.named_parameters())
        return [{"params": [p for name, p in names.items() if not name.endswith("bias")], "lr": lr},
                {"params": [p for name, p in names.items() if name.endswith("bias")], "lr": 2 * lr}]

    # ------------------------------------------------------------------------------------------------------
    # Detection
    # ------------------------------------------------------------------------------------------------------
    def detect(self, x: Tensor, sizes: list[tuple[int, int]],
               proposals: list[np.ndarray] | None = None) -> list[Detections]:
        if proposals is None:
            raise ValueError(f"{type(self).__name__}.detect: give the proposals")
        return self.detect_in(self.backbone(x), sizes, proposals)

    def detect_in(self, x: Tensor, sizes: list[tuple[int, int]], proposals: list[np.ndarray]) -> list[Detections]:
        """Return the objects among the proposals, given the map."""
        score, box_deltas = self.head(self.pool(x, proposals))
        return self.head.detections(score, box_deltas, proposals, sizes, self.config)

    def compress(self, fc6: int, fc7: int) -> None:
        """Replace fc6 and fc7 by their truncated singular value decompositions, for faster detection (sec. 3.1).

        Sec. 4.4 keeps 1024 and 256 singular values of VGG16's 4096. For prediction only: training does not undo it,
        and checkpoints cannot store it.
        """
        self.head.fc6, self.head.fc7 = truncated_svd(self.head.fc6, fc6), truncated_svd(self.head.fc7, fc7)


def truncated_svd(layer: Any, t: int) -> Any:
    """Return a linear layer W x + b as two: W ~ U S Vt, the t largest singular values; x -> S Vt x (t), then U (.) + b.

    Fast R-CNN, sec. 3.1, eq. (5): t (in + out) parameters instead of in * out. ``ValueError`` unless 1 <= t <=
    min(in, out).
    """
    W = layer.weight.numpy()  # (out, in)
    if not 1 <= t <= min(W.shape):
        raise ValueError(f"truncated_svd(t={t}): a layer {W.shape} has {min(W.shape)} singular values, take 1 to that")
    U, S, Vt = np.linalg.svd(W, full_matrices=False)
    reduce, expand = nn.Linear(W.shape[1], t, bias=False), nn.Linear(t, W.shape[0])
    reduce.load_state_dict({"weight": S[:t, None] * Vt[:t]})
    expand.load_state_dict({"weight": U[:, :t], "bias": layer.bias.numpy()})
    return nn.Sequential(reduce, expand).to(layer.weight.device)
