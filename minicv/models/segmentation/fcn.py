"""FCN: Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015.

Figures 1 and 3, on VGG16: a classifier whose fully connected layers are convolutions, and the scores of three maps
added up on the way back to the image's size. K classes; on the left, the pixels between two positions of a map:

     1  image                                                       +--> 8x, fixed   --> FCN-8s
          v  conv1 ... pool3                                        |
     8  pool3 --> score 1x1 --------------------------------------> + <-- 2x, learned --+
          v  conv4, pool4                                                               |
    16  pool4 --> score 1x1 ------------> + <-- 2x, learned --+     +--> 16x, fixed  --> FCN-16s
          v  conv5, pool5                 +-------------------|-----+-------------------+
    32  pool5                                                 |
          v  fc6 7x7, fc7 1x1, each with dropout              |
    32  fc7 --> score 1x1 ------------------------------------+---> 32x, fixed       --> FCN-32s

Scores start at zero, so that FCN-16s begins as the FCN-32s that it is initialized from. "2x, learned" is a transposed
convolution that starts as bilinear interpolation; the last one stays that (sec. 4.2).

The first position of a map lies at pixel sum (k - 1)/2 * jump, over all windows before it, minus the padding. Two maps
are cropped to the positions that they share. As in the authors' networks, 100 zeros around the image of the paper
preset make room for the windows, of which fc6's alone spans 224 pixels; the resulting crops are theirs, too: offset 19
in FCN-32s, 5 and 27 in FCN-16s, 5, 9 and 31 in FCN-8s, and 18 on AlexNet. An upsampling kernel has 2f or 2f - 1 taps,
so that the positions of two maps coincide. The last upsampling and its crop are computed as two products with the
matrix of that transposed convolution, exactly the same numbers (``test_published_offsets``).

Differs from the paper: AlexNet has one column, GoogLeNet batch norm (see there); pools round sizes up, as the authors'
software does; the loss is the mean over pixels. The paper fine-tunes a pretrained network (``--start``) at a fixed
rate, 0.0001 for VGG16; use ``--lr 0.001`` for AlexNet, ``--lr 0.00005`` for GoogLeNet. Whole images lie in crops
of 500; every second one is mirrored. ``at_once`` multiplies pool4 by 0.01 and pool3 by 0.0001, so that FCN-8s trains
without the stages 32s and 16s (the authors' later paper, PAMI 2017). The receptive field of FCN-GoogLeNet is 379
pixels, where table 1 says 907. GoogLeNet's 5x5 kernels in place of 3x3 (see ``googlenet``) would make it 699, its 3x3
pool before 5a 715, and its last average pooling, which an FCN leaves out, 715 + 6 * 32 = 907.
``compact``: the backbones' compact presets with batch norm, and just enough padding to put every 32x32 pixels under one
position; trained from scratch by Adam (``TRAIN_DEFAULTS``), with scaling and color jitter.
Asserted by the tests: these offsets; parameters of FCN-32s, 134,346,581 (VGG16), 57,089,877 (AlexNet) and 5,621,429
(GoogLeNet), the 134M, 57M and 6M of FCN, table 1; receptive fields 404 and 355 (VGG16, AlexNet)."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ...backend import xp
from ...ops.interpolate import Interpolate, hat_weights
from ..backbones import build_backbone
from ..normalization import check_normalization
from .base import SegmentationNetwork
from .convolutionalize import as_convolutions


class Map(NamedTuple):
    """A map of the backbone and the window that made its grid; ``channels`` in multiples of the backbone's width.

    A padded window that does not move the first position counts as a kernel of 1.
    """

    name: str
    kernel: int
    stride: int
    channels: float


MAPS = {
    "alexnet": [Map("conv1", 11, 4, 1), Map("pool1", 3, 2, 1), Map("pool2", 3, 2, 3), Map("pool5", 3, 2, 4)],
    "googlenet": [Map("conv1", 7, 2, 1), Map("conv3", 3, 2, 3), Map("inception3b", 3, 2, 7.5),
                  Map("inception4e", 3, 2, 13), Map("inception5b", 2, 2, 16)],
    "resnet50": [Map("conv1", 7, 2, 1), Map("layer1", 1, 2, 4), Map("layer2", 1, 2, 8), Map("layer3", 1, 2, 16),
                 Map("layer4", 1, 2, 32)],
    "vgg16": [Map("conv1_1", 3, 1, 1), Map("pool1", 2, 2, 1), Map("pool2", 2, 2, 2), Map("pool3", 2, 2, 4),
              Map("pool4", 2, 2, 8), Map("pool5", 2, 2, 8)],
}
SCALES = {16: 0.01, 8: 0.0001}  # of skipped maps, for training at once


class FCN(SegmentationNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W), for any size from ``input_size(1)`` up.

    ``backbone``: "alexnet", "googlenet", "resnet50" or "vgg16", in its ``backbone_preset``, changed by ``width``,
    ``hidden`` (channels of fc6 and fc7), ``pooled`` (side of fc6), ``dropout`` and ``transform_input`` (GoogLeNet's).
    ``batch_norm``: after the convolutions of AlexNet and VGG16, too. ``padding``: zeros around the image; None is the
    compact preset's. ``normalization``: "image" or "imagenet". Raises ``ValueError`` for options that do not fit.
    """

    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {"backbone_preset": "paper", "padding": 100},
        "compact": {"backbone_preset": "compact", "batch_norm": True}}
    INPUT = {"paper": (3, 500, 500), "compact": (3, 64, 64)}
    TRAIN_DEFAULTS = {
        "compact": {"steps": 4000, "optimizer": "adam", "lr": 0.001, "warmup": 100, "batch": 4, "tile": 192},
        "paper": {  # sec. 4.3: fixed rates, 0.0001 for VGG16; sec. 4.1: at least 175 epochs, of 8,498 images
            "steps": 74358, "batch": 20, "lr": 0.0001, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "constant",
            "decay_biases": False, "tile": 500, "scale": 1.0, "jitter": 0.0}}  # biases as in the authors' code
    STRIDE = 32
    BACKBONE = "backbone."
    tile_step = 32  # pixels between two positions of the last map

    def __init__(self, backbone: str = "vgg16", num_classes: int = 21, in_channels: int = 3,
                 backbone_preset: str = "paper", width: int | None = None, hidden: int | None = None,
                 pooled: int | None = None, dropout: float | None = None, batch_norm: bool = False,
                 padding: int | None = None, at_once: bool = False, transform_input: bool | None = None,
                 normalization: str = "image"):
        given = {"width": width, "hidden": hidden, "pooled": pooled, "dropout": dropout,
                 "transform_input": transform_input}
        self.normalization = check_normalization("FCN", normalization)
        self.backbone = fcn_backbone(backbone, backbone_preset, in_channels, batch_norm, given)
        self.head, channels, side = cut_head(self.backbone)
        self.in_channels, self.num_classes = in_channels, num_classes
        own: Any = next(m.padding for m in self.backbone.modules() if isinstance(m, nn.Conv2d))
        maps = grids(backbone)
        first = maps[32].first + (side - 1) / 2 * 32  # of the scores, as if the image's padding were 0
        padding = max(own, math.ceil(first - 15.5)) if padding is None else padding
        if padding < own or num_classes < 1:
            raise ValueError(f"FCN(padding={padding}, num_classes={num_classes}): {backbone} has a padding of {own} of "
                             "its own, so at least that many, and at least 1 class")
        self.padding, self.last = padding - own, maps[32].name
        self.score = zero_score(channels or int(maps[32].channels * self.backbone_width()), num_classes)
        skips, self.skipped, self.offsets, self.jump = [], [], [], 32
        while self.jump > self.STRIDE:
            self.jump //= 2
            fine = maps[self.jump]
            channels = int(fine.channels * self.backbone_width())
            skips.append(Skip(channels, num_classes, (first - fine.first) / self.jump))
            self.skipped.append((fine.name, SCALES[self.jump] if at_once else 1.0))
            self.offsets.append(skips[-1].offset)
            first = fine.first + max(0, skips[-1].offset) * self.jump
        self.skips, self.first = nn.ModuleList(skips), first - padding  # the pixel of the first score
        self.offsets.append(int((kernel_size(self.first, self.jump) - 1) / 2 - self.first))  # of the image, upsampled

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        H, W = x.shape[2:]
        maps = self.backbone.stages(F.pad(x, (self.padding,) * 4))
        y = self.score(self.head(maps[self.last]))
        for skip, (name, scale) in zip(self.skips, self.skipped, strict=True):
            y = skip(y, maps[name] if scale == 1 else maps[name] * scale)
        return Interpolate.apply(y, rows=self.upsampling(H, y.shape[2]), columns=self.upsampling(W, y.shape[3]))

    def upsampling(self, size: int, positions: int) -> np.ndarray:
        """Return the matrix (size, positions) of the last transposed convolution with its crop, in one direction."""
        matrix = hat_weights((np.arange(size) - self.first) / self.jump, positions)
        if not matrix.any(axis=1).all():
            raise ValueError(f"FCN: {positions} scores, the first at pixel {self.first}, do not reach all of {size} "
                             "pixels; build it with more padding")
        return matrix

    def input_size(self, output: int) -> int:
        return max(output, 1, self.backbone.MIN_SIZE - 2 * self.padding)

    def backbone_width(self) -> int:
        """Return the channels after the backbone's first convolution."""
        return next(m.weight.shape[0] for m in self.backbone.modules() if isinstance(m, nn.Conv2d))

    def fine_tune(self, regime: str = "everything") -> None:
        """Choose what is trained: "everything", or the "output", scores and learned upsampling (sec. 4.3).

        Batch norm whose scale and shift are not trained keeps its means and variances, too.
        """
        if regime not in ("everything", "output"):
            raise ValueError(f"fine_tune({regime!r}): 'everything' or 'output'")
        for name, p in self.named_parameters():
            p.requires_grad = regime == "everything" or name.startswith(("score.", "skips."))
        self.train(self.training)

    def train(self, mode: bool = True) -> FCN:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.training = False
        return self

    def parameter_groups(self, lr: float = 1.0) -> list[dict]:
        """Return groups for an optimizer: all that is trained, with the rate ``lr`` doubled for biases (sec. 4.3).

        The paper's rates, with momentum 0.9 and batches of 20: 1e-3 (AlexNet), 1e-4 (VGG16), 5e-5 (GoogLeNet).
        """
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        return [{"params": [p for name, p in trained if not name.endswith("bias")], "lr": lr},
                {"params": [p for name, p in trained if name.endswith("bias")], "lr": 2 * lr}]


class FCN32s(FCN):
    """FCN on the scores of the last map alone"""


class FCN16s(FCN):
    """FCN with the scores of the map of stride 16 added"""

    STRIDE = 16


class FCN8s(FCN):
    """FCN with the scores of the maps of strides 16 and 8 added"""

    STRIDE = 8


class Skip(nn.Module):
    """Scores upsampled 2x, plus scores of a finer map, where both have positions (fig. 3).

    ``distance``: position of the first score on the finer map. ``offset``: that of the first upsampled score.
    """

    def __init__(self, channels: int, num_classes: int, distance: float):
        k = kernel_size(distance, 2)
        self.offset = int(distance - (k - 1) / 2)
        with nn.init.blank():
            self.up = nn.ConvTranspose2d(num_classes, num_classes, k, stride=2, bias=False)
        kernel = hat_weights((np.arange(k) - (k - 1) / 2) / 2, 1)  # bilinear
        for c in range(num_classes):
            self.up.weight.data[c, c] = xp().asarray((kernel @ kernel.T).astype(np.float32))  # each class separately
        self.score = zero_score(channels, num_classes)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        x, y = self.up(x), self.score(fine)
        i, j = max(0, -self.offset), max(0, self.offset)  # rows and columns that the other map does not have
        x, y = x[:, :, i:, i:], y[:, :, j:, j:]
        h, w = (min(a, b) for a, b in zip(x.shape[2:], y.shape[2:], strict=True))
        return x[:, :, :h, :w] + y[:, :, :h, :w]


def kernel_size(distance: float, factor: int) -> int:
    """Return the size of the bilinear kernel that aligns upsampled positions with the other grid: 2f or 2f - 1."""
    return next(k for k in (2 * factor, 2 * factor - 1) if (distance - (k - 1) / 2) % 1 == 0)


class Grid(NamedTuple):
    """A map's name, where its first position lies, and its channels in multiples of the backbone's width."""

    name: str
    first: float
    channels: float


def grids(backbone: str) -> dict[int, Grid]:
    """Return the backbone's maps by the pixels between two positions, as if nothing were padded."""
    maps, first, jump = {}, 0.0, 1
    for m in MAPS[backbone]:
        first, jump = first + (m.kernel - 1) / 2 * jump, jump * m.stride  # the center of the first window
        maps[jump] = Grid(m.name, first, m.channels)
    return maps


def fcn_backbone(name: str, preset: str, in_channels: int, batch_norm: bool, given: dict[str, Any]) -> Any:
    """Return the whole classifier, with one class, in a preset changed by what is ``given``; its pools round up."""
    options = {option: value for option, value in given.items() if value is not None}
    if name == "vgg16":
        options["batch_norm"] = batch_norm
    backbone: Any = build_backbone(name, None, preset=preset, choices=MAPS, **{
        **options, "num_classes": 1, "in_channels": in_channels})
    if name == "alexnet" and batch_norm:
        for key, layer in list(vars(backbone.features).items()):
            if isinstance(layer, nn.Conv2d):
                setattr(backbone.features, key, nn.Sequential(layer, nn.BatchNorm2d(layer.weight.shape[0])))
    for module in backbone.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
    return backbone


def cut_head(backbone: Any) -> tuple[nn.Sequential, int, int]:
    """Decapitate (sec. 4.1): return the layers before the last as convolutions, their channels, the side of the first.

    0 channels stand for those of the backbone's last map.
    """
    if hasattr(backbone, "fc"):  # GoogLeNet, whose average pooling goes, too; ResNet
        backbone.cut("head")
        return nn.Sequential(nn.Dropout(getattr(backbone, "dropout", 0.0))), 0, 1
    *layers, last = backbone.classifier
    backbone.cut("head")
    return as_convolutions(nn.Sequential(*layers), backbone.side), last.weight.shape[1], backbone.side


def zero_score(channels: int, num_classes: int) -> nn.Conv2d:
    """Return a 1x1 convolution of zeros: random weights were neither better nor faster (sec. 4.2)."""
    with nn.init.blank():
        return nn.Conv2d(channels, num_classes, 1)
