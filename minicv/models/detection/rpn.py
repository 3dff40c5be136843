"""Region proposal network: Ren, He, Girshick and Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region
Proposal Networks", NIPS 2015, sec. 3. Sections, figures and equations are numbered as in TPAMI 2017.

Figure 3, left; k = 9 anchors (3 scales x 3 ratios) at every cell of the map:

    map (N, C, H, W)  ->  3x3 conv, ReLU  -+->  1x1 conv, 2k = 18 scores: object or not
                                           +->  1x1 conv, 4k = 36 box deltas t        18 + 36 = 54 channels

A map of H x W cells has A = H W k anchors, number (i W + j) k + a at row i, column j (``grid_anchors``). The scores of
anchor a are the channels 2a (no object) and 2a + 1 (object), its deltas (t_x, t_y, t_w, t_h) 4a to 4a + 3.

Differs from the paper: smooth L1 is quadratic up to |d| = 1/9 and linear beyond, as in the authors' code, because the
deltas of a positive anchor are small: up to 1, all of them would lie in the quadratic part. The paper ignores every
anchor that crosses the border of the image in training (``allowed_border`` = 0); small images need more.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ...backend import rng, to_device, to_numpy, xp_of
from ...detection import (
    NEITHER,
    base_anchors,
    clip_boxes_to_image,
    decode_boxes,
    encode_boxes,
    grid_anchors,
    inside_image,
    match_anchors,
    nms,
    remove_small_boxes,
    sample_boxes,
)
from ...detection.anchors import ANCHOR_RATIOS, ANCHOR_SCALES
from ...nn import init
from .base import Target
from .config import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class RPNConfig(Config):
    """``anchor_scales``: sides of the square anchors in pixels of the image; ``anchor_ratios``: heights over widths.

    Training uses ``anchors_per_image`` anchors, none that crosses the border of the image by over ``allowed_border``
    pixels. Proposals have sides of at least ``rpn_min_size`` pixels. Of the ``pre_nms_top_n`` with the highest scores,
    at most ``post_nms_top_n`` stay, with IoUs of at most ``rpn_nms_iou``; both are pairs: (training, test). Sec. 3.3
    gives 0.7, 2000 and 300; 12000, 6000 and 16 are the authors' code's.
    """

    anchor_scales: Sequence[float] = ANCHOR_SCALES
    anchor_ratios: Sequence[float] = ANCHOR_RATIOS
    anchors_per_image: int = 256
    allowed_border: float = 0.0
    pre_nms_top_n: tuple[int, int] = (12000, 6000)
    post_nms_top_n: tuple[int, int] = (2000, 300)
    rpn_nms_iou: float = 0.7
    rpn_min_size: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(*self.pre_nms_top_n, *self.post_nms_top_n) < 1 or not 0 <= self.rpn_nms_iou <= 1:
            self.refuse(f"pre_nms_top_n={tuple(self.pre_nms_top_n)}, post_nms_top_n={tuple(self.post_nms_top_n)}, "
                        f"rpn_nms_iou={self.rpn_nms_iou}", "the numbers must be at least 1, the IoU in 0..1")


@dataclasses.dataclass
class AnchorTargets:
    """What the anchors of one image are to learn. labels: int64 (A,): 1 positive, 0 negative, -1 neither. ``positive``
    and ``negative``: the anchors sampled for this step, rising. ``box_deltas``: float32 (P, 4), of ``positive``."""

    labels: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    box_deltas: np.ndarray


class RPN(nn.Module):
    """A map (N, channels, H, W) -> scores (N, H W k, 2) and box deltas (N, H W k, 4)."""

    def __init__(self, channels: int, stride: int, config: RPNConfig):
        self.stride, self.config = stride, config
        self.base = base_anchors(config.anchor_scales, config.anchor_ratios)  # (k, 4)
        k = len(self.base)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.score = nn.Conv2d(channels, 2 * k, 1)  # Faster R-CNN, sec. 3.1.1: "2k scores", "4k outputs"
        self.box_deltas = nn.Conv2d(channels, 4 * k, 1)
        for layer in (self.conv, self.score, self.box_deltas):  # sec. 3.1.3: a Gaussian of deviation 0.01
            layer.weight.data = init.khwc_layout(init.normal(layer.weight.shape, 0.01))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        N, h = len(x), F.relu(self.conv(x))
        score = self.score(h).permute(0, 2, 3, 1).reshape(N, -1, 2)  # (N, 2k, H, W) -> (N, H, W, 2k) -> (N, H W k, 2)
        box_deltas = self.box_deltas(h).permute(0, 2, 3, 1).reshape(N, -1, 4)  # (N, H W k, 4)
        return score, box_deltas

    def anchors(self, size: tuple[int, int]) -> np.ndarray:
        """Return the anchors of a map of ``size`` (H, W): float32 (H W k, 4) on the host."""
        return grid_anchors(self.base, size, self.stride, device="numpy")

    # ------------------------------------------------------------------------------------------------------
    # Training
    # ------------------------------------------------------------------------------------------------------
    def targets(self, anchors: np.ndarray, target: Target, rng: np.random.Generator) -> AnchorTargets:
        """Label the anchors (sec. 3.1.2) and sample 256 of them, at most half positive (sec. 3.1.3)."""
        labels = np.full(len(anchors), NEITHER)
        inside = np.flatnonzero(inside_image(anchors, target.size, self.config.allowed_border))  # sec. 3.3
        labels[inside], matched = match_anchors(anchors[inside], target.boxes)
        positive, negative = sample_boxes(labels, self.config.anchors_per_image, 0.5, rng)
        box_deltas = np.zeros((0, 4), np.float32)
        if len(positive):
            gt_boxes = target.boxes[matched[np.searchsorted(inside, positive)]]
            box_deltas = encode_boxes(gt_boxes, anchors[positive])  # Faster R-CNN, eq. (2)
        return AnchorTargets(labels, positive, negative, box_deltas)

    def losses(self, score: Tensor, box_deltas: Tensor, anchors: np.ndarray,
               targets: list[Target]) -> dict[str, Tensor]:
        """Return the two terms of eq. (1), each averaged over the N images: "rpn_class" and "rpn_box".

        N_cls = 256, lambda = 10, and N_reg is the number of cells that the image itself covers, without padding.
        """
        generator, A, N = rng(), len(anchors), len(targets)
        sampled = [self.targets(anchors, target, generator) for target in targets]
        index = np.concatenate([n * A + np.concatenate([s.positive, s.negative]) for n, s in enumerate(sampled)])
        p_star = np.concatenate([np.repeat((1, 0), (len(s.positive), len(s.negative))) for s in sampled])
        positive = np.concatenate([n * A + s.positive for n, s in enumerate(sampled)])
        t_star = np.concatenate([s.box_deltas for s in sampled])  # (P, 4)
        cells = [np.prod([-(-side // self.stride) for side in target.size]) for target in targets]
        weight = np.repeat([10 / (N * HW) for HW in cells], [len(s.positive) for s in sampled])[:, None]  # (P, 1)
        index, p_star, positive, t_star, weight = (to_device(array, score.device) for array in (
            index, p_star, positive, t_star.astype(score.dtype), weight.astype(score.dtype)))
        sampled_score, t = score.reshape(-1, 2)[index], box_deltas.reshape(-1, 4)[positive]
        L_cls = F.cross_entropy(sampled_score, p_star, reduction="sum")  # p_i is the softmax of the score
        L_reg = F.smooth_l1_loss(t, t_star, reduction="none", beta=1 / 9)
        return {"rpn_class": L_cls / (N * self.config.anchors_per_image),  # Faster R-CNN, eq. (1)
                "rpn_box": (L_reg * Tensor(weight)).sum()}

    # ------------------------------------------------------------------------------------------------------
    # Proposals
    # ------------------------------------------------------------------------------------------------------
    def select_proposals(self, score: Tensor, box_deltas: Tensor, anchors: np.ndarray, sizes: list[tuple[int, int]],
                         training: bool) -> list[np.ndarray]:
        """Return for each image boxes float32 (P, 4), by falling score. No gradient flows through them (sec. 3.2)."""
        logit = score.data[..., 1:] - score.data[..., :1]  # (N, A, 1), of the probability of an object
        both = to_numpy(xp_of(logit).concatenate([logit, box_deltas.data], axis=2))  # one read from the device
        return [self._select(each[:, 0], each[:, 1:], anchors, size, training)
                for each, size in zip(both, sizes, strict=True)]

    def _select(self, logit: np.ndarray, box_deltas: np.ndarray, anchors: np.ndarray, size: tuple[int, int],
                training: bool) -> np.ndarray:
        """Return the proposals (P, 4) of one image, from logits (A,), box deltas (A, 4) and anchors (A, 4)."""
        pre_nms_top_n, post_nms_top_n = (pair[0 if training else 1] for pair in (
            self.config.pre_nms_top_n, self.config.post_nms_top_n))
        if len(logit) > pre_nms_top_n:
            top = np.argpartition(-logit, pre_nms_top_n - 1)[:pre_nms_top_n]
            logit, box_deltas, anchors = logit[top], box_deltas[top], anchors[top]
        boxes = clip_boxes_to_image(decode_boxes(box_deltas.astype(np.float32), anchors), size)
        large = remove_small_boxes(boxes, self.config.rpn_min_size)
        boxes, logit = boxes[large], logit[large]
        return boxes[nms(boxes, logit, self.config.rpn_nms_iou, post_nms_top_n)]
