"""AlexNet, VGG, GoogLeNet and ResNet in plain PyTorch, named as in torchvision."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

INCEPTION = {  # 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}


class Classifier(nn.Module):
    """``features``, average pooling, ``classifier``"""

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), self.pooled).flatten(1))

    def loss(self, x, target):
        return F.cross_entropy(self(x), target)


class AlexNet(Classifier):
    def __init__(self, num_classes=1000, width=64, hidden=4096, pooled=6):
        super().__init__()
        self.pooled, c = pooled, width
        self.features = nn.Sequential(
            nn.Conv2d(3, c, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(c, 3 * c, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(3 * c, 6 * c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(6 * c, 4 * c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(4 * c, 4 * c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(4 * c * pooled ** 2, hidden), nn.ReLU(),
            nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


def vgg_layers(convs, width, batch_norm, ceil_mode=False):
    """The blocks of convolutions, each followed by a pooling."""
    layers, before = [], 3
    for block, count in enumerate(convs):
        channels = width * min(2 ** block, 8)
        for _ in range(count):
            layers += [nn.Conv2d(before, channels, 3, padding=1), *[nn.BatchNorm2d(channels)] * batch_norm, nn.ReLU()]
            before = channels
        layers.append(nn.MaxPool2d(2, ceil_mode=ceil_mode))
    return layers


class VGG(Classifier):
    def __init__(self, num_classes=1000, width=64, hidden=4096, pooled=7, batch_norm=False):
        super().__init__()
        self.pooled = pooled
        self.features = nn.Sequential(*vgg_layers((2, 2, 3, 3, 3), width, batch_norm))
        self.classifier = nn.Sequential(
            nn.Linear(8 * width * pooled ** 2, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, num_classes))


class ConvNormReLU(nn.Module):
    def __init__(self, c_in, c_out, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, c, c1, c3_reduce, c3, c5_reduce, c5, pool):
        super().__init__()
        self.branch1 = ConvNormReLU(c, c1, 1)
        self.branch2 = nn.Sequential(ConvNormReLU(c, c3_reduce, 1), ConvNormReLU(c3_reduce, c3, 3, padding=1))
        self.branch3 = nn.Sequential(ConvNormReLU(c, c5_reduce, 1), ConvNormReLU(c5_reduce, c5, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvNormReLU(c, pool, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class GoogLeNet(Classifier):
    def __init__(self, num_classes=1000, width=64, dropout=0.4):
        super().__init__()
        c = 3 * width
        self.conv1 = ConvNormReLU(3, width, 7, 2, 3)
        self.conv2 = ConvNormReLU(width, width, 1)
        self.conv3 = ConvNormReLU(width, c, 3, padding=1)
        for name, channels in INCEPTION.items():
            c1, c3_reduce, c3, c5_reduce, c5, pool = (n * width // 64 for n in channels)
            self.add_module(f"inception{name}", Inception(c, c1, c3_reduce, c3, c5_reduce, c5, pool))
            c = c1 + c3 + c5 + pool
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(c, num_classes)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = self.conv3(self.conv2(x))
        for name in INCEPTION:
            if name in ("3a", "4a", "5a"):
                x = F.max_pool2d(x, 2 if name == "5a" else 3, 2, ceil_mode=True)
            x = self.get_submodule(f"inception{name}")(x)
        return self.fc(self.dropout(x.mean((2, 3))))


class Block(nn.Module):
    """A basic block, or a bottleneck of three convolutions; ``before``: dilation of the conv that may stride"""

    def __init__(self, c_in, channels, stride, before, dilation, bottleneck):
        super().__init__()
        c_out = channels * (4 if bottleneck else 1)
        strided = {"stride": stride, "padding": before, "dilation": before, "bias": False}
        if bottleneck:
            self.conv1 = nn.Conv2d(c_in, channels, 1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, **strided)
            self.conv3, self.bn3 = nn.Conv2d(channels, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        else:
            self.conv1 = nn.Conv2d(c_in, channels, 3, **strided)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn1, self.bn2, self.bottleneck = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels), bottleneck
        self.downsample = None
        if stride > 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Classifier):
    """``num_classes`` 0: without the last layer. ``dilate``: layer2, 3 and 4 dilate instead of striding."""

    def __init__(self, layers, bottleneck, num_classes=1000, width=64, dilate=(False, False, False), multi_grid=()):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        c, dilation = width, 1
        for i, count in enumerate(layers):
            stride, before, channels = 1 if i == 0 else 2, dilation, width * 2 ** i
            if i and dilate[i - 1]:
                stride, dilation = 1, 2 * dilation
            grid = multi_grid if i == 3 and multi_grid else (1,) * count
            blocks = []
            for j in range(count):
                first = (stride, grid[j] * before) if j == 0 else (1, grid[j] * dilation)
                blocks.append(Block(c, channels, *first, grid[j] * dilation, bottleneck))
                c = channels * (4 if bottleneck else 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.out_channels = c
        self.fc = nn.Linear(c, num_classes) if num_classes else None

    def maps(self, x):
        """After layer1, layer3 and layer4"""
        low = self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1))
        middle = self.layer3(self.layer2(low))
        return low, middle, self.layer4(middle)

    def forward(self, x):
        return self.fc(self.maps(x)[2].mean((2, 3)))
