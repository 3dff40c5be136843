"""DeconvNet: Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015.

Figure 2 and table 2, the paper preset: VGG16, and its mirror image; side lengths of the maps and channels:

    224 x 3                                                                      224 x 64  -> 1x1 -> 224 x K
      v  conv1_1, conv1_2      224 x 64   . . . . . . . . . . . . . . . . . . .  ^  deconv1_1, deconv1_2
      v  pool1                 112 x 64   . . . positions of the maxima . . . .  ^  unpool1
      v  conv2_1, conv2_2      112 x 128  . . . . . . . . . . . . . . . . . . .  ^  deconv2_1, deconv2_2
      v  pool2 ... conv5_3      14 x 512                                         ^  deconv5_1 ... unpool2
      v  pool5                   7 x 512  . . . . . . . . . . . . . . . . . . .  ^  unpool5
      v  fc6 7x7                 1 x 4096  ->  fc7 1x1  1 x 4096  ->  deconv-fc6 7x7   7 x 512

Unpooling puts each number back where max pooling found it (the "switches", fig. 3), with zeros around it;
deconvolutions, that is transposed 3x3 convolutions (sec. 3.2.2), make the maps dense. Batch norm and ReLU follow every
convolution and deconvolution (sec. 4.1). ``unpooling`` "nearest" and "nails" do not use switches.

The paper trains in two stages (sec. 4.2): first on crops with one object in the center, so that location and size vary
little, then on crops around object proposals; here with ``SegmentationConfig(two_stage=True)`` or ``minicv train
deconvnet --two-stage``. It predicts 50 proposals per image, combines their scores, and smooths the result with a CRF.
The mean of its probabilities and FCN-8s's (EDeconvNet, sec. 4.3, here ``ensemble``) is better than both.

Differs from the paper: prediction takes whole images; there is no CRF. The paper divides the rate by ten whenever the
validation accuracy stops rising; its code does so in both stages, and starts the second at 0.01 again. Here the rate
stays at 0.01 in stage one and is divided every 10,000 steps of stage two, as in the code. Convolutions before batch
norm have no bias, which batch norm would cancel. ``compact``: four blocks of two convolutions with 16 to
128 channels, fc6 2x2 with 128, images of 64x64; trained by Adam (``TRAIN_DEFAULTS``), on tiles unless ``two_stage``.
Asserted by the tests: 251,788,949 parameters with 21 classes, the paper's "about 252M": all weights, batch norm's
scales and shifts, and the last layer's bias; the sides above."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..normalization import check_normalization
from .base import Segmentation, SegmentationNetwork


class ConvNormReLU(nn.Module):
    """Convolution or transposed convolution without bias, batch norm, ReLU"""

    def __init__(self, layer: Any, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0):
        self.conv = layer(in_channels, out_channels, kernel_size, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def block(layer: Any, *channels: int) -> nn.Sequential:
    """Return 3x3 layers from each number of channels to the next."""
    return nn.Sequential(*(ConvNormReLU(layer, i, o, 3, 1) for i, o in zip(channels, channels[1:], strict=False)))


class DeconvNet(SegmentationNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W), H and W at least ``input_size(1)``: 224, compact 32.

    ``convs``: convolutions per block, each of which ends in a pooling. ``width`` channels in the first block, twice as
    many in each that follows, up to 8 times. ``hidden`` channels of fc6 and fc7; ``side`` of fc6. ``unpooling``:
    "switches", "nearest" or "nails". ``normalization``: "image" or "imagenet". Raises ``ValueError`` for options that
    do not fit.
    """

    BACKBONE = "conv."
    PRESETS = {"paper": {}, "compact": {"width": 16, "convs": (2, 2, 2, 2), "hidden": 128, "side": 2}}
    INPUT = {"paper": (3, 224, 224), "compact": (3, 64, 64)}
    TRAIN_DEFAULTS = {
        "compact": {"steps": 1400, "optimizer": "adam", "lr": 0.001, "warmup": 100, "batch": 4, "tile": 192},
        "paper": {  # sec. 5.1: 20k steps of stage one, 40k of stage two, in which the authors' code divides at 10k each
            "steps": 60000, "batch": 64, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "step",
            "milestones": (1 / 2, 2 / 3, 5 / 6), "gamma": 0.1, "tile": 224, "two_stage": True}}

    def __init__(self, num_classes: int = 21, in_channels: int = 3, width: int = 64,
                 convs: Sequence[int] = (2, 2, 3, 3, 3), hidden: int = 4096, side: int = 7,
                 unpooling: str = "switches", normalization: str = "image"):
        if unpooling not in ("switches", "nearest", "nails"):
            raise ValueError(f"DeconvNet(unpooling={unpooling!r}): 'switches', 'nearest' or 'nails'")
        if min(num_classes, in_channels, width, hidden, side, *convs) < 1 or not convs:
            raise ValueError(f"DeconvNet(num_classes={num_classes}, in_channels={in_channels}, width={width}, "
                             f"convs={tuple(convs)}, hidden={hidden}, side={side}): each must be at least 1")
        self.in_channels, self.num_classes, self.unpooling = in_channels, num_classes, unpooling
        self.normalization = check_normalization("DeconvNet", normalization)
        widths = [width * min(2 ** i, 8) for i in range(len(convs))]  # VGG's 64, 128, 256, 512, 512
        conv, deconv, inputs = nn.Conv2d, nn.ConvTranspose2d, [in_channels, *widths]
        self.tile_step = 2 ** len(convs)
        self.min_size = side * self.tile_step
        self.conv = nn.ModuleList([block(conv, i, *[o] * n) for i, o, n in zip(inputs, widths, convs, strict=False)])
        self.fc6 = ConvNormReLU(conv, widths[-1], hidden, side)
        self.fc7 = ConvNormReLU(conv, hidden, hidden, 1)
        self.defc6 = ConvNormReLU(deconv, hidden, widths[-1], side)
        below = [width, *widths]  # DeconvNet, table 2: the last of a block has the channels of the block below
        self.deconv = nn.ModuleList([block(deconv, *[i] * n, o) for i, o, n in
                                     reversed(list(zip(widths, below, convs, strict=False)))])
        self.score = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        *_, (_, maps) = self.coarse_to_fine(x)
        return self.score(maps)

    def coarse_to_fine(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the maps on the way up, fig. 4: "unpool5", "deconv5", ... "deconv1", the last of the image's size."""
        places = []  # (switches, size of the map before the pooling)
        for convs in self.conv:
            x = convs(x)
            size = x.shape[2:]
            x, switches = F.max_pool2d(x, 2, return_indices=True)
            places.append((switches, size))
        x = self.defc6(self.fc7(self.fc6(x)))
        for level, deconvs in zip(range(len(self.conv), 0, -1), self.deconv, strict=True):
            x = self.unpool(x, *places.pop())
            yield f"unpool{level}", x
            x = deconvs(x)
            yield f"deconv{level}", x

    def unpool(self, x: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
        """Undo a 2x2 pooling of a map of this size, which may be odd (fig. 3)."""
        if self.unpooling == "switches":
            return F.max_unpool2d(x, switches, 2, output_size=size)
        x = F.unpool_nearest(x, 2) if self.unpooling == "nearest" else F.unpool_bed_of_nails(x, 2)
        missing = (0, size[1] - x.shape[3], 0, size[0] - x.shape[2])
        return F.pad(x, missing, "replicate" if self.unpooling == "nearest" else "constant") if any(missing) else x

    def input_size(self, output: int) -> int:
        return max(output, self.min_size)


def ensemble(networks: Sequence[SegmentationNetwork], images: Sequence[np.ndarray]) -> list[Segmentation]:
    """Return the mean of several networks' probabilities (EDeconvNet, sec. 4.3); images as for ``predict``."""
    results = []
    for each in zip(*(net.predict(list(images)) for net in networks), strict=True):
        probabilities = np.asarray(np.mean([r.probabilities for r in each], axis=0, dtype=np.float32))
        results.append(Segmentation(probabilities.argmax(axis=0), probabilities))
    return results
