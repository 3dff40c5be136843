"""Layers: an operation of ``minicv.ops`` with its parameters. Names, arguments and defaults as in ``torch.nn``.

One difference from PyTorch: weights start as He et al. (2015) propose, with std sqrt(2/N), and biases at 0.
"""
from __future__ import annotations

from typing import Any

from .. import ops as F
from ..autograd import Tensor
from ..backend import Array
from ..ops.arguments import pair
from . import init
from .module import Module, Parameter

Size = int | tuple[int, int]


def check_channels(name: str, in_channels: int, out_channels: int, groups: int) -> None:
    """Raise ``ValueError``, in the name of a layer, for channels that the groups do not divide."""
    if min(in_channels, out_channels, groups) < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(f"{name}: groups={groups} must divide in_channels={in_channels} and "
                         f"out_channels={out_channels}, all at least 1")


class Conv2d(Module):
    """(N, in, H, W) -> (N, out, OH, OW); ``weight`` (out, in/groups, KH, KW), ``bias`` (out,) or None."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
                 padding: Size | str = 0, dilation: Size = 1, groups: int = 1, bias: bool = True):
        check_channels("Conv2d", in_channels, out_channels, groups)
        shape = (out_channels, in_channels // groups, *pair(kernel_size, "Conv2d(kernel_size)", 1))
        self.weight = Parameter(init.khwc_layout(init.he_normal(shape)))
        self.bias = Parameter(init.zeros((out_channels,))) if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, dilation=self.dilation,
                        groups=self.groups)

    def extra_repr(self) -> str:
        return f"{self.weight.shape}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"


class ConvTranspose2d(Module):
    """(N, in, H, W) -> (N, out, OH, OW); ``weight`` (in, out/groups, KH, KW), ``bias`` (out,) or None."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1):
        check_channels("ConvTranspose2d", in_channels, out_channels, groups)
        KH, KW = pair(kernel_size, "ConvTranspose2d(kernel_size)", 1)
        sh, sw = pair(stride, "ConvTranspose2d(stride)", 1)
        # An output pixel is a sum over KH KW / (sh sw) taps of each input channel: that many are its N.
        fan = max(1, in_channels // groups * KH * KW // (sh * sw))
        self.weight = Parameter(init.khwc_layout(init.he_normal((in_channels, out_channels // groups, KH, KW), fan)))
        self.bias = Parameter(init.zeros((out_channels,))) if bias else None
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.groups, self.dilation = groups, dilation

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding,
                                  output_padding=self.output_padding, groups=self.groups, dilation=self.dilation)

    def extra_repr(self) -> str:
        return f"{self.weight.shape}, stride={self.stride}, padding={self.padding}"


class Linear(Module):
    """(..., in) -> (..., out); ``weight`` (out, in), ``bias`` (out,) or None."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        if min(in_features, out_features) < 1:
            raise ValueError(f"Linear: in_features={in_features} and out_features={out_features} must be at least 1")
        self.weight = Parameter(init.he_normal((out_features, in_features)))
        self.bias = Parameter(init.zeros((out_features,))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape}"


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class LeakyReLU(Module):
    """x where positive, else ``negative_slope`` x"""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"{self.negative_slope}"


class Dropout(Module):
    """In training, set each number to 0 with probability ``p``, and multiply the others by 1/(1-p)"""

    def __init__(self, p: float = 0.5):
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class MaxPool2d(Module):
    """Largest value of each window"""

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
                 return_indices: bool = False, ceil_mode: bool = False):
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.dilation, self.return_indices, self.ceil_mode = dilation, return_indices, ceil_mode

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, dilation=self.dilation,
                            ceil_mode=self.ceil_mode, return_indices=self.return_indices)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class BatchNorm2d(Module):
    """Normalize each channel to mean 0 and variance 1 over batch and pixels, then times ``weight`` plus ``bias``, (C,).

    Buffers hold the running averages of mean and variance, which evaluation uses, as in PyTorch. ``group``: the
    processes whose whole batch is normalized together (``Training(sync_batch_norm=True)`` sets it); None for this
    process alone. ``frozen``: training, too, normalizes by the running averages and changes nothing (``freeze_bn``).
    """

    running_mean: Array
    running_var: Array
    group: Any = None
    frozen = False

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        self.weight, self.bias = Parameter(init.ones((num_features,))), Parameter(init.zeros((num_features,)))
        self.register_buffer("running_mean", init.zeros((num_features,)))
        self.register_buffer("running_var", init.ones((num_features,)))
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                            training=self.training and not self.frozen, momentum=self.momentum, eps=self.eps,
                            group=self.group)

    def extra_repr(self) -> str:
        return f"{self.weight.size}"
