"""Dense scores without learned upsampling, two ways: FCN (Long et al., CVPR 2015), sec. 3.2.

*Shift and stitch*: a network of stride s has scores for every s-th pixel. Run it on the s * s shifts of the image, and
interlace: the score at (a, b) for the shift by (i, j) belongs to pixel (s a + i, s b + j).

*Filter rarefaction* ("a trous"): omit the stride, and spread every filter behind it s times as far,

    f'_ij = f_{i/s, j/s} if s divides both i and j, else 0

which is a dilation of s; the dilations of several strides multiply. Both compute the same numbers, at s * s times the
cost of the network. FCN uses neither; DeepLab is built on the second. They agree only without padding: shifting an
image does not shift the zeros around its maps.
"""
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ...ops.conv import pair

POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.Dropout, nn.BatchNorm2d)


def shift_and_stitch(net: Callable[[Tensor], Tensor], x: Tensor, stride: int) -> Tensor:
    """Return scores for every position: (N, C, H, W) -> (N, K, H - r + 1, W - r + 1), r the network's receptive field.

    ``net`` maps images to scores ``stride`` pixels apart, without padding. Raises ``ValueError`` if one of the shifted
    images is too small for it.
    """
    s = pair(stride, "shift_and_stitch(stride)", 1)[0]
    rows = []
    for i in range(s):
        shifted = [net(x[:, :, i:, j:]) for j in range(s)]  # each (N, K, h, w or one less)
        rows.append(interlaced(shifted, 3))
    return interlaced(rows, 2)


def interlaced(maps: list[Tensor], axis: int) -> Tensor:
    """Interlace maps along an axis: position s a + i of the result is position a of map i."""
    n, s = sum(m.shape[axis] for m in maps), len(maps)
    longest = maps[0].shape[axis]
    padding = [[0, 0] * (3 - axis) + [0, longest - m.shape[axis]] for m in maps]
    stacked = F.stack([F.pad(m, p) for m, p in zip(maps, padding, strict=True)], axis + 1)  # (..., a, i, ...)
    shape = (*maps[0].shape[:axis], longest * s, *maps[0].shape[axis + 1:])
    return stacked.reshape(shape)[(slice(None),) * axis + (slice(0, n),)]


def rarefy(net: nn.Sequential) -> nn.Sequential:
    """Return the same layers, with shared weights, without strides and with everything behind a stride dilated by it.

    Layers must have dilation 1. Raises ``TypeError`` for one that is not a convolution, a max pooling, or pixelwise.
    """
    layers: list[nn.Module] = []
    dilation: Any = (1, 1)
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer, stride = copy.copy(layer), layer.stride
            layer.stride, layer.padding, layer.dilation = 1, wider(layer.padding, dilation), dilation
            if getattr(layer, "ceil_mode", False):
                raise ValueError("rarefy: a pooling with ceil_mode=True looks beyond the map's end where it has a "
                                 "stride, and without one it cannot; use ceil_mode=False")
            dilation = wider(stride, dilation)  # FCN, sec. 3.2: f'_ij = f_{i/s, j/s} for everything behind a stride s
        elif not isinstance(layer, POINTWISE):
            raise TypeError(f"rarefy: cannot rarefy a {type(layer).__name__}; Conv2d, MaxPool2d and layers that work "
                            "pixel by pixel can be")
        layers.append(layer)
    return nn.Sequential(*layers)


def wider(value: int | str | tuple[int, int], dilation: tuple[int, int]) -> Any:
    """Return a padding or a stride times ``dilation`` in each direction; "same" and "valid" are unchanged."""
    if isinstance(value, str):
        return value
    return tuple(v * d for v, d in zip(pair(value, "rarefy: padding or stride", 0), dilation, strict=True))
