"""U-Net: Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.

Figure 1, the ``paper`` preset: side lengths of the maps and channels, K classes:

    572  64 64 ------------------------- copy and crop ------------------------> 392  128  64 64  1x1 -> 388 x K
      v max pool 2x2                                                              ^ up-conv 2x2
      284  128 128 --------------------- copy and crop ------------> 200  256 128 128
        v                                                            ^
        140  256 256 ------------------- copy and crop ---> 104  512 256 256
          v                                                 ^
          68  512 512 ------------------ copy and crop -> 56  1024 512 512
            v                                              ^
            32  1024 1024 --------------------------------- 28

All convolutions but the up-convs and the last are 3x3 without padding (*valid*), each followed by a ReLU. So an output
pixel depends only on pixels of the input tile, never on zeros, and an image of any size can be predicted in tiles
(``predict``), mirrored beyond its border.

Differs from the paper, which states neither a learning rate nor a schedule: 2,000 steps at 0.0015 are this project's
choice. The paper's weight map needs a data set that labels objects separately; without one, train with
``--no-weight-map``. ``compact``, the preset for two cores, trains by Adam on tiles of 196 without the map; its learning
rate rises for 100 steps, then falls to 0. It has 3 poolings instead of 4 and a quarter of the channels.
``padding="same"`` and ``skip="sum"``, which adds the two maps as FCN does, are there for comparison. The paper puts
"drop-out layers at the end of the contracting path"; here one stands after the two convs of the lowest level.
Asserted by the tests: 572 -> 388, 23 convolutional layers, 31,030,658 parameters."""
from __future__ import annotations

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..normalization import check_normalization
from .base import SegmentationNetwork

DEEPEST = 12  # poolings: 4096 pixels become one


class TwoConvs(nn.Module):
    """conv 3x3, ReLU, conv 3x3, ReLU"""

    def __init__(self, in_channels: int, out_channels: int, padding: str):
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=padding)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class UNet(SegmentationNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H', W'), H' = ``output_size(H)``.

    ``width`` channels at the first level, doubled at each of ``depth`` poolings. ``padding`` "valid" or "same".
    ``skip``: how the map from the way down is combined with the one from below, "concatenate" (the paper's) or "sum".
    ``normalization`` of images: "image" or "imagenet".
    """

    BACKBONE = "contract."
    PRESETS = {"paper": {"width": 64, "depth": 4}, "compact": {"width": 16, "depth": 3}}
    INPUT = {"paper": (1, 572, 572), "compact": (1, 284, 284)}
    # U-Net, sec. 3, which states neither rate nor steps
    TRAIN_DEFAULTS = {
        "compact": {"steps": 1500, "optimizer": "adam", "lr": 0.001, "warmup": 100, "batch": 2, "tile": 196},
        "paper": {"lr": 0.0015, "momentum": 0.99, "schedule": "constant", "batch": 1, "tile": 388, "weight_map": True}}

    def __init__(self, in_channels: int = 1, num_classes: int = 2, width: int = 64, depth: int = 4,
                 padding: str = "valid", dropout: float = 0.5, skip: str = "concatenate", normalization: str = "image"):
        if padding not in ("valid", "same"):
            raise ValueError(f"UNet(padding={padding!r}): 'valid' or 'same'")
        if skip not in ("concatenate", "sum"):
            raise ValueError(f"UNet(skip={skip!r}): 'concatenate' or 'sum'")
        if min(in_channels, num_classes, width, depth + 1) < 1 or depth > DEEPEST:
            raise ValueError(f"UNet(in_channels={in_channels}, num_classes={num_classes}, width={width}, "
                             f"depth={depth}): each must be at least 1, depth 0 to {DEEPEST}")
        self.normalization = check_normalization("UNet", normalization)
        widths = [width * 2 ** level for level in range(depth + 1)]  # U-Net, sec. 2: doubled at each step down
        self.depth, self.dropout, self.in_channels, self.num_classes = depth, dropout, in_channels, num_classes
        self.tile_step = 2 ** depth
        self.lost = 4 if padding == "valid" else 0  # of the side of a map, by two 3x3 convs
        self.contract = nn.ModuleList([
            TwoConvs(i, o, padding) for i, o in zip([in_channels, *widths], widths, strict=False)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1]])
        self.skip = skip
        maps_joined = 2 if skip == "concatenate" else 1
        self.expand = nn.ModuleList([TwoConvs(maps_joined * w, w, padding) for w in widths[-2::-1]])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        skips = []
        for level, convs in enumerate(self.contract):
            x = convs(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        x = F.dropout(skips.pop(), self.dropout, self.training)  # U-Net, sec. 3.1: "at the end of the contracting path"
        for up, convs in zip(self.up, self.expand, strict=True):
            x = up(x)
            skip = F.center_crop(skips.pop(), x.shape[2:])  # "cropping is necessary due to the loss of border pixels"
            x = convs(F.concatenate([skip, x], dim=1) if self.skip == "concatenate" else skip + x)
        return self.head(x)

    def output_size(self, size: int) -> int:
        """Return the side of the output for an input of this side; ``ValueError`` if a pooled map would be odd.

        U-Net, sec. 2: "such that all 2x2 max-pooling operations are applied to a layer with an even x- and y-size".
        """
        n = size
        for level in range(self.depth):
            n -= self.lost
            if n > 0 and n % 2:
                raise ValueError(f"UNet: an input side of {size} does not work: level {level} would pool a map of side "
                                 f"{n}, which is odd. {self._sides_near(size)}")
            n //= 2
        output = size - self.total_lost()
        if n - self.lost < 1 or output < 1:
            raise ValueError(f"UNet: an input side of {size} does not work: nothing is left of the output. "
                             f"{self._sides_near(size)}")
        return output

    def total_lost(self) -> int:
        """Return how much smaller the output is: ``lost`` pixels of each map, which are 2^level of the input's each.

        lost (2 (1 + 2 + ... + 2^(depth - 1)) + 2^depth): two maps on each level but the lowest.
        """
        return self.lost * (3 * 2 ** self.depth - 2)

    def input_size(self, output: int) -> int:
        """Return the smallest input side that works and gives at least this output side."""
        size = max(1, output) + self.total_lost()
        return size + -(size + self.lost) % 2 ** self.depth

    def _sides_near(self, size: int) -> str:
        below = size - (size + self.lost) % 2 ** self.depth
        works = [n for n in (below, below + 2 ** self.depth) if n >= self.input_size(1)]
        return f"Sides that work: {', '.join(map(str, works or [self.input_size(1)]))}"
