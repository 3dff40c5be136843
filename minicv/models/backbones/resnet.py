"""ResNet: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.

Table 1, 50 layers, the paper preset of resnet50; side lengths of the maps and channels:

    224 x 3    v  conv1 7x7, stride 2    112 x 64      v  max pool 3x3, stride 2    56 x 64
               v  layer1: 3 blocks        56 x 256
               v  layer2: 4 blocks        28 x 512
               v  layer3: 6 blocks        14 x 1024
               v  layer4: 3 blocks         7 x 2048    v  average                    1 x 2048    v  fc  1000

Figure 5, the blocks: y = F(x) + x, eq. (1), or F(x) + W x where the sizes differ, eq. (2) (option B):

    basic (18, 34 layers)                    bottleneck (50, 101)
    x -+-> 3x3 -> ReLU -> 3x3 -+-> ReLU      x -+-> 1x1 -> ReLU -> 3x3 -> ReLU -> 1x1 -+-> ReLU
       +-----------------------+                +--------------------------------------+

Batch norm follows each convolution (sec. 3.4). The first block of layer2, 3 and 4 has stride 2.

Dilated (DeepLabv3, Chen et al., 2017, sec. 3.1 and 3.2; PSPNet): with ``output_stride`` 16 or 8, layer4, or layer3 and
layer4, keep their map as large as the one before, and the convolutions behind the omitted stride are dilated
instead, each by twice as much. A dilated network computes what the strided one does, at more places: the same weights
run at every output stride. ``multi_grid`` dilates the blocks of layer4 further, each by its own factor.

Differs from the papers: the stride of a bottleneck stands at its 3x3 instead of its first 1x1 ("v1.5"), as in
torchvision, whose weights load by name. So the first 3x3 of a layer without its stride still reads the finer map, and
keeps the dilation of the layer before, as with torchvision's ``replace_stride_with_dilation``: at output stride 16
and multi-grid (1, 2, 4) the dilations of layer4 are (1, 4, 8), where DeepLabv3, whose ResNet strides at the end of
layer3, has (2, 4, 8). ``compact``: a quarter of the channels, half of the blocks, images of 64x64, 10 classes.
Asserted by the tests: 11,689,512 / 21,797,672 / 25,557,032 / 44,549,160 parameters for 18 / 34 / 50 / 101 layers;
4,089,184,256 MACs of resnet50 at 224x224.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from .classifier import Classifier

# What to dilate for an output stride: layer2, layer3, layer4
DILATED = {32: (False, False, False), 16: (False, False, True), 8: (False, True, True)}


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Return the projection of eq. (2), or None where x can be added unchanged."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class Basic(nn.Module):
    """Figure 5, left: channels in_channels -> channels -> channels. ``before``: dilation of the conv that strides"""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, before: int, dilation: int, residual: bool):
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=before, dilation=before, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.residual, self.downsample = residual, shortcut(in_channels, channels, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))  # ResNet, eq. (1), (2)
        return F.relu(y)


class Bottleneck(nn.Module):
    """Figure 5, right: channels in_channels -> channels (twice) -> 4 channels. Its only 3x3 is the one that strides"""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, before: int, dilation: int, residual: bool):
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=before, dilation=before, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.residual, self.downsample = residual, shortcut(in_channels, 4 * channels, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))  # ResNet, eq. (1), (2)
        return F.relu(y)


class ResNet(Classifier):
    """(N, in_channels, H, W) -> scores (N, num_classes).

    ``layers``: blocks per layer. ``width`` channels after conv1; layers have 1, 2, 4 and 8 times as many, and a
    ``bottleneck`` block puts out four times that. ``output_stride`` 32, 16 or 8: how many times smaller layer4's map is
    than the image; or ``replace_stride_with_dilation``, three times True or False, for layer2, layer3 and layer4.
    ``multi_grid``: a factor for the dilation of each block of layer4. ``channels``: those of each named map.
    ``residual=False`` leaves out the shortcuts: the plain networks of figure 3 that sec. 4.1 compares with.
    """

    INPUT = {"paper": (3, 224, 224), "compact": (3, 64, 64)}
    FEATURE_MAPS = {"low": "layer1", "middle": "layer3", "last": "layer4"}

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: int = 64,
                 layers: Sequence[int] = (3, 4, 6, 3), bottleneck: bool = True,
                 replace_stride_with_dilation: Sequence[bool] | None = None, output_stride: int = 32,
                 multi_grid: Sequence[int] | None = None, residual: bool = True):
        super().__init__(num_classes, in_channels, width)
        if output_stride not in DILATED or (replace_stride_with_dilation is not None and output_stride != 32):
            raise ValueError(f"ResNet(output_stride={output_stride}, replace_stride_with_dilation="
                             f"{replace_stride_with_dilation}): output_stride is {', '.join(map(str, DILATED))}, or "
                             "left out where replace_stride_with_dilation is given")
        replace_stride_with_dilation = replace_stride_with_dilation or DILATED[output_stride]
        if len(layers) != 4 or min(layers) < 1 or len(replace_stride_with_dilation) != 3:
            raise ValueError(f"ResNet(layers={tuple(layers)}, replace_stride_with_dilation="
                             f"{tuple(replace_stride_with_dilation)}): needs four numbers of blocks, each at least 1, "
                             "and three times True or False, for layer2, layer3 and layer4")
        multi_grid = tuple(multi_grid or (1,) * layers[3])
        if len(multi_grid) != layers[3] or min(multi_grid) < 1:
            raise ValueError(f"ResNet(multi_grid={multi_grid}): needs a factor of at least 1 for each of layer4's "
                             f"{layers[3]} blocks")
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        block, c, dilation = Bottleneck if bottleneck else Basic, width, 1
        self.channels, self.layer_names = {"conv1": width}, ["layer1", "layer2", "layer3", "layer4"]
        self.strides = [4 * 2 ** sum(not d for d in replace_stride_with_dilation[:i]) for i in range(4)]  # of the maps
        for i, (blocks, dilate) in enumerate(zip(layers, (False, *replace_stride_with_dilation), strict=True)):
            stride, before, channels = 1 if i == 0 or dilate else 2, dilation, width * 2 ** i
            dilation *= 2 if dilate else 1  # for the convolutions after the one that should have had the stride
            layer = []
            for j, grid in enumerate(multi_grid if i == 3 else (1,) * blocks):  # DeepLabv3, sec. 3.2
                first = (stride, grid * before) if j == 0 else (1, grid * dilation)
                layer.append(block(c, channels, *first, grid * dilation, residual))
                c = channels * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*layer))
            self.channels[f"layer{i + 1}"] = c
        self.fc = nn.Linear(c, num_classes)

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps after "conv1" (with its ReLU, before the pool), "layer1", "layer2", "layer3" and "layer4"."""
        self.check(x)
        maps: dict[str, Any] = {"conv1": F.relu(self.bn1(self.conv1(x)))}
        y: Any = F.max_pool2d(maps["conv1"], 3, stride=2, padding=1)
        for name in self.layer_names:
            maps[name] = y = getattr(self, name)(y)
        return maps

    def cut(self, stage: str) -> None:
        if stage not in (*self.layer_names, "head"):
            raise ValueError(f"{type(self).__name__}: no stage {stage!r} to cut at; it has "
                             f"{', '.join(self.layer_names)}")
        end = len(self.layer_names) if stage == "head" else self.layer_names.index(stage) + 1
        removed, self.layer_names = self.layer_names[end:], self.layer_names[:end]
        for name in (*removed, "fc"):
            delattr(self, name)
        self.cut_at = stage
        self.stride, self.out_channels = self.strides[end - 1], self.channels[self.layer_names[-1]]
        if stage != "head":
            self.MIN_SIZE = self.stride

    def head(self, x: Tensor) -> Tensor:
        return self.fc(self.pooled(x, 1))


def presets(layers: tuple[int, ...], bottleneck: bool) -> dict[str, dict]:
    """Return the presets "paper", and "compact" with half of the blocks."""
    half = tuple((n + 1) // 2 for n in layers)
    return {"paper": {"layers": layers, "bottleneck": bottleneck},
            "compact": {"layers": half, "bottleneck": bottleneck, "width": 16, "num_classes": 10}}


class ResNet18(ResNet):
    """18 layers, basic blocks"""

    PRESETS = presets((2, 2, 2, 2), bottleneck=False)


class ResNet34(ResNet):
    """34 layers, basic blocks"""

    PRESETS = presets((3, 4, 6, 3), bottleneck=False)


class ResNet50(ResNet):
    """50 layers, bottleneck blocks"""

    PRESETS = presets((3, 4, 6, 3), bottleneck=True)


class ResNet101(ResNet):
    """101 layers, bottleneck blocks"""

    PRESETS = presets((3, 4, 23, 3), bottleneck=True)
