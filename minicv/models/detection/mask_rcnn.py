"""Mask R-CNN: He, Gkioxari, Dollar and Girshick, "Mask R-CNN", ICCV 2017.

Figure 4, right, on one map instead of a pyramid; a third branch beside Faster R-CNN's two:

    map, RoIs  ->  RoIAlign 14x14  ->  3x3 conv, ReLU (four times)  ->  up-conv 2x2, stride 2, ReLU  ->  1x1 conv
    side              14                   14, 256 channels                28, 256                       28, K masks

    L = L_cls + L_box + L_mask        sec. 3; and the RPN's two terms

L_mask is the mean binary cross entropy of a sigmoid at every pixel of the mask of the RoI's true class: the classes do
not compete. Its target is what of the object's mask lies in the RoI, in 28x28. It is defined on RoIs with an object.

``pool="pool"`` puts RoI pooling in the place of RoIAlign for boxes and masks, to compare (table 2c).

Differs from the paper: no feature pyramid, "C4" of ResNet-50 at stride 16, with anchors of five scales; the box head is
the pyramid's, two layers of 1024 neurons. A mask is predicted for the class of its detection, and its pixels are set
where the probability is above one half, both as there. RoIs count as the paper's C4: 64 of each image. Trained as the
paper says, without a warm-up, which only its later code has; batch norm is frozen, so ResNet-50 wants the weights that
``load_pretrained`` reads. Biases learn at twice the rate, as Fast R-CNN's; the paper does not say. ``compact`` trains
batch norm, on two images a step at 0.0015. ``compact``: as Faster R-CNN's, with 32 channels in two convs in the mask
head, for pictures of 256x256.
Asserted by the tests: masks of 28x28; 14 to 28; 75,328,379 parameters with ResNet-50 and 80 classes."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor, no_grad
from ...backend import to_device
from ...detection import Detections
from ..shares import per_process
from .base import Target
from .faster_rcnn import ANCHOR_RATIOS, ANCHOR_SCALES, FasterRCNN
from .roi_heads import RoISample, draw_rois, roi_features
from .trunk import COMPACT


class MaskHead(nn.Module):
    """Pooled RoIs (R, C, 14, 14) -> (R, K, 28, 28), a mask for each class, before the sigmoid"""

    def __init__(self, channels: int, num_classes: int, width: int, depth: int):
        sizes = [channels, *[width] * depth]
        self.convs = nn.ModuleList(*(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(sizes, sizes[1:], strict=False)))
        self.up = nn.ConvTranspose2d(sizes[-1], width, 2, stride=2)
        self.mask = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.mask(F.relu(self.up(x)))


class MaskRCNN(FasterRCNN):
    """Pictures -> detections with masks. ``mask_pooled``: side of an RoI in the mask head, the mask's is twice that.
    ``mask_width``, ``mask_depth``: its channels and convolutions. The other options are FasterRCNN's."""

    PRESETS = {"paper": {"trunk": "resnet50", "stage": "layer3", "hidden": 1024, "dropout": 0.0, "num_classes": 80,
                         "short": 800, "long": 1333, "scales": (32.0, 64.0, 128.0, 256.0, 512.0)},
               "compact": {**FasterRCNN.PRESETS["compact"], **COMPACT, "short": 256, "long": 384, "mask_width": 32,
                           "mask_depth": 2}}
    INPUT = {"paper": (3, 800, 1333), "compact": (3, 256, 256)}
    TRAIN_DEFAULTS = {
        "compact": {**FasterRCNN.TRAIN_DEFAULTS["compact"], "weight_decay": 0.0001},
        "paper": {  # sec. 3.1: 16 images, 160k steps at 0.02, divided by 10 after 120k; batch norm frozen (sec. 4.1)
            **FasterRCNN.TRAIN_DEFAULTS["paper"], "steps": 160000, "batch": 16, "lr": 0.02, "weight_decay": 0.0001,
            "freeze_bn": True}}
    learns_masks = True

    def __init__(self, in_channels: int = 3, num_classes: int = 20, trunk: str = "vgg16", stage: str = "relu5_3",
                 trunk_options: dict[str, Any] | None = None, hidden: int = 4096, pooled: int = 7, pool: str = "align",
                 dropout: float = 0.5, rois_per_image: int = 64, foreground: float = 0.25,
                 background: tuple[float, float] = (0.0, 0.5), short: int = 600, long: int = 1000,
                 score: float = 0.05, nms_iou: float = 0.5, most: int = 100, scales: Sequence[float] = ANCHOR_SCALES,
                 ratios: Sequence[float] = ANCHOR_RATIOS, border: float = 0.0, before: tuple[int, int] = (12000, 6000),
                 after: tuple[int, int] = (2000, 300), rpn_nms_iou: float = 0.7, min_size: float = 16.0,
                 rpn_samples: int = 256, mask_pooled: int = 14, mask_width: int = 256, mask_depth: int = 4):
        super().__init__(in_channels, num_classes, trunk, stage, trunk_options, hidden, pooled, pool, dropout,
                         rois_per_image, foreground, background, short, long, score, nms_iou, most, scales, ratios,
                         border, before, after, rpn_nms_iou, min_size, rpn_samples)
        self.mask_pooled = mask_pooled
        self.mask_head = MaskHead(self.trunk.channels, num_classes, mask_width, mask_depth)

    def everything(self, x: Tensor, boxes: list[np.ndarray]) -> tuple[Tensor, ...]:
        """Faster R-CNN's, and masks (R, K, 28, 28)."""
        return *super().everything(x, boxes), self.masks(x, boxes)

    def masks(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        """A map and boxes (R_n, 4) per picture -> (R, K, 28, 28), before the sigmoid."""
        return self.mask_head(roi_features(x, boxes, self.mask_pooled, self.trunk.stride, self.pool))

    def head_losses(self, x: Tensor, targets: list[Target], proposals: list[np.ndarray]) -> dict[str, Tensor]:
        """"class", "box" and "mask", of a map; images without masks take no part in "mask"."""
        rois = draw_rois(proposals, targets, self.rois_per_image, self.foreground, self.background)
        score, offset = self.head(self.pooled(x, [r.boxes for r in rois]))
        losses = self.head.losses(score, offset, rois, targets, self.group)
        return losses | {"mask": self.mask_loss(x, targets, rois)}

    def mask_loss(self, x: Tensor, targets: list[Target], rois: list[RoISample]) -> Tensor:
        """L_mask (sec. 3), over the RoIs that are objects with a mask; 0 without any.

        A mask without a pixel, as the scaled mask of a very small object, is none.
        """
        chosen = [with_mask(t, r) for t, r in zip(targets, rois, strict=True)]
        boxes, side = [r.boxes[of] for r, of in zip(rois, chosen, strict=True)], 2 * self.mask_pooled
        m = np.concatenate([mask_targets(t.masks, r.matched[of], b, side)
                            for t, r, b, of in zip(targets, rois, boxes, chosen, strict=True)])  # (P, 28, 28)
        k = np.concatenate([r.labels[of] for r, of in zip(rois, chosen, strict=True)]) - 1
        at = to_device(np.arange(len(k)), x.device)
        mine = self.masks(x, boxes)[at, to_device(k, x.device)]  # (P, 28, 28), of each RoI's true class
        m = to_device(m.astype(x.dtype), x.device)
        return F.binary_cross_entropy_with_logits(mine, m, reduction="sum") / max(per_process(m.size, self.group), 1)

    def detect_on(self, x: Tensor, sizes: list[tuple[int, int]], proposals: list[np.ndarray]) -> list[Detections]:
        """What is found among the proposals; masks (R, 28, 28) are probabilities, in the boxes (``restore``)."""
        found = super().detect_on(x, sizes, proposals)
        masks = F.sigmoid(self.masks(x, [f.boxes for f in found])).numpy()  # (R, K, 28, 28)
        k = np.concatenate([f.labels for f in found])
        masks = np.split(masks[np.arange(len(k)), k], np.cumsum([len(f) for f in found])[:-1])
        return [dataclasses.replace(f, masks=m) for f, m in zip(found, masks, strict=True)]

    def restore(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Detections:
        masks = found.masks
        found = super().restore(dataclasses.replace(found, masks=None), size, original)
        return dataclasses.replace(found, masks=paste_masks(masks, found.boxes, original))


def with_mask(target: Target, rois: RoISample) -> np.ndarray:
    """Which of an image's RoIs are objects with a mask, indices."""
    if target.masks is None:
        return np.zeros(0, np.int64)
    return np.flatnonzero(target.masks.any(axis=(1, 2))[rois.matched[:rois.objects]])  # objects come first


@no_grad()
def mask_targets(masks: np.ndarray | None, matched: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """What of the masks (G, H, W), bool, lies in boxes (R, 4), in side x side: bool (R, side, side).

    Box r sees mask ``matched[r]``. A pixel is set if more than half of its four points lie in the mask (RoIAlign).
    """
    if not len(boxes):
        return np.zeros((0, side, side), bool)
    of, matched = np.unique(matched, return_inverse=True)
    rows = np.concatenate([matched.reshape(-1, 1), boxes], axis=1)  # (R, 5)
    whole = Tensor(masks[of][:, None].astype(np.float32))
    return F.roi_align(whole, rows, side, 1.0, sampling_ratio=2, aligned=True).data[:, 0] > 0.5


def paste_masks(masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Masks (R, s, s) of probabilities in boxes (R, 4) -> bool (R, H, W) in a picture, set where above 0.5.

    Bilinear between the middles of a mask's pixels, at the middles of the picture's; nothing outside its box.
    """
    (H, W), pasted = size, np.zeros((len(masks), *size), bool)
    for mask, (x1, y1, x2, y2), into in zip(masks, boxes.tolist(), pasted, strict=True):
        (top, bottom), (left, right) = (np.clip(np.ceil(np.array(ends) - 0.5), 0, size).astype(int)
                                        for ends, size in (((y1, y2), H), ((x1, x2), W)))
        rows, columns = np.arange(top, bottom), np.arange(left, right)
        A, B = (between(centres + 0.5, begin, end, len(mask)) for centres, begin, end in
                ((rows, y1, y2), (columns, x1, x2)))
        into[rows[:, None], columns] = A @ mask @ B.T > 0.5  # (h, s) @ (s, s) @ (s, w)
    return pasted


def between(places: np.ndarray, begin: float, end: float, count: int) -> np.ndarray:
    """The matrix (n, count) that reads ``count`` values, evenly in [begin, end], at ``places`` (n,), bilinearly."""
    at = np.clip((places - begin) / max(end - begin, 1e-6) * count - 0.5, 0, count - 1)
    return np.maximum(1 - abs(at[:, None] - np.arange(count)), 0)  # hats around the values
