"""Fast R-CNN: Girshick, "Fast R-CNN", ICCV 2015.

Figure 1, with VGG16, the paper preset; N pictures, R boxes in all:

    pictures (N, 3, H, W)  ->  conv1_1 ... conv5_3, once per picture  ->  map (N, 512, H/16, W/16)
    map, R proposals       ->  RoI pooling 7x7   (R, 512, 7, 7)  ->  fc6  4096  ->  fc7  4096
                                                                 -+->  K + 1 scores (softmax)
                                                                  +->  K x 4 offsets

One training for features, classifier and box regressors: the loss of an RoI of class u (0: background) is

    L(p, u, t^u, v) = L_cls(p, u) + [u >= 1] L_loc(t^u, v),   L_cls = -log p_u,   L_loc = smooth L1      eq. (1) to (3)

RoI pooling passes gradients on to the map, so the convolutions learn too (eq. (4)), unlike SPPNet's. Proposals come
from outside: selective search by default, or any other function (``model.proposer``), such as Faster R-CNN's RPN.

Differs from the paper: offsets for the K classes as its text says, where the released code has K + 1; layers below
conv3_1 are trained as well (sec. 4.5 fixes them), and nothing is pretrained unless ``load_pretrained`` has been called;
the targets are normalized by constants, see ``roi_heads``; objects themselves are proposals, as in the released code.
Biases decay like weights, as sec. 2.3 says; the released code decays none (``decay_biases=False`` does the same).
Trained as the paper says (``TRAIN_DEFAULTS``). ``compact`` trains 2,000 steps at 0.0015, risen to over 100 steps and
falling to 0 along a polynomial. ``compact``: VGG11 with batch norm, a quarter of the channels, cut at stride 8, 128
neurons, pictures of about 192x256.
Asserted by the tests: 134,674,341 parameters with VGG16 and 20 classes; a map of 37x62 for a picture of 600x1000.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ... import nn
from ...autograd import Tensor
from ...detection import Detections
from .base import Detector, Target
from .roi_heads import BoxHead, draw_rois, roi_features
from .trunk import COMPACT, Trunk


class FastRCNN(Detector):
    """Pictures and proposals -> detections.

    ``trunk``, ``stage``, ``trunk_options``: see ``Trunk``. ``hidden`` neurons in fc6 and fc7, ``pooled`` the side of a
    pooled RoI, ``pool`` "pool" (RoI pooling) or "align" (RoIAlign). ``rois_per_image``: RoIs of each image in a
    step, a ``foreground`` part of them objects, the others with an IoU in ``background``. ``score``, ``nms_iou``,
    ``most``: see ``select``; ``search``: see ``Detector``.
    """

    PRESETS = {"paper": {}, "compact": {**COMPACT, "hidden": 128, "dropout": 0.0, "short": 192, "long": 256,
                                        "search": 320}}
    INPUT = {"paper": (3, 600, 1000), "compact": (3, 192, 256)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {
        "compact": {"lr": 0.0015, "momentum": 0.9, "weight_decay": 0.0005, "warmup": 100, "batch": 2},
        "paper": {  # sec. 2.3: 30k steps at 0.001, 10k at 0.0001
            "steps": 40000, "batch": 2, "lr": 0.001, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "step",
            "milestones": (0.75,), "gamma": 0.1}}
    needs_proposals = True

    def __init__(self, in_channels: int = 3, num_classes: int = 20, trunk: str = "vgg16", stage: str = "relu5_3",
                 trunk_options: dict[str, Any] | None = None, hidden: int = 4096, pooled: int = 7, pool: str = "pool",
                 dropout: float = 0.5, rois_per_image: int = 64, foreground: float = 0.25,
                 background: tuple[float, float] = (0.1, 0.5), short: int = 600, long: int = 1000,
                 score: float = 0.05, nms_iou: float = 0.3, most: int = 100, search: int = 500):
        if pool not in ("pool", "align"):
            raise ValueError(f"{type(self).__name__}(pool={pool!r}): 'pool' or 'align'")
        if min(in_channels, num_classes, hidden, pooled, rois_per_image, short, long, search) < 1:
            raise ValueError(f"{type(self).__name__}(in_channels={in_channels}, num_classes={num_classes}, "
                             f"hidden={hidden}, pooled={pooled}, rois_per_image={rois_per_image}, short={short}, "
                             f"long={long}, search={search}): each must be at least 1")
        self.in_channels, self.num_classes, self.short, self.long = in_channels, num_classes, short, long
        self.rois_per_image, self.foreground, self.background = rois_per_image, foreground, tuple(background)
        self.pool, self.score, self.nms_iou, self.most, self.search = pool, score, nms_iou, most, search
        self.trunk = Trunk(in_channels, trunk, stage, trunk_options)
        self.stride = self.trunk.stride
        self.head = BoxHead(self.trunk.channels, num_classes, pooled, hidden, dropout)

    def pooled(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        """A map and boxes (R_n, 4) per picture -> (R, C, 7, 7)."""
        return roi_features(x, boxes, self.head.size, self.trunk.stride, self.pool)

    def forward(self, x: Tensor, boxes: list[np.ndarray] | None = None) -> tuple[Tensor, ...]:
        """Pictures (N, C, H, W), boxes (R_n, 4) for each, by default the whole picture -> what all its layers say.

        Scores (R, K + 1) and offsets (R, K, 4). Training and detection do not use it.
        """
        N, _, H, W = x.shape
        return self.everything(self.trunk(x), [np.array([[0.0, 0, W, H]], np.float32)] * N if boxes is None else boxes)

    def everything(self, x: Tensor, boxes: list[np.ndarray]) -> tuple[Tensor, ...]:
        """``forward``, given the map."""
        return self.head(self.pooled(x, boxes))

    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        return self.head_losses(self.trunk(x), targets, [given(t) for t in targets])

    def head_losses(self, x: Tensor, targets: list[Target], proposals: list[np.ndarray]) -> dict[str, Tensor]:
        """"class" and "box", of a map."""
        rois = draw_rois(proposals, targets, self.rois_per_image, self.foreground, self.background)
        score, offset = self.head(self.pooled(x, [r.boxes for r in rois]))
        return self.head.losses(score, offset, rois, targets, self.group)

    def detect(self, x: Tensor, sizes: list[tuple[int, int]],
               proposals: list[np.ndarray] | None = None) -> list[Detections]:
        return self.detect_on(self.trunk(x), sizes, proposals)

    def detect_on(self, x: Tensor, sizes: list[tuple[int, int]], proposals: list[np.ndarray]) -> list[Detections]:
        """What is found among the proposals, given the map."""
        score, offset = self.head(self.pooled(x, proposals))
        return self.head.detections(score, offset, proposals, sizes, self.score, self.nms_iou, self.most)

    def parameter_groups(self) -> list[dict]:
        """Biases learn at twice the rate (sec. 2.3: "a per-layer learning rate of 1 for weights and 2 for biases")."""
        names = dict(self.named_parameters())
        return [{"params": [p for name, p in names.items() if not name.endswith("bias")]},
                {"params": [p for name, p in names.items() if name.endswith("bias")], "lr": 2}]

    def compress(self, fc6: int, fc7: int) -> None:
        """Replace fc6 and fc7 by their truncated singular value decompositions, for faster detection (sec. 3.1).

        The paper keeps 1024 and 256 singular values of VGG16's 4096. For prediction: it is not undone by training, and
        checkpoints cannot hold it.
        """
        self.head.fc6, self.head.fc7 = truncated_svd(self.head.fc6, fc6), truncated_svd(self.head.fc7, fc7)


def given(target: Target) -> np.ndarray:
    """The proposals that came with a picture; ``ValueError`` without any."""
    if target.proposals is None:
        raise ValueError("FastRCNN.losses: the targets have no proposals; give DetectionTask a proposer")
    return target.proposals


def truncated_svd(layer: nn.Linear, t: int) -> nn.Sequential:
    """The layer W x + b as two: W ~ U S V' with the t largest singular values; x -> S V' x (t), then U (.) + b.

    Fast R-CNN, sec. 3.1, eq. (5): t (in + out) parameters instead of in * out. ``ValueError`` unless 1 <= t <= the
    smaller of both.
    """
    W = layer.weight.numpy()  # (out, in)
    if not 1 <= t <= min(W.shape):
        raise ValueError(f"truncated_svd(t={t}): a layer {W.shape} has {min(W.shape)} singular values, take 1 to that")
    U, S, V = np.linalg.svd(W, full_matrices=False)
    first, second = nn.Linear(W.shape[1], t, bias=False), nn.Linear(t, W.shape[0])
    first.load_state_dict({"weight": S[:t, None] * V[:t]})
    second.load_state_dict({"weight": U[:, :t], "bias": layer.bias.numpy()})
    return nn.Sequential(first, second).to(layer.weight.device)
