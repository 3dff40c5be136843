"""Region proposal network: Ren, He, Girshick and Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region
Proposal Networks", NIPS 2015, sec. 3.

Figure 3, left; k = 9 anchors (3 scales x 3 ratios) at every place of the map:

    map (N, C, H, W)  ->  3x3 conv, ReLU  -+->  1x1 conv, 2k = 18 scores: object or not
                                           +->  1x1 conv, 4k = 36 offsets t           18 + 36 = 54 channels

A map with H x W places has H W k anchors, number (i W + j) k + a at row i, column j (``grid_anchors``). The scores of
anchor a are the channels 2a (no object) and 2a + 1 (object), its offsets (t_x, t_y, t_w, t_h) 4a to 4a + 3.

Differs from the paper: smooth L1 has its corner at 1/9, as in the authors' code, because the offsets of a matched
anchor are small; with the corner at 1 all of them lie in the parabola. ``border`` says how far an anchor that is used
in training may reach out of the picture: the paper's 0 ignores all that cross it, which small pictures cannot afford.
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


@dataclasses.dataclass
class AnchorTargets:
    """What the anchors of one picture are to learn. labels: int64 (A,): 1 object, 0 none, -1 neither; ``positive`` and
    ``negative``: those drawn for this step, rising; ``offsets`` float32 (P, 4): of the drawn positives."""

    labels: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    offsets: np.ndarray


class RPN(nn.Module):
    """A map (N, channels, H, W) -> scores (N, H W k, 2) and offsets (N, H W k, 4).

    ``scales``: sides of the square anchors in pixels of the picture, ``ratios`` heights over widths. ``nms_iou``,
    ``before``, ``after``, ``min_size``: proposals overlap by at most that IoU, of the ``before`` with the highest
    scores are kept at most ``after``, with sides of at least ``min_size`` pixels; both (training, test). sec. 3.3
    """

    def __init__(self, channels: int, stride: int, scales: Sequence[float] = ANCHOR_SCALES, ratios: Sequence[float] =
                 ANCHOR_RATIOS,
                 border: float = 0.0, before: tuple[int, int] = (12000, 6000), after: tuple[int, int] = (2000, 300),
                 nms_iou: float = 0.7, min_size: float = 16.0, samples: int = 256):
        self.base = base_anchors(scales, ratios)  # (k, 4)
        k = len(self.base)
        self.stride, self.border, self.before, self.after = stride, border, before, after
        self.nms_iou, self.min_size, self.samples = nms_iou, min_size, samples
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.score = nn.Conv2d(channels, 2 * k, 1)  # Faster R-CNN, sec. 3.1.1: "2k scores", "4k outputs"
        self.offset = nn.Conv2d(channels, 4 * k, 1)
        for layer in (self.conv, self.score, self.offset):  # sec. 3.1.3: a Gaussian of deviation 0.01
            layer.weight.data = init.taps_first(init.normal(layer.weight.shape, 0.01))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        N, h = len(x), F.relu(self.conv(x))
        score = self.score(h).permute(0, 2, 3, 1).reshape(N, -1, 2)  # (N, 2k, H, W) -> (N, H, W, 2k) -> (N, H W k, 2)
        offset = self.offset(h).permute(0, 2, 3, 1).reshape(N, -1, 4)  # (N, H W k, 4)
        return score, offset

    def anchors(self, size: tuple[int, int]) -> np.ndarray:
        """The anchors of a map of ``size`` (H, W): float32 (H W k, 4) on the host."""
        return grid_anchors(self.base, size, self.stride, device="numpy")

    # ------------------------------------------------------------------------------------------------------
    # Training
    # ------------------------------------------------------------------------------------------------------
    def targets(self, anchors: np.ndarray, target: Target, random: np.random.Generator) -> AnchorTargets:
        """Sec. 3.1.2: which anchors are objects, and (sec. 3.1.3) 256 of them, at most half objects, for a step."""
        labels = np.full(len(anchors), NEITHER)
        used = np.flatnonzero(inside_image(anchors, target.size, self.border))  # sec. 3.3: none that cross the border
        labels[used], matched = match_anchors(anchors[used], target.boxes)
        positive, negative = sample_boxes(labels, self.samples, 0.5, random)
        offsets = np.zeros((0, 4), np.float32)
        if len(positive):
            truth = target.boxes[matched[np.searchsorted(used, positive)]]
            offsets = encode_boxes(truth, anchors[positive])  # Faster R-CNN, eq. (2)
        return AnchorTargets(labels, positive, negative, offsets)

    def losses(self, score: Tensor, offset: Tensor, anchors: np.ndarray, targets: list[Target]) -> dict[str, Tensor]:
        """The two terms of eq. (1), means over the images: "rpn_class", N_cls = 256, and "rpn_box", lambda / N_reg =
        10 / (H W) with the H W places of the map that the image covers, whatever the size of the batch."""
        device, A, random = score.device, len(anchors), rng()
        chosen = [self.targets(anchors, target, random) for target in targets]
        index = np.concatenate([n * A + np.concatenate([c.positive, c.negative]) for n, c in enumerate(chosen)])
        label = np.concatenate([np.repeat((1, 0), (len(c.positive), len(c.negative))) for c in chosen])
        objects = np.concatenate([n * A + c.positive for n, c in enumerate(chosen)])
        t_star = np.concatenate([c.offsets for c in chosen])  # (P, 4)
        N, places = len(targets), [np.prod([-(-n // self.stride) for n in target.size]) for target in targets]
        share = np.repeat([10 / (N * n) for n in places], [len(c.positive) for c in chosen])[:, None]  # (P, 1)
        p = score.reshape(-1, 2)[to_device(index, device)]
        t = offset.reshape(-1, 4)[to_device(objects, device)]
        entropy = F.cross_entropy(p, to_device(label, device), reduction="sum")
        distance = F.smooth_l1_loss(t, to_device(t_star.astype(t.dtype), device), reduction="none", beta=1 / 9)
        return {"rpn_class": entropy / (N * self.samples),  # eq. (1)
                "rpn_box": (distance * Tensor(to_device(share.astype(t.dtype), device))).sum()}

    # ------------------------------------------------------------------------------------------------------
    # Proposals
    # ------------------------------------------------------------------------------------------------------
    def proposals(self, score: Tensor, offset: Tensor, anchors: np.ndarray, sizes: list[tuple[int, int]],
                  training: bool) -> list[np.ndarray]:
        """For each picture boxes float32 (P, 4), by falling score. No gradient flows through them (sec. 3.2)."""
        limits = [pair[0 if training else 1] for pair in (self.before, self.after)]
        difference = score.data[..., 1:] - score.data[..., :1]  # (N, A, 1), rises with the probability
        both = to_numpy(xp_of(difference).concatenate([difference, offset.data], axis=2))  # one read from the device
        return [self.proposals_of(each[:, 0], each[:, 1:], anchors, size, *limits)
                for each, size in zip(both, sizes, strict=True)]

    def proposals_of(self, score: np.ndarray, offset: np.ndarray, anchors: np.ndarray, size: tuple[int, int],
                     before: int, after: int) -> np.ndarray:
        """One picture's: score (A,), offset (A, 4), anchors (A, 4) -> (P, 4)."""
        if len(score) > before:
            best = np.argpartition(-score, before - 1)[:before]
            score, offset, anchors = score[best], offset[best], anchors[best]
        boxes = clip_boxes_to_image(decode_boxes(offset.astype(np.float32), anchors), size)
        large = remove_small_boxes(boxes, self.min_size)
        boxes, score = boxes[large], score[large]
        return boxes[nms(boxes, score, self.nms_iou, after)]
