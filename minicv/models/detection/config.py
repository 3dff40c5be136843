"""The options of the detectors: small frozen dataclasses, each passed as a whole to the part that it describes.

A detector's ``Config`` inherits those of its parts, so ``models.build`` and ``minicv train --option`` take every option
by its name: ``models.build("faster_rcnn", min_size=256, pre_nms_top_n=(1000, 500))``. ``model.config`` keeps them.
"""
from __future__ import annotations

import dataclasses
from typing import Any

from ..backbones import Classifier, build_backbone
from ..normalization import check_normalization
from ..options import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorConfig(Config):
    """``in_channels`` of an image; ``num_classes`` of objects, background not counted. ``normalization`` of images:
    "image" or "imagenet"."""

    in_channels: int = 3
    num_classes: int = 20
    normalization: str = "imagenet"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_normalization(type(self).__name__, self.normalization)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSizeConfig(Config):
    """Images are scaled until the shorter side has ``min_size`` pixels, or the longer one ``max_size`` if that is less.

    Fast R-CNN, sec. 4.
    """

    min_size: int = 600
    max_size: int = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectiveSearchConfig(Config):
    """Selective search sees images with a longer side of at most ``proposal_max_size`` pixels (R-CNN, sec. 4.2)."""

    proposal_max_size: int = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig(Config):
    """``backbone``: a classifier's name; its paper preset, changed by ``backbone_options``, is cut off behind the stage
    ``cut_at``."""

    backbone: str = "vgg16"
    cut_at: str = "relu5_3"
    backbone_options: dict[str, Any] | None = None

    def build_backbone(self, in_channels: int) -> Classifier:
        return build_backbone(self.backbone, self.cut_at, **{
            **(self.backbone_options or {}), "in_channels": in_channels})


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostprocessConfig(Config):
    """Detections scoring below ``score_threshold`` are dropped. Within each class, non-maximum suppression drops boxes
    that overlap a better one with an IoU above ``nms_iou`` (R-CNN's code: 0.3). At most ``max_detections`` stay."""

    score_threshold: float = 0.05
    nms_iou: float = 0.3
    max_detections: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.nms_iou <= 1:
            self.refuse(f"nms_iou={self.nms_iou}", "must be in 0..1")


COMPACT_BACKBONE: dict[str, Any] = {  # VGG11, a quarter of the channels, up to the third pooling: 128 at stride 8
    "backbone": "vgg16", "cut_at": "relu4_2", "backbone_options": {"depth": 11, "width": 16, "batch_norm": True}}
