"""Layers: an operation of ``minicv.ops`` with its parameters. Names, arguments and defaults as in ``torch.nn``.

One thing differs from PyTorch: weights start as He et al. (2015) propose, std sqrt(2/N), and biases at 0.
"""
from __future__ import annotations

from .. import ops as F
from ..autograd import Tensor
from . import init
from .module import Module, Parameter

Size = int | tuple[int, int]


def pair(value: Size) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


class Conv2d(Module):
    """(N, in, H, W) -> (N, out, OH, OW); ``weight`` (out, in/groups, KH, KW), ``bias`` (out,) or None."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
                 padding: Size | str = 0, dilation: Size = 1, groups: int = 1, bias: bool = True):
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: groups={groups} must divide in_channels={in_channels} and "
                             f"out_channels={out_channels}")
        self.weight = Parameter(init.he_normal((out_channels, in_channels // groups, *pair(kernel_size))))
        self.bias = Parameter(init.zeros((out_channels,))) if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra(self) -> str:
        return f"{self.weight.shape}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"


class ConvTranspose2d(Module):
    """(N, in, H, W) -> (N, out, OH, OW); ``weight`` (in, out/groups, KH, KW), ``bias`` (out,) or None."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1):
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"ConvTranspose2d: groups={groups} must divide in_channels={in_channels} and "
                             f"out_channels={out_channels}")
        (KH, KW), (sh, sw) = pair(kernel_size), pair(stride)
        # Each output pixel is reached by KH KW / (sh sw) taps from each input channel: that is its N.
        fan = max(1, in_channels // groups * KH * KW // (sh * sw))
        self.weight = Parameter(init.he_normal((in_channels, out_channels // groups, KH, KW), fan))
        self.bias = Parameter(init.zeros((out_channels,))) if bias else None
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.groups, self.dilation = groups, dilation

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding,
                                  self.groups, self.dilation)

    def extra(self) -> str:
        return f"{self.weight.shape}, stride={self.stride}, padding={self.padding}"


class Linear(Module):
    """(..., in) -> (..., out); ``weight`` (out, in), ``bias`` (out,) or None."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        self.weight = Parameter(init.he_normal((out_features, in_features)))
        self.bias = Parameter(init.zeros((out_features,))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra(self) -> str:
        return f"{self.weight.shape}"


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)
