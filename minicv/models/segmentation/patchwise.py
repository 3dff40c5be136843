"""Before FCN: a network that looks at one pixel at a time, and one that never pools.

Ciresan et al., "Deep Neural Networks Segment Neuronal Membranes in Electron Microscopy Images", NIPS 2012. To label a
pixel, cut out the patch around it, mirrored where the image ends, and classify the patch by its center:

    95  conv 4x4  92  pool 2x2  46  conv 5x5  42  pool  21  conv 4x4  18  pool  9  conv 4x4  6  pool  3  200  2

``PatchNet`` is that network for patches of any side; ``slide`` moves it over an image, naively, one patch per output.
Neighboring patches share almost all of their pixels, and yet everything is computed again; ``PatchNet.dense`` computes
the same scores with shared work (by ``convolutionalize`` and ``rarefy``).

``PixelwiseNet`` keeps the image's size with stride-1 convolutions instead. Its receptive field grows by two pixels
per layer, and every layer works on all pixels.

``sampled`` is patchwise training as FCN (sec. 3.4) sees it: a batch of random patches is a whole-image batch in which
all other pixels' losses are left out.

Differs from the paper: ReLU, as in FCN, and neither foveation nor rotation of patches.
Asserted by the tests: the sides above, those of the paper's best network, N4.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..backbones.classifier import Classifier
from .base import SegmentationNetwork
from .convolutionalize import as_convolutions
from .shift_and_stitch import rarefy


class PatchNet(Classifier):
    """Patches (N, in_channels, patch, patch) -> scores of their center pixels (N, num_classes).

    As in Ciresan et al., Table 1, N4: as long as the map allows, a valid convolution, 4x4 on maps of odd sides and 5x5
    on even ones, so that the 2x2 pooling behind its ReLU covers the whole map; then two fully connected layers. On an
    image, outputs are ``stride`` pixels apart. Raises ``ValueError`` for an even side, which has no center, or one
    below 5.
    """

    PRESETS = {"paper": {"patch": 95, "width": 48, "hidden": 200}, "compact": {}}
    INPUT = {"paper": (1, 95, 95), "compact": (3, 33, 33)}

    def __init__(self, num_classes: int = 2, in_channels: int = 3, patch: int = 33, width: int = 8, hidden: int = 32):
        super().__init__(num_classes, in_channels, width)
        if patch < 5 or patch % 2 == 0:
            raise ValueError(f"PatchNet(patch={patch}): the side must be odd, so that there is a center pixel, and at "
                             "least 5")
        self.patch = self.MIN_SIZE = patch
        layers, c, side, self.stride = [], in_channels, patch, 1
        while side >= 5:
            k = 4 if side % 2 else 5
            layers += [nn.Conv2d(c, width, k), nn.ReLU(), nn.MaxPool2d(2)]
            c, side, self.stride = width, (side - k + 1) // 2, 2 * self.stride
        self.features, self.side, self.num_classes = nn.Sequential(*layers), side, num_classes
        self.classifier = nn.Sequential(nn.Linear(c * side ** 2, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """Return the last map, (N, C, side, side); larger for images larger than a patch."""
        self.check(x)
        return {"features": self.features(x)}

    def head(self, x: Tensor) -> Tensor:
        return self.classifier(F.flatten(x, 1))

    def dense(self) -> nn.Sequential:
        """Return the same weights as a network for whole images, without strides: ``slide``'s scores by shared work."""
        return rarefy(nn.Sequential(*self.features, *as_convolutions(self.classifier, self.side)))


def slide(net: Callable[[Tensor], Tensor], x: Tensor, patch: int, stride: int = 1, batch: int = 256) -> Tensor:
    """The naive way: (N, C, H, W) -> (N, K, h, w), one run of ``net`` for each patch that lies in the image.

    Patches start ``stride`` pixels apart; scores are not part of the graph. Mirror the image by patch // 2 first
    (``minicv.data.mirror_pad``) for a score at each of its pixels. Raises ``ValueError`` for images smaller than a
    patch.
    """
    N, C, H, W = x.shape
    if min(H, W) < patch:
        raise ValueError(f"slide(patch={patch}): the images are {H}x{W}, smaller than a patch")
    places = [(n, y, z) for n in range(N) for y in range(0, H - patch + 1, stride)
              for z in range(0, W - patch + 1, stride)]
    scores = []
    for start in range(0, len(places), batch):
        patches = [x.data[n:n + 1, :, y:y + patch, z:z + patch] for n, y, z in places[start:start + batch]]
        scores.append(net(F.concatenate([Tensor(p) for p in patches])).detach())
    h, w = (H - patch) // stride + 1, (W - patch) // stride + 1
    return F.concatenate(scores).reshape(N, h, w, -1).permute(0, 3, 1, 2)  # (N*h*w, K) -> (N, K, h, w)


class PixelwiseNet(SegmentationNetwork):
    """(N, in_channels, H, W) -> scores (N, num_classes, H, W) by ``depth`` 3x3 convolutions at full size and a 1x1.

    No pooling: the receptive field is 2 depth + 1 pixels wide. Batch norm and ReLU follow each 3x3.
    """

    PRESETS = {"paper": {"width": 64, "depth": 8}, "compact": {}}
    INPUT = {"paper": (3, 224, 224), "compact": (3, 64, 64)}

    def __init__(self, num_classes: int = 2, in_channels: int = 3, width: int = 16, depth: int = 4):
        if min(num_classes, in_channels, width, depth) < 1:
            raise ValueError(f"PixelwiseNet(num_classes={num_classes}, in_channels={in_channels}, width={width}, "
                             f"depth={depth}): each must be at least 1")
        self.in_channels, self.num_classes, layers, c = in_channels, num_classes, [], in_channels
        for _ in range(depth):
            layers += [nn.Conv2d(c, width, 3, padding="same", bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            c = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(c, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def sampled(shape: tuple[int, ...], p: float, rng: np.random.Generator) -> np.ndarray:
    """Return a pixel weight for the loss, float32 of label's shape (N, H, W): 1 with probability p, else 0.

    FCN, sec. 4.3: every pixel's loss is ignored or not, independently. Never 0 everywhere.
    Raises ``ValueError`` for p outside (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"sampled(p={p}): the share of pixels that count must be above 0 and at most 1")
    mask = (rng.random(shape) < p).astype(np.float32)
    if not mask.any():
        mask.flat[rng.integers(mask.size)] = 1
    return mask
