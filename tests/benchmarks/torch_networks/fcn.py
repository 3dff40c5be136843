"""FCN-8s on VGG16 in plain PyTorch. The crops, ``offsets``, are the authors' for the paper's size."""
from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from .classifiers import vgg_layers

CLASSES = 21


class Skip(nn.Module):
    """Scores upsampled twice, plus those of a finer map"""

    def __init__(self, channels, offset):
        super().__init__()
        self.up = nn.ConvTranspose2d(CLASSES, CLASSES, 4, 2, bias=False)
        self.score, self.offset = nn.Conv2d(channels, CLASSES, 1), offset

    def forward(self, x, fine):
        i, j = max(0, -self.offset), max(0, self.offset)
        x, y = self.up(x)[:, :, i:, i:], self.score(fine)[:, :, j:, j:]
        h, w = (min(a, b) for a, b in zip(x.shape[2:], y.shape[2:], strict=True))
        return x[:, :, :h, :w] + y[:, :, :h, :w]


class FCN8s(nn.Module):
    def __init__(self, width=64, hidden=4096, side=7, batch_norm=False, padding=100, offsets=(5, 9, 31)):
        super().__init__()
        self.padding, self.offset = padding - 1, offsets[2]
        self.backbone = nn.Module()
        self.backbone.features = nn.Sequential(*vgg_layers((2, 2, 3, 3, 3), width, batch_norm, ceil_mode=True))
        self.head = nn.Sequential(nn.Conv2d(8 * width, hidden, side), nn.ReLU(), nn.Dropout(),
                                  nn.Conv2d(hidden, hidden, 1), nn.ReLU(), nn.Dropout())
        self.score = nn.Conv2d(hidden, CLASSES, 1)
        self.skips = nn.ModuleList([Skip(8 * width, offsets[0]), Skip(4 * width, offsets[1])])

    def forward(self, image):
        x, pools = F.pad(image, (self.padding,) * 4), []
        for layer in self.backbone.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pools.append(x)
        x = self.score(self.head(x))
        x = self.skips[1](self.skips[0](x, pools[3]), pools[2])
        x = F.interpolate(x, scale_factor=8, mode="bilinear")  # the authors' transposed convolution, but faster
        i = self.offset - 4  # that has 4 more positions at the border
        return x[:, :, i:i + image.shape[2], i:i + image.shape[3]]

    def loss(self, x, target):
        return F.cross_entropy(self(x), target)
