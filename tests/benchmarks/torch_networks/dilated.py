"""PSPNet on a dilated ResNet, and DeepLabv3+ on Xception or a dilated ResNet, in plain PyTorch."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .classifiers import ResNet


def layer(c_in, c_out, kernel, rate=1):
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False),
                         nn.BatchNorm2d(c_out), nn.ReLU())


def pooled_layer(c_in, c_out, norm):
    return layer(c_in, c_out, 1) if norm else nn.Sequential(nn.Conv2d(c_in, c_out, 1), nn.ReLU())


def resize(x, like):
    return F.interpolate(x, like.shape[2:], mode="bilinear")


class Segmentation(nn.Module):
    def forward(self, x):
        return resize(self.decode(*self.backbone.maps(x)), x)


class PSPNet(Segmentation):
    def __init__(self, num_classes=150, width=64, layers=(3, 4, 6, 3), channels=512, pool_norm=True):
        super().__init__()
        self.backbone = ResNet(layers, True, 0, width, dilate=(False, True, True))
        last, middle = 32 * width, 16 * width
        self.auxiliary_head = nn.Sequential(layer(middle, middle // 4, 3), nn.Dropout(0.1),
                                            nn.Conv2d(middle // 4, num_classes, 1))
        self.pyramid = nn.Module()
        self.pyramid.convs = nn.ModuleList(pooled_layer(last, last // 4, pool_norm) for _ in range(4))
        self.head = nn.Sequential(layer(2 * last, channels, 3), nn.Dropout(0.1), nn.Conv2d(channels, num_classes, 1))

    def decode(self, low, middle, x):
        levels = [resize(conv(F.adaptive_avg_pool2d(x, bins)), x)
                  for bins, conv in zip((1, 2, 3, 6), self.pyramid.convs, strict=True)]
        return self.head(torch.cat([x, *levels], dim=1))

    def loss(self, x, target):
        maps = self.backbone.maps(x)
        auxiliary = F.cross_entropy(resize(self.auxiliary_head(maps[1]), x), target)
        return F.cross_entropy(resize(self.decode(*maps), x), target) + 0.4 * auxiliary


class SeparableConv(nn.Module):
    def __init__(self, c_in, c_out, stride=1, dilation=1):
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, stride, dilation, dilation, groups=c_in, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in)
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x)))))


class Block(nn.Module):
    def __init__(self, c_in, c1, c2, c3, stride=1):
        super().__init__()
        self.conv1, self.conv2 = SeparableConv(c_in, c1), SeparableConv(c1, c2)
        self.conv3, self.shortcut = SeparableConv(c2, c3, stride), None
        if stride > 1 or c_in != c3:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c3, 1, stride, bias=False), nn.BatchNorm2d(c3))

    def both(self, x):
        """The map before the last convolution, and the block's output"""
        inner = F.relu(self.conv2(F.relu(self.conv1(F.relu(x)))))
        return inner, self.conv3(inner) + (x if self.shortcut is None else self.shortcut(x))

    def forward(self, x):
        return self.both(x)[1]


class Xception(nn.Module):
    """Output stride 16, without the last layer"""

    out_channels, low_channels = 2048, 256

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        self.block1, self.block2 = Block(64, 128, 128, 128, 2), Block(128, 256, 256, 256, 2)
        self.block3 = Block(256, 728, 728, 728, 2)
        self.middle = nn.Sequential(*(Block(728, 728, 728, 728) for _ in range(16)))
        self.exit_block = Block(728, 728, 1024, 1024)
        self.conv3, self.conv4 = SeparableConv(1024, 1536, dilation=2), SeparableConv(1536, 1536, dilation=2)
        self.conv5 = SeparableConv(1536, 2048, dilation=2)

    def maps(self, x):
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        low, x = self.block2.both(self.block1(x))
        middle = self.middle(self.block3(x))
        x = self.exit_block(middle)
        for conv in (self.conv3, self.conv4, self.conv5):
            x = F.relu(conv(x))
        return low, middle, x


class DeepLabV3Plus(Segmentation):
    """``resnet``: width and layers of a ResNet in place of Xception, at output stride 8, and of its 3x3 convolutions"""

    def __init__(self, num_classes=21, resnet=None, rates=(6, 12, 18), channels=256, low_channels=48,
                 decoder_channels=256, pool_norm=True, momentum=0.0003):
        super().__init__()
        if resnet:
            self.backbone = ResNet(resnet["layers"], True, 0, resnet["width"], (False, True, True), (1, 2))
            last, low = self.backbone.out_channels, 4 * resnet["width"]
        else:
            self.backbone = Xception()
            last, low = Xception.out_channels, Xception.low_channels

        def conv3x3(c_in, c_out, rate=1):
            return layer(c_in, c_out, 3, rate) if resnet else nn.Sequential(SeparableConv(c_in, c_out, 1, rate),
                                                                            nn.ReLU())
        self.aspp, self.decoder = nn.Module(), nn.Module()
        self.aspp.convs = nn.ModuleList([layer(last, channels, 1), *(conv3x3(last, channels, r) for r in rates)])
        self.aspp.pooled = pooled_layer(last, channels, pool_norm)
        self.aspp.project = layer(5 * channels, channels, 1)
        self.aspp.dropout = nn.Dropout(0.1)
        self.decoder.reduce = layer(low, low_channels, 1)
        self.decoder.conv1 = conv3x3(channels + low_channels, decoder_channels)
        self.decoder.conv2 = conv3x3(decoder_channels, decoder_channels)
        self.head = nn.Conv2d(decoder_channels, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum

    def decode(self, low, middle, x):
        pooled = resize(self.aspp.pooled(F.adaptive_avg_pool2d(x, 1)), x)
        x = self.aspp.dropout(self.aspp.project(torch.cat([*(conv(x) for conv in self.aspp.convs), pooled], dim=1)))
        x = torch.cat([resize(x, low), self.decoder.reduce(low)], dim=1)
        return self.head(self.decoder.conv2(self.decoder.conv1(x)))

    def loss(self, x, target):
        return F.cross_entropy(self(x), target)
