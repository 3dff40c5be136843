"""What PSPNet and DeepLab share: a classifier's convolutions, dilated so that the map stays fine, and scores upsampled.

    x  ->  backbone  ->  maps "low", "middle", "last"  ->  decode (the paper's idea)  ->  scores  ->  upsampled to x
                                   "middle"  ->  conv 3x3, conv 1x1  ->  auxiliary loss, while training

The parameters have the same names and shapes at every ``output_stride``, 32, 16 or 8: weights trained at one load and
run at another.
"""
from __future__ import annotations

import dataclasses
from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..backbones import build_backbone
from ..distributed import mean_cross_entropy
from ..normalization import check_normalization
from ..options import Config
from .base import SegmentationNetwork

DILATED_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "xception")


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size, batch norm, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation,
                     bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def pooled_conv(in_channels: int, out_channels: int, norm: bool) -> nn.Sequential:
    """Return a 1x1 convolution of a pooled map, batch norm, ReLU.

    Without ``norm`` a bias replaces batch norm: a global pool has one value per image, and the mean and variance over
    the few images of a small batch are noise (a batch of one has no variance at all).
    """
    if norm:
        return conv_norm_relu(in_channels, out_channels, 1)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.ReLU())


@dataclasses.dataclass(frozen=True, kw_only=True)
class DilatedConfig(Config):
    """``backbone``: a classifier by name without its last layer, its paper preset changed by ``backbone_options``.

    ``num_classes`` of pixels; ``in_channels`` of an image. ``output_stride`` 32, 16 or 8: pixels between two positions
    of the backbone's last map. ``pool_norm``: batch norm on the pooled maps, too, which needs large batches.
    ``auxiliary``: weight of the loss on the middle map, 0 for none. ``dropout``: its probability before the scores.
    ``normalization`` of images: "image" or "imagenet".
    """

    num_classes: int = 21
    in_channels: int = 3
    backbone: str = "resnet101"
    backbone_options: dict[str, Any] | None = None
    output_stride: int = 16
    pool_norm: bool = True
    auxiliary: float = 0.0
    dropout: float = 0.1
    normalization: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_normalization(type(self).__name__, self.normalization)
        if self.auxiliary < 0:
            self.refuse(f"auxiliary={self.auxiliary}", "must be at least 0")


class DilatedNetwork(SegmentationNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W), for any H and W. Subclasses write ``decode(maps)``."""

    Config: type[DilatedConfig] = DilatedConfig
    BACKBONE = "backbone."

    def __init__(self, **options: Any):
        self.config: Any = self.Config(**options)
        config = self.config
        self.num_classes, self.in_channels = config.num_classes, config.in_channels
        self.normalization = config.normalization
        self.tile_step = config.output_stride
        self.backbone = build_backbone(config.backbone, choices=DILATED_BACKBONES, **{
            **(config.backbone_options or {}), "in_channels": config.in_channels,
            "output_stride": config.output_stride})
        self.map_channels = {name: self.backbone.channels[stage] for name, stage in self.backbone.FEATURE_MAPS.items()}
        self.auxiliary_head = None
        if config.auxiliary:
            middle = self.map_channels["middle"]
            between = max(1, middle // 4)
            self.auxiliary_head = nn.Sequential(conv_norm_relu(middle, between, 3), nn.Dropout(config.dropout),
                                                nn.Conv2d(between, config.num_classes, 1))

    def set_bn_momentum(self, momentum: float) -> None:
        """Set the momentum of all batch norms: the share by which their running averages move in a step."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def decode(self, maps: dict[str, Tensor]) -> Tensor:
        """Return the scores (N, num_classes, h, w) of the backbone's maps."""
        raise TypeError(f"{type(self).__name__} has no decode")

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return upsample(self.decode(self.backbone.feature_maps(x)), x)

    def losses(self, x: Tensor, label: Tensor, pixel_weight: Tensor | None = None) -> dict[str, Tensor]:
        """Return "loss", the cross entropy over the pixels of label (N, H, W) that are not void, and "auxiliary"."""
        self.check(x)
        maps = self.backbone.feature_maps(x)
        losses = {"loss": mean_cross_entropy(upsample(self.decode(maps), x), label, pixel_weight, self.group)}
        if self.auxiliary_head is not None:  # PSPNet, sec. 3.3
            scores = upsample(self.auxiliary_head(maps["middle"]), x)
            losses["auxiliary"] = self.config.auxiliary * mean_cross_entropy(scores, label, pixel_weight, self.group)
        return losses


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """Resize to the height and width of another map, bilinearly."""
    return x if x.shape[2:] == like.shape[2:] else F.interpolate(x, like.shape[2:], mode="bilinear")
