"""U-Net in plain PyTorch."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class TwoConvs(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3), nn.Conv2d(c_out, c_out, 3)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class UNet(nn.Module):
    def __init__(self, width=64, depth=4):
        super().__init__()
        widths = [width * 2 ** level for level in range(depth + 1)]
        up = widths[-2::-1]
        self.contract = nn.ModuleList(map(TwoConvs, [1, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in up)
        self.expand = nn.ModuleList(TwoConvs(2 * w, w) for w in up)
        self.dropout, self.head = nn.Dropout(), nn.Conv2d(width, 2, 1)

    def forward(self, x):
        skips = []
        for convs in self.contract:
            x = convs(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        x = self.dropout(skips.pop())
        for up, convs in zip(self.up, self.expand, strict=True):
            x, skip = up(x), skips.pop()
            i, j = ((a - b) // 2 for a, b in zip(skip.shape[2:], x.shape[2:], strict=True))
            x = convs(torch.cat([skip[:, :, i:i + x.shape[2], j:j + x.shape[3]], x], dim=1))
        return self.head(x)

    def loss(self, x, target):
        return F.cross_entropy(self(x), target)
