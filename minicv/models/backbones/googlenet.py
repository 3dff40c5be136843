"""GoogLeNet: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015.

Table 1, the paper preset; side lengths of the maps and channels:

    224 x 3    v  conv1 7x7, stride 2    112 x 64      v  max pool    56 x 64
               v  conv2 1x1, conv3 3x3    56 x 192     v  max pool    28 x 192
               v  inception 3a, 3b        28 x 480     v  max pool    14 x 480
               v  inception 4a ... 4e     14 x 832     v  max pool     7 x 832
               v  inception 5a, 5b         7 x 1024    v  average      1 x 1024
               v  dropout, fc             1000

Figure 2(b), the inception module. Cheap 1x1 convolutions reduce the channels before the expensive ones:

                 +--> 1x1 --------------+
        input ---+--> 1x1 --> 3x3 ------+--> concatenated channels
                 +--> 1x1 --> 5x5 ------+
                 +--> max pool --> 1x1 -+

Differs from the paper, as torchvision does, whose weights load by name: batch norm (eps 1e-3) instead of a bias follows
every convolution; the branch drawn as 5x5 has a 3x3 kernel, a slip that the weights keep (``branch3_kernel`` 5 is
the paper's, with 7,005,832 parameters); no local response normalization behind the first pool and before the second
(``lrn`` adds both); the pool before 5a is 2x2 instead of 3x3, and pools round sizes up. Dropout is table 1's 0.4
in the paper preset, torchvision's 0.2 otherwise. There are no auxiliary classifiers, which only help to train the lower
layers (sec. 5); those in the file of weights are left there. That file needs ``transform_input=True``: it was trained
on images in -1..1. ``compact``: a quarter of the channels, images of 64x64, 10 classes.
Asserted by the tests: 6,624,904 parameters, torchvision's count without auxiliary classifiers (13,004,888 with them).
"""
from __future__ import annotations

from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from .classifier import MEAN, STD, Classifier

# Table 1: channels of 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool proj
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU"""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0):
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Figure 2(b): convolutions of the input at several scales, concatenated"""

    def __init__(self, in_channels: int, c1: int, c3_reduce: int, c3: int, c5_reduce: int, c5: int, pool: int,
                 kernel: int = 3):
        self.branch1 = ConvNormReLU(in_channels, c1, 1)
        self.branch2 = nn.Sequential(ConvNormReLU(in_channels, c3_reduce, 1), ConvNormReLU(c3_reduce, c3, 3, padding=1))
        self.branch3 = nn.Sequential(ConvNormReLU(in_channels, c5_reduce, 1),
                                     ConvNormReLU(c5_reduce, c5, kernel, padding=kernel // 2))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), ConvNormReLU(in_channels, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.concatenate([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class GoogLeNet(Classifier):
    """(N, in_channels, H, W) -> scores (N, num_classes).

    ``width`` channels after conv1, the others in proportion. ``transform_input``: expect RGB as torchvision's other
    networks do (ImageNet's mean and deviation) and turn it into -1..1. ``branch3_kernel``: of figure
    2(b)'s 5x5 branch, 3 or 5. ``lrn``: local response normalization.
    """

    PRESETS = {"paper": {"dropout": 0.4}, "compact": {"num_classes": 10, "width": 16}}
    INPUT = {"paper": (3, 224, 224), "compact": (3, 64, 64)}
    MIN_SIZE = 15

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: int = 64, dropout: float = 0.2,
                 transform_input: bool = False, branch3_kernel: int = 3, lrn: bool = False):
        super().__init__(num_classes, in_channels, width)
        if width % 8:
            raise ValueError(f"GoogLeNet(width={width}): must be a multiple of 8, so that all channels of table 1, "
                             "times width/64, are whole numbers")
        if branch3_kernel not in (3, 5):
            raise ValueError(f"GoogLeNet(branch3_kernel={branch3_kernel}): 3, torchvision's, or 5, the paper's")
        if transform_input and in_channels != 3:
            raise ValueError(f"GoogLeNet(transform_input=True) is for RGB, got in_channels={in_channels}")
        self.transform_input, self.dropout, self.lrn, c = transform_input, dropout, lrn, width * 3
        self.conv1 = ConvNormReLU(in_channels, width, 7, stride=2, padding=3)
        self.conv2 = ConvNormReLU(width, width, 1)
        self.conv3 = ConvNormReLU(width, c, 3, padding=1)
        for name, channels in INCEPTION.items():
            c1, c3_reduce, c3, c5_reduce, c5, pool = (n * width // 64 for n in channels)
            setattr(self, f"inception{name}", Inception(
                c, c1=c1, c3_reduce=c3_reduce, c3=c3, c5_reduce=c5_reduce, c5=c5, pool=pool, kernel=branch3_kernel))
            c = c1 + c3 + c5 + pool
        self.fc = nn.Linear(c, num_classes)

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps after "conv1", "conv3", "inception3a" ... "inception5b", each before the following pool."""
        self.check(x)
        if self.transform_input:
            x = to_plus_minus_one(x)
        maps: dict[str, Any] = {"conv1": self.conv1(x)}
        y: Any = self.normalized(F.max_pool2d(maps["conv1"], 3, stride=2, ceil_mode=True))
        maps["conv3"] = y = self.normalized(self.conv3(self.conv2(y)))
        for name in INCEPTION:
            if name in ("3a", "4a", "5a"):
                y = F.max_pool2d(y, 2 if name == "5a" else 3, stride=2, ceil_mode=True)
            maps[f"inception{name}"] = y = getattr(self, f"inception{name}")(y)
        return maps

    def normalized(self, x: Any) -> Tensor:
        """Apply local response normalization with ``lrn``: AlexNet's, but with k = 1 (the authors' code)."""
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1) if self.lrn else x

    def head(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.pooled(x, 1), self.dropout, self.training))


def to_plus_minus_one(x: Tensor) -> Tensor:
    """Turn (p - mean) / std, which ``normalize`` returns, into (p - 0.5) / 0.5, for RGB values p in 0..1."""
    scale, shift = (Tensor(a.reshape(1, 3, 1, 1).astype(x.dtype)).to(x.device) for a in (STD / 0.5, (MEAN - 0.5) / 0.5))
    return x * scale + shift
