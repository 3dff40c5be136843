"""Xception: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, modified by DeepLab.

The modification is from Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018, sec. 3.2. DeepLabv3+, Fig. 4, the paper preset ("Aligned Xception 65"); side lengths of the
maps and channels:

    299 x 3    v  conv1 3x3, stride 2; conv2 3x3        150 x 64      entry flow
               v  block1  128 128 128, stride 2          75 x 128
               v  block2  256 256 256, stride 2          38 x 256
               v  block3  728 728 728, stride 2          19 x 728
               v  16 blocks  728 728 728                 19 x 728     middle flow
               v  exit_block  728 1024 1024, stride 2    10 x 1024    exit flow
               v  conv3  1536, conv4  1536, conv5  2048  10 x 2048
               v  average                                 1 x 2048    v  fc  1000

A block is three separable convolutions and a shortcut; where it strides or widens, a 1x1 convolution stands in the
shortcut. A separable convolution filters each channel by its own 3x3, then mixes the channels by a 1x1:

    K K C + C M  weights instead of  K K C M

Modified from Chollet's (Xception, Fig. 5): more blocks; the last separable convolution of a block strides, where there
was a max pool, so that it can be dilated instead (``output_stride`` 16: exit_block; 8: block3 too); batch norm and ReLU
also stand between the depthwise and the 1x1 convolution. As in Chollet's, a ReLU comes before each separable
convolution of a block, and after each of conv3, conv4 and conv5. DeepLabv3+ takes its low-level map from block2, before
the stride.

Differs from the paper: not in what its text says; the released weights are of a network without the additional ReLU
within blocks.
``compact``: a quarter of the channels, 4 blocks in the middle, images of 64x64, 10 classes.
Asserted by the tests: 39,916,312 parameters.
"""
from __future__ import annotations

from collections.abc import Sequence

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from .classifier import Classifier

STRIDES = {32: (2, 2), 16: (2, 1), 8: (1, 1)}  # of block3 and exit_block, by output stride


class SeparableConv(nn.Module):
    """depthwise 3x3, batch norm, ReLU, 1x1, batch norm: (N, in, H, W) -> (N, out, H/stride, W/stride)

    For C in and M out channels K*K*C + C*M weights instead of K*K*C*M: MobileNets, sec. 3.1.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding=dilation, dilation=dilation,
                                   groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x)))))


class Block(nn.Module):
    """DeepLabv3+, Fig. 4: three separable convolutions, the last one with the stride, plus a shortcut"""

    def __init__(self, in_channels: int, channels: Sequence[int], stride: int = 1, dilation: int = 1):
        c1, c2, c3 = channels
        self.conv1 = SeparableConv(in_channels, c1, 1, dilation)
        self.conv2 = SeparableConv(c1, c2, 1, dilation)
        self.conv3 = SeparableConv(c2, c3, stride, dilation)
        self.shortcut = None
        if stride > 1 or in_channels != c3:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, c3, 1, stride, bias=False), nn.BatchNorm2d(c3))

    def inner(self, x: Tensor) -> Tensor:
        """Return the map between the second and the third separable convolution, before any stride."""
        return F.relu(self.conv2(F.relu(self.conv1(F.relu(x)))))

    def outer(self, x: Tensor, inner: Tensor) -> Tensor:
        """Return the block's output, given its input and its inner map."""
        return self.conv3(inner) + (x if self.shortcut is None else self.shortcut(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(x, self.inner(x))


class Xception(Classifier):
    """(N, in_channels, H, W) -> scores (N, num_classes).

    ``width`` channels after conv1, the others in proportion; ``middle`` blocks in the middle flow. ``output_stride``
    32, 16 or 8: how many times smaller the last map is than the image; the same weights run at each of them.
    ``multi_grid``: factors for the dilation of conv3, conv4 and conv5. ``channels``: those of each named map.
    """

    PRESETS = {"paper": {}, "compact": {"num_classes": 10, "width": 8, "middle": 4}}
    INPUT = {"paper": (3, 299, 299), "compact": (3, 64, 64)}
    FEATURE_MAPS = {"low": "block2_inner", "middle": "middle", "last": "conv5"}

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: int = 32, middle: int = 16,
                 output_stride: int = 32, multi_grid: Sequence[int] = (1, 1, 1)):
        super().__init__(num_classes, in_channels, width)
        if output_stride not in STRIDES or middle < 1 or len(multi_grid) != 3 or min(multi_grid) < 1:
            raise ValueError(f"Xception(output_stride={output_stride}, middle={middle}, multi_grid="
                             f"{tuple(multi_grid)}): output_stride is {', '.join(map(str, STRIDES))}, middle at least "
                             "1, multi_grid three factors of at least 1")
        c64, c128, c256, c728, c1024, c1536, c2048 = (max(1, n * width // 32)
                                                      for n in (64, 128, 256, 728, 1024, 1536, 2048))
        s3, s_exit = STRIDES[output_stride]
        d2 = 2 // s3  # dilations behind a stride that is left out
        d3 = d2 * 2 // s_exit
        self.conv1, self.bn1 = nn.Conv2d(in_channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, c64, 3, 1, 1, bias=False), nn.BatchNorm2d(c64)
        self.block1 = Block(c64, [c128] * 3, 2)
        self.block2 = Block(c128, [c256] * 3, 2)
        self.block3 = Block(c256, [c728] * 3, s3)
        self.middle = nn.Sequential(*(Block(c728, [c728] * 3, 1, d2) for _ in range(middle)))
        self.exit_block = Block(c728, (c728, c1024, c1024), s_exit, d2)
        self.conv3 = SeparableConv(c1024, c1536, 1, d3 * multi_grid[0])
        self.conv4 = SeparableConv(c1536, c1536, 1, d3 * multi_grid[1])
        self.conv5 = SeparableConv(c1536, c2048, 1, d3 * multi_grid[2])
        self.fc = nn.Linear(c2048, num_classes)
        self.channels = {"block2_inner": c256, "middle": c728, "conv5": c2048}

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps "conv2", "block1", "block2_inner", "block2", "block3", "middle", "exit_block" and "conv5"."""
        self.check(x)
        maps = {"conv2": F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))}
        maps["block1"] = self.block1(maps["conv2"])
        maps["block2_inner"] = self.block2.inner(maps["block1"])
        maps["block2"] = self.block2.outer(maps["block1"], maps["block2_inner"])
        maps["block3"] = self.block3(maps["block2"])
        maps["middle"] = self.middle(maps["block3"])
        maps["exit_block"] = self.exit_block(maps["middle"])
        maps["conv5"] = F.relu(self.conv5(F.relu(self.conv4(F.relu(self.conv3(maps["exit_block"]))))))
        return maps

    def head(self, x: Tensor) -> Tensor:
        return self.fc(self.pooled(x, 1))
