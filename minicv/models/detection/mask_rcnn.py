"""Mask R-CNN: He, Gkioxari, Dollar and Girshick, "Mask R-CNN", ICCV 2017.

Figure 4, right, on one map instead of a pyramid; a third branch beside Faster R-CNN's two:

    map, RoIs  ->  RoIAlign 14x14  ->  3x3 conv, ReLU (four times)  ->  up-conv 2x2, stride 2, ReLU  ->  1x1 conv
    side              14                   14, 256 channels                28, 256                       28, K masks

    L = L_cls + L_box + L_mask        sec. 3; and the RPN's two terms

L_mask is the mean binary cross entropy of a sigmoid at every pixel of the mask of the RoI's true class: the classes do
not compete. Its target is the part of the object's mask inside the RoI, at 28x28. Only foreground RoIs count.

``roi_pooling="pool"`` replaces RoIAlign by RoI pooling, for boxes and masks, to compare (table 2c).

Differs from the paper: no feature pyramid, but "C4" of ResNet-50 at stride 16, with anchors of five scales; the box
head is the pyramid's, two layers of 1024 neurons. A mask is predicted for the class of its detection, and its pixels
are set where the probability is above one half, both as in the paper. Each image gives 64 RoIs, the number for C4. The
training is the paper's, without the warm-up that only its later code has; batch norm is frozen, so ResNet-50 wants the
weights that ``--start`` reads. Biases learn at twice the rate, as Fast R-CNN's; the paper does not say.
``compact``: as Faster R-CNN's, with 32 channels in two convs in the mask head, for images of 256x256; it trains batch
norm, on two images a step, by Adam.
Asserted by the tests: masks of 28x28; 14 to 28; 75,328,379 parameters with ResNet-50 and 80 classes."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor, no_grad
from ...backend import to_device
from ...detection import Detections
from ..distributed import mean_over_processes
from .base import Target
from .config import Config
from .faster_rcnn import FasterRCNN, FasterRCNNConfig
from .roi_heads import RoISample, roi_features


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskHeadConfig(Config):
    """RoIs of ``mask_roi_size`` squared become masks of twice that side; ``mask_depth`` convolutions of ``mask_width``
    channels."""

    mask_roi_size: int = 14
    mask_width: int = 256
    mask_depth: int = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskRCNNConfig(MaskHeadConfig, FasterRCNNConfig):
    """All options of Mask R-CNN."""

    rois_per_image: int = 64
    nms_iou: float = 0.5
    roi_pooling: str = "align"


class MaskHead(nn.Module):
    """Pooled RoIs (R, C, 14, 14) -> (R, K, 28, 28), a mask for each class, before the sigmoid"""

    def __init__(self, channels: int, num_classes: int, config: MaskHeadConfig):
        width = config.mask_width
        sizes = [channels, *[width] * config.mask_depth]
        self.convs = nn.ModuleList([nn.Conv2d(i, o, 3, padding=1) for i, o in zip(sizes, sizes[1:], strict=False)])
        self.up = nn.ConvTranspose2d(sizes[-1], width, 2, stride=2)
        self.mask = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.mask(F.relu(self.up(x)))


class MaskRCNN(FasterRCNN):
    """Images -> detections with masks. Options: ``MaskRCNNConfig``."""

    Config = MaskRCNNConfig
    PRESETS = {"paper": {"backbone": "resnet50", "cut_at": "layer3", "hidden": 1024, "dropout": 0.0,
                         "num_classes": 80, "min_size": 800, "max_size": 1333,
                         "anchor_scales": (32.0, 64.0, 128.0, 256.0, 512.0)},
               "compact": {**FasterRCNN.PRESETS["compact"], "min_size": 256, "max_size": 384, "mask_width": 32,
                           "mask_depth": 2}}
    INPUT = {"paper": (3, 800, 1333), "compact": (3, 256, 256)}
    TRAIN_DEFAULTS = {
        "compact": {**FasterRCNN.TRAIN_DEFAULTS["compact"], "steps": 1500},
        "paper": {  # sec. 3.1: 16 images, 160k steps at 0.02, divided by 10 after 120k; batch norm frozen (sec. 4.1)
            **FasterRCNN.TRAIN_DEFAULTS["paper"], "steps": 160000, "batch": 16, "lr": 0.02, "weight_decay": 0.0001,
            "freeze_bn": True}}
    needs_masks = True

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.mask_head = MaskHead(self.backbone.out_channels, self.num_classes, self.config)

    def all_outputs(self, x: Tensor, boxes: list[np.ndarray]) -> tuple[Tensor, ...]:
        """Return Faster R-CNN's outputs, then masks (R, K, 28, 28)."""
        return *super().all_outputs(x, boxes), self.masks(x, boxes)

    def masks(self, x: Tensor, boxes: list[np.ndarray]) -> Tensor:
        """Return masks (R, K, 28, 28), before the sigmoid, for a map and boxes (R_n, 4) per image."""
        return self.mask_head(roi_features(x, boxes, self.config.mask_roi_size, self.stride, self.config.roi_pooling))

    def roi_losses(self, x: Tensor, targets: list[Target], rois: list[RoISample]) -> dict[str, Tensor]:
        """Return "class", "box" and "mask" of the sampled RoIs; images without masks take no part in "mask"."""
        return super().roi_losses(x, targets, rois) | {"mask": self.mask_loss(x, targets, rois)}

    def mask_loss(self, x: Tensor, targets: list[Target], rois: list[RoISample]) -> Tensor:
        """Return L_mask (sec. 3), over the foreground RoIs whose object has a mask; 0 without any.

        The mask of a very small object may lose its last pixel in scaling; it then counts as none.
        """
        index = [rois_with_mask(t, r) for t, r in zip(targets, rois, strict=True)]
        boxes, side = [r.boxes[i] for r, i in zip(rois, index, strict=True)], 2 * self.config.mask_roi_size
        m = np.concatenate([mask_targets(t.masks, r.matched[i], b, side)
                            for t, r, b, i in zip(targets, rois, boxes, index, strict=True)])  # (P, 28, 28)
        k = np.concatenate([r.labels[i] for r, i in zip(rois, index, strict=True)]) - 1
        m, k, rows = (to_device(array, x.device) for array in (m.astype(x.dtype), k, np.arange(len(k))))
        of_class = self.masks(x, boxes)[rows, k]  # (P, 28, 28), the mask of each RoI's true class
        loss = F.binary_cross_entropy_with_logits(of_class, m, reduction="sum")
        return loss / max(mean_over_processes(m.size, self.group), 1)

    def detect_in(self, x: Tensor, sizes: list[tuple[int, int]], proposals: list[np.ndarray]) -> list[Detections]:
        """Return the objects among the proposals; masks (R, 28, 28) are probabilities inside the boxes (``restore``).
        """
        found = super().detect_in(x, sizes, proposals)
        masks = F.sigmoid(self.masks(x, [f.boxes for f in found])).numpy()  # (R, K, 28, 28)
        k = np.concatenate([f.labels for f in found])
        per_image = np.split(masks[np.arange(len(k)), k], np.cumsum([len(f) for f in found])[:-1])
        return [dataclasses.replace(f, masks=m) for f, m in zip(found, per_image, strict=True)]

    def restore(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Detections:
        masks = found.masks
        found = super().restore(dataclasses.replace(found, masks=None), size, original)
        return found if masks is None else dataclasses.replace(found, masks=paste_masks(masks, found.boxes, original))


def rois_with_mask(target: Target, rois: RoISample) -> np.ndarray:
    """Return the indices of an image's foreground RoIs whose object has a mask."""
    if target.masks is None:
        return np.zeros(0, np.int64)
    visible: Any = target.masks.any(axis=(1, 2))  # (G,)
    return np.flatnonzero(visible[rois.matched[:rois.num_foreground]])  # the foreground comes first


@no_grad()
def mask_targets(masks: np.ndarray | None, matched: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """Cut masks (G, H, W), bool, to boxes (R, 4) and scale them: bool (R, side, side).

    Box r cuts mask ``matched[r]``. A pixel is set if more than half of its four points lie in the mask (RoIAlign).
    """
    if not len(boxes) or masks is None:
        return np.zeros((0, side, side), bool)
    used, matched = np.unique(matched, return_inverse=True)
    rows = np.concatenate([matched.reshape(-1, 1), boxes], axis=1)  # (R, 5)
    full_size = Tensor(masks[used][:, None].astype(np.float32))
    return F.roi_align(full_size, rows, side, 1.0, sampling_ratio=2, aligned=True).data[:, 0] > 0.5


def paste_masks(masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Paste masks (R, s, s) of probabilities in boxes (R, 4) into an image: bool (R, H, W), set where above 0.5.

    Each mask is interpolated bilinearly between the centers of its pixels, at the centers of the image's; nothing is
    set outside its box.
    """
    (H, W), pasted = size, np.zeros((len(masks), *size), bool)
    for mask, (x1, y1, x2, y2), into in zip(masks, boxes.tolist(), pasted, strict=True):
        (top, bottom), (left, right) = (np.clip(np.ceil(np.array(ends) - 0.5), 0, size).astype(int)
                                        for ends, size in (((y1, y2), H), ((x1, x2), W)))
        rows, columns = np.arange(top, bottom), np.arange(left, right)
        A, B = (interpolation_matrix(index + 0.5, start, end, len(mask)) for index, start, end in
                ((rows, y1, y2), (columns, x1, x2)))
        into[rows[:, None], columns] = A @ mask @ B.T > 0.5  # (h, s) @ (s, s) @ (s, w)
    return pasted


def interpolation_matrix(places: np.ndarray, start: float, end: float, count: int) -> np.ndarray:
    """Return the matrix (n, count) that reads ``count`` values, spread over [start, end], at ``places`` (n,), linearly.
    """
    at = np.clip((places - start) / max(end - start, 1e-6) * count - 0.5, 0, count - 1)
    return np.maximum(1 - abs(at[:, None] - np.arange(count)), 0)  # hats around the values
