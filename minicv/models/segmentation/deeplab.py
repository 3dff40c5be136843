"""DeepLabv3 and DeepLabv3+: atrous (dilated) convolutions at several rates side by side, and a decoder for sharp edges.

Chen, Papandreou, Schroff and Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017 (v3), Fig. 5:

    513 x 3  ->  ResNet-101, output stride 16, multi-grid (1, 2, 4)  ->  33 x 2048
                                                                           |
        +-----------------+-----------------+-----------------+------------+----+
     conv 1x1        conv 3x3 r 6      conv 3x3 r 12     conv 3x3 r 18      image pooling    ASPP: 256 channels each
        |                 |                 |                 |         conv 1x1, upsampled
        +-----------------+-----------------+-----------------+-----------------+
    concatenated  33 x 1280  ->  conv 1x1  33 x 256  ->  conv 1x1  33 x K  ->  upsampled  513 x K

The rates double at output stride 8, where neighbors on the map are half as far apart in the image. Batch norm and ReLU
follow each convolution but the last.

Chen, Zhu, Papandreou, Schroff and Adam, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018 (v3+), Fig. 2: the 256 channels go through a decoder instead of straight to the scores,

    33 x 256  ->  upsampled  129 x 256  --+
    low-level map, 4 times finer than 33  +->  129 x 304  ->  conv 3x3, conv 3x3  129 x 256  ->  conv 1x1  ->  upsampled
                 129 x 256  ->  conv 1x1  129 x 48  --+

with Xception as backbone, and separable convolutions in ASPP and decoder. On a ResNet the low-level map is that of
layer1.

Training in two stages (v3, sec. 4.1): ``TRAIN_DEFAULTS`` at output stride 16, then ``SECOND_STAGE`` at output stride 8
with batch norm frozen:

    minicv train deeplabv3 --preset paper --data voc:PATH --out runs/16
    minicv train deeplabv3 --preset paper --data voc:PATH --out runs/8 --option output_stride=8 \\
        --start runs/16/last.safetensors --lr 0.001 --freeze-bn

Differs from the papers: the dilation of a layer's first block, see ``backbones/resnet.py``; prediction uses
one scale, without the mean over scales and mirrored images. All parameters decay; the released code decays
neither biases nor batch norm nor depthwise kernels, and learns biases at twice the rate. v3+ trains the same way at
output stride 16. torchvision's v3 has one more 3x3 convolution before the scores (``head_conv``), and no multi-grid.

``compact`` is trained by Adam (``TRAIN_DEFAULTS``), with batch norm's momentum of 0.1 and color jitter. It is a ResNet
of 9 bottleneck blocks and three eighths of the channels, output stride 8, half the rates (maps are 30x23, so that a
rate of 36 would only see padding), 64 channels (in the decoder 16 low-level ones and 64), images of 240x180, 11 classes
(CamVid), and no batch norm after image pooling, so that small batches train.
Asserted by the tests, parameters with 21 classes: v3 on ResNet-101 58,040,661, on ResNet-50 39,048,533 (41,413,738
with an auxiliary head; torchvision's, with its 3x3, is 590,336 larger), v3+ on Xception 41,055,413.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..backbones.xception import SeparableConv
from .dilated import DilatedConfig, DilatedNetwork, conv_norm_relu, pooled_conv, upsample


def conv3x3(in_channels: int, out_channels: int, rate: int, separable: bool) -> nn.Sequential:
    """Return a 3x3 convolution of the given rate, batch norm, ReLU.

    ``separable``: depthwise, then 1x1 (v3+, sec. 3.1).
    """
    if separable:
        return nn.Sequential(SeparableConv(in_channels, out_channels, 1, rate), nn.ReLU())
    return conv_norm_relu(in_channels, out_channels, 3, rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLabConfig(DilatedConfig):
    """``rates`` of ASPP at output stride 16; at 8 they are doubled, at 32 halved. One rate three times, as in
    (12, 12, 12), makes the network that ASPP is compared with.

    ``channels`` of each branch. ``image_pooling``: the branch of the mean over the map. ``separable``: depthwise
    separable 3x3 convolutions (v3+, sec. 3.1). ``bn_momentum`` of batch norm's running averages; v3's decay of 0.9997
    is 0.0003 here.
    """

    rates: Sequence[int] = (6, 12, 18)
    image_pooling: bool = True
    channels: int = 256
    separable: bool = False
    bn_momentum: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(rate < 1 for rate in self.rates):
            self.refuse(f"rates={tuple(self.rates)}", "each must be at least 1")

    @property
    def scaled_rates(self) -> list[int]:
        """The rates at this output stride. v3, sec. 3.3: "doubled when output stride = 8"."""
        return [max(1, rate * 16 // self.output_stride) for rate in self.rates]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLabV3Config(DeepLabConfig):
    """``head_conv``: a 3x3 convolution, batch norm and ReLU between ASPP and the scores, as in torchvision."""

    head_conv: bool = False


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling, v3, sec. 3.3: (N, C, H, W) -> (N, channels, H, W)

    One branch of 1x1, one of 3x3 for each rate, and, with ``image_pooling``, one of the mean over the map.
    """

    def __init__(self, in_channels: int, config: DeepLabConfig):
        channels = config.channels
        self.convs = nn.ModuleList([conv_norm_relu(in_channels, channels, 1), *(
            conv3x3(in_channels, channels, rate, config.separable) for rate in config.scaled_rates)])
        self.pooled = pooled_conv(in_channels, channels, config.pool_norm) if config.image_pooling else None
        self.project = conv_norm_relu(channels * (len(self.convs) + config.image_pooling), channels, 1)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        branches = [conv(x) for conv in self.convs]
        if self.pooled is not None:  # one value per channel, the same everywhere
            branches.append(upsample(self.pooled(F.adaptive_avg_pool2d(x, 1)), x))
        return F.dropout(self.project(F.concatenate(branches, dim=1)), self.dropout, self.training)


class DeepLabV3(DilatedNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W). Options: ``DeepLabV3Config``."""

    Config: type[DeepLabConfig] = DeepLabV3Config
    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {"backbone_options": {"multi_grid": (1, 2, 4)}, "bn_momentum": 0.0003}, "compact": {
        "num_classes": 11, "backbone": "resnet50",
        "backbone_options": {"width": 24, "layers": (2, 2, 3, 2), "multi_grid": (1, 2)},
        "output_stride": 8, "rates": (3, 6, 9), "channels": 64, "pool_norm": False}}
    INPUT = {"paper": (3, 513, 513), "compact": (3, 180, 240)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {
        "compact": {"steps": 900, "optimizer": "adam", "lr": 0.001, "warmup": 100, "batch": 4, "tile": 192},
        "paper": {  # v3, sec. 4.1, at output stride 16; momentum and weight decay as in its released code
            "steps": 30000, "batch": 16, "lr": 0.007, "momentum": 0.9, "weight_decay": 0.0001, "schedule": "poly",
            "power": 0.9, "tile": 513, "scale": 2.0, "jitter": 0.0}}
    head_conv: nn.Module | None = None
    SECOND_STAGE = {"lr": 0.001, "freeze_bn": True}  # v3, sec. 4.1: at output stride 8, as many steps again

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.aspp = ASPP(self.map_channels["last"], self.config)
        if isinstance(self.config, DeepLabV3Config) and self.config.head_conv:
            self.head_conv = conv3x3(self.config.channels, self.config.channels, 1, separable=False)
        self.head = nn.Conv2d(self.config.channels, self.num_classes, 1)
        self.set_bn_momentum(self.config.bn_momentum)

    def decode(self, maps: dict[str, Tensor]) -> Tensor:
        x = self.aspp(maps["last"])
        return self.head(x if self.head_conv is None else self.head_conv(x))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLabPlusConfig(DeepLabConfig):
    """``separable`` for the decoder, too. ``low_channels``: what the low-level map is reduced to; ``decoder_channels``
    of the two 3x3 convolutions."""

    backbone: str = "xception"
    separable: bool = True
    low_channels: int = 48  # DeepLabv3+, sec. 4.1, Tables 1 and 2
    decoder_channels: int = 256


class Decoder(nn.Module):
    """v3+, Fig. 2: the encoder's map upsampled, beside a finer one of few channels, and two 3x3 convolutions"""

    def __init__(self, low_channels: int, config: DeepLabPlusConfig):
        reduced, channels = config.low_channels, config.decoder_channels
        self.reduce = conv_norm_relu(low_channels, reduced, 1)
        self.conv1 = conv3x3(config.channels + reduced, channels, 1, config.separable)
        self.conv2 = conv3x3(channels, channels, 1, config.separable)

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        return self.conv2(self.conv1(F.concatenate([upsample(x, low), self.reduce(low)], dim=1)))


class DeepLabV3Plus(DeepLabV3):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W). Options: ``DeepLabPlusConfig``."""

    Config = DeepLabPlusConfig
    PRESETS = {"paper": {"bn_momentum": 0.0003}, "compact": {
        **DeepLabV3.PRESETS["compact"], "separable": False, "low_channels": 16, "decoder_channels": 64}}
    TRAIN_DEFAULTS = {**DeepLabV3.TRAIN_DEFAULTS, "paper": {  # v3+, sec. 4; Xception's decay as in its released code
        **DeepLabV3.TRAIN_DEFAULTS["paper"], "weight_decay": 0.00004}}

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.decoder = Decoder(self.map_channels["low"], self.config)
        self.head = nn.Conv2d(self.config.decoder_channels, self.num_classes, 1)
        self.set_bn_momentum(self.config.bn_momentum)

    def decode(self, maps: dict[str, Tensor]) -> Tensor:
        return self.head(self.decoder(self.aspp(maps["last"]), maps["low"]))
