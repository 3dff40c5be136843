"""PSPNet's baseline (a dilated FCN), PSPNet and DeepLab in plain PyTorch: oracles. Skips where torch is absent.

``w``: channels after the ResNet's first convolution, 64 in the papers; all others in proportion, 48 too.
"""
from __future__ import annotations

from tests.models.backbones.plain_torch import Bottleneck, ResNet, torch

nn, TF = torch.nn, torch.nn.functional


def layer(c_in, c_out, kernel, rate=1):
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False),
                         nn.BatchNorm2d(c_out), nn.ReLU())


def resnet50(w, dilate, layer4=None):
    """Without its last layer; ``layer4``: the dilations of that layer's three blocks, where they are others."""
    backbone = ResNet([3, 4, 6, 3], Bottleneck, dilate=dilate, width=w)
    for block, rate in zip(backbone.layer4, layer4 or (), strict=False):
        block.conv2.dilation = block.conv2.padding = (rate, rate)
    del backbone.fc
    return backbone


def maps(backbone, x):
    x = low = backbone.layer1(backbone.maxpool(torch.relu(backbone.bn1(backbone.conv1(x)))))
    x = middle = backbone.layer3(backbone.layer2(x))
    return low, middle, backbone.layer4(x)


def resize(x, like):
    return TF.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


class FCN(nn.Module):
    """fcn_resnet50 of torchvision: output stride 8; the auxiliary head is not part of forward"""

    def __init__(self, classes, w=64):
        super().__init__()
        self.backbone = resnet50(w, (False, True, True))
        self.auxiliary_head = nn.Sequential(layer(16 * w, 4 * w, 3), nn.Dropout(0.1), nn.Conv2d(4 * w, classes, 1))
        self.head = nn.Sequential(layer(32 * w, 8 * w, 3), nn.Dropout(0.1), nn.Conv2d(8 * w, classes, 1))

    def forward(self, x):
        return resize(self.head(maps(self.backbone, x)[2]), x)


class Pyramid(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.convs = nn.ModuleList(layer(32 * w, 8 * w, 1) for _ in range(4))


class PSPNet(nn.Module):
    def __init__(self, classes, w=64):
        super().__init__()
        self.backbone = resnet50(w, (False, True, True))
        self.pyramid = Pyramid(w)
        self.head = nn.Sequential(layer(64 * w, 8 * w, 3), nn.Dropout(0.1), nn.Conv2d(8 * w, classes, 1))

    def forward(self, x):
        y = maps(self.backbone, x)[2]
        levels = [resize(conv(TF.adaptive_avg_pool2d(y, n)), y)
                  for n, conv in zip((1, 2, 3, 6), self.pyramid.convs, strict=True)]
        return resize(self.head(torch.cat([y, *levels], 1)), x)


class ASPP(nn.Module):
    def __init__(self, c_in, c_out, rates):
        super().__init__()
        self.convs = nn.ModuleList([layer(c_in, c_out, 1), *(layer(c_in, c_out, 3, rate) for rate in rates)])
        self.pooled = layer(c_in, c_out, 1)
        self.project = layer(5 * c_out, c_out, 1)

    def forward(self, x):
        image = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([*(conv(x) for conv in self.convs), image], 1))


class DeepLabV3(nn.Module):
    """Output stride 16 and multi-grid, or 8 and the rates doubled"""

    def __init__(self, classes, stride, w=64):
        super().__init__()
        if stride == 16:
            self.backbone, rates = resnet50(w, (False, False, True), (1, 4, 8)), (6, 12, 18)
        else:
            self.backbone, rates = resnet50(w, (False, True, True), (2, 8, 16)), (12, 24, 36)
        self.aspp = ASPP(32 * w, 4 * w, rates)
        self.head = nn.Conv2d(4 * w, classes, 1)

    def forward(self, x):
        return resize(self.head(self.aspp(maps(self.backbone, x)[2])), x)


class Decoder(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.reduce = layer(4 * w, 3 * w // 4, 1)
        self.conv1, self.conv2 = layer(4 * w + 3 * w // 4, 4 * w, 3), layer(4 * w, 4 * w, 3)


class DeepLabV3Plus(DeepLabV3):
    def __init__(self, classes, stride, w=64):
        super().__init__(classes, stride, w)
        self.decoder = Decoder(w)

    def forward(self, x):
        low, _, last = maps(self.backbone, x)
        d = self.decoder
        y = d.conv2(d.conv1(torch.cat([resize(self.aspp(last), low), d.reduce(low)], 1)))
        return resize(self.head(y), x)
