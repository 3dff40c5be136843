"""What PSPNet and DeepLab share: a classifier's convolutions, dilated so that the map stays fine, and scores upsampled.

    x  ->  backbone  ->  maps "low", "middle", "last"  ->  decode (the paper's idea)  ->  scores  ->  upsampled to x
                                "middle"  ->  conv 3x3, conv 1x1  ->  auxiliary loss, while training

``backbone`` is a classifier by name, without its last layer: its paper preset, changed by ``backbone_options``.
Whatever ``output_stride`` it is built with, 32, 16 or 8, the parameters have the same names and shapes: weights trained
at one
output stride load, and run, at another.
"""
from __future__ import annotations

from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..backbones import build_backbone
from ..distributed import mean_cross_entropy
from .base import SegmentationNetwork

DILATED_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "xception")


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU"""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, 1, dilation * (kernel_size // 2), dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def pooled_conv(in_channels: int, out_channels: int, norm: bool) -> nn.Sequential:
    """1x1 convolution of a pooled map, batch norm, ReLU.

    Without ``norm``, a bias instead: a global pool has one value per picture, and over the few pictures of a small
    batch their mean and variance are noise (a batch of one has no variance at all).
    """
    if norm:
        return conv_norm_relu(in_channels, out_channels, 1)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.ReLU())


class DilatedNetwork(SegmentationNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W), for any H and W.

    ``auxiliary``: weight of the loss on the backbone's middle map, 0 for none. Subclasses write ``decode(maps)``.
    """

    def __init__(self, num_classes: int, in_channels: int, backbone: str, backbone_options: dict[str, Any] | None,
                 output_stride: int, channels: int, auxiliary: float, dropout: float):
        name = type(self).__name__
        if min(num_classes, in_channels, channels) < 1 or auxiliary < 0:
            raise ValueError(f"{name}(num_classes={num_classes}, in_channels={in_channels}, channels={channels}, "
                             f"auxiliary={auxiliary}): each must be at least 1, auxiliary at least 0")
        self.num_classes, self.in_channels, self.auxiliary = num_classes, in_channels, auxiliary
        self.tile_step = output_stride
        self.backbone = build_backbone(backbone, choices=DILATED_BACKBONES, **{
            **(backbone_options or {}), "in_channels": in_channels, "output_stride": output_stride})
        self.maps = {name: self.backbone.channels[stage] for name, stage in self.backbone.FEATURE_MAPS.items()}
        self.auxiliary_head = None
        if auxiliary:
            between = max(1, self.maps["middle"] // 4)
            self.auxiliary_head = nn.Sequential(conv_norm_relu(self.maps["middle"], between, 3), nn.Dropout(dropout),
                                                nn.Conv2d(between, num_classes, 1))

    def set_bn_momentum(self, momentum: float) -> None:
        """The share by which the running averages of all batch norms move in a step."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def initialize_from(self, source: nn.Module) -> None:
        """Take over the weights of the same network, which may have another output stride (DeepLabv3, sec. 4.1)."""
        self.load_state_dict(source.state_dict())

    def decode(self, maps: dict[str, Tensor]) -> Tensor:
        """Scores (N, num_classes, h, w) from the backbone's maps."""
        raise TypeError(f"{type(self).__name__} has no decode")

    def check(self, x: Tensor) -> None:
        """``ValueError`` unless x is (N, in_channels, H, W) with at least one pixel."""
        if x.ndim != 4 or x.shape[1] != self.in_channels or 0 in x.shape:
            raise ValueError(f"{type(self).__name__}: the input must be (N, {self.in_channels}, H, W), each at least "
                             f"1, got {x.shape}")

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return upsample(self.decode(self.backbone.feature_maps(x)), x)

    def losses(self, x: Tensor, label: Tensor, pixel_weight: Tensor | None = None) -> dict[str, Tensor]:
        """Cross entropy over the pixels of label (N, H, W), void (255) left out; "auxiliary" has its weight already."""
        self.check(x)
        maps = self.backbone.feature_maps(x)
        losses = {"loss": mean_cross_entropy(upsample(self.decode(maps), x), label, pixel_weight, self.group)}
        if self.auxiliary_head is not None:  # PSPNet, sec. 3.3
            scores = upsample(self.auxiliary_head(maps["middle"]), x)
            losses["auxiliary"] = self.auxiliary * mean_cross_entropy(scores, label, pixel_weight, self.group)
        return losses


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, to the height and width of another map."""
    return x if x.shape[2:] == like.shape[2:] else F.interpolate(x, like.shape[2:], mode="bilinear")
