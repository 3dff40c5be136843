"""The convolutions that all boxes of an image share: a classifier, cut off behind one of its stages.

    x (N, C, H, W)  ->  net, up to ``stage``  ->  map (N, channels, H / stride, W / stride)

Fast and Faster R-CNN stand on VGG16's conv5_3 (stage "relu5_3", without the last pooling, stride 16), Mask R-CNN's "C4"
on the last layer of ResNet's fourth stage ("layer3", stride 16).
"""
from __future__ import annotations

from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor, no_grad
from ..backbones.resnet import ResNet18, ResNet34, ResNet50, ResNet101
from ..backbones.vgg import VGG

TRUNKS = {"vgg16": VGG, "resnet18": ResNet18, "resnet34": ResNet34, "resnet50": ResNet50, "resnet101": ResNet101}
COMPACT = {"backbone": "vgg16", "cut_at": "relu4_2", "backbone_options": {"depth": 11, "width": 16, "batch_norm": True}}
"""VGG11 with a quarter of the channels, up to the third pooling: 128 channels at stride 8."""


class Trunk(nn.Module):
    """``trunk``: a classifier by name, its paper preset changed by ``trunk_options``. ``net``: what is left of it.

    Published weights load into ``net``, the rest passed over. ``frozen``: computed in evaluation mode and without a
    graph, so that training does not change it (the last two of Faster R-CNN's four steps). Raises ``ValueError`` for a
    name, stage or option that there is not.
    """

    def __init__(self, in_channels: int, trunk: str = "vgg16", stage: str = "relu5_3",
                 trunk_options: dict[str, Any] | None = None):
        if trunk not in TRUNKS:
            raise ValueError(f"Trunk({trunk!r}): there are {', '.join(TRUNKS)}")
        cls, options = TRUNKS[trunk], {**(trunk_options or {})}
        unknown = options.keys() - cls.__init__.__annotations__.keys()
        if unknown:
            raise ValueError(f"Trunk({trunk!r}, trunk_options={options}): no option {', '.join(sorted(unknown))}")
        if cls is VGG:
            options.update(hidden=1, pooled=1)  # of the layers that are cut off
        self.net = cls(**{**cls.PRESETS["paper"], **options, "num_classes": 1, "in_channels": in_channels})
        self.stage, self.frozen = stage, False
        if cls is VGG:
            self._cut_vgg(self.net)
        else:
            self._cut_resnet(self.net)
        self.net.LEAST = self.stride  # pixels: the whole classifier's last poolings need more

    def _cut_vgg(self, net: VGG) -> None:
        if self.stage not in net.names:
            raise ValueError(f"Trunk(stage={self.stage!r}): the stages are {', '.join(net.names)}")
        end = net.names.index(self.stage) + 1
        layers = list(net.features)[:end]
        net.features, net.names = nn.Sequential(*layers), net.names[:end]
        del net.classifier
        net.NOT_LOADED = ("classifier.", *(f"features.{i}." for i in range(end, 60)))
        self.stride = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in layers)
        self.channels = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1].weight.shape[0]

    def _cut_resnet(self, net: ResNet50) -> None:
        self.layers = ["layer1", "layer2", "layer3", "layer4"]
        if self.stage not in self.layers:
            raise ValueError(f"Trunk(stage={self.stage!r}): the stages are {', '.join(self.layers)}")
        end = self.layers.index(self.stage) + 1
        self.stride, self.channels = 4 * 2 ** (end - 1), net.channels[self.stage]
        for name in self.layers[end:]:
            delattr(net, name)
        del net.fc
        net.NOT_LOADED = ("fc.", *(f"{name}." for name in self.layers[end:]))
        self.layers = self.layers[:end]

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen:
            with no_grad(), nn.evaluating(self):
                return self.compute(x)
        return self.compute(x)

    def compute(self, x: Tensor) -> Tensor:
        net = self.net
        net.check(x)
        if isinstance(net, VGG):
            return net.features(x)
        x = F.max_pool2d(F.relu(net.bn1(net.conv1(x))), 3, stride=2, padding=1)
        for name in self.layers:
            x = getattr(net, name)(x)
        return x
