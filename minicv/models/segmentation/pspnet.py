"""PSPNet: Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network", CVPR 2017.

Figure 3, paper preset; side lengths of the maps and channels:

    473 x 3  ->  dilated ResNet-50, output stride 8  ->  60 x 2048
                                                           |
        +---------------+---------------+---------------+--+------------+
        |            pool 1x1        pool 2x2        pool 3x3        pool 6x6      the pyramid pooling module
        |            conv 1x1        conv 1x1        conv 1x1        conv 1x1      to 2048/4 = 512 channels each
        |            upsampled       upsampled       upsampled       upsampled     bilinear, to 60
        +---------------+---------------+---------------+---------------+
    concatenated  60 x 4096  ->  conv 3x3  60 x 512  ->  conv 1x1  60 x K  ->  upsampled  473 x K

Each level of the pyramid gives every pixel a summary of its part of the image, the coarsest one of the whole image.
Another small head on the stage before the last has the auxiliary loss, of weight 0.4 (Fig. 4, sec. 3.3).

Table 1 varies the pooling: see ``ROWS``. Its baseline is a dilated FCN without pyramid, as in torchvision's
``fcn_resnet50``.

Differs from the paper: its released network has three 3x3 convolutions in place of the ResNet's first 7x7, and
interpolates with corners aligned; its PyTorch version trains the layers outside the ResNet at ten times the rate. The
training is the paper's on ADE20K (sec. 5.1): 150,000 steps, poly, random mirroring, scales of 0.5 to 2, rotation by up
to 10 degrees and blur, each of these two on every second image, as in the authors' code. The paper synchronizes batch
norm over GPUs; here ``--sync-batch-norm`` does. ``compact``: a ResNet of 9 bottleneck blocks and three eighths of the
channels, images of 240x180, 11 classes (CamVid), and no batch norm on pooled maps, so that small batches, even of one,
train; trained by Adam (``TRAIN_DEFAULTS``), with color jitter, without rotation and blur.
Asserted by the tests: 49,057,132 parameters (150 classes, with the auxiliary head); 35,322,218 of the baseline with 21.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from .dilated import DilatedConfig, DilatedNetwork, conv_norm_relu, pooled_conv, upsample

# PSPNet, table 1: mean IU and pixel accuracy on ADE20K's validation images, in percent, and the options of each row
ROWS: dict[str, tuple[float, float, dict[str, Any]]] = {
    "baseline": (37.23, 78.01, {"levels": ()}),
    "B1+MAX": (39.94, 79.46, {"levels": (1,), "pool": "max", "reduce": False}),
    "B1+AVE": (40.07, 79.52, {"levels": (1,), "pool": "average", "reduce": False}),
    "B1236+MAX": (40.18, 79.45, {"levels": (1, 2, 3, 6), "pool": "max", "reduce": False}),
    "B1236+AVE": (41.07, 79.97, {"levels": (1, 2, 3, 6), "pool": "average", "reduce": False}),
    "B1236+MAX+DR": (40.87, 79.61, {"levels": (1, 2, 3, 6), "pool": "max", "reduce": True}),
    "B1236+AVE+DR": (41.68, 80.04, {"levels": (1, 2, 3, 6), "pool": "average", "reduce": True}),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PSPNetConfig(DilatedConfig):
    """``levels``, ``pool`` ("average" or "max") and ``reduce`` as in table 1, ``ROWS``.

    ``channels`` of the 3x3 convolution after the pyramid: a quarter of the backbone's if None.
    """

    num_classes: int = 150
    backbone: str = "resnet50"
    output_stride: int = 8
    levels: Sequence[int] = (1, 2, 3, 6)
    pool: str = "average"
    reduce: bool = True
    channels: int | None = None
    auxiliary: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels is not None and self.channels < 1:
            self.refuse(f"channels={self.channels}", "must be at least 1")
        if self.pool not in ("average", "max") or any(n < 1 for n in self.levels):
            self.refuse(f"levels={tuple(self.levels)}, pool={self.pool!r}",
                        "levels are numbers of bins, each at least 1; pool is 'average' or 'max'")


class PyramidPooling(nn.Module):
    """(N, C, H, W) -> (N, out_channels, H, W): the map and, beside it, the maps pooled at each level of the pyramid.

    A level of n has n x n bins. With ``reduce`` a 1x1 convolution leaves C / N channels at each of the N levels, so
    that all levels together weigh as much as the map; without it each level has C channels.
    """

    def __init__(self, channels: int, config: PSPNetConfig):
        self.levels, self.out_channels = tuple(config.levels), channels * (1 + len(config.levels))
        self.pool: Any = {"average": F.adaptive_avg_pool2d, "max": F.adaptive_max_pool2d}[config.pool]
        self.convs = None
        if config.reduce and self.levels:
            reduced = max(1, channels // len(self.levels))  # PSPNet, sec. 3.2: 1/N of the dimension
            self.convs = nn.ModuleList([pooled_conv(channels, reduced, config.pool_norm) for _ in self.levels])
            self.out_channels = channels + reduced * len(self.levels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.pool(x, bins) for bins in self.levels]
        if self.convs is not None:
            pooled = [conv(y) for conv, y in zip(self.convs, pooled, strict=True)]
        return F.concatenate([x, *(upsample(y, x) for y in pooled)], dim=1)


class PSPNet(DilatedNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W). Options: ``PSPNetConfig``."""

    Config = PSPNetConfig
    PRESETS: dict[str, dict[str, Any]] = {"paper": {}, "compact": {
        "num_classes": 11, "backbone_options": {"width": 24, "layers": (2, 2, 3, 2)}, "channels": 96,
        "pool_norm": False}}
    INPUT = {"paper": (3, 473, 473), "compact": (3, 180, 240)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {  # sec. 5.1
        "compact": {"steps": 1000, "optimizer": "adam", "lr": 0.001, "warmup": 100, "batch": 4, "tile": 192},
        "paper": {"steps": 150000, "batch": 16, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001, "schedule": "poly",
                  "power": 0.9, "tile": 473, "scale": 2.0, "jitter": 0.0, "rotation": 10.0, "blur": True}}

    def __init__(self, **options: Any):
        super().__init__(**options)
        config, last = self.config, self.map_channels["last"]
        self.pyramid = PyramidPooling(last, config)
        channels = config.channels or max(1, last // 4)
        self.head = nn.Sequential(conv_norm_relu(self.pyramid.out_channels, channels, 3), nn.Dropout(config.dropout),
                                  nn.Conv2d(channels, config.num_classes, 1))

    def decode(self, maps: dict[str, Tensor]) -> Tensor:
        return self.head(self.pyramid(maps["last"]))
