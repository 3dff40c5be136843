"""Windows over a map: sizes and errors that the poolings share.

Convention: PyTorch's sizes. A window covers k pixels, ``dilation`` apart, and the next one begins ``stride`` pixels on.
With ``ceil_mode`` the last windows may reach past the padding, but a window that would start there is dropped.
"""
from __future__ import annotations

from ..autograd import Tensor
from .arguments import Pair, check_floats, pair


def pool_output_size(i: int, k: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Number of windows along an axis: (i + 2p - d(k-1) - 1) / s rounded down, or up with ceil_mode, plus 1."""
    room = i + 2 * padding - dilation * (k - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    o = -(-room // stride) + 1
    return o - 1 if (o - 1) * stride >= i + padding else o  # the last would start in the padding at the end


def window_axes(name: str, input: Tensor, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair,
                dilation: int | Pair, ceil_mode: bool) -> list[tuple[int, ...]]:
    """For height and width (i, o, k, stride, padding, dilation), checked; o as ``pool_output_size``."""
    check_map(name, input)
    kernel = pair(kernel_size, f"{name}(kernel_size)", 1)
    stride = kernel if stride is None or stride == () else pair(stride, f"{name}(stride)", 1)
    padding, dilation = pair(padding, f"{name}(padding)", 0), pair(dilation, f"{name}(dilation)", 1)
    axes = []
    for i, k, s, p, d in zip(input.shape[2:], kernel, stride, padding, dilation, strict=True):
        if 2 * p > k:
            raise ValueError(f"{name}(padding={padding}) is more than half of the kernel, {kernel[0]}x{kernel[1]}; use "
                             "less padding, or pad() before pooling")
        o = pool_output_size(i, k, s, p, d, ceil_mode)
        if o < 1:
            raise ValueError(f"{name}: no window of {d * (k - 1) + 1} pixels fits into {i} and a padding of {p}; use a "
                             "smaller kernel_size or dilation")
        axes.append((i, o, k, s, p, d))
    return axes


def check_map(name: str, input: Tensor) -> None:
    """TypeError unless it is floats, ValueError unless (N, C, H, W) with at least one pixel."""
    check_floats(name, input=input)
    if input.ndim != 4 or 0 in input.shape[2:]:
        raise ValueError(f"{name}: input must be (N, C, H, W) with at least one pixel, got {input.shape}")
