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

Each level of the pyramid tells every pixel what is in its part of the picture; the coarsest, what is in the picture.
The auxiliary loss, of weight 0.4, is that of another small head on the stage before the last (Fig. 4, sec. 3.3).

Table 1 varies the pooling: see ``ROWS``. Its baseline is a dilated FCN without pyramid, as in torchvision's
``fcn_resnet50``.

Differs from the paper: its released network has three 3x3 convolutions in place of the ResNet's first 7x7, and
interpolates with corners aligned; its PyTorch version trains the layers that are not the ResNet's at ten times the
rate. Trained as the paper says on ADE20K (sec. 5.1), 150,000 steps, poly, with random mirroring, scales of 0.5 to 2,
rotation by up to 10 degrees and blur, each of these two on every second image, as in the authors' code; its batch norm
is synchronized over GPUs, here with ``--sync-batch-norm``. ``compact`` trains 2,000 steps, the first 100 with a rising
rate, without rotation and blur, and changes colors. ``compact``: a ResNet of 9 bottleneck blocks and three eighths of
the channels, pictures of 240x180, 11 classes (CamVid), and no batch norm on pooled maps, so that small batches, even of
one, train.
Asserted by the tests: 49,057,132 parameters (150 classes, with the auxiliary head); 35,322,218 of the baseline with 21.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from .dilated import DilatedNetwork, conv_norm_relu, pooled_conv, upsample

# PSPNet, table 1: mean IU and pixel accuracy on ADE20K's validation pictures, in per cent, and the options of each row
ROWS: dict[str, tuple[float, float, dict[str, Any]]] = {
    "baseline": (37.23, 78.01, {"levels": ()}),
    "B1+MAX": (39.94, 79.46, {"levels": (1,), "pool": "max", "reduce": False}),
    "B1+AVE": (40.07, 79.52, {"levels": (1,), "pool": "average", "reduce": False}),
    "B1236+MAX": (40.18, 79.45, {"levels": (1, 2, 3, 6), "pool": "max", "reduce": False}),
    "B1236+AVE": (41.07, 79.97, {"levels": (1, 2, 3, 6), "pool": "average", "reduce": False}),
    "B1236+MAX+DR": (40.87, 79.61, {"levels": (1, 2, 3, 6), "pool": "max", "reduce": True}),
    "B1236+AVE+DR": (41.68, 80.04, {"levels": (1, 2, 3, 6), "pool": "average", "reduce": True}),
}


class PyramidPooling(nn.Module):
    """(N, C, H, W) -> (N, C + pooled, H, W): the map and, beside it, what each level of the pyramid found.

    ``levels``: bins per side of each. ``reduce``: a 1x1 convolution to C / N channels at each of the N levels, so that
    all levels together weigh as much as the map; without it, C channels each.
    """

    def __init__(self, channels: int, levels: Sequence[int], pool: str, reduce: bool, norm: bool):
        self.levels, self.pool, self.out_channels = tuple(levels), pool, channels * (1 + len(levels))
        self.convs = None
        if reduce and levels:
            reduced = max(1, channels // len(levels))  # PSPNet, sec. 3.2: 1/N of the dimension
            self.convs = nn.ModuleList([pooled_conv(channels, reduced, norm) for _ in levels])
            self.out_channels = channels + reduced * len(levels)

    def forward(self, x: Tensor) -> Tensor:
        pool = {"average": F.adaptive_avg_pool2d, "max": F.adaptive_max_pool2d}[self.pool]
        found = [pool(x, bins) for bins in self.levels]
        if self.convs is not None:
            found = [conv(y) for conv, y in zip(self.convs, found, strict=True)]
        return F.concatenate([x, *(upsample(y, x) for y in found)], dim=1)


class PSPNet(DilatedNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W).

    ``levels``, ``pool`` ("average" or "max") and ``reduce`` as in table 1, ``ROWS``. ``channels`` of the 3x3
    convolution after the pyramid, a quarter of the backbone's if None. ``pool_norm``: batch norm on the pooled maps,
    too, which needs large batches. ``backbone``, ``backbone_options``, ``output_stride``, ``auxiliary``: see
    ``dilated.py``.
    """

    PRESETS = {"paper": {}, "compact": {
        "num_classes": 11, "backbone_options": {"width": 24, "layers": (2, 2, 3, 2)}, "channels": 96,
        "pool_norm": False}}
    INPUT = {"paper": (3, 473, 473), "compact": (3, 180, 240)}
    TRAIN_DEFAULTS = {  # sec. 5.1
        "compact": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001, "warmup": 100, "batch": 16},
        "paper": {"steps": 150000, "batch": 16, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001, "schedule": "poly",
                  "power": 0.9, "tile": 473, "scale": 2.0, "jitter": 0.0, "rotation": 10.0, "blur": True}}

    def __init__(self, num_classes: int = 150, in_channels: int = 3, backbone: str = "resnet50",
                 backbone_options: dict[str, Any] | None = None, output_stride: int = 8,
                 levels: Sequence[int] = (1, 2, 3, 6), pool: str = "average", reduce: bool = True,
                 channels: int | None = None, pool_norm: bool = True, auxiliary: float = 0.4, dropout: float = 0.1):
        if pool not in ("average", "max") or any(n < 1 for n in levels):
            raise ValueError(f"PSPNet(levels={tuple(levels)}, pool={pool!r}): levels are numbers of bins, each at "
                             "least 1; pool is 'average' or 'max'")
        super().__init__(num_classes, in_channels, backbone, backbone_options, output_stride,
                         1 if channels is None else channels, auxiliary, dropout)
        last = self.maps["last"]
        self.pyramid = PyramidPooling(last, levels, pool, reduce, pool_norm)
        channels = channels or max(1, last // 4)
        self.head = nn.Sequential(conv_norm_relu(self.pyramid.out_channels, channels, 3), nn.Dropout(dropout),
                                  nn.Conv2d(channels, num_classes, 1))

    def decode(self, maps: dict[str, Tensor]) -> Tensor:
        return self.head(self.pyramid(maps["last"]))
